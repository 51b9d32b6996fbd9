"""What the quantizers for training share: which layers are quantized, and the network before and after training."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import tensorflow as tf

from compressors.parameters import leaf_layers
from compressors.quantizers.activations import ActivationQuantizer
from compressors.quantizers.layers import QUANTIZED_CLASSES, QuantizedWeights, to_plain, to_quantized
from compressors.quantizers.overrides import BitsByLayer, LayerBits
from compressors.quantizers.rebuild import check_has_graph, copied, rebuild, variable_values
from compressors.quantizers.weights import WeightQuantizer
from utils.errors import InputError


class TrainingQuantizer(BitsByLayer, abc.ABC):
    """Quantizes kernels and biases of Conv2D, DepthwiseConv2D and Dense layers, and the outputs of ReLUs.

    A ReLU is a layer or the `activation` of one of these three; ReLU6 is one too, a leaky ReLU is none.
    """

    is_in_place_of_relu: ClassVar[bool] = True  # False: the quantizer comes after the ReLU

    @abc.abstractmethod
    def weight_quantizer(self, bits: int, layer: keras.Layer, variable: keras.Variable) -> WeightQuantizer:
        """That of the kernel or bias of a layer."""

    @abc.abstractmethod
    def activation_quantizer(self, bits: int, **layer_arguments: Any) -> ActivationQuantizer:
        """The layer in place of a ReLU or after it; `layer_arguments` are name and dtype."""

    def check(self, model: keras.Model) -> None:
        check_has_graph(model)
        self.check_overrides(model)
        if self.is_any_quantized() and not self.layers(model):
            raise InputError(f"{type(self).__name__} has nothing to quantize in {model.name!r} with the bits given")

    def layers(self, model: keras.Model) -> dict[str, str]:
        plans = {layer.name: self._plan(layer) for layer in leaf_layers(model)}
        return {name: str(plan) for name, plan in plans.items() if any(plan)}

    def prepare(self, model: keras.Model, batches: Callable[[], tf.data.Dataset] | None = None) -> keras.Model:
        return rebuild(model, self._quantized)

    def finish(self, model: keras.Model) -> keras.Model:
        return rebuild(model, _finished, _finished_values)

    def _plan(self, layer: keras.Layer) -> LayerBits:
        """The bits of what the layer has."""
        bits = self.bits_of(layer.name)
        has_weights = type(layer) in QUANTIZED_CLASSES
        return LayerBits(
            bits.weights if has_weights else None,
            bits.activations if _is_relu(layer) or has_weights and _is_relu(layer.activation) else None,
            bits.bias if has_weights and layer.use_bias else None,
        )

    def _quantized(self, layer: keras.Layer) -> list[keras.Layer]:
        """What takes the place of a layer."""
        plan, in_place = self._plan(layer), self.is_in_place_of_relu

        def activation(name: str) -> list[keras.Layer]:
            if plan.activations is None:
                return []
            return [self.activation_quantizer(plan.activations, name=name, dtype=layer.dtype_policy)]

        if not any(plan):
            return [copied(layer)]
        if _is_relu(layer):
            return activation(layer.name) if in_place else [copied(layer), *activation(f"{layer.name}.quantize")]
        kernel_quantizer = self.weight_quantizer(plan.weights, layer, layer.kernel) if plan.weights else None
        bias_quantizer = self.weight_quantizer(plan.bias, layer, layer.bias) if plan.bias else None
        changes = {"activation": "linear"} if plan.activations and in_place else {}
        first = to_quantized(layer, kernel_quantizer, bias_quantizer, **changes)
        return [first, *activation(f"{layer.name}.{'relu' if in_place else 'quantize'}")]


def _is_relu(layer_or_function: Any) -> bool:
    if isinstance(layer_or_function, keras.layers.Activation):
        return _is_relu(layer_or_function.activation)
    if isinstance(layer_or_function, keras.layers.ReLU):
        return layer_or_function.negative_slope == 0 and layer_or_function.threshold == 0
    return layer_or_function in (keras.activations.relu, keras.activations.relu6)


def _finished(layer: keras.Layer) -> list[keras.Layer]:
    return [to_plain(layer) if isinstance(layer, QuantizedWeights) else copied(layer)]


def _finished_values(layer: keras.Layer) -> list[tf.Tensor]:
    if isinstance(layer, QuantizedWeights):
        return [value for _, value in layer.quantized_variables()]
    return variable_values(layer)
