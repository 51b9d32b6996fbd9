"""What is measured of a network over a data set."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from learners.evaluation import Evaluation
from nets.tasks import is_among_largest, is_largest_right, top_metrics
from tests.small_training import cross_entropy

# The labels' places among six outputs: 1st, 3rd, 5th, 6th, and twice a tie of all outputs.
OUTPUTS = np.float32([[9, 1, 2, 3, 4, 5], [9, 8, 7, 3, 4, 5], [5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0], [2] * 6, [2] * 6])
LABELS = np.int32([0, 2, 4, 5, 4, 5])


def identity() -> keras.Model:
    images = keras.Input((6,), name="images")
    return keras.Model(images, keras.layers.Activation("linear", name="same")(images))


def test_an_example_counts_where_fewer_classes_come_before_its_own():
    np.testing.assert_array_equal(is_among_largest(5, LABELS, OUTPUTS), [1, 1, 1, 0, 1, 0])
    np.testing.assert_array_equal(is_among_largest(3, LABELS, OUTPUTS), [1, 1, 0, 0, 0, 0])


def test_among_the_one_largest_is_being_the_largest():
    outputs = np.random.default_rng(0).integers(0, 3, (200, 7)).astype(np.float32)  # with many ties
    labels = np.arange(200, dtype=np.int32) % 7
    np.testing.assert_array_equal(is_among_largest(1, labels, outputs), is_largest_right(labels, outputs))


def test_a_network_whose_outputs_are_no_numbers_is_wrong():
    outputs = np.float32([[np.nan] * 6, [0, 1, 2, 3, 4, np.inf]])
    np.testing.assert_array_equal(is_among_largest(5, np.int32([1, 5]), outputs), [0, 0])


def test_five_classes_have_no_five_largest():
    assert top_metrics(5) == {}
    assert list(top_metrics(6)) == ["acc_top1", "acc_top5"]


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 6, 10])
def test_means_are_those_of_the_whole_set_whatever_the_last_batch(in_memory, batch_size):
    batches = tf.data.Dataset.from_tensor_slices((OUTPUTS, LABELS)).batch(batch_size)
    evaluation = Evaluation(identity(), batches, cross_entropy, in_memory, metrics=top_metrics(6))
    found = evaluation()
    losses = np.log(np.exp(OUTPUTS).sum(1)) - OUTPUTS[np.arange(6), LABELS]
    assert found["accuracy"] == found["acc_top1"] == 1 / 6
    assert found["acc_top5"] == 4 / 6
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-6)
    assert list(found) == ["accuracy", "acc_top1", "acc_top5", "loss"]


def test_the_quality_is_what_is_called_accuracy():
    batches = tf.data.Dataset.from_tensor_slices((OUTPUTS, LABELS)).batch(4)
    evaluation = Evaluation(identity(), batches, cross_entropy, quality=functools.partial(is_among_largest, 3))
    assert evaluation()["accuracy"] == 2 / 6
