"""What each kind of layer does to channels, those of the last axis of a tensor."""

import enum
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


class Kind(enum.Enum):
    """How the channels that come out depend on those that go in."""

    KERNEL = "each output channel depends on all input channels: convolutions and dense layers"
    DEPTHWISE = "each output channel depends on one input channel at several positions"
    ELEMENTWISE = "each value depends on the values of its channel at its position, maybe in several inputs"
    POOLING = "each output channel depends on one input channel, and is constant where that is"
    ZERO_PADDING = "zeros are added at other axes"
    FLATTENING = "all positions become channels, in the order (positions, channels)"
    CONCATENATION = "channels follow each other"
    PADDING = "channels of zeros are added before and behind"


def _for_all_ranks(*names: str, ranks: Sequence[int] = (1, 2, 3)) -> tuple[type[keras.Layer], ...]:
    return tuple(getattr(keras.layers, f"{name}{rank}D") for name in names for rank in ranks)


CONVOLUTIONS = _for_all_ranks("Conv")
_DEPTHWISE_CONVOLUTIONS = _for_all_ranks("DepthwiseConv", ranks=(1, 2))
_ZERO_PADDINGS = _for_all_ranks("ZeroPadding")
_POOLINGS = _for_all_ranks(
    "MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling",
    "AdaptiveMaxPooling", "AdaptiveAveragePooling", "UpSampling", "Cropping",
)  # fmt: skip
_ELEMENTWISE = (
    keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.PReLU, keras.layers.Identity,
    keras.layers.Dropout, keras.layers.AlphaDropout, keras.layers.GaussianDropout, keras.layers.GaussianNoise,
    *_for_all_ranks("SpatialDropout"),
    keras.layers.Add, keras.layers.Subtract, keras.layers.Multiply, keras.layers.Average,
    keras.layers.Maximum, keras.layers.Minimum,
)  # fmt: skip
# Operations that are no layers, as `x + y` adds to a functional model; Keras does not name their classes in public.
_ELEMENTWISE_OPERATIONS = {
    "Abs", "Absolute", "Add", "Average", "Clip", "Divide", "Elu", "Gelu", "HardSigmoid", "HardSilu", "LeakyRelu",
    "Maximum", "Minimum", "Multiply", "Negative", "Relu", "Relu6", "Selu", "Sigmoid", "Silu", "Softplus", "Softsign",
    "Square", "Subtract", "Tanh", "TrueDivide",
}  # fmt: skip
_ELEMENTWISE_FUNCTIONS = {
    getattr(keras.activations, name)
    for name in (
        "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "exponential",
        "sigmoid", "log_sigmoid", "hard_sigmoid", "hard_silu", "tanh", "hard_tanh", "softplus", "softsign",
    )
}  # fmt: skip


def kind_of(
    operation: keras.Operation, specs: Sequence[keras.KerasTensor], others: Sequence[Any], output: Any
) -> Kind | None:
    """The kind of an operation that is called; None where it may mix channels in a way that is not known here.

    A layer of another class is ELEMENTWISE if the class says so: `is_elementwise = True`.

    Args:
        specs: of the tensors that it reads.
        others: the other leaves of its arguments.
        output: the specs of what comes out.
    """
    is_plain = isinstance(output, keras.KerasTensor) and specs and all(_num_channels(spec) for spec in specs)
    if not is_plain or getattr(operation, "data_format", "channels_last") != "channels_last":
        return None
    if isinstance(operation, (*CONVOLUTIONS, *_DEPTHWISE_CONVOLUTIONS, keras.layers.Dense)):
        return _kind_of_weighted(operation)
    if isinstance(operation, keras.layers.Flatten | keras.layers.Reshape):
        return _kind_of_reshaping(specs[0], output)
    if isinstance(operation, _POOLINGS):
        return Kind.POOLING
    if isinstance(operation, _ZERO_PADDINGS):
        return Kind.ZERO_PADDING
    name, last = type(operation).__name__, len(output.shape) - 1
    if name == "Concatenate":
        return Kind.CONCATENATION if operation.axis in (-1, last) else None
    if isinstance(operation, keras.Layer):
        is_elementwise = _is_elementwise_layer(operation, last)
    elif name == "Pad":
        is_simple = operation.mode == "constant" and not any(np.any(x) for x in others if x is not None)
        return Kind.PADDING if is_simple and len(specs) == 1 else None
    else:
        is_elementwise = name in _ELEMENTWISE_OPERATIONS and not any(np.ndim(x) for x in others)
    is_alike = len({_num_channels(spec) for spec in (*specs, output)}) == 1
    return Kind.ELEMENTWISE if is_elementwise and is_alike else None


def _kind_of_weighted(layer: keras.Layer) -> Kind | None:
    if not _is_elementwise_function(layer.activation):
        return None
    if isinstance(layer, _DEPTHWISE_CONVOLUTIONS):
        return Kind.DEPTHWISE
    return Kind.KERNEL if getattr(layer, "groups", 1) == 1 else None


def _kind_of_reshaping(spec: keras.KerasTensor, output: keras.KerasTensor) -> Kind | None:
    if len(output.shape) == 2 and output.shape[-1] is not None:
        return Kind.FLATTENING
    return Kind.POOLING if output.shape[-1] == spec.shape[-1] else None


def _is_elementwise_layer(layer: keras.Layer, last_axis: int) -> bool:
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.axis in (-1, last_axis)
    if isinstance(layer, keras.layers.Activation):
        return _is_elementwise_function(layer.activation)
    return isinstance(layer, _ELEMENTWISE) or getattr(type(layer), "is_elementwise", False)


def _is_elementwise_function(activation: Any) -> bool:
    return isinstance(activation, _ELEMENTWISE) or activation in _ELEMENTWISE_FUNCTIONS


def _num_channels(spec: keras.KerasTensor) -> int | None:
    return spec.shape[-1] if len(spec.shape) > 1 else None


def is_padded(layer: keras.Layer) -> bool:
    """Whether a convolution or dense layer adds zeros around its input."""
    return getattr(layer, "padding", "valid") != "valid" and max(layer.kernel_size) > 1


def effective_weights(layer: keras.Layer) -> tuple[np.ndarray, np.ndarray | float]:
    """Kernel and bias as the layer computes with them: those of a quantized layer are quantized; 0 for no bias."""
    values = {id(variable): variable.value for variable in layer.variables}
    if hasattr(layer, "quantized_variables"):
        values = {id(variable): value for variable, value in layer.quantized_variables()}
    bias = 0.0 if layer.bias is None else np.asarray(values[id(layer.bias)]).astype(np.float64)
    return np.asarray(values[id(layer.kernel)]), bias
