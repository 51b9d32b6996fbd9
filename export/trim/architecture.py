"""A network without its values: Keras' configuration, and what Keras builds of that within a budget of bytes."""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from utils.errors import InputError, first_cause, first_line
from utils.keras_files import build_network, variables_within
from utils.keras_layers import all_layers, has_lambda


def architecture_of(model: keras.Model) -> dict[str, Any]:
    """The JSON-able configuration of `model`, without how it was compiled.

    Raises:
        InputError: it is not built, or has what cannot be kept: Python code of a Lambda layer, a vocabulary beside its
            variables, or a configuration that is no JSON.
    """
    if not model.built:
        raise InputError(f"A network to be saved must be built: call it once. Received: {model.name}, which is not")
    if has_lambda(model):
        raise InputError(
            "A trim file carries no Python code: write the Lambda layers as classes of their own. "
            f"Received: {model.name} with one or more"
        )
    for layer in all_layers(model):
        if hasattr(layer, "save_assets"):
            raise InputError(
                f"A trim file holds variables alone. Received: layer {layer.name} ({type(layer).__name__}), "
                "which keeps more than variables"
            )
    try:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    except Exception as error:  # whatever the get_config of the user's own layers raises
        raise InputError(f"Keras cannot give the configuration of {model.name}: {first_line(error)}") from error
    return _without(config, "compile_config")


def build_model(config: Mapping[str, Any], budget: int) -> keras.Model:
    """The network of that configuration, its values as freshly initialised.

    Args:
        budget: bytes of its variables, see `variables_within`.

    Raises:
        InputError: Keras cannot build it, such as for a class that it does not know, or it would be larger.
    """
    try:
        with variables_within(budget):  # Keras takes from the configuration, so it gets a copy
            model = build_network(copy.deepcopy(config), "a trim file")
    except Exception as error:  # a configuration may hold anything, and so Keras raises anything
        raise InputError(f"Keras cannot build the network: {first_line(first_cause(error))}") from error
    if not isinstance(model, keras.Model):
        raise InputError(f"It must hold a network. Received: {type(model).__name__}")
    return model


def finish_loading(model: keras.Model) -> None:
    """Lets layers that compute something of their variables do so anew, such as Normalization."""
    for layer in all_layers(model):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _without(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _without(part, key) for name, part in value.items() if name != key}
    return [_without(part, key) for part in value] if isinstance(value, list) else value


def name_variables(model: keras.Model, paths: Sequence[str]) -> None:
    """Gives the variables the paths that they had: Keras' own depend on how a model within the model came about."""
    for variable, path in zip(model.variables, paths, strict=True):
        variable._path = path  # which nothing public can set
