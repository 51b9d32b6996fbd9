import keras
import numpy as np
import pytest
import tensorflow as tf

from nets.tasks import (
    Outputs,
    classification_loss,
    classifier_outputs,
    is_largest_right,
    is_right,
    label_variances,
    normalised_errors,
)

layers = keras.layers


def network(*ends):
    """4 numbers to 3, then these layers or functions."""
    inputs = keras.Input((4,))
    # Named, as Keras may begin to count anew between the making of the ends and now.
    x = layers.Dense(3, name="features")(inputs)
    for end in ends:
        x = end(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((), Outputs.LOGITS),
        ((layers.ReLU(),), Outputs.LOGITS),
        ((layers.Dense(3, activation="softmax"),), Outputs.PROBABILITIES),
        ((layers.Softmax(),), Outputs.PROBABILITIES),
        ((layers.Dense(3, activation=layers.Softmax()),), Outputs.PROBABILITIES),
        ((layers.Activation("softmax"),), Outputs.PROBABILITIES),
        ((keras.ops.softmax,), Outputs.PROBABILITIES),
        ((keras.activations.softmax,), Outputs.PROBABILITIES),
        ((layers.Softmax(), layers.Activation("linear", dtype="float32"), layers.Reshape((3,))), Outputs.PROBABILITIES),
        ((layers.Softmax(), layers.Dense(3)), Outputs.LOGITS),
        ((layers.Softmax(), lambda x: x + 1.0), Outputs.LOGITS),
        ((layers.Activation("log_softmax"),), Outputs.LOGITS),
        ((layers.Activation("sigmoid"),), Outputs.SIGMOIDS),
        ((keras.ops.sigmoid,), Outputs.SIGMOIDS),
        ((layers.Dense(1),), Outputs.BINARY_LOGIT),
        ((layers.Dense(1, activation="tanh"),), Outputs.BINARY_LOGIT),
        ((layers.Dense(1, activation="sigmoid"),), Outputs.BINARY_PROBABILITY),
        ((layers.Dense(1), layers.Activation("sigmoid"), layers.Dropout(0.5)), Outputs.BINARY_PROBABILITY),
    ],
)
def test_what_outputs_are_is_told_by_the_end_of_the_network(ends, expected):
    assert classifier_outputs(network(*ends)) == expected


def test_the_end_of_a_model_within_the_model_counts():
    head = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Softmax()])
    assert classifier_outputs(head) == Outputs.PROBABILITIES
    assert classifier_outputs(network(head)) == Outputs.PROBABILITIES
    body = keras.Sequential([keras.Input((3,)), layers.Softmax(), layers.Dense(2)])
    assert classifier_outputs(network(body)) == Outputs.LOGITS


LOGITS = np.float32([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 1.0, -4.0]])
LABELS = np.int32([0, 2, 1])
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
SIGMOID = 1 / (1 + np.exp(-LOGITS))
CROSS_ENTROPY = -np.log(SOFTMAX[[0, 1, 2], LABELS]).mean()


@pytest.mark.parametrize(("kind", "outputs"), [(Outputs.LOGITS, LOGITS), (Outputs.PROBABILITIES, SOFTMAX)])
def test_the_loss_of_classes_is_the_mean_cross_entropy(kind, outputs):
    assert classification_loss(kind, LABELS, tf.constant(outputs)).numpy() == pytest.approx(CROSS_ENTROPY, rel=1e-5)


def test_each_sigmoid_has_a_cross_entropy_of_its_own():
    truth = np.eye(3)[LABELS]
    expected = -(truth * np.log(SIGMOID) + (1 - truth) * np.log(1 - SIGMOID)).mean()
    found = classification_loss(Outputs.SIGMOIDS, LABELS, tf.constant(SIGMOID))
    assert found.numpy() == pytest.approx(expected, rel=1e-5)


