"""Batch-norm statistics recomputed after pruning from the network's own activations (EagleEye, Li et al. 2020)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from compressors.graph import infer, run_graph


class Statistics(NamedTuple):
    """Per-channel mean and population variance [C] of a batch-norm layer's input."""

    mean: tf.Tensor
    variance: tf.Tensor


def reestimate(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Sets every batch norm's moving mean and variance to those of its inputs for `images`, and returns the outputs.

    One forward pass in which each batch norm normalises by the batch, so that the layers behind it see what they will
    see with the new statistics; one that is used several times gets their mean, as in training. Everything else runs in
    inference mode. For use inside a tf.function or eagerly.

    Args:
        model: functional.
        images: the whole sample as one batch [B, H, W, C]; a few hundred images.
    """
    found: dict[keras.layers.BatchNormalization, list[Statistics]] = {}

    def call(layer, args, kwargs):
        if not isinstance(layer, keras.layers.BatchNormalization):
            return infer(layer, args, kwargs)
        outputs, statistics = normalise_by_batch(layer, args[0])
        found.setdefault(layer, []).append(statistics)
        return outputs

    outputs = run_graph(model, images, call)
    for layer, uses in found.items():
        statistics = mean_statistics(uses)
        layer.moving_mean.assign(statistics.mean)
        layer.moving_variance.assign(statistics.variance)
    return outputs


def mean_statistics(uses: Sequence[Statistics]) -> Statistics:
    """What training leaves in a batch norm that is used in several places: the means over its uses."""
    return (
        uses[0] if len(uses) == 1 else Statistics(*(tf.add_n(values) / len(uses) for values in zip(*uses, strict=True)))
    )


def normalise_by_batch(layer: keras.layers.BatchNormalization, inputs: tf.Tensor) -> tuple[tf.Tensor, Statistics]:
    """The layer's outputs with its input's own statistics in place of the moving ones, and these statistics.

    The variance is the population's (divided by n), as Keras keeps it.
    """
    if _is_fusable(layer, inputs):
        outputs, mean, variance = _fused(layer, inputs, [], [], is_training=True)
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
        return outputs, Statistics(mean, variance * (count - 1) / count)  # the kernel divides by n - 1
    rank = len(inputs.shape)
    channels = layer.axis % rank
    mean, variance = tf.nn.moments(inputs, [axis for axis in range(rank) if axis != channels])
    shape = [-1 if axis == channels else 1 for axis in range(rank)]
    numbers = (mean, variance, layer.beta, layer.gamma)
    values = [None if value is None else tf.reshape(value, shape) for value in numbers]
    return tf.nn.batch_normalization(inputs, *values, layer.epsilon), Statistics(mean, variance)


def normalise(layer: keras.layers.BatchNormalization, inputs: tf.Tensor) -> tf.Tensor:
    """The layer's outputs in inference mode, eagerly in a third of the time that Keras takes."""
    if not _is_fusable(layer, inputs):
        return layer(inputs, training=False)
    return _fused(layer, inputs, layer.moving_mean.value, layer.moving_variance.value, is_training=False)[0]


def _is_fusable(layer: keras.layers.BatchNormalization, inputs: tf.Tensor) -> bool:
    return len(inputs.shape) == 4 and layer.axis in (-1, 3)


def _fused(
    layer: keras.layers.BatchNormalization, inputs: tf.Tensor, mean: Any, variance: Any, *, is_training: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Outputs, mean and variance (divided by n - 1) of TensorFlow's kernel for [B, H, W, C]."""
    return tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.ones_like(layer.moving_variance) if layer.gamma is None else layer.gamma.value,
        offset=tf.zeros_like(layer.moving_mean) if layer.beta is None else layer.beta.value,
        mean=mean,
        variance=variance,
        epsilon=layer.epsilon,
        is_training=is_training,
    )[:3]
