"""Thinning: a smaller network that computes the same, without the filters and channels that contribute nothing."""

import collections
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from compressors.channel_layers import effective_weights
from compressors.channels import ChannelGraph
from compressors.masks import optimizer_slots
from compressors.parameters import leaf_layers
from compressors.removal import Function, Removal, Slices, check_removable, removal, sliced
from utils.errors import InputError


class Thinned(NamedTuple):
    """A smaller network in place of another.

    `slices` has, for each variable that became smaller, the indices kept along each axis (None: all), by path.
    The optimizer is of the old one's class and configuration, with its slots carried over. `notes` say what is zero
    and yet had to stay.
    """

    model: keras.Model
    optimizer: keras.Optimizer
    slices: Slices
    notes: tuple[str, ...] = ()


def thin(model: keras.Model, optimizer: keras.Optimizer, function: Function) -> Thinned | None:
    """Takes out of a network what `compressors.removal` finds; None where that is nothing.

    In inference the outputs stay what they are, up to rounding. Names of layers and paths of variables stay; `model`
    is not changed. A layer whose quantized weights would change, since their range was that of removed ones too, keeps
    its channels. What is zero and must stay is logged as a warning.

    Raises:
        InputError: the model has no static graph.
    """
    slices: Slices = {}
    while True:
        plan, smaller = _smaller(model, function)
        if smaller is None:
            break
        optimizer = _carried_over(optimizer, model, smaller, plan.kept)
        model, slices = smaller, _composed(slices, plan.kept)
        # Again: what has gone may have been all that read something else.
    for note in plan.notes:
        logging.getLogger(__name__).warning(note)
    return Thinned(model, optimizer, slices, plan.notes) if slices else None


def check_thinnable(model: keras.Model, function: Function) -> None:
    """Raises InputError where nothing could ever be removed from the model, or a layer cannot be made anew."""
    check_removable(model, function)
    for layer in leaf_layers(model):
        try:
            type(layer).from_config(layer.get_config())
        except Exception as error:
            kind, reason = type(layer).__name__, str(error).strip().partition("\n")[0]
            raise InputError(
                f"{function} makes layers anew from their configurations, which the layer {layer.name!r} of class "
                f"{kind} does not allow: {reason}"
            ) from error


def _smaller(model: keras.Model, function: Function) -> tuple[Removal, keras.Model | None]:
    graph = ChannelGraph(model)
    changed: collections.Counter[str] = collections.Counter()
    while True:
        plan = removal(graph, function, changed)
        if not plan.kept:
            return plan, None
        copier = _Copier(plan)
        smaller = copier.copy(model)
        changes = [old for old, new in copier.layers.items() if _is_quantized_anew(old, new, plan)]
        if not changes:
            return plan, smaller
        changed.update(changes)


def _composed(first: Slices, second: Slices) -> Slices:
    """What is kept when a second removal follows the first."""
    composed = dict(first)
    for path, axes in second.items():
        befores = first.get(path, (None,) * len(axes))
        composed[path] = tuple(
            now if before is None else before if now is None else before[now]
            for before, now in zip(befores, axes, strict=True)
        )
    return composed


class _Copier:
    """Copies a network and makes it smaller.

    Attributes:
        layers: the new layer of each old one that is no model itself.
    """

    def __init__(self, plan: Removal):
        self._plan = plan
        self._models: dict[keras.Model, keras.Model] = {}
        self.layers: dict[keras.Layer, keras.Layer] = {}

    def copy(self, model: keras.Model) -> keras.Model:
        copy = self._copied_model(model, _inputs_of(model))
        for old, new in self.layers.items():
            values: list[Any] = [self._plan.value(variable, variable.numpy()) for variable in old.variables]
            if len(values) < len(new.variables):
                values.append(self._plan.bias(old))
            for variable, value in zip(new.variables, values, strict=True):
                variable.assign(value)
        return copy

    def _copied_model(self, model: keras.Model, fed: Any) -> keras.Model:
        """A copy, with weights of its own, for inputs of the shapes of `fed`."""
        inputs = keras.tree.map_structure(
            lambda old, new: keras.Input(batch_shape=new.shape, dtype=old.dtype, name=old.name), _inputs_of(model), fed
        )
        if isinstance(model, keras.Sequential):
            copy = keras.Sequential([inputs], name=model.name)
            for layer in model.layers:
                copy.add(self._copied(layer, copy.outputs if copy.layers else [inputs]))
        else:
            copy = keras.models.clone_model(model, inputs, lambda operation: operation, self._call)
        if not model.trainable:
            copy.trainable = False
        return copy

    def _call(self, operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        return self._copied(operation, args)(*args, **kwargs)

    def _copied(self, operation: keras.Operation, args: Sequence[Any]) -> keras.Operation:
        """The copy of a layer, a model or a bare operation, which will be called with these arguments."""
        if isinstance(operation, keras.Model):
            if operation not in self._models:
                self._models[operation] = self._copied_model(operation, args[0])
            return self._models[operation]
        if not isinstance(operation, keras.Layer):
            margins = self._plan.margins.get(operation)
            changes = {"pad_width": (*operation.pad_width[:-1], margins)} if margins else {}
            return type(operation).from_config(operation.get_config() | changes)
        if operation not in self.layers:
            config = operation.get_config() | self._changes(operation, args)
            self.layers[operation] = type(operation).from_config(config)
        return self.layers[operation]

    def _changes(self, layer: keras.Layer, args: Sequence[Any]) -> dict[str, Any]:
        """Of the layer's configuration."""
        if isinstance(layer, keras.layers.Reshape):
            others = layer.target_shape[:-1]
            is_smaller = args[0].shape[-1] != layer.input.shape[-1]
            return {"target_shape": (*others, args[0].shape[-1] if others else -1)} if is_smaller else {}
        changes: dict[str, Any] = {}
        if isinstance(getattr(layer, "kernel", None), keras.Variable):
            if (filters := self._plan.filters(layer)) is not None:
                changes["units" if isinstance(layer, keras.layers.Dense) else "filters"] = len(filters)
            if self._plan.bias(layer) is not None:
                changes["use_bias"] = True
        return changes


def _is_quantized_anew(old: keras.Layer, new: keras.Layer, plan: Removal) -> bool:
    """Whether the layer computes with other weights than those of the old one that are left."""
    if not hasattr(old, "quantized_variables"):
        return False
    kernel, bias = effective_weights(old)
    added = plan.bias(old)
    bias = plan.value(old.bias, np.asarray(bias)) if old.bias is not None else 0.0 if added is None else added
    pairs = zip((plan.value(old.kernel, kernel), bias), effective_weights(new), strict=True)
    return not all(np.allclose(now, then, atol=1e-6) for then, now in pairs)


def _carried_over(
    optimizer: keras.Optimizer, model: keras.Model, thinned: keras.Model, kept: Slices
) -> keras.Optimizer:
    """The optimizer for the thinned model; a slot that is not of its variable's shape may have to start anew."""
    copy = type(optimizer).from_config(optimizer.get_config())
    if not optimizer.built:
        return copy
    copy.build(thinned.trainable_variables)
    variables = model.trainable_variables
    slots = zip(variables, optimizer_slots(optimizer, variables), strict=True)
    owners = {id(slot): variable.path for variable, slots in slots for slot in slots}
    values = {
        variable.path: sliced(variable.numpy(), kept.get(owners.get(id(variable.value), "")))
        for variable in optimizer.variables
    }
    for variable in copy.variables:
        value = values.get(variable.path)
        if value is not None and value.shape == variable.shape:
            variable.assign(value)
    return copy


def _inputs_of(model: keras.Model) -> Any:
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input
