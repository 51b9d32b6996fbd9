"""Training with linear quantization for the ranges of weights and activations (Jacob et al. 2018)."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import keras
import pydantic
import tensorflow as tf

from compressors.components import Number, PositiveCount
from compressors.graph import run_graph
from compressors.quantizers.activations import ActivationQuantizer, LinearActivation
from compressors.quantizers.linear import Mode
from compressors.quantizers.overrides import FLOAT_BITS, LayerBits, check_possible
from compressors.quantizers.rebuild import rebuild
from compressors.quantizers.training import TrainingQuantizer
from compressors.quantizers.weights import LinearWeights, WeightQuantizer


class QuantAwareTrainRangeLinearQuantizer(TrainingQuantizer):
    """Weights, outputs of ReLUs and the network's inputs in linear steps over the range that they have.

    The range of weights is their present one, with `per_channel_wts` that of each output channel's kernel; the range of
    activations is a moving average over the training steps. `num_bits_inputs` is `bits_activations` where not given.
    """

    mode: Mode = "SYMMETRIC"
    ema_decay: Annotated[Number, pydantic.Field(ge=0, lt=1)] = 0.999
    per_channel_wts: bool = False
    quantize_inputs: bool = True
    num_bits_inputs: Annotated[PositiveCount, pydantic.Field(le=FLOAT_BITS)] | None = None

    is_in_place_of_relu: ClassVar[bool] = False
    possible_weight_bits: ClassVar[range] = range(2, 25)
    possible_activation_bits: ClassVar[range] = range(2, 25)

    @pydantic.field_validator("num_bits_inputs")
    @classmethod
    def _is_possible(cls, bits: int | None) -> int | None:
        if bits != FLOAT_BITS:
            check_possible("num_bits_inputs", bits, cls.possible_activation_bits)
        return bits

    def weight_quantizer(self, bits: int, layer: keras.Layer, variable: keras.Variable) -> WeightQuantizer:
        is_per_channel = self.per_channel_wts and variable is layer.kernel
        # A depthwise kernel HWIM has one output channel for each of its last two axes' indices.
        num_channel_axes = 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else 1
        return LinearWeights(bits, self.mode, num_channel_axes if is_per_channel else 0)

    def activation_quantizer(self, bits: int, **layer_arguments: Any) -> ActivationQuantizer:
        return LinearActivation(bits, self.mode, self.ema_decay, **layer_arguments)

    def layers(self, model: keras.Model) -> dict[str, str]:
        inputs = {tensor.name: str(LayerBits(None, self._input_bits, None)) for tensor in model.inputs}
        return (inputs if self._input_bits else {}) | super().layers(model)

    def prepare(self, model: keras.Model, batches: Callable[[], tf.data.Dataset] | None = None) -> keras.Model:
        """A quantized copy; until its first training step ranges are those in `batches`, or zero without any."""

        def on_input(name: str) -> keras.Layer:
            assert self._input_bits is not None
            return self.activation_quantizer(self._input_bits, name=f"{name}.quantize")

        prepared = rebuild(model, self._quantized, on_input=on_input if self._input_bits else None)
        if batches is not None:
            _observe(prepared, batches())
        return prepared

    @property
    def _input_bits(self) -> int | None:
        bits = self.num_bits_inputs or self.bits_activations
        return bits if self.quantize_inputs and bits != FLOAT_BITS else None


def _observe(model: keras.Model, batches: tf.data.Dataset) -> None:
    def call(layer, args, kwargs):
        if isinstance(layer, LinearActivation):
            layer.observe(*args)
        return layer(*args, **kwargs)

    @tf.function(reduce_retracing=True)
    def run(images):
        run_graph(model, images, call)

    for images, _ in batches:
        run(images)
