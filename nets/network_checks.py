"""What a network must be like for the program to compress it, and the small repairs that make it so."""

from collections import Counter
from collections.abc import Sequence

import keras
import numpy as np

from utils.errors import InputError, first_line
from utils.finite import not_finite
from utils.keras_layers import all_layers, make_known

PYTHON_API = "the Python API takes such a network, see docs/pruner_api.md"


def check_network(model: keras.Model, name: str) -> None:
    """Raises InputError for a network that the program cannot compress; `name` is that of the network in errors.

    Its layers must be such that they can be walked, with one input and one output of numbers.
    """
    if not isinstance(model, keras.Sequential | keras.Function):
        raise InputError(
            f"{name} must be a functional or Sequential model, whose layers can be walked. Received: "
            f"{type(model).__name__}, a subclass of keras.Model with a call of its own; {PYTHON_API}"
        )
    if not model.built or not model.inputs:
        raise InputError(f"{name} must know the shape of its input. Received: a Sequential without keras.Input")
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            shapes = ", ".join(f"{tensor.name} {_text(tensor.shape)}" for tensor in tensors)
            raise InputError(
                f"{name} must have one {kind}. Received: {len(tensors)}, {shapes}; keras.Model(...) makes a network "
                f"of one of them, or {PYTHON_API}"
            )
    _check_tensors(model, name)
    _check_layers(model, name)
    if wrong := not_finite(model.weights):
        raise InputError(f"{name} must have finite weights. Received: {wrong}")


def remade(model: keras.Model, shape: Sequence[int], name: str) -> keras.Model:
    """A copy of the network, functional, with one input of the shape `[batch, *shape]` and the same weights.

    Variables of a copy of the copy have the same paths, whereas Keras names those of a Sequential model, or of one
    within the model, by the way in which it was made.

    Raises:
        InputError: a layer cannot be made anew from its configuration.
    """
    make_known(model)
    given = model.inputs[0]
    functional = keras.Model(given, model.outputs[0], name=model.name)
    fixed = keras.Input(tuple(shape), dtype=given.dtype, name=given.name)
    try:
        copy = keras.models.clone_model(functional, fixed, clone_function=_copy_layer, recursive=True)
        copy.set_weights(model.get_weights())
    except Exception as error:  # whatever the user's own layers raise
        raise InputError(
            f"{name} must consist of layers that Keras can make anew for inputs of shape {list(shape)}; one of your "
            f"own needs get_config. Received: {type(error).__name__}: {first_line(error)}"
        ) from error
    for layer in all_layers(copy):
        if hasattr(layer, "finalize_state"):  # of Normalization: what it computes from its weights
            layer.finalize_state()
    return copy


def check_same(model: keras.Model, copy: keras.Model, name: str) -> None:
    """Raises InputError where a copy gives other outputs, because a layer's configuration does not say all of it.

    A network that draws random numbers at inference too cannot be compared.
    """
    shape = (2, *copy.input_shape[1:])
    example = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    outputs = (keras.tree.flatten(network(example, training=False)) for network in (model, model, copy))
    expected, again, found = (np.asarray(of_network[0], np.float32) for of_network in outputs)
    if np.array_equal(expected, again, equal_nan=True) and not np.allclose(
        expected, found, rtol=1e-3, atol=1e-5, equal_nan=True
    ):
        raise InputError(
            f"{name} must be fully described by its layers' get_config and weights. Received: a copy made of them "
            f"gives outputs that differ by {np.abs(expected - found).max():.2g}"
        )


def _copy_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    # Keras makes no Lambda layer anew unless told that its code may run; it has no weights, so that one will do.
    is_lambda = isinstance(layer, keras.layers.Lambda)
    return layer if is_lambda else type(layer).from_config(layer.get_config())


def _check_tensors(model: keras.Model, name: str) -> None:
    given, result = model.inputs[0], model.outputs[0]
    if given.dtype == "string":
        raise InputError(f"{name} must take numbers. Received: an input of strings; make them numbers beforehand")
    if len(result.shape) != 2 or result.shape[-1] is None:
        raise InputError(
            f"{name} must give one row of numbers for each example, [batch, outputs]. Received: {_text(result.shape)}; "
            "for another task (such as segmentation) write a ModelHelper with a loss and a quality of its own, see "
            "docs/own_network.md"
        )
    if "float" not in result.dtype:
        raise InputError(
            f"{name} must give fractional numbers, which can be trained. Received: {result.dtype}; leave out the last "
            "steps (such as argmax)"
        )


def _check_layers(model: keras.Model, name: str) -> None:
    for layer in all_layers(model):
        if getattr(layer, "data_format", None) == "channels_first":
            raise InputError(
                f"{name} must have its channels last. Received: layer {layer.name} with data_format channels_first"
            )
        if isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential | keras.Function):
            raise InputError(
                f"{name} must consist of layers that can be walked. Received: {layer.name}, a model of class "
                f"{type(layer).__name__} with a call of its own; {PYTHON_API}"
            )
    twice = [path for path, count in Counter(weight.path for weight in model.weights).items() if count > 1]
    if twice:
        raise InputError(
            f"{name} must have weights of different names. Received: {twice[0]} twice; give the layers of models "
            "within the model different names"
        )
    if not model.trainable_variables:
        raise InputError(f"{name} must have weights to train. Received: none; are all layers trainable=False?")


def _text(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('batch' if index == 0 else str(size) for index, size in enumerate(shape))}]"
