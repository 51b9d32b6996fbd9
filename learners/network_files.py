"""Networks in `.keras` files: read, copied from, fetched."""

import shutil
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from learners.training import named_arrays, restore_variables
from utils.errors import InputError, first_line
from utils.keras_layers import has_lambda
from utils.run_dir import write_atomically


def load_network(path: Path, model: keras.Model) -> None:
    """Copies the weights of a `.keras` file into `model`.

    Raises:
        InputError: there is no such file, it is none of Keras', or it holds another network.
    """
    loaded = read_model(path, like=model)
    arrays = named_arrays(loaded.weights)
    # In a model within the model, Keras has "block/conv/kernel" or "conv/kernel" depending on how that was made.
    if [_short_path(variable) for variable in loaded.weights] == [_short_path(variable) for variable in model.weights]:
        arrays = {mine.path: np.asarray(kept.value) for mine, kept in zip(model.weights, loaded.weights, strict=True)}
    restore_variables(model.weights, arrays, str(path))


def _short_path(variable: keras.Variable) -> tuple[Any, ...]:
    return (*variable.path.split("/")[-2:], *variable.shape)


def read_model(path: Path, like: keras.Model | None = None) -> keras.Model:
    """The network of a `.keras` file.

    Args:
        like: a network that was loaded before; if that has Lambda layers, those of the file may run too.

    Raises:
        InputError: there is no such file, or it is none of Keras'.
    """
    if not path.is_file():
        raise InputError(f"there is no model at {path.absolute()}")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} cannot be read as a .keras model: it is no zip archive, or not a whole one")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=like is None or not has_lambda(like))
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a .keras model: {first_line(error)}") from error


def check_url(url: str) -> None:
    """Raises InputError for an address that no file can be fetched from."""
    if not url.startswith(("https://", "http://")):
        raise InputError(f"--model_http_url must begin with https:// or http://. Received: {url!r}")


def download(url: str, path: Path) -> Path:
    """Fetches a `.keras` file."""
    check_url(url)

    def write(temporary: Path) -> None:
        with urllib.request.urlopen(url, timeout=60) as response, open(temporary, "wb") as file:
            shutil.copyfileobj(response, file)

    try:
        write_atomically(path, write)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise InputError(f"--model_http_url {url} cannot be fetched: {error}") from error
    return path
