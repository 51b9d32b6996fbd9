"""Rebuilds a Keras model with other layers in place of some of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from compressors.parameters import leaf_layers
from utils.errors import InputError


def copied(layer: keras.Operation) -> keras.Operation:
    """A layer (or bare operation) of the same class and configuration, not built."""
    return type(layer).from_config(layer.get_config())


def variable_values(layer: keras.Layer) -> list[tf.Tensor]:
    """The values of all variables of the layer."""
    return [variable.value for variable in layer.variables]


def rebuild(
    model: keras.Model,
    replace: Callable[[keras.Layer], Sequence[keras.Layer]],
    values: Callable[[keras.Layer], Sequence[tf.Tensor]] = variable_values,
    on_input: Callable[[str], keras.Layer] | None = None,
) -> keras.Model:
    """A model of the same structure with `replace(layer)`, called one after the other, in place of each layer.

    Models inside the model are rebuilt too; a layer that is used twice is replaced once. `model` is not changed.

    Args:
        replace: the new layers of one that is not a model; the first takes over `values(layer)`.
        values: for the variables of the first new layer, in their order; not asked of a layer without variables.
        on_input: the layer that an input goes through first, by the name of the input.

    Raises:
        InputError: the model has no static graph.
    """
    check_has_graph(model)
    made: dict[int, tuple[keras.Operation, list[keras.Operation]]] = {}

    def remade(operation: keras.Operation) -> list[keras.Operation]:
        if id(operation) not in made:
            if isinstance(operation, keras.Model):
                new = [clone(operation)]
            else:
                new = list(replace(operation)) if isinstance(operation, keras.Layer) else [copied(operation)]
            made[id(operation)] = operation, new
        return made[id(operation)][1]

    def clone(model: keras.Model, on_input: Callable[[str], keras.Layer] | None = None) -> keras.Model:
        if isinstance(model, keras.Sequential):
            first = [_input_like(model.inputs[0])] + ([on_input(model.inputs[0].name)] if on_input else [])
            new = keras.Sequential([*first, *(new for layer in model.layers for new in remade(layer))], name=model.name)
        else:
            new = _clone_functional(model, remade, on_input)
        if not model.trainable:
            new.trainable = False
        return new

    rebuilt = clone(model, on_input)
    for layer in leaf_layers(model):
        if layer.variables:
            for variable, value in zip(remade(layer)[0].variables, values(layer), strict=True):
                variable.assign(value)
    return rebuilt


def check_has_graph(model: keras.Model) -> None:
    """Raises InputError for a model that is neither functional nor Sequential and built."""
    is_sequential = isinstance(model, keras.Sequential)
    if not (is_sequential and model.built or isinstance(model, keras.Function)):
        found = "a Sequential model that is not built" if is_sequential else f"of class {type(model).__name__}"
        raise InputError(f"the model must be functional, or Sequential and built. Received: {model.name!r}, {found}")


def _clone_functional(
    model: keras.Model,
    remade: Callable[[keras.Operation], Sequence[keras.Operation]],
    on_input: Callable[[str], keras.Layer] | None,
) -> keras.Model:
    inputs = keras.tree.map_structure(_input_like, model.input)
    through = {id(x): on_input(x.name)(x) for x in keras.tree.flatten(inputs)} if on_input else {}
    followers: dict[int, Sequence[keras.Operation]] = {}

    def first_of(operation: keras.Operation) -> keras.Operation:
        first, *rest = remade(operation)
        followers[id(first)] = rest
        return first

    def call(first: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(lambda x: through.get(id(x), x), (args, kwargs))
        outputs = first(*args, **kwargs)
        for layer in followers[id(first)]:
            outputs = layer(outputs)
        return outputs

    return keras.models.clone_model(model, input_tensors=inputs, clone_function=first_of, call_function=call)


def _input_like(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
