"""Kernel and bias of a quantized layer, as the real numbers that its integers stand for."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.quantizers.folding import num_channel_axes
from compressors.quantizers.linear import Mode, fake_quantize, linear_parameters, multiply_and_shift


class WeightSettings(NamedTuple):
    """How kernel and bias are quantized; bits None: not at all."""

    bits: int | None
    mode: Mode
    is_per_channel: bool
    bias_bits: int | None
    accumulator_bits: int
    multiplier_bits: int | None

    @property
    def is_quantized(self) -> bool:
        return self.bits is not None


class QuantizedWeights(NamedTuple):
    """The layer's `values`, and what 1 in its integer accumulator stands for, `[channels]` or `[1]`.

    The latter is None where there is no such accumulator, as inputs or weights are not on a fixed grid.
    """

    values: list[np.ndarray]
    accumulator_steps: np.ndarray | None


def quantized_weights(
    layer: keras.Layer, settings: WeightSettings, input_scale: float | None, output_scale: float | None
) -> QuantizedWeights:
    """The quantized weights of a convolution or dense layer.

    The kernel is quantized for its range, or for that of each output channel. A bias with `bias_bits` is quantized for
    its own range. Then it is rounded to the accumulator's steps, `input_scale * weight_scale`, where these are known.
    With `multiplier_bits` the factor from accumulator to output, `steps / output_scale`, is one that
    `multiply_and_shift` allows; the difference is put into kernel, bias and steps.
    """
    kernel, *biases = layer.get_weights()
    if settings.bits is None:
        return QuantizedWeights([kernel, *(_quantized(bias, settings, settings.bias_bits)[0] for bias in biases)], None)
    axes = num_channel_axes(layer) if settings.is_per_channel else 0
    kernel, weight_scale = _quantized(kernel, settings, settings.bits, axes)
    biases = [_quantized(bias, settings, settings.bias_bits)[0] for bias in biases]
    if input_scale is None:
        return QuantizedWeights([kernel, *biases], None)
    steps = input_scale * weight_scale.reshape(-1).astype(np.float64)
    biases = [np.round(bias / steps) * steps for bias in biases]
    correction = np.ones_like(steps)
    if settings.multiplier_bits and output_scale is not None:
        correction = multiply_and_shift(steps / output_scale, settings.multiplier_bits) * output_scale / steps
        kernel = kernel * (correction.reshape(weight_scale.shape) if axes else correction)
        biases = [bias * correction for bias in biases]
    return QuantizedWeights([kernel, *biases], steps * correction)


def _quantized(
    values: np.ndarray, settings: WeightSettings, bits: int | None, num_axes: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The quantized values, and the scale for each index of the last `num_axes` axes; other axes have length 1."""
    if bits is None:
        return values, np.ones(1)
    axes = tuple(range(values.ndim - num_axes))
    low, high = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
    scale, zero_point = linear_parameters(low, high, bits, settings.mode)
    return fake_quantize(tf.constant(values), scale, zero_point, bits, settings.mode).numpy(), scale.numpy()
