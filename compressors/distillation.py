"""Knowledge distillation: the student learns from a teacher's outputs beside the labels (Hinton et al. 2015)."""

from typing import NamedTuple

import keras
import tensorflow as tf

from compressors.policies import Batch
from compressors.scheduled_policies import ScheduledPolicy
from utils.errors import InputError


class DistillationLossWeights(NamedTuple):
    """What each part of the overall loss counts."""

    distill: float = 0.5
    student: float = 0.5
    teacher: float = 0.0


_DEFAULT_WEIGHTS = DistillationLossWeights()


def softened_divergence(teacher_logits: tf.Tensor, student_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """`KL(softmax(teacher / T) || softmax(student / T))`, the mean over the batch; logits `[B, C]`.

    The cross entropy of the two differs from it by the entropy of the teacher's outputs, which trains nothing.
    """
    teacher = tf.nn.log_softmax(teacher_logits / temperature)
    student = tf.nn.log_softmax(student_logits / temperature)
    return tf.reduce_mean(tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1))


def distillation_loss(teacher_logits: tf.Tensor, student_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """`T^2 * softened_divergence`: the scheduler's loss against the teacher.

    The factor keeps the gradients' size the same at all temperatures (Hinton et al. 2015, section 2).
    """
    return temperature**2 * softened_divergence(teacher_logits, student_logits, temperature)


class Teacher(NamedTuple):
    """`--enbl_dst`: a network that a training learns from beside the labels; the training changes nothing in it.

    The loss of a step is `loss + loss_weight * KL(softmax(teacher / T) || softmax(student / T))`, a mean over the
    batch. That is PocketFlow's, which has the cross entropy in place of the divergence: the same gradient. It has no
    factor `T^2`, unlike the scheduler's `--kd_*` flags, and the loss against the labels keeps its full weight.

    model: gives logits `[B, C]` for the student's inputs.
    """

    model: keras.Model
    loss_weight: float = 4.0
    temperature: float = 4.0

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """The teacher's outputs in inference, `float32 [B, C]`, a constant to the gradient (traced)."""
        return tf.stop_gradient(tf.cast(self.model(images, training=False), tf.float32))

    def divergence(self, teacher_logits: tf.Tensor, student_logits: tf.Tensor) -> tf.Tensor:
        """How far the student is from the teacher: the loss without its weight (traced)."""
        return softened_divergence(teacher_logits, tf.cast(student_logits, tf.float32), self.temperature)


class KnowledgeDistillationPolicy(ScheduledPolicy):
    """In its active epochs the loss is `student * loss + distill * distillation_loss + teacher * loss of the teacher`.

    The last term trains nothing: the teacher is fixed. It is there for the loss's value to be Distiller's.

    Args:
        student: the network in training; None: whatever network the schedule trains.
        teacher: gives logits of the same classes for the same images; it is not trained.
        temperature: above 0.
        loss_weights: each at least 0.
    """

    kind = "distillation"

    def __init__(
        self,
        student: keras.Model | None,
        teacher: keras.Model,
        temperature: float = 1.0,
        loss_weights: DistillationLossWeights = _DEFAULT_WEIGHTS,
    ):
        super().__init__()
        if temperature <= 0:
            raise InputError(f"the temperature of distillation must be above 0. Received: {temperature}")
        for name, weight in loss_weights._asdict().items():
            if weight < 0:
                raise InputError(f"the {name} weight of distillation must be at least 0. Received: {weight}")
        if student is not None and tuple(student.output_shape) != tuple(teacher.output_shape):
            raise InputError(
                f"the teacher must have the student's outputs, {student.output_shape}. Received: {teacher.output_shape}"
            )
        self._teacher, self._temperature, self._loss_weights = teacher, temperature, loss_weights

    def transform_loss(self, loss: tf.Tensor, batch: Batch) -> tf.Tensor:
        weights = self._loss_weights

        def overall() -> tf.Tensor:
            logits = tf.stop_gradient(self._teacher(batch.images, training=False))
            distilled = distillation_loss(logits, batch.logits, self._temperature)
            total = weights.student * loss + weights.distill * distilled
            if weights.teacher:
                total += weights.teacher * self.network.training.loss(batch.labels, logits)
            return total

        return tf.cond(self.active, overall, lambda: loss)
