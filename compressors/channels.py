"""The channels of a network: which of them go when a filter goes, and which are constant.

Each channel of each tensor has an id. A layer that keeps channels (a rectifier, a pooling, a batch norm, a depthwise
convolution) hands the ids on; where channels meet, in a sum say, their ids are tied. Channels of tied ids are there in
all tensors and variables or in none.
"""

import collections
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compressors.channel_layers import CONVOLUTIONS, Kind, effective_weights, is_padded, kind_of
from compressors.graph import run_graph
from compressors.quantizers.rebuild import check_has_graph


@dataclass(frozen=True, eq=False)
class Channels:
    """Those of one tensor.

    Args:
        spec: shape and type of the tensor.
        ids: `[C]`.
        constants: `[C]`, the value of a channel that in inference is the same at all positions of all images; else NaN.
    """

    spec: keras.KerasTensor
    ids: np.ndarray
    constants: np.ndarray


class Kernel(NamedTuple):
    """One call of a convolution or dense layer.

    Args:
        reads: bool `[in]`, whether any weight of an input channel is not zero.
        writes: bool `[out]`, whether any weight of a filter is not zero.
    """

    layer: keras.Layer
    inputs: Channels
    outputs: Channels
    reads: np.ndarray
    writes: np.ndarray


class _Call(NamedTuple):
    operation: keras.Operation
    args: tuple
    kwargs: dict
    read: list[Channels]
    output: Any


