import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from compressors.graph import prunable_kernels
from compressors.path_table import PathTable
from compressors.ratios import num_removed, parameter_budget
from compressors.regression import collect_grams
from compressors.working_copy import working_copy
from learners.evaluation import Evaluation
from learners.weight_sparsification import network_search, search_pruner
from learners.weight_sparsification.allocation import allocate, dense_ends, layer_specs
from learners.weight_sparsification.rollout_env import RatioConfig
from learners.weight_sparsification.rollout_eval import PathPruner, ProgressivePruner, RolloutEvaluator
from learners.weight_sparsification.search_data import Examples
from learners.weight_sparsification.search_pruner import SearchPruner
from nets.tasks import Outputs, classification_loss
from utils.errors import InputError

layers = keras.layers


def digits():
    """8 x 8 images and labels of ten classes: for training, for validation."""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32), labels.astype(np.int32)
    return (images[:1300], labels[:1300]), (images[1300:], labels[1300:])


def batch_norm(name):
    return layers.BatchNormalization(momentum=0.9, name=name)


def conv_net(activation=None):
    images = keras.Input((8, 8, 1), name="images")
    x = layers.ReLU()(batch_norm("bn1")(layers.Conv2D(12, 3, padding="same", use_bias=False, name="conv1")(images)))
    y = layers.ReLU()(batch_norm("bn2")(layers.Conv2D(12, 3, padding="same", use_bias=False, name="conv2")(x)))
    x = layers.Add()([x, y])
    x = layers.Conv2D(24, 3, strides=2, padding="same", use_bias=False, name="conv3")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.ReLU()(batch_norm("bn3")(x)))
    return keras.Model(images, layers.Dense(10, activation=activation, name="fc")(x), name="conv_net")


def small_model(activation=None):
    inputs = keras.Input((8, 8, 1))
    x = layers.Dense(16, "relu", name="hidden")(layers.Flatten(name="flat")(inputs))
    return keras.Model(inputs, layers.Dense(10, activation, name="fc")(x), name="small")


@pytest.fixture(scope="module")
def data():
    return digits()


@pytest.fixture(scope="module")
def trained(data):
    """The weights of `conv_net()`."""
    keras.utils.set_random_seed(0)
    model = conv_net()
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data[0], epochs=5, batch_size=64, verbose=0)
    assert accuracy(model, data[1]) > 0.9
    return model.get_weights()


def with_weights(model, weights):
    model.set_weights(weights)
    return model


def accuracy(model, examples):
    outputs = np.asarray(model(examples[0], training=False))
    return np.mean(outputs.argmax(-1) == examples[1])


def pruner_of(model, data, ratio=0.8, protocol="dp", **options):
    return SearchPruner(model, data[0][0], data[1], ratio, protocol, quiet=True, **options)


def num_zeros(kernel):
    return int(np.sum(np.asarray(kernel) == 0))


# What it gives.


@pytest.mark.parametrize(("protocol", "ratio"), [("dp", 0.8), ("erk", 0.635)])
def test_exactly_the_budget_is_kept_and_zeros_are_where_the_ratios_say(data, trained, protocol, ratio):
    model = with_weights(conv_net(), trained)
    result = pruner_of(model, data, ratio, protocol).compress()
    specs = layer_specs(prunable_kernels(model))
    kept = sum(spec.size for spec in specs) - sum(num_zeros(kernel) for kernel in prunable_kernels(model))
    assert kept == parameter_budget(specs, ratio) == result.kept
    assert result.weights == sum(spec.size for spec in specs)
    assert list(result.ratios) == ["conv1/kernel", "conv2/kernel", "conv3/kernel", "fc/kernel"]
    for kernel in prunable_kernels(model):
        assert num_zeros(kernel) == num_removed(result.ratios[kernel.path], kernel.numpy().size)
    assert result.model is model
    assert result.source == protocol
    assert result.rollouts == []
    assert f"{protocol}: {ratio:.0%}"[:-2] in str(result)


