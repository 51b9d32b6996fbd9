"""Layers that quantize activations."""

import abc
from typing import Any

import keras
import tensorflow as tf

from compressors.quantizers.functions import clipped_activations, linear_activations, pact_activations
from compressors.quantizers.linear import Mode

CLIP = "clip"  # the name of the variable that PACT learns
_SMALLEST_CLIP = 1e-2


class ActivationQuantizer(keras.layers.Layer, abc.ABC):
    """An elementwise layer whose outputs have at most `2**bits` different values.

    It computes in float32 whatever its dtype is.
    """

    is_elementwise = True  # those who walk a graph take it for the activation of the layer before

    def __init__(self, bits: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.bits = bits

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return tf.cast(self.quantized(tf.cast(inputs, tf.float32), training), self.compute_dtype)

    @abc.abstractmethod
    def quantized(self, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
        """The outputs for float32 inputs (traced)."""

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"bits": self.bits}


@keras.saving.register_keras_serializable(package="trimflow")
class ClippedActivation(ActivationQuantizer):
    """`quantize_k(clip(x, 0, 1))`: in place of a ReLU in DoReFa and WRPN networks."""

    def quantized(self, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
        return clipped_activations(inputs, self.bits)


@keras.saving.register_keras_serializable(package="trimflow")
class PactActivation(ActivationQuantizer):
    """`pact_activations`: in place of a ReLU, with a learned upper end (Choi et al. 2018).

    Args:
        initial_clip: where the variable `clip` starts.
    """

    def __init__(self, bits: int, initial_clip: float, **kwargs: Any):
        super().__init__(bits, **kwargs)
        self.initial_clip = initial_clip

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        initial = keras.initializers.Constant(self.initial_clip)
        self.clip = self.add_weight((), initial, name=CLIP, constraint=_keep_positive)

    def quantized(self, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
        return pact_activations(inputs, tf.cast(self.clip, tf.float32), self.bits)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"initial_clip": self.initial_clip}


@keras.saving.register_keras_serializable(package="trimflow")
class LinearActivation(ActivationQuantizer):
    """Linear quantization for the range that the inputs had in training (Jacob et al. 2018).

    With minimum and maximum of a training step's inputs v_1, v_2, ... the range after step t is their moving average
    `sum_i (1 - d) d**(t - i) v_i / (1 - d**t)`, d the decay; the step itself uses it already. Before the first step the
    range is what `observe` saw, or else zero, and so are the outputs.

    Args:
        ema_decay: d, in [0, 1).
    """

    def __init__(self, bits: int, mode: Mode, ema_decay: float, **kwargs: Any):
        super().__init__(bits, **kwargs)
        self.mode, self.ema_decay = mode, ema_decay

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        def scalar(name):
            return self.add_weight((), "zeros", name=name, trainable=False, dtype="float32", autocast=False)

        self.low, self.high = scalar("low"), scalar("high")
        # Sums of the moving averages; that of 1 is 1 - d**t.
        self.low_sum, self.high_sum, self.weight_sum = scalar("low_sum"), scalar("high_sum"), scalar("weight_sum")

    def quantized(self, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
        if training:
            self._follow(tf.reduce_min(inputs), tf.reduce_max(inputs))
        return linear_activations(inputs, self.low.value, self.high.value, self.bits, self.mode)

    def observe(self, inputs: tf.Tensor) -> None:
        """Widens the range to that of `inputs`, until training gives the range (traced)."""
        inputs = tf.cast(inputs, tf.float32)
        self.low.assign(tf.minimum(self.low.value, tf.reduce_min(inputs)))
        self.high.assign(tf.maximum(self.high.value, tf.reduce_max(inputs)))

    def _follow(self, low: tf.Tensor, high: tf.Tensor) -> None:
        for total, value in ((self.low_sum, low), (self.high_sum, high), (self.weight_sum, 1.0)):
            total.assign(self.ema_decay * total.value + (1 - self.ema_decay) * value)
        self.low.assign(self.low_sum.value / self.weight_sum.value)
        self.high.assign(self.high_sum.value / self.weight_sum.value)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"mode": self.mode, "ema_decay": self.ema_decay}


def _keep_positive(clip: tf.Tensor) -> tf.Tensor:
    """Weight decay alone would carry an unused clip to zero, from where no gradient brings it back."""
    return tf.maximum(clip, _SMALLEST_CLIP)
