"""Networks in `.keras` files: read and copied from; and whether one can be kept in such a file."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from export.keras_model import save_plain_model
from learners.variables import check_variables, named_arrays, restore_variables
from utils.errors import InputError, RunError, first_line
from utils.finite import not_finite
from utils.keras_files import load_keras_file
from utils.keras_layers import all_layers, has_lambda
from utils.workers import Workers, from_first


def load_network(path: Path, model: keras.Model) -> None:
    """Copies the weights of a `.keras` file into `model`.

    Raises:
        InputError: there is no such file, it is none of Keras', it holds another network, or NaN or infinity.
    """
    loaded = read_model(path, like=model)
    arrays = named_arrays(loaded.weights)
    # In a model within the model, Keras has "block/conv/kernel" or "conv/kernel" depending on how that was made.
    if [_short_path(variable) for variable in loaded.weights] == [_short_path(variable) for variable in model.weights]:
        arrays = {mine.path: np.asarray(kept.value) for mine, kept in zip(model.weights, loaded.weights, strict=True)}
    check_variables(model.weights, arrays, str(path))
    _check_layers(loaded, model, path)
    if wrong := not_finite(loaded.weights):
        raise InputError(f"{path} must hold finite weights. Received: {wrong}")
    restore_variables(model.weights, arrays, str(path))


def _check_layers(loaded: keras.Model, model: keras.Model, path: Path) -> None:
    """Raises InputError where a layer does something else with the same weights, as in two variants of a network."""
    mine = {layer.name: layer for layer in all_layers(model)}
    for layer in all_layers(loaded):
        for option in ("strides", "padding", "epsilon"):
            there, here = getattr(layer, option, None), getattr(mine.get(layer.name), option, None)
            if None not in (there, here) and there != here:
                raise InputError(f"{path} holds another network. {layer.name}: {option} {there} there, {here} here")


def _short_path(variable: keras.Variable) -> tuple[Any, ...]:
    return (*variable.path.split("/")[-2:], *variable.shape)


def read_model(path: Path, like: keras.Model | None = None) -> keras.Model:
    """The network of a `.keras` file.

    Args:
        like: a network that was loaded before; if that has Lambda layers, those of the file may run too.

    Raises:
        InputError: there is no such file, or it is none of Keras'.
    """
    return load_keras_file(path, runs_code=like is not None and has_lambda(like))


def read_as_saved(path: Path, like: keras.Model, workers: Workers) -> keras.Model:
    """The network of a `.keras` file as it is: dense or pruned, thinned or quantized. Rank 0 alone may have the file.

    Raises:
        InputError: it cannot be read, or its inputs or outputs are not those of the network `like`.
    """
    import compressors.quantizers  # noqa: F401  Keras learns of the layers that a quantized network has

    if workers.size == 1:
        model = read_model(path, like)
    else:
        content = from_first(workers, lambda: _content(path))
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory) / path.name
            copy.write_bytes(content)
            model = read_model(copy, like)
    for what in ("input_shape", "output_shape"):
        found, wanted = getattr(model, what), getattr(like, what)
        if not _fits(found, wanted):
            raise InputError(
                f"the model to evaluate must have the {what.replace('_', ' ')} {wanted} of this network and data. "
                f"Received: {found} in {path}"
            )
    return model


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"there is no model at {path.absolute()}")
    return path.read_bytes()


def _fits(shape: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        None in pair or len(set(pair)) == 1 for pair in zip(shape, wanted, strict=True)
    )


def rehearse_saving(model: keras.Model, name: str) -> None:
    """Saves and reads back a network with classes of the user's own, rather than find it wanting at the run's end.

    Raises:
        InputError: Keras cannot.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.keras"
        try:
            save_plain_model(model, path)
            load_network(path, model)
        except RunError:
            raise
        except Exception as error:  # whatever the user's own classes raise
            raise InputError(
                f"the network {name} must be one that Keras saves and reads back; a layer of your own needs "
                f"get_config. Received: {type(error).__name__}: {first_line(error)}"
            ) from error