def test_accuracies_are_the_model_s_own_and_far_above_one_shot_magnitude_pruning(data, trained):
    model = with_weights(conv_net(), trained)
    before = accuracy(model, data[1])
    result = pruner_of(model, data, 0.75).compress()
    assert result.accuracy_before == pytest.approx(before)
    assert result.accuracy_after == pytest.approx(accuracy(model, data[1]))
    one_shot = with_weights(conv_net(), trained)
    for kernel in prunable_kernels(one_shot):
        values = kernel.numpy()
        values.flat[np.argsort(np.abs(values), axis=None)[: num_removed(result.ratios[kernel.path], values.size)]] = 0
        kernel.assign(values)
    assert result.accuracy_after > accuracy(one_shot, data[1]) + 0.3
    assert result.accuracy_after > before - 0.15


def test_it_gives_what_the_learner_s_functions_give(data, trained):
    model = with_weights(conv_net(), trained)
    result = pruner_of(model, data, 0.75, "dp").compress()
    dense, other = (with_weights(conv_net(), trained) for _ in range(2))
    images = data[0][0][np.sort(np.random.default_rng([0, len("calibration_dataset")]).permutation(1300)[:320])]
    kernels = prunable_kernels(dense)
    specs = layer_specs(kernels)
    table = PathTable.build(kernels, collect_grams(dense, [images]))
    values = [kernel.numpy() for kernel in kernels]
    ratios = allocate("dp", specs, 0.75, dense_ends(specs, True), values, table)
    assert result.ratios == ratios

    def loss(labels, outputs):
        return classification_loss(Outputs.LOGITS, labels, outputs)

    batches = tf.data.Dataset.from_tensor_slices(data[1]).batch(100)
    evaluator = RolloutEvaluator(
        other, PathPruner(other, dense, table, images[:256]), Evaluation(other, batches, loss, in_memory=True)
    )
    ProgressivePruner(evaluator, dense, images)(ratios)
    for found, expected in zip(model.variables, other.variables, strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-3, atol=1e-4, err_msg=expected.path)


def test_the_search_tries_the_given_allocations_and_the_agent(data, trained):
    model = with_weights(conv_net(), trained)
    result = pruner_of(model, data, 0.8, "optimal", num_rollouts=9).compress()
    sources = [record["source"] for record in result.rollouts]
    assert sources == ["uniform", "heurist", "erk", "lamp", "global", "dp", "agent", "agent", "agent"]
    assert all(list(record["ratios"]) == list(result.ratios) for record in result.rollouts)
    assert result.kept <= parameter_budget(layer_specs(prunable_kernels(model)), 0.8)
    assert result.accuracy_after == pytest.approx(accuracy(model, data[1]))


def test_the_zeros_stay_when_the_model_is_trained(data, trained):
    model = with_weights(conv_net(), trained)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pruner = pruner_of(model, data, 0.9)
    result = pruner.compress()
    zeros = [num_zeros(kernel) for kernel in prunable_kernels(model)]
    model.fit(*data[0], epochs=3, batch_size=64, verbose=0)
    assert [num_zeros(kernel) for kernel in prunable_kernels(model)] == zeros
    assert accuracy(model, data[1]) > result.accuracy_after + 0.1
    assert pruner.get_pruned_weights().sparsity == pytest.approx(1 - result.kept / result.weights)


def test_what_is_zero_in_a_layer_that_stays_dense_can_be_trained(data, trained):
    model = with_weights(conv_net(), trained)
    model.get_layer("fc").kernel.assign(np.zeros((24, 10)))
    pruner = pruner_of(model, data, 0.5)
    pruner.compress()
    assert pruner.masks["fc/kernel"].all()


def test_named_layers_stay_dense_and_count_in_the_ratio(data):
    result = pruner_of(small_model(), data, 0.5, "optimal", num_rollouts=7, dense=["fc"]).compress()
    assert result.ratios["fc/kernel"] == 0
    assert result.kept <= (64 * 16 + 16 * 10) // 2


@pytest.mark.parametrize("keep", [True, False])
def test_the_ends_stay_dense_where_it_is_asked_for(data, keep):
    result = pruner_of(conv_net(), data, 0.5, "uniform", keep_ends_dense=keep).compress()
    assert (result.ratios["conv1/kernel"] == 0) == (result.ratios["fc/kernel"] == 0) == keep


