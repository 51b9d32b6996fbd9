"""Which channels can be removed from a network while its outputs in inference stay what they are.

Tied channels go together. They can go if each convolution or dense layer that reads them has only zeros as weights for
them, or reads constants, whose contribution is nothing or can be moved: to its bias, or to the batch norm behind. With
padding a constant other than zero adds less at the borders than elsewhere, so there it cannot go.
"""

import collections
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import keras
import numpy as np

from compressors.channel_layers import CONVOLUTIONS
from compressors.channels import ChannelGraph, Kernel, added
from utils.errors import InputError

Function = Literal["remove_filters", "remove_channels", "remove_structures"]


Slices = dict[str, tuple[np.ndarray | None, ...]]


def sliced(array: np.ndarray, kept: tuple[np.ndarray | None, ...] | None) -> np.ndarray:
    """What is left of an array when along each axis these indices are kept (None: all)."""
    for axis, indices in enumerate(kept or ()):
        if indices is not None:
            array = np.take(array, indices, axis)
    return array


class Removal(NamedTuple):
    """What is to be done to a network.

    Args:
        kept: by path, the indices that stay along each axis (None: all) of each variable that becomes smaller.
        shifts: by path, what is added to a variable before.
        biases: by the kernel's path, the bias `[out]` that a layer without one gets before.
        margins: how many channels a bare `pad` adds before and behind.
        notes: what is zero and stays, and why.
    """

    kept: Slices
    shifts: dict[str, np.ndarray]
    biases: dict[str, np.ndarray]
    margins: dict[keras.Operation, tuple[int, int]]
    notes: tuple[str, ...]

    def value(self, variable: keras.Variable, old: np.ndarray) -> np.ndarray:
        """The variable's new value."""
        shift = self.shifts.get(variable.path)
        return sliced(old if shift is None else old + shift, self.kept.get(variable.path))

    def filters(self, layer: keras.Layer) -> np.ndarray | None:
        """Those that stay of a layer with a kernel; None: all."""
        kept = self.kept.get(layer.kernel.path)
        return None if kept is None else kept[-1]

    def bias(self, layer: keras.Layer) -> np.ndarray | None:
        """The new bias of a layer with a kernel; None: it gets none, it may have one."""
        bias = self.biases.get(layer.kernel.path)
        return None if bias is None else sliced(bias, (self.filters(layer),))


def removal(graph: ChannelGraph, function: Function, changed: Mapping[keras.Layer, int] | None = None) -> Removal:
    """All that can be removed.

    Args:
        function: `remove_filters`: filters of convolutions whose outputs are constant, by their own zeros or because
            they read nothing but such filters; `remove_channels`: those that all readers have no weights for;
            `remove_structures`: either, and hidden units of dense layers likewise.
        changed: layers whose quantized weights removals would change, and how often that was found: once, and a layer
            keeps its input channels; twice, and it keeps its filters too.
    """
    groups = _candidates(graph, function)
    for layer, times in (changed or {}).items():
        for ids in graph.axes[layer.kernel.path][-2:][:times]:
            if ids is not None:
                groups.keep(ids, f"the quantized weights of {layer.name} would change")
    for kernel in graph.kernels:
        _keep_needed(graph, kernel, function, groups)
    for path, axes in graph.axes.items():
        for ids in axes:
            if ids is not None and groups.goes(ids).all():
                groups.keep(ids[:1], f"something must be left of {path}")
    shifts, biases = _moved_constants(graph, groups)
    kept = {path: tuple(_kept_indices(groups, ids) for ids in axes) for path, axes in graph.axes.items()}
    return Removal(
        {path: axes for path, axes in kept.items() if any(indices is not None for indices in axes)},
        shifts,
        biases,
        {pad: (groups.staying(before), groups.staying(after)) for pad, (before, after) in graph.margins.items()},
        tuple(dict.fromkeys(_notes(graph, function, groups))),
    )


def check_removable(model: keras.Model, function: Function) -> None:
    """Raises InputError where nothing could ever be removed, or the model has no static graph."""
    graph = ChannelGraph(model)
    groups = _candidates(graph, function)
    if not any(groups.goes(kernel.outputs.ids).any() for kernel in graph.kernels):
        reasons = dict.fromkeys(
            reason for kernel in graph.kernels for reason in groups.reasons(kernel.outputs.ids) if reason
        )
        said = "; ".join(reasons) or "it has no convolution"
        raise InputError(f"{function} can remove nothing from the network {model.name!r}: {said}")


