import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.distillation import (
    DistillationLossWeights,
    KnowledgeDistillationPolicy,
    distillation_loss,
)
from compressors.policies import Batch
from compressors.scheduled_policies import Network, Training
from utils.errors import InputError

TEACHER = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]], np.float32)
STUDENT = np.array([[1.0, 1.0, 0.0], [0.5, 0.0, 0.0]], np.float32)


def softmax(logits):
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_the_scaled_divergence_of_the_student_from_the_teacher(temperature):
    p, q = softmax(TEACHER / temperature), softmax(STUDENT / temperature)
    expected = temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=-1))
    assert float(distillation_loss(TEACHER, STUDENT, temperature)) == pytest.approx(expected, rel=1e-5)


def test_its_gradient_is_the_difference_of_the_softened_outputs():
    logits = tf.Variable(STUDENT)
    with tf.GradientTape() as tape:
        loss = distillation_loss(TEACHER, logits, 2.0)
    expected = 2.0 * (softmax(STUDENT / 2) - softmax(TEACHER / 2)) / len(STUDENT)
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, atol=1e-6)


def test_a_student_like_its_teacher_loses_nothing():
    assert float(distillation_loss(TEACHER, TEACHER + 3.0, 4.0)) == pytest.approx(0, abs=1e-5)


def cross_entropy(labels, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def policy_with(teacher_logits, weights):
    images = keras.Input((3,))
    teacher = keras.Model(images, keras.layers.Identity()(images))  # its logits are the images
    policy = KnowledgeDistillationPolicy(None, teacher, 2.0, weights)
    policy.bind(Network(teacher, None, None, None, Training(1, 0.1, None, cross_entropy), False))
    batch = Batch(tf.constant(teacher_logits), tf.constant([0, 1]), tf.constant(STUDENT))
    return policy, batch


def test_the_overall_loss_is_the_weighted_sum_while_the_policy_is_active():
    policy, batch = policy_with(TEACHER, DistillationLossWeights(0.3, 0.6, 0.1))
    loss = cross_entropy(batch.labels, batch.logits)
    assert float(policy.transform_loss(loss, batch)) == float(loss)
    policy.active.assign(True)
    labels = np.array([0, 1])
    picked = [-np.log(softmax(logits)[[0, 1], labels]).mean() for logits in (STUDENT, TEACHER)]
    distilled = float(distillation_loss(TEACHER, STUDENT, 2.0))
    expected = 0.6 * picked[0] + 0.3 * distilled + 0.1 * picked[1]
    assert float(policy.transform_loss(loss, batch)) == pytest.approx(expected, rel=1e-5)


def test_the_teacher_gets_no_gradient():
    policy, batch = policy_with(TEACHER, DistillationLossWeights())
    policy.active.assign(True)
    images = tf.Variable(TEACHER)
    with tf.GradientTape() as tape:
        loss = policy.transform_loss(tf.constant(1.0), batch._replace(images=images))
    assert tape.gradient(loss, images) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(temperature=0), "temperature of distillation must be above 0. Received: 0"),
        (dict(loss_weights=DistillationLossWeights(student=-1)), "student weight .* at least 0. Received: -1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    images = keras.Input((3,))
    with pytest.raises(InputError, match=message):
        KnowledgeDistillationPolicy(None, keras.Model(images, images), **arguments)


def test_a_teacher_of_other_classes_is_refused():
    three, two = keras.Input((3,)), keras.Input((2,))
    with pytest.raises(InputError, match="the teacher must have the student's outputs"):
        KnowledgeDistillationPolicy(keras.Model(three, three), keras.Model(two, two))
