"""Convolutions and dense layers that compute with quantized weights while their float weights are trained."""

from typing import Any

import keras
import tensorflow as tf

from compressors.quantizers.weights import WeightQuantizer

_QUANTIZERS = ("kernel_quantizer", "bias_quantizer")  # arguments of a quantized layer


class QuantizedWeights:
    """Mixed into a layer class: it computes as that class does, with kernel and bias quantized.

    Variables, their paths and the rest of the configuration are the class's own; the variables hold float weights.

    Args:
        kernel_quantizer, bias_quantizer: None leaves the variable as it is.
    """

    # Of the layer class that this is mixed into.
    kernel: Any
    bias: Any
    variables: Any

    def __init__(
        self,
        *args: Any,
        kernel_quantizer: WeightQuantizer | None = None,
        bias_quantizer: WeightQuantizer | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.kernel_quantizer, self.bias_quantizer = kernel_quantizer, bias_quantizer

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        with keras.StatelessScope(self.quantized_variables(), initialize_variables=False):
            return super().call(inputs)  # type: ignore[misc]  # of the layer class

    def quantized_variables(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        """All variables of the layer, each with the value that it computes with."""
        quantizers = {id(self.kernel): self.kernel_quantizer, id(self.bias): self.bias_quantizer}
        chosen = [(variable, quantizers.get(id(variable))) for variable in self.variables]
        return [
            (variable, quantizer(variable.value) if quantizer else variable.value) for variable, quantizer in chosen
        ]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | _serialized(self.kernel_quantizer, self.bias_quantizer)  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "QuantizedWeights":
        quantizers = {name: keras.saving.deserialize_keras_object(config[name]) for name in _QUANTIZERS}
        return super().from_config(config | quantizers)  # type: ignore[misc]


@keras.saving.register_keras_serializable(package="trimflow")
class QuantizedConv2D(QuantizedWeights, keras.layers.Conv2D):
    """A Conv2D that computes with quantized weights."""


@keras.saving.register_keras_serializable(package="trimflow")
class QuantizedDepthwiseConv2D(QuantizedWeights, keras.layers.DepthwiseConv2D):
    """A DepthwiseConv2D that computes with quantized weights."""


@keras.saving.register_keras_serializable(package="trimflow")
class QuantizedDense(QuantizedWeights, keras.layers.Dense):
    """A Dense layer that computes with quantized weights."""


QUANTIZED_CLASSES: dict[type[keras.Layer], type[keras.Layer]] = {
    keras.layers.Conv2D: QuantizedConv2D,
    keras.layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    keras.layers.Dense: QuantizedDense,
}


def to_quantized(
    layer: keras.Layer, kernel_quantizer: WeightQuantizer | None, bias_quantizer: WeightQuantizer | None, **changes: Any
) -> keras.Layer:
    """A layer of the configuration of `layer`, whose class `QUANTIZED_CLASSES` has, with quantizers; not built.

    Without any quantizer its class stays.

    Args:
        changes: of the configuration.
    """
    config = layer.get_config() | changes
    if kernel_quantizer is None and bias_quantizer is None:
        return type(layer).from_config(config)
    return QUANTIZED_CLASSES[type(layer)].from_config(config | _serialized(kernel_quantizer, bias_quantizer))


def to_plain(layer: QuantizedWeights) -> keras.Layer:
    """The Keras layer of the same configuration without quantizers; not built."""
    config = {name: value for name, value in layer.get_config().items() if name not in _QUANTIZERS}
    plain = next(plain for plain, quantized in QUANTIZED_CLASSES.items() if quantized is type(layer))
    return plain.from_config(config)


def _serialized(*quantizers: WeightQuantizer | None) -> dict[str, Any]:
    return dict(zip(_QUANTIZERS, map(keras.saving.serialize_keras_object, quantizers), strict=True))