def test_the_same_seed_gives_the_same_result_and_disturbs_no_random_numbers(data):
    results, weights = [], small_model().get_weights()
    for _ in range(2):
        model = with_weights(small_model(), weights)
        pruner = pruner_of(model, data, 0.8, "optimal", num_rollouts=8, seed=3)
        keras.utils.set_random_seed(5)  # of Python, NumPy, Keras and TensorFlow
        pruner.compress()
        results.append([*model.get_weights(), *random_numbers()])
    keras.utils.set_random_seed(5)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    assert results[0][-4:] == random_numbers()


def random_numbers():
    own = np.random.random()  # noqa: NPY002 - the generator that a user may have seeded
    return [random.random(), own, float(keras.random.normal(())), float(tf.random.normal(()))]


def test_nothing_is_traced_again_in_later_roll_outs(data, monkeypatch):
    made = []

    def make(*args, **options):
        made.append(PathPruner(*args, **options))
        return made[0]

    monkeypatch.setattr(network_search, "PathPruner", make)
    model = small_model()
    copies = [working_copy(model).model for _ in range(2)]
    validation = network_search.Validation(copies[1], Examples(*data[1]))
    settings = network_search.SearchSettings(RatioConfig(0.8, keep_ends_dense=False), num_rollouts=8, quiet=True)
    assert len(network_search.search_network(*copies, data[0][0][:64], validation, settings).rollouts) == 8
    assert made[0]._prune.experimental_get_tracing_count() == 1
    assert validation._outputs.experimental_get_tracing_count() == 1


# What it takes.


def batches_of(images, labels=None, size=50):
    parts = (images,) if labels is None else (images, labels)
    for first in range(0, len(images), size):
        batch = tuple(part[first : first + size] for part in parts)
        yield batch if labels is not None else batch[0]


class Sequence(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.batches = list(batches_of(images, labels))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def data_forms(images, labels, valid_images, valid_labels):
    """Name -> calibration and validation data, always the same."""
    forms = {"batches": ([images[:320]], list(batches_of(valid_images, valid_labels)))}
    plain = forms["batches"]
    of_labels = {
        "one-hot": np.eye(10, dtype=np.float32)[valid_labels],
        "a column": valid_labels[:, None].astype(np.uint8),
        "64 bits": valid_labels.astype(np.int64),
    }
    for name, form in of_labels.items():
        forms[name] = plain[0], batches_of(valid_images, form)
    forms["tf.data"] = (
        tf.data.Dataset.from_tensor_slices(images).batch(32),
        tf.data.Dataset.from_tensor_slices((valid_images, valid_labels)).batch(60),
    )
    forms["endless tf.data with labels"] = (
        tf.data.Dataset.from_tensor_slices((images, labels)).batch(100).repeat(),
        plain[1],
    )
    forms["generator, PyDataset"] = batches_of(images, labels), Sequence(valid_images, valid_labels)
    forms["tensors"] = [tf.constant(images[:320])], [[tf.constant(valid_images), tf.constant(valid_labels)]]
    return forms


def test_data_come_in_many_forms(data):
    weights, expected = small_model().get_weights(), None
    for name, (calibration, validation) in data_forms(*data[0], *data[1]).items():
        model = with_weights(small_model(), weights)
        result = SearchPruner(model, calibration, validation, 0.5, "uniform", quiet=True).compress()
        found = [result.accuracy_before, result.accuracy_after, *model.get_weights()]
        expected = expected or found
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)


def test_only_as_many_calibration_images_as_needed_are_taken(data):
    taken = []

    def batches():
        for batch in batches_of(data[0][0], size=100):
            taken.append(len(batch))
            yield batch

    SearchPruner(small_model(), batches(), data[1], 0.5, "uniform", quiet=True).compress()
    assert taken == [100] * 4


def test_softmax_outputs_give_what_logits_give(data):
    results, weights = [], small_model().get_weights()
    for activation in (None, "softmax"):
        model = with_weights(small_model(activation), weights)
        results.append((pruner_of(model, data, 0.75, "dp").compress(), model.get_weights()))
    assert results[0][0].ratios == results[1][0].ratios
    assert results[0][0].accuracy_after == results[1][0].accuracy_after
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_metric_of_one_s_own_scores_a_regression():
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(6, 30))
    images, teacher = (generator.normal(size=(400, 6)) @ mixing).astype(np.float32), generator.normal(size=(30, 3))
    targets = np.tanh(images @ teacher / 10).astype(np.float32)
    inputs = keras.Input((30,))
    hidden = layers.Dense(40, activation="tanh", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="out")(hidden))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(images, targets, epochs=15, verbose=0)
    result = SearchPruner(
        model, images, (images, targets), 0.9, "dp", metric=lambda y, f: -np.mean((y - f) ** 2, -1), quiet=True
    ).compress()
    errors = -np.mean((np.asarray(model(images)) - targets) ** 2)
    assert result.accuracy_after == pytest.approx(errors, rel=1e-4)
    assert -np.var(targets) < 2 * result.accuracy_after < 2 * result.accuracy_before < 0


