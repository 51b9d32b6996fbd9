"""Batch-norm statistics recomputed after pruning from the network's own activations (EagleEye, Li et al. 2020)."""

from typing import NamedTuple

import keras
import tensorflow as tf

from compressors.graph import run_graph


class Statistics(NamedTuple):
    """Per-channel mean and population variance [C] of a batch-norm layer's input."""

    mean: tf.Tensor
    variance: tf.Tensor


def reestimate(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Sets every batch norm's moving mean and variance to those of its inputs for `images`, and returns the outputs.

    One forward pass in which each batch norm normalises by the batch, so that the layers behind it see what they will
    see with the new statistics. Everything else runs in inference mode. For use inside a tf.function or eagerly.

    Args:
        model: functional; batch norm over the last axis.
        images: the whole sample as one batch [B, H, W, C]; a few hundred images.
    """

    def call(layer, args, kwargs):
        if not isinstance(layer, keras.layers.BatchNormalization):
            return layer(*args, **kwargs)
        outputs, statistics = normalise_by_batch(layer, args[0])
        layer.moving_mean.assign(statistics.mean)
        layer.moving_variance.assign(statistics.variance)
        return outputs

    return run_graph(model, images, call)


def normalise_by_batch(layer: keras.layers.BatchNormalization, inputs: tf.Tensor) -> tuple[tf.Tensor, Statistics]:
    """The layer's outputs with its input's own statistics in place of the moving ones, and these statistics.

    The variance is the population's (divided by n), as Keras keeps it.
    """
    if len(inputs.shape) == 4:
        ones, zeros = tf.ones_like(layer.moving_variance), tf.zeros_like(layer.moving_mean)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ones if layer.gamma is None else layer.gamma.value,
            offset=zeros if layer.beta is None else layer.beta.value,
            mean=[],
            variance=[],
            epsilon=layer.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
        return outputs, Statistics(mean, variance * (count - 1) / count)  # the kernel divides by n - 1
    mean, variance = tf.nn.moments(inputs, list(range(len(inputs.shape) - 1)))
    outputs = tf.nn.batch_normalization(inputs, mean, variance, layer.beta, layer.gamma, layer.epsilon)
    return outputs, Statistics(mean, variance)
