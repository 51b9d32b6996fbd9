"""Layers that our networks share."""

import functools

import keras
import tensorflow as tf

from utils.errors import InputError
from utils.keras_layers import all_layers
from utils.workers import Workers


@keras.saving.register_keras_serializable(package="trimflow")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation computed by TensorFlow's fused kernel (Ioffe & Szegedy 2015).

    Training: `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta` with the batch's mean and variance over all
    but the last axis; the moving statistics follow with `momentum`. Inference: the moving statistics, in a form that
    TensorFlow fuses with the convolution before it. Variables, configuration and results are those of
    `keras.layers.BatchNormalization` (a test holds this), in about 0.7 of the time of a training step. Inputs other
    than `[B, H, W, C]` with `axis=-1` take the parent's way, and so does what `synchronise_batch_norm` was told of.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        if training and "_moments" in vars(self):
            return super().call(inputs, training=training, mask=mask)
        if len(inputs.shape) != 4 or self.axis not in (-1, 3) or mask is not None or not (self.scale and self.center):
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = tf.cast(self.gamma, tf.float32), tf.cast(self.beta, tf.float32)
        if training and self.trainable:
            return self._normalise_by_batch(inputs, gamma, beta)
        mean, variance = tf.cast(self.moving_mean, tf.float32), tf.cast(self.moving_variance, tf.float32)
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=self.epsilon, is_training=False
        ).y

    def _normalise_by_batch(self, inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
        unused = tf.zeros([0], tf.float32)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, mean=unused, variance=unused, epsilon=self.epsilon, is_training=True
        )
        # The kernel reports the unbiased variance; Keras keeps the population's.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance *= (count - 1.0) / count
        self.moving_mean.assign(self.momentum * self.moving_mean + (1.0 - self.momentum) * mean)
        self.moving_variance.assign(self.momentum * self.moving_variance + (1.0 - self.momentum) * variance)
        return outputs


def synchronise_batch_norm(model: keras.Model, workers: Workers) -> None:
    """From here on, batch norm in training normalises by the batches of all workers together.

    With means m1 of x and m2 of x^2 over the batches of all workers, `mean = m1` and `variance = m2 - m1^2`: one
    collective operation a layer, and one in the backward pass.
    """
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            # The one place where Keras computes them; a subclass would have to take the place of the user's own layers.
            layer._moments = functools.partial(_moments_over_workers, layer, workers)


def _moments_over_workers(
    layer: keras.layers.BatchNormalization, workers: Workers, inputs: tf.Tensor, mask: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    if mask is not None:
        raise InputError(f"--enbl_sync_bn must be false for masked inputs. Received: layer {layer.name} with a mask")
    axes = [axis for axis in range(len(inputs.shape)) if axis != layer.axis % len(inputs.shape)]
    local = [tf.reduce_mean(inputs, axes), tf.reduce_mean(tf.square(inputs), axes)]
    mean, square = workers.mean(local)
    return mean, tf.maximum(square - tf.square(mean), 0.0)