# Models of other kinds.


def test_a_network_with_depthwise_layers_is_pruned_around_them(data):
    x = inputs = keras.Input((8, 8, 1))
    x = layers.ReLU(6.0)(batch_norm("bn0")(layers.Conv2D(16, 3, padding="same", name="stem")(x)))
    x = layers.Conv2D(32, 1, use_bias=False, name="expand")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(layers.ReLU(6.0)(batch_norm("bn1")(x)))
    x = layers.Conv2D(16, 1, use_bias=False, name="project")(layers.ReLU(6.0)(batch_norm("bn2")(x)))
    x = layers.SeparableConv2D(16, 3, name="separable")(batch_norm("bn3")(x))
    x = layers.Dense(10, "softmax", name="fc")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    depthwise = model.get_layer("depthwise").get_weights()
    with pytest.warns(UserWarning, match=r"stay dense: depthwise \(DepthwiseConv2D\), separable \(SeparableConv2D\)$"):
        pruner = pruner_of(model, data, 0.6, keep_ends_dense=False)
    result = pruner.compress()
    assert list(result.ratios) == [f"{name}/kernel" for name in ("stem", "expand", "project", "fc")]
    np.testing.assert_array_equal(model.get_layer("depthwise").get_weights()[0], depthwise[0])
    assert result.accuracy_after == pytest.approx(accuracy(model, data[1]))


def test_nested_models_with_layers_of_one_name_and_a_shared_layer(data):
    def block(name):
        return keras.Sequential(
            [layers.Conv2D(8, 3, padding="same", name="conv"), batch_norm("bn"), layers.ReLU(name="relu")], name=name
        )

    inner_input = keras.Input((8, 8, 8))
    inner = keras.Model(inner_input, layers.Conv2D(8, 3, padding="same", name="conv")(inner_input), name="inner")
    other_input = keras.Input((8, 8, 8))
    other = keras.Model(other_input, layers.Conv2D(8, 1, name="conv")(other_input), name="other")
    shared = layers.Conv2D(8, 3, padding="same", activation="relu", name="shared")
    inputs = keras.Input((8, 8, 1))
    x = other(inner(shared(shared(block("two")(block("one")(inputs))))))
    x = layers.Dense(10, "softmax", name="fc")(layers.Flatten()(layers.Dropout(0.1)(x)))
    model = keras.Model(inputs, x)
    result = pruner_of(model, data, 0.6, dense=["inner/conv"]).compress()
    nested = ["one/conv/kernel", "two/conv/kernel", "inner/conv/kernel", "other/conv/kernel"]
    assert sorted(result.ratios) == sorted([*nested, "shared/kernel", "fc/kernel"])
    assert result.ratios["inner/conv/kernel"] == 0
    inside = {"inner/conv/kernel": inner, "other/conv/kernel": other}
    for name, ratio in result.ratios.items():
        path, kernels = name, prunable_kernels(model)
        if name in inside:
            path, kernels = "conv/kernel", prunable_kernels(inside[name])
        kernel = next(kernel for kernel in kernels if kernel.path == path)
        assert num_zeros(kernel) == num_removed(ratio, kernel.numpy().size), name
    assert result.accuracy_after == pytest.approx(accuracy(model, data[1]))


def test_preprocessing_layers_lambdas_and_random_layers_inside_the_model(data):
    normalise = layers.Normalization(axis=None, name="normalise")
    normalise.adapt(data[0][0] * 255)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            normalise,
            layers.RandomTranslation(0.1, 0.1),
            layers.Lambda(lambda x: x * 2.0),
            layers.Conv2D(12, 3, activation="relu", name="conv1"),
            layers.Conv2D(12, 3, activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(10, "softmax", name="fc"),
        ]
    )
    pixels = [((images * 255).astype(np.uint8), labels) for images, labels in data]
    result = pruner_of(model, pixels, 0.5, keep_ends_dense=False).compress()
    expected = model.predict(pixels[1][0], verbose=0).argmax(-1)
    assert result.accuracy_after == pytest.approx(np.mean(expected == pixels[1][1]))


