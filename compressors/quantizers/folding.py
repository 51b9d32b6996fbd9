"""Simpler equals of a network in inference: batch norms folded into the layers before them, activations apart."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from compressors.graph import LayerCall, run_graph
from compressors.parameters import leaf_layers
from compressors.quantizers.rebuild import check_has_graph, copied
from utils.errors import InputError

WEIGHTED = (
    keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D, keras.layers.Dense,
)  # fmt: skip


def is_weighted(layer: keras.Layer) -> bool:
    """Whether the layer is a convolution or dense layer of Keras' own: `kernel`, maybe `bias`, an `activation`."""
    return type(layer) in WEIGHTED


def num_channel_axes(layer: keras.Layer) -> int:
    """How many of the last axes of the kernel number the output channels: 2 of a depthwise kernel HWIM, else 1."""
    return 2 if isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D) else 1


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """A copy without the batch norms that directly follow a convolution or dense layer and nothing else does.

    With `f = gamma / sqrt(variance + epsilon)` of an output channel, the layer's kernel becomes `f * kernel` and its
    bias `f * (bias - mean) + beta`. Names stay; models inside the model are dissolved into it.

    Raises:
        InputError: the model has no static graph, or two of its layers have one name.
    """
    norms = folded_norms(model)
    gone = {id(norm) for norm in norms.values()}

    def copy(layer: keras.Layer) -> keras.Layer:
        if layer.name not in norms:
            return copied(layer)
        return type(layer).from_config(layer.get_config() | {"use_bias": True})

    def weights(layer: keras.Layer) -> Sequence[np.ndarray]:
        return _folded(layer, norms[layer.name]) if layer.name in norms else layer.get_weights()

    copies = Copies(copy, weights)

    def call(layer, args, kwargs):
        return args[0] if id(layer) in gone else copies(layer)(*args, **kwargs)

    return remodelled(model, call, copies)


def folded_norms(model: keras.Model) -> dict[str, keras.Layer]:
    """The batch norms that `fold_batch_norm` folds, by the name of the layer before each."""
    readers = readers_by_layer(model)
    num_inputs: dict[int, int] = {}
    for layer in (layer for layers in readers.values() for layer in layers):
        num_inputs[id(layer)] = num_inputs.get(id(layer), 0) + 1
    return {
        layer.name: readers[layer.name][0]
        for layer in leaf_layers(model)
        if is_weighted(layer)
        and keras.activations.get(layer.activation) is keras.activations.linear
        and len(readers[layer.name]) == 1
        and _is_norm_of_channels(readers[layer.name][0], layer)
        and num_inputs[id(readers[layer.name][0])] == 1
    }


def split_activations(model: keras.Model) -> tuple[keras.Model, dict[str, str]]:
    """A copy in which `activation` of each convolution and dense layer is a layer `<name>.activation` of its own.

    Returns:
        The copy, and the names of the new layers with that of the layer that each was of.
    """
    origins: dict[str, str] = {}

    def copy(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        return type(layer).from_config(config | {"activation": "linear"} if is_weighted(layer) else config)

    copies = Copies(copy, keras.Layer.get_weights)

    def call(layer, args, kwargs):
        outputs = copies(layer)(*args, **kwargs)
        if not is_weighted(layer) or layer.activation is keras.activations.linear:
            return outputs
        name = f"{layer.name}.activation"
        origins[name] = layer.name
        return keras.layers.Activation(layer.activation, name=name, dtype=layer.dtype_policy)(outputs)

    return remodelled(model, call, copies), origins


class Copies:
    """The copies of a model's layers, each made once; `fill` gives them their weights when they are built."""

    def __init__(
        self,
        copy: Callable[[keras.Layer], keras.Layer],
        weights: Callable[[keras.Layer], Sequence[np.ndarray]],
    ):
        self._copy, self._weights = copy, weights
        self._made: dict[int, tuple[keras.Layer, keras.Layer]] = {}

    def __call__(self, layer: keras.Layer) -> keras.Layer:
        """The copy of a layer; a bare Keras operation is used as it is."""
        if not isinstance(layer, keras.Layer):
            return layer
        if id(layer) not in self._made:
            self._made[id(layer)] = layer, self._copy(layer)
        return self._made[id(layer)][1]

    def fill(self) -> None:
        for layer, copy in self._made.values():
            if copy.weights:
                copy.set_weights(self._weights(layer))


def remodelled(
    model: keras.Model, call: LayerCall, copies: Copies, wrap: Callable = lambda x: x, unwrap: Callable = lambda x: x
) -> keras.Model:
    """The functional model that comes of calling `call` for each layer, on new inputs of the same kind.

    Args:
        wrap, unwrap: make what `call` is given from a symbolic input, and a symbolic output from what `call` gives.
    """
    check_names(model)
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), _inputs_of(model)
    )
    outputs = run_graph(model, keras.tree.map_structure(wrap, inputs), call)
    new = keras.Model(inputs, keras.tree.map_structure(unwrap, outputs), name=model.name)
    copies.fill()
    return new


def check_names(model: keras.Model) -> None:
    """Raises InputError for a model without a static graph, or with two layers of one name."""
    check_has_graph(model)
    names = [layer.name for layer in leaf_layers(model) if not isinstance(layer, keras.layers.InputLayer)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"the layers of a model and of those inside it need different names. Twice: {twice}")


def readers_by_layer(model: keras.Model) -> dict[str, list[keras.Layer | None]]:
    """By layer name, what its outputs go to: layers (or bare operations), None for the model's outputs."""
    readers: dict[str, list[keras.Layer | None]] = {}

    def read(tokens, reader):
        for token in keras.tree.flatten(tokens):
            if isinstance(token, _Output):
                readers[token.name].append(reader)

    def call(layer, args, kwargs):
        read((args, kwargs), layer)
        readers.setdefault(layer.name, [])
        return keras.tree.map_structure(lambda _: _Output(layer.name), layer.output)

    read(run_graph(model, keras.tree.map_structure(lambda _: None, _inputs_of(model)), call), None)
    return readers


class _Output:
    """Stands for a tensor that the layer of that name gives."""

    def __init__(self, name: str):
        self.name = name


def _inputs_of(model: keras.Model) -> Any:
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _is_norm_of_channels(norm: keras.Layer | None, layer: keras.Layer) -> bool:
    if not isinstance(norm, keras.layers.BatchNormalization):
        return False
    is_last = norm.axis in (-1, len(layer.output.shape) - 1)
    return is_last and getattr(layer, "data_format", "channels_last") == "channels_last"


def _folded(layer: keras.Layer, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    """Kernel and bias, computed in float64."""

    def values(variable: keras.Variable | None, default: float) -> Any:
        return default if variable is None else variable.value.numpy().astype(np.float64)

    kernel, bias = values(layer.kernel, 0.0), values(layer.bias, 0.0)
    factor = values(norm.gamma, 1.0) / np.sqrt(values(norm.moving_variance, 1.0) + norm.epsilon)
    bias = factor * (bias - values(norm.moving_mean, 0.0)) + values(norm.beta, 0.0)
    return [kernel * factor.reshape(kernel.shape[-num_channel_axes(layer) :]), bias]
