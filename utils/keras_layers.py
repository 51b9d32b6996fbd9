"""The layers of a Keras model at any depth, and whose code they are."""

import types
from collections.abc import Callable, Mapping
from typing import Any

import keras

OUR_PACKAGE = "trimflow"  # under which our own layers are registered with Keras


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Every layer within the model, those inside other layers included."""
    # Keras has no public way to the layers inside a layer that is no model.
    return model._flatten_layers(include_self=False, recursive=True)


def has_lambda(model: keras.Model) -> bool:
    """Whether a Lambda layer is in the model: its file carries Python code, which Keras loads only if told to."""
    return any(isinstance(layer, keras.layers.Lambda) for layer in all_layers(model))


def is_ours(part: type | Callable[..., Any]) -> bool:
    """Whether a class or function is registered with Keras by this program."""
    return keras.saving.get_registered_name(part).startswith(f"{OUR_PACKAGE}>")


def code_of(model: keras.Model) -> Mapping[str, type | Callable[..., Any]]:
    """Name -> class or function in the model's layers that is neither Keras' nor ours, but the user's."""
    found: dict[str, Any] = {}
    for layer in all_layers(model):
        parts: list[Any] = [type(layer)]
        if not isinstance(layer, keras.layers.Lambda):  # its function is in the file
            values = vars(layer).values()
            parts += [value for value in values if isinstance(value, types.FunctionType)]
            parts += [type(value) for value in values if hasattr(value, "get_config")]
        found |= {part.__name__: part for part in parts if not (_is_stock(part) or is_ours(part))}
    return found


def make_known(model: keras.Model) -> None:
    """From here on Keras reads and copies the layers of the user's own in this model, registered or not."""
    keras.saving.get_custom_objects().update(code_of(model))


def _is_stock(part: type | Callable[..., Any]) -> bool:
    return part.__module__.split(".")[0] == "keras"