class ChannelGraph:
    """The channels of all tensors and variables of a network.

    Attributes:
        axes: variable path -> the ids along each axis of the variable; None for an axis that is no channels'.
        kernels: the calls of convolutions and dense layers, in order.
        fixed: ids that must stay, and why.
        margins: the ids of the channels that a bare `pad` adds before and behind those of its input.

    Raises:
        InputError: the model has no static graph.
    """

    def __init__(self, model: keras.Model):
        check_has_graph(model)
        self.axes: dict[str, tuple[np.ndarray | None, ...]] = {}
        self.kernels: list[Kernel] = []
        self.fixed: list[tuple[np.ndarray, str]] = []
        self.margins: dict[keras.Operation, tuple[np.ndarray, np.ndarray]] = {}
        self._num_ids = 0
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []
        self._readers: dict[Channels, list[keras.Operation | None]] = collections.defaultdict(list)
        self._num_calls: collections.Counter[keras.Operation] = collections.Counter()
        self._rules: dict[Kind, Callable[[_Call], Channels]] = {
            Kind.KERNEL: self._kernel,
            Kind.DEPTHWISE: self._depthwise,
            Kind.ELEMENTWISE: self._elementwise,
            Kind.POOLING: lambda call: Channels(call.output, call.read[0].ids, call.read[0].constants),
            Kind.ZERO_PADDING: self._zero_padding,
            Kind.FLATTENING: self._flattening,
            Kind.CONCATENATION: self._concatenation,
            Kind.PADDING: self._padding,
        }
        inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        inputs = keras.tree.map_structure(lambda x: self._fixed_channels(x, "the network's inputs are given"), inputs)
        for channels in keras.tree.flatten(run_graph(model, inputs, self._follow)):
            self._fix(channels, "the network's outputs must stay")
            self._readers[channels].append(None)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """`[ids]`: the same for ids that are tied."""
        pairs = np.concatenate([np.zeros((2, 0), int), *map(np.stack, self._ties)], axis=1)
        graph = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(self._num_ids, self._num_ids))
        return connected_components(graph, directed=False)[1]

    def takes_constants(self, kernel: Kernel) -> bool:
        """Whether a constant input channel adds the same to all outputs: nothing is padded, and there is one call."""
        return self._num_calls[kernel.layer] == 1 and not is_padded(kernel.layer)

    def norm_behind(self, kernel: Kernel) -> keras.layers.BatchNormalization | None:
        """The batch norm that alone reads the outputs of a linear layer, and reads nothing else."""
        reader, *others = self._readers[kernel.outputs]
        is_linear = kernel.layer.activation is keras.activations.linear
        is_norm = isinstance(reader, keras.layers.BatchNormalization) and self._num_calls[reader] == 1
        return reader if is_linear and is_norm and not others else None

    def _follow(self, operation: keras.Operation, args: tuple, kwargs: dict) -> Any:
        leaves = keras.tree.flatten((args, kwargs))
        read = [x for x in leaves if isinstance(x, Channels)]
        others = [x for x in leaves if not isinstance(x, Channels)]
        self._num_calls[operation] += 1
        for channels in read:
            self._readers[channels].append(operation)
        specs, options = _replaced((args, kwargs), lambda channels: channels.spec)
        output = operation.compute_output_spec(*specs, **options)
        kind = kind_of(operation, [channels.spec for channels in read], others, output)
        if kind is not None:
            return self._rules[kind](_Call(operation, args, kwargs, read, output))
        reason = f"{operation.name}, of class {type(operation).__name__}, may mix channels"
        for channels in read:
            self._fix(channels, reason)
        return keras.tree.map_structure(lambda x: self._fixed_channels(x, reason), output)

    def _kernel(self, call: _Call) -> Channels:
        layer, (inputs,) = call.operation, call.read
        weights, bias = _in_and_out(layer)
        is_used = np.any(weights != 0, axis=0)
        varies = _varies(inputs, layer)
        constants = np.where(is_used[varies].any(0), np.nan, bias + added(layer, inputs, ~varies))
        outputs = Channels(call.output, self._new_ids(is_used.shape[1]), _apply(layer.activation, constants))
        self._label(layer.kernel, inputs.ids, outputs.ids)
        if layer.bias is not None:
            self._label(layer.bias, outputs.ids)
        self.kernels.append(Kernel(layer, inputs, outputs, is_used.any(1), is_used.any(0)))
        return outputs

    def _depthwise(self, call: _Call) -> Channels:
        layer, (inputs,) = call.operation, call.read
        weights, bias = _in_and_out(layer)
        is_unknown = _varies(inputs, layer)[:, None] & np.any(weights != 0, axis=0)
        values = np.nan_to_num(inputs.constants)[:, None] * weights.sum(0, dtype=np.float64)
        constants = np.where(is_unknown, np.nan, values).reshape(-1) + bias
        outputs = np.repeat(inputs.ids, weights.shape[-1])
        self._label(layer.kernel, inputs.ids, None)
        if layer.bias is not None:
            self._label(layer.bias, outputs)
        return Channels(call.output, outputs, _apply(layer.activation, constants))

    def _elementwise(self, call: _Call) -> Channels:
        first, *others = (channels.ids for channels in call.read)
        ids = self._tied(first, *others) if others else first
        for variable in getattr(call.operation, "weights", []):
            if len(variable.shape) and variable.shape[-1] == len(ids):
                self._label(variable, ids)
        return Channels(call.output, ids, _elementwise_constants(call))

    def _zero_padding(self, call: _Call) -> Channels:
        return Channels(call.output, call.read[0].ids, np.where(call.read[0].constants == 0, 0, np.nan))

    def _flattening(self, call: _Call) -> Channels:
        positions = call.output.shape[-1] // len(call.read[0].ids)
        return Channels(call.output, *(np.tile(x, positions) for x in (call.read[0].ids, call.read[0].constants)))

    def _concatenation(self, call: _Call) -> Channels:
        ids, constants = zip(*((channels.ids, channels.constants) for channels in call.read), strict=True)
        return Channels(call.output, np.concatenate(ids), np.concatenate(constants))

    def _padding(self, call: _Call) -> Channels:
        *others, width = call.operation.pad_width
        inside = self._zero_padding(call) if np.any(others) else call.read[0]
        before, behind = self.margins[call.operation] = (self._new_ids(width[0]), self._new_ids(width[1]))
        constants = np.pad(inside.constants, width)
        return Channels(call.output, np.concatenate([before, inside.ids, behind]), constants)

    def _new_ids(self, count: int) -> np.ndarray:
        self._num_ids += count
        return np.arange(self._num_ids - count, self._num_ids)

    def _tied(self, *several: np.ndarray) -> np.ndarray:
        """Ids tied to all of these: new ones, so that no other variable has the same."""
        ids = self._new_ids(len(several[0]))
        self._ties += [(ids, others) for others in several]
        return ids

    def _label(self, variable: keras.Variable, *last_axes: np.ndarray | None) -> None:
        """Gives ids to the last axes of a variable; those of a layer that is called twice are tied."""
        axes = (None,) * (len(variable.shape) - len(last_axes)) + last_axes
        if variable.path in self.axes:
            pairs = zip(self.axes[variable.path], axes, strict=True)
            axes = tuple(None if old is None or new is None else self._tied(old, new) for old, new in pairs)
        self.axes[variable.path] = axes

    def _fix(self, channels: Channels, reason: str) -> None:
        self.fixed.append((channels.ids, reason))

    def _fixed_channels(self, spec: keras.KerasTensor, reason: str) -> Channels:
        count = (spec.shape[-1] if len(spec.shape) > 1 else None) or 0
        channels = Channels(spec, self._new_ids(count), np.full(count, np.nan))
        self._fix(channels, reason)
        return channels


