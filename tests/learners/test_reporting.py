"""What the end of a run hands to the exports."""

import types

import numpy as np
import pytest
import tensorflow as tf

from learners import reporting
from learners.reporting import Networks, export_networks, predictions
from nets.tasks import Outputs, is_right
from tests.export.small_network import CLASSES, examples, small_network


class Helper:
    """50 test images in batches of 8, of known or unknown number."""

    metric_name = "accuracy"
    config = types.SimpleNamespace(data=types.SimpleNamespace(evaluation_batch_size=8))

    def __init__(self, is_known):
        self._is_known = is_known

    def alone(self):
        return self

    def evaluation_batches(self):
        batches = tf.data.Dataset.from_tensor_slices((examples(50), np.arange(50, dtype=np.int32) % CLASSES)).batch(8)
        return batches if self._is_known else batches.filter(lambda images, labels: True)

    def calibration_images(self, count):
        return examples(count)

    def quality(self, labels, outputs):
        return is_right(Outputs.LOGITS, labels, outputs)


@pytest.mark.parametrize(
    ("is_known", "asked", "steps"), [(True, 0, 7), (True, 20, 3), (True, 1_000, 7), (False, 20, 3)]
)
def test_the_progress_of_the_proof_ends_where_the_images_do(monkeypatch, tmp_path, is_known, asked, steps):
    given = []
    monkeypatch.setattr(reporting, "make_exports", lambda compressed, dense, data, *rest: given.append(data))
    network = small_network()
    export_networks(Networks(network, network), Helper(is_known), tmp_path, [], asked, quiet=True)
    assert given[0].num_batches == steps


def test_the_set_is_gone_through_anew_each_time_and_equal_outputs_agree():
    network = small_network()
    data = reporting.evaluation_set(Helper(True), network)
    assert [len(images) for images, _ in data.batches] == [len(images) for images, _ in data.batches] == [8] * 6 + [2]
    outputs = np.eye(CLASSES, dtype=np.float32)
    assert data.agrees(outputs, outputs).tolist() == [True] * CLASSES
    assert data.agrees(outputs, np.roll(outputs, 1, axis=1)).tolist() == [False] * CLASSES


def test_predictions_of_several_outputs_and_of_one():
    def binary(labels, outputs):
        return is_right(Outputs.BINARY_PROBABILITY, tf.constant(labels), tf.constant(outputs)).numpy()

    assert predictions(np.array([[0.1, 0.7, 0.2], [3.0, -1.0, 2.0]]), binary).tolist() == [1, 0]
    assert predictions(np.array([[0.4], [0.6]], np.float32), binary).tolist() == [0, 1]