class _Groups:
    """The groups of tied channels, each with the first reason that was given for it to stay."""

    def __init__(self, graph: ChannelGraph):
        self._labels = graph.labels
        self._texts: list[str] = [""]
        self._reasons = np.zeros(self._labels.max(initial=-1) + 1, int)  # index of the text; 0: it goes

    def keep(self, ids: np.ndarray, reason: str) -> None:
        groups = self._labels[ids]
        self._reasons[groups[self._reasons[groups] == 0]] = len(self._texts)
        self._texts.append(reason)

    def goes(self, ids: np.ndarray) -> np.ndarray:
        """bool, of the shape of `ids`."""
        return self._reasons[self._labels[ids]] == 0

    def staying(self, ids: np.ndarray) -> int:
        """How many of the channels stay."""
        return int(np.sum(~self.goes(ids)))

    def reasons(self, ids: np.ndarray) -> list[str]:
        return [self._texts[index] for index in self._reasons[self._labels[ids]]]


def _candidates(graph: ChannelGraph, function: Function) -> _Groups:
    """Without the channels that must stay whatever the weights are."""
    groups = _Groups(graph)
    filters = [
        kernel.outputs.ids
        for kernel in graph.kernels
        if function == "remove_structures" or isinstance(kernel.layer, CONVOLUTIONS)
    ]
    everything = np.arange(len(graph.labels))
    of_filters = np.isin(graph.labels, graph.labels[np.concatenate([np.zeros(0, int), *filters])])
    groups.keep(everything[~of_filters], "")
    for ids, reason in graph.fixed:
        groups.keep(ids, reason)
    return groups


def _keep_needed(graph: ChannelGraph, kernel: Kernel, function: Function, groups: _Groups) -> None:
    """Keeps the channels that a call of a convolution or dense layer cannot do without."""
    (ids, constants), reader = (kernel.inputs.ids, kernel.inputs.constants), kernel.layer.name
    if function == "remove_channels":
        groups.keep(ids[kernel.reads], f"{reader} has weights for them")
        return
    is_idle = ~kernel.reads if function == "remove_structures" else np.zeros_like(kernel.reads)
    groups.keep(ids[np.isnan(constants) & ~is_idle], "they are not constant where they are read")
    if not graph.takes_constants(kernel):
        groups.keep(
            ids[kernel.reads & (constants != 0)], f"{reader} reads a constant other than zero that cannot be moved"
        )


def _moved_constants(graph: ChannelGraph, groups: _Groups) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the constants that go add to other variables, by path; and the new biases."""
    shifts, biases = {}, {}
    for kernel in graph.kernels:
        goes = groups.goes(kernel.inputs.ids) & kernel.reads & (kernel.inputs.constants != 0)
        if not goes.any():
            continue
        amounts, norm = added(kernel.layer, kernel.inputs, goes), graph.norm_behind(kernel)
        if kernel.layer.bias is not None:
            shifts[kernel.layer.bias.path] = amounts
        elif norm is not None:
            # In training the batch norm subtracts the batch's mean and so the constant with it.
            shifts[norm.moving_mean.path] = -amounts
        else:
            biases[kernel.layer.kernel.path] = amounts
    return shifts, biases


def _kept_indices(groups: _Groups, ids: np.ndarray | None) -> np.ndarray | None:
    if ids is None or not (goes := groups.goes(ids)).any():
        return None
    return np.flatnonzero(~goes)


def _notes(graph: ChannelGraph, function: Function, groups: _Groups) -> Iterator[str]:
    for kernel in graph.kernels:
        idle = []
        if function != "remove_channels":
            idle.append(("zero filters", kernel.outputs.ids[~kernel.writes]))
        if function != "remove_filters":
            idle.append(("zero input channels", kernel.inputs.ids[~kernel.reads]))
        for what, ids in idle:
            for reason, count in collections.Counter(groups.reasons(ids)).items():
                if reason:
                    yield f"{kernel.layer.name} keeps {count} {what}: {reason}"