def test_the_two_binary_forms_have_the_same_loss():
    labels, logits = np.int32([1, 0, 1]), np.float32([[0.3], [-2.0], [-0.7]])
    probabilities = 1 / (1 + np.exp(-logits[:, 0]))
    expected = -np.log(np.where(labels == 1, probabilities, 1 - probabilities)).mean()
    for kind, outputs in ((Outputs.BINARY_LOGIT, logits), (Outputs.BINARY_PROBABILITY, probabilities[:, None])):
        assert classification_loss(kind, labels, tf.constant(outputs)).numpy() == pytest.approx(expected, rel=1e-5)


def test_a_probability_of_zero_costs_what_it_costs_in_keras():
    outputs = tf.constant([[1.0, 0.0]])
    found = classification_loss(Outputs.PROBABILITIES, np.int32([1]), outputs).numpy()
    assert found == pytest.approx(keras.losses.SparseCategoricalCrossentropy()(np.int32([1]), outputs).numpy())
    assert found == pytest.approx(-np.log(1e-7 / 1.0), rel=1e-3)


def test_half_precision_outputs_have_a_loss_in_full_precision():
    for kind, outputs in ((Outputs.LOGITS, LOGITS), (Outputs.PROBABILITIES, SOFTMAX)):
        found = classification_loss(kind, LABELS, tf.constant(outputs, tf.bfloat16))
        assert found.dtype == tf.float32
        assert found.numpy() == pytest.approx(CROSS_ENTROPY, rel=0.02)


def test_who_is_right():
    np.testing.assert_array_equal(is_largest_right(LABELS, LOGITS), [1, 0, 0])  # the first of two largest is taken
    np.testing.assert_array_equal(is_right(Outputs.PROBABILITIES, LABELS, SOFTMAX), [1, 0, 0])
    np.testing.assert_array_equal(is_right(Outputs.SIGMOIDS, LABELS, SIGMOID), [1, 0, 0])
    labels = np.int32([1, 1, 0, 0])
    np.testing.assert_array_equal(
        is_right(Outputs.BINARY_LOGIT, labels, tf.constant([[0.1], [-0.1], [-3.0], [0.0]])), [1, 0, 1, 1]
    )
    np.testing.assert_array_equal(
        is_right(Outputs.BINARY_PROBABILITY, labels, tf.constant([[0.6], [0.4], [0.1], [0.5]])), [1, 0, 1, 1]
    )


@pytest.mark.parametrize("kind", Outputs)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_no_numbers_are_wrong(kind, number):
    # Of a row of NaN the largest would be the first: all examples of class 0 would be right.
    is_binary = kind in (Outputs.BINARY_LOGIT, Outputs.BINARY_PROBABILITY)
    outputs = np.full((2, 1 if is_binary else 3), number, np.float32)
    np.testing.assert_array_equal(is_right(kind, np.int32([0, 1]), outputs), [0, 0])


def test_normalised_errors_by_hand():
    # Variances of 0, 2, 4 and 10, 10, 40: 8 / 3 and 200; the second numbers' errors are small beside their spread.
    labels = np.float32([[0, 10], [2, 10], [4, 40]])
    variances = label_variances(labels)
    np.testing.assert_allclose(variances, [8 / 3, 200], rtol=1e-6)
    found = normalised_errors(labels[:2], tf.constant([[1.0, 10.0], [2.0, 30.0]]), variances)
    np.testing.assert_allclose(found, [(1 / (8 / 3) + 0) / 2, (0 + 400 / 200) / 2], rtol=1e-6)


def test_saying_the_mean_has_the_error_1_whatever_the_units():
    labels = np.random.default_rng(0).normal(5, [1.0, 1000.0], (200, 2)).astype(np.float32)
    mean = np.tile(labels.mean(axis=0), (200, 1))
    assert np.mean(normalised_errors(labels, mean, label_variances(labels))) == pytest.approx(1, rel=1e-4)


def test_a_label_that_never_changes_is_not_divided_by_zero():
    np.testing.assert_array_equal(label_variances(np.float32([[3.0], [3.0]])), [1.0])