def test_a_model_in_half_precision_is_pruned_as_it_would_be_in_full_precision(data, trained):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = with_weights(conv_net(), trained)
    finally:
        keras.config.set_dtype_policy(before)
    exact = with_weights(conv_net(), trained)
    accuracies = [pruner_of(network, data, 0.75).compress().accuracy_after for network in (model, exact)]
    assert accuracies[0] == accuracies[1]
    assert model.get_layer("conv2").compute_dtype == "float16"
    for found, expected in zip(model.get_weights(), exact.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def _computes_channels_first():
    """TensorFlow does on processors that oneDNN has kernels for."""
    try:
        tf.nn.conv2d(tf.zeros((1, 1, 3, 3)), tf.zeros((3, 3, 1, 1)), 1, "VALID", data_format="NCHW")
        return True
    except tf.errors.UnimplementedError:
        return False


@pytest.mark.skipif(not _computes_channels_first(), reason="TensorFlow has no channels-first convolution here")
def test_channels_first_convolutions_stay_dense(data):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Permute((3, 1, 2)),
            layers.Conv2D(8, 3, data_format="channels_first", name="first"),
            layers.BatchNormalization(axis=1, momentum=0.9),
            layers.Flatten(),
            layers.Dense(20, "relu", name="hidden"),
            layers.Dense(10, "softmax", name="fc"),
        ]
    )
    with pytest.warns(UserWarning, match=r"stay dense: first \(Conv2D\)"):
        result = pruner_of(model, data, 0.5).compress()
    assert [name.split("/")[-2] for name in result.ratios] == ["hidden", "fc"]
    assert result.accuracy_after == pytest.approx(accuracy(model, data[1]), abs=0.003)


# What it refuses.


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.fc = layers.Dense(10)

    def call(self, x):
        return self.fc(x)


def built_subclass():
    model = Subclassed()
    model(np.zeros((1, 4)))
    return model


def two_inputs():
    one, two = keras.Input((3,)), keras.Input((3,))
    return keras.Model([one, two], layers.Dense(2)(layers.Add()([one, two])))


BAD_MODELS = {
    "LevelPruner and AGP_Pruner": built_subclass,
    "must be built": lambda: keras.Sequential([layers.Dense(10)]),
    "one input": two_inputs,
    "Conv2D .* or Dense layer.*DepthwiseConv2D": lambda: keras.Sequential(
        [keras.Input((8, 8, 2)), layers.DepthwiseConv2D(3)]
    ),
    "kernel": lambda: keras.Sequential([keras.Input((8,)), layers.ReLU()]),
    "must be a keras.Model": lambda: layers.Dense(3),
}


@pytest.mark.parametrize("message", BAD_MODELS)
def test_a_model_that_cannot_be_searched_is_an_input_error(data, message):
    model = BAD_MODELS[message]()
    with pytest.raises(InputError, match=message):
        pruner_of(model, data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.0}, "prune_ratio must be between 0 and 1. Received: 1.0"),
        ({"ratio": "0.5"}, "Received: '0.5'"),
        ({"ratio": 0.95}, "at most 0.8.* Received: 0.95"),
        ({"ratio": 0.85, "protocol": "optimal"}, "prune_ratio must be at most 0.*with 1 named layers dense"),
        ({"protocol": "best"}, "protocol must be one of uniform.*Received: 'best'"),
        ({"reward_type": "both"}, "reward_type must be one of single-obj, multi-obj"),
        ({"reward_type": "multi-obj"}, "protocol optimal"),
        ({"num_rollouts": 0}, "num_rollouts must be a whole number, at least 1. Received: 0"),
        ({"dense": ["fc", "fd"]}, "dense must name layers of the model: fc, hidden. Received: 'fd'"),
        ({"metric": 3}, "metric must be a function"),
    ],
)
def test_an_option_out_of_range_is_an_input_error(data, options, message):
    model = small_model()
    with pytest.raises(InputError, match=message):
        pruner_of(model, data, **({"dense": "fc"} | options))


