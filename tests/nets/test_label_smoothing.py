"""`--label_smoothing`: what trainings make smaller, against what networks are judged by."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nets.config import NetConfig, OwnModelConfig, TrainingConfig
from nets.lenet_at_cifar10 import ModelHelper
from nets.own_model import OwnModelHelper
from nets.tasks import Outputs, classification_loss
from utils.errors import InputError

LOGITS = np.float32([[2.0, 0.0, -1.0, 0.5], [0.0, 3.0, 1.0, -2.0]])
LABELS = np.int32([0, 2])


def _smoothed(probabilities, smoothing):
    """Mean of `-sum_k ((1 - e) [k = label] + e / K) log p_k`."""
    classes = probabilities.shape[1]
    targets = (1 - smoothing) * np.eye(classes)[LABELS] + smoothing / classes
    return -(targets * np.log(probabilities)).sum(axis=1).mean()


def _softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_the_loss_of_logits_and_of_probabilities_is_against_smoothed_labels():
    expected = _smoothed(_softmax(LOGITS), 0.1)
    for kind, outputs in ((Outputs.LOGITS, LOGITS), (Outputs.PROBABILITIES, _softmax(LOGITS))):
        found = classification_loss(kind, LABELS, tf.constant(outputs), 0.1)
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_one_output_is_smoothed_between_two_classes():
    labels, logits = np.int32([0, 1]), np.float32([[0.3], [1.2]])
    right = 1 / (1 + np.exp([0.3, -1.2]))  # the probability of the label
    expected = -np.mean(0.9 * np.log(right) + 0.1 * np.log(1 - right))
    found = classification_loss(Outputs.BINARY_LOGIT, labels, tf.constant(logits), 0.2)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_trainings_see_smoothed_labels_evaluations_plain_ones():
    logits = tf.constant(LOGITS)
    helper = ModelHelper(NetConfig(training=TrainingConfig(label_smoothing=0.1)))
    assert float(helper.training_loss(LABELS, logits)) == pytest.approx(_smoothed(_softmax(LOGITS), 0.1), rel=1e-5)
    assert float(helper.loss(LABELS, logits)) == pytest.approx(_smoothed(_softmax(LOGITS), 0.0), rel=1e-5)
    plain = ModelHelper(NetConfig())
    assert float(plain.training_loss(LABELS, logits)) == float(plain.loss(LABELS, logits))


def test_a_loss_of_ones_own_without_a_training_loss_is_not_smoothed():
    class Own(ModelHelper):
        def loss(self, labels, outputs):
            return keras.ops.mean(outputs)

    config = NetConfig(training=TrainingConfig(label_smoothing=0.1))
    with pytest.raises(InputError, match="--label_smoothing must be left out where the network has a loss of its own"):
        Own.check_flags(config, {"label_smoothing"})
    ModelHelper.check_flags(config, {"label_smoothing"})


def test_a_regression_has_no_labels_to_smooth():
    config = NetConfig(own_model=OwnModelConfig(task="regression"), training=TrainingConfig(label_smoothing=0.1))
    with pytest.raises(InputError, match="--label_smoothing needs --own_task classification"):
        OwnModelHelper.check_flags(config, {"label_smoothing"})
