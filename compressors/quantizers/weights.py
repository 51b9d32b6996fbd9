"""How the weights of a layer are quantized, in a form that is saved with the layer."""

import abc
import dataclasses
from typing import Any

import keras
import tensorflow as tf

from compressors.quantizers.functions import dorefa_weights, wrpn_weights
from compressors.quantizers.linear import Mode, fake_quantize, linear_parameters


@dataclasses.dataclass(frozen=True)
class WeightQuantizer(abc.ABC):
    """A function from the weights that are trained to those that are computed with, of the same shape (traced)."""

    bits: int

    @abc.abstractmethod
    def __call__(self, weights: tf.Tensor) -> tf.Tensor: ...

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WeightQuantizer":
        return cls(**config)


@keras.saving.register_keras_serializable(package="trimflow")
@dataclasses.dataclass(frozen=True)
class DorefaWeights(WeightQuantizer):
    """`dorefa_weights`."""

    def __call__(self, weights: tf.Tensor) -> tf.Tensor:
        return dorefa_weights(weights, self.bits)


@keras.saving.register_keras_serializable(package="trimflow")
@dataclasses.dataclass(frozen=True)
class WrpnWeights(WeightQuantizer):
    """`wrpn_weights`."""

    def __call__(self, weights: tf.Tensor) -> tf.Tensor:
        return wrpn_weights(weights, self.bits)


@keras.saving.register_keras_serializable(package="trimflow")
@dataclasses.dataclass(frozen=True)
class LinearWeights(WeightQuantizer):
    """`fake_quantize` for the range of the weights, or of each slice along the last `num_channel_axes` axes."""

    mode: Mode
    num_channel_axes: int = 0

    def __call__(self, weights: tf.Tensor) -> tf.Tensor:
        axes = list(range(len(weights.shape) - self.num_channel_axes))
        low, high = (reduce(weights, axes, keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
        return fake_quantize(weights, *linear_parameters(low, high, self.bits, self.mode), self.bits, self.mode)