IMAGES, LABELS = np.zeros((70, 8, 8, 1), np.float32), np.zeros(70, np.int32)


@pytest.mark.parametrize(
    ("calibration", "validation", "message"),
    [
        (IMAGES[:0], (IMAGES, LABELS), "calibration_dataset must have at least one example"),
        ([], (IMAGES, LABELS), "calibration_dataset must have at least one example"),
        (IMAGES, (IMAGES[:0], LABELS[:0]), "validation_dataset must have at least one"),
        (
            IMAGES[..., 0],
            (IMAGES, LABELS),
            r"calibration_dataset must be of shape \(8, 8, 1\) each. Received: \(8, 8\)",
        ),
        (tf.data.Dataset.from_tensor_slices(IMAGES), (IMAGES, LABELS), "must give batches"),
        ([IMAGES, IMAGES[:, :4]], (IMAGES, LABELS), r"the same shape. Received: \(8, 8, 1\) and \(4, 8, 1\)"),
        (np.full_like(IMAGES, np.nan), (IMAGES, LABELS), "images of calibration_dataset must be finite"),
        (IMAGES.astype(str), (IMAGES, LABELS), "must be numbers"),
        (3, (IMAGES, LABELS), "calibration_dataset must give batches of images|Received: int"),
        ([{"image": IMAGES}], (IMAGES, LABELS), "must give images, or"),
        (IMAGES, IMAGES, r"validation_dataset must give \(images, labels\)"),
        (IMAGES, [IMAGES], r"validation_dataset must give \(images, labels\)"),
        (IMAGES, (IMAGES, LABELS[:-1]), "a label for each image. Received: 70 images, 69"),
        (IMAGES, (IMAGES, LABELS + 10), "whole numbers from 0 to 9.* Received: 10"),
        (IMAGES, (IMAGES, LABELS - 1), "Received: -1"),
        (IMAGES, (IMAGES, LABELS + 0.5), "Received: 0.5"),
        (IMAGES, (IMAGES, np.ones((70, 10))), "one-hot"),
        (IMAGES, (IMAGES, np.ones((70, 4))), r"one-hot \[N, 10\].*shape \(70, 4\)"),
    ],
)
def test_data_that_do_not_fit_are_an_input_error_before_any_work(monkeypatch, calibration, validation, message):
    monkeypatch.setattr(search_pruner, "working_copy", lambda model: pytest.fail("work began"))
    pruner = SearchPruner(small_model(), calibration, validation, 0.5, "uniform", quiet=True)
    with pytest.raises(InputError, match=message):
        pruner.compress()


def test_weights_that_are_no_numbers_are_an_input_error(data):
    model = small_model()
    model.layers[-1].kernel.assign(np.full((16, 10), np.nan))
    with pytest.raises(InputError, match="weights must be finite.*kernel"):
        pruner_of(model, data, 0.5).compress()


def test_a_metric_of_the_wrong_shape_is_an_input_error(data):
    with pytest.raises(InputError, match=r"shape \(50,\). Received: shape \(\)"):
        pruner_of(small_model(), data, 0.5, metric=lambda labels, outputs: tf.reduce_mean(outputs)).compress()


def test_few_calibration_images_are_warned_of(data):
    with pytest.warns(UserWarning, match="40 images only; 320"):
        SearchPruner(small_model(), data[0][0][:40], data[1], 0.5, "uniform", quiet=True).compress()


def test_compressing_twice_is_an_input_error(data):
    pruner = pruner_of(small_model(), data, 0.5, "uniform")
    pruner.compress()
    with pytest.raises(InputError, match="once"):
        pruner.compress()


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_a_search_that_is_interrupted_leaves_the_model_as_it_was(data, monkeypatch, error):
    model = small_model()
    before = model.get_weights()
    pruner = pruner_of(model, data, 0.5, "uniform")

    def interrupted(*args, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(network_search, "judge_finalists", interrupted)
        with pytest.raises(error):
            pruner.compress()
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert all(kernel.constraint is None for kernel in prunable_kernels(model))
    assert pruner.compress().kept == parameter_budget(layer_specs(prunable_kernels(model)), 0.5)