def dependent_vectors(model: keras.Model) -> dict[str, list[str]]:
    """The variables that make a filter of zeros give anything but zeros, by the path of the convolution's kernel.

    They have shape `[out]`: the bias, scale and shift of the batch norm behind, and so on through all layers that keep
    the channels of this convolution alone, depthwise ones too. Where they are 0 for a filter of zeros, what reads it
    reads 0, unless an activation makes something else of 0. Convolutions whose filters must stay are left out.

    Raises:
        InputError: the model has no static graph.
    """
    graph = ChannelGraph(model)
    fixed = graph.labels[np.concatenate([ids for ids, _ in graph.fixed])]
    trainable = {variable.path for variable in model.trainable_variables}
    vectors = {
        path: axes[0]
        for path, axes in graph.axes.items()
        if len(axes) == 1 and axes[0] is not None and path in trainable
    }
    return {
        kernel.layer.kernel.path: [
            path for path, ids in vectors.items() if ids is not None and np.array_equal(ids, kernel.outputs.ids)
        ]
        for kernel in graph.kernels
        if isinstance(kernel.layer, CONVOLUTIONS) and not np.isin(graph.labels[kernel.outputs.ids], fixed).any()
    }


def added(layer: keras.Layer, inputs: Channels, among: np.ndarray) -> np.ndarray:
    """What constant input channels add to each output `[out]`, where nothing is padded.

    Args:
        among: bool `[in]`, the channels that are asked for.
    """
    channels = np.flatnonzero(among & (inputs.constants != 0))
    weights, _ = _in_and_out(layer)
    return inputs.constants[channels] @ weights[:, channels].sum(0, dtype=np.float64)


def _in_and_out(layer: keras.Layer) -> tuple[np.ndarray, np.ndarray | float]:
    """The kernel as `[positions, in, out]`, and the bias."""
    weights, bias = effective_weights(layer)
    return weights.reshape(-1, *weights.shape[-2:]), bias


def _varies(inputs: Channels, layer: keras.Layer) -> np.ndarray:
    """bool `[in]`: input channels that need not add the same at all positions."""
    return np.isnan(inputs.constants) | (is_padded(layer) & (inputs.constants != 0))


def _elementwise_constants(call: _Call) -> np.ndarray:
    constants = np.stack([channels.constants for channels in call.read])
    is_known = ~np.isnan(constants).any(0) & (not call.kwargs.get("training"))
    values = np.zeros((1, constants.shape[1]))
    if is_known.any():
        args, kwargs = _replaced((call.args, call.kwargs), _as_one_position)
        kwargs |= {"training": False} if isinstance(call.operation, keras.Layer) else {}
        values = np.asarray(call.operation(*args, **kwargs)).astype(np.float64).reshape(-1, constants.shape[1])
        # A PReLU may have weights for each position.
        is_known &= np.all(values == values[0], axis=0)
    if type(call.operation).__name__ == "Multiply":
        return np.where((constants == 0).any(0), 0, np.where(is_known, values[0], np.nan))
    return np.where(is_known, values[0], np.nan)


def _replaced(structure: Any, make: Callable[[Channels], Any]) -> Any:
    return keras.tree.map_structure(lambda x: make(x) if isinstance(x, Channels) else x, structure)


def _as_one_position(channels: Channels) -> tf.Tensor:
    """The constants as a tensor of the tensor's rank and type; 0 for channels that are not constant."""
    shape = (1,) * (len(channels.spec.shape) - 1) + (-1,)
    return tf.cast(np.nan_to_num(channels.constants).reshape(shape), channels.spec.dtype)


def _apply(activation: Callable, constants: np.ndarray) -> np.ndarray:
    values = np.asarray(activation(tf.constant(np.nan_to_num(constants), tf.float32)))
    return np.where(np.isnan(constants), np.nan, values)
