"""Layers of a network that was quantized after training."""

from typing import Any

import keras
import tensorflow as tf

from compressors.quantizers.activations import ActivationQuantizer
from compressors.quantizers.clipping import ClipMode, clipped_range
from compressors.quantizers.functions import linear_activations
from compressors.quantizers.linear import Mode, fake_quantize, integer_range
from compressors.quantizers.statistics import statistics_of


@keras.saving.register_keras_serializable(package="trimflow")
class FixedRange(ActivationQuantizer):
    """Linear quantization with a scale and a zero point that never change.

    Up to 16 bits it is one kernel of TensorFlow's, which rounds halves up.
    """

    def __init__(self, bits: int, mode: Mode, scale: float, zero_point: float, **kwargs: Any):
        super().__init__(bits, **kwargs)
        self.mode, self.scale, self.zero_point = mode, scale, zero_point

    def quantized(self, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
        if self.bits > 16:
            return fake_quantize(inputs, self.scale, self.zero_point, self.bits, self.mode)
        smallest, largest = ((end - self.zero_point) * self.scale for end in integer_range(self.bits, self.mode))
        is_narrow = self.mode == "SYMMETRIC_RESTRICTED"
        return tf.quantization.fake_quant_with_min_max_args(inputs, smallest, largest, self.bits, is_narrow)

    def get_config(self) -> dict[str, Any]:
        own = {"mode": self.mode, "scale": self.scale, "zero_point": self.zero_point}
        return super().get_config() | own


@keras.saving.register_keras_serializable(package="trimflow")
class BatchRange(ActivationQuantizer):
    """Linear quantization for the range of each batch, clipped as `clipped_range` does.

    Args:
        limits: the range never leaves these; a low limit of 0 says that a ReLU follows.
    """

    def __init__(
        self, bits: int, mode: Mode, clip: ClipMode, n_stds: float | None, limits: tuple[float, float], **kwargs: Any
    ):
        super().__init__(bits, **kwargs)
        self.mode, self.clip, self.n_stds, self.limits = mode, clip, n_stds, tuple(limits)

    def quantized(self, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
        statistics = statistics_of(inputs).within(*self.limits)
        ends = clipped_range(statistics, self.bits, self.mode, self.clip, self.n_stds, self.limits[0] == 0.0)
        return linear_activations(inputs, *ends, self.bits, self.mode)

    def get_config(self) -> dict[str, Any]:
        own = {"mode": self.mode, "clip": self.clip, "n_stds": self.n_stds, "limits": self.limits}
        return super().get_config() | own


@keras.saving.register_keras_serializable(package="trimflow")
class AccumulatorLimit(keras.layers.Layer):
    """What a signed integer accumulator of `bits` bits holds: `clip(x, -2**(bits - 1) s, (2**(bits - 1) - 1) s)`.

    s is the variable `steps` `[channels]`: what 1 in the accumulator stands for, the scale of the layer's inputs times
    that of the output channel's weights.
    """

    def __init__(self, bits: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.bits = bits

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.steps = self.add_weight((input_shape[-1],), "ones", name="steps", trainable=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        half = 2.0 ** (self.bits - 1)
        steps = tf.convert_to_tensor(self.steps)
        return tf.clip_by_value(inputs, -half * steps, (half - 1) * steps)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"bits": self.bits}
