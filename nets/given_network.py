"""A network as a user gives it: a `.keras` file, or a function of a module of theirs that returns a Keras model."""

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from nets.config import FUNCTION

# Our own files hold this layer; importing it registers it with Keras.
from nets.layers import FusedBatchNormalization  # noqa: F401
from utils.caller import caller_directory
from utils.errors import InputError, first_line
from utils.keras_files import load_keras_file, parts_of, read_config

REGISTER = (
    "give --own_model module:function instead, with a function that makes the network or loads the file where the "
    "class is known (@keras.saving.register_keras_serializable() on the class lets Keras find it)"
)


def is_function(source: str) -> bool:
    """Whether `source` is `module:function` rather than a file."""
    return bool(FUNCTION.fullmatch(source))


def read_keras_file(path: Path, unsafe: bool = False) -> keras.Model:
    """The network of a `.keras` file, not compiled.

    Args:
        unsafe: load Lambda layers too, whose Python code is in the file and would run.

    Raises:
        InputError: it is no such file, is damaged, or holds what Keras cannot or should not load.
    """
    _check_is_keras_file(path)
    name = f"--own_model {path}"
    parts = [part for part in parts_of(read_config(path, name)) if "registered_name" in part]
    if not unsafe and any(part["class_name"] == "Lambda" for part in parts):
        raise InputError(
            f"--own_model {path} has a Lambda layer, that is Python code in the file which would run on this machine "
            "when it is loaded. If you trust where the file comes from, give --own_unsafe"
        )
    unknown = list(dict.fromkeys(filter(None, map(_unknown_name, parts))))
    if unknown:
        raise InputError(
            f"--own_model {path} needs {', '.join(unknown)}, which is not Keras' own and not in the file: {REGISTER}"
        )
    return load_keras_file(path, name, runs_code=unsafe)


def call_function(source: str) -> keras.Model:
    """What the function of `module:function` returns; the module is looked up from the caller's directory too.

    Raises:
        InputError: there is no such module or function, it needs arguments, fails, or returns no Keras model.
    """
    with contextlib.chdir(caller_directory()):  # a file that it opens by a relative path is meant from there
        function = _find_function(source)
        try:
            model = function()
        except InputError:
            raise
        except Exception as error:  # the user's own code
            raise InputError(
                f"--own_model {source} failed: {type(error).__name__}: {first_line(error)} (--debug shows where)"
            ) from error
    if not isinstance(model, keras.Model):
        raise InputError(f"--own_model {source} must return a keras.Model. Received: {type(model).__name__}")
    return model


def _check_is_keras_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(
            f"--own_model must be a .keras file. Received: {path}, a directory; a SavedModel must be loaded by the "
            "program that made it, and saved with model.save('x.keras')"
        )
    if path.suffix in (".h5", ".hdf5"):
        raise InputError(
            f"--own_model must be a .keras file. Received: {path}, which Keras converts: "
            f"keras.models.load_model('{path.name}').save('{path.stem}.keras')"
        )
    if path.suffix != ".keras":
        raise InputError(f"--own_model must be a .keras file, or module:function. Received: {path}")


def _unknown_name(part: dict[str, Any]) -> str | None:
    """The name of somebody's own class or function, where Keras has not been told of it."""
    if part["class_name"] == "function":
        name = str(part["config"])
        is_stock = any(hasattr(module, name) for module in (keras.activations, keras.initializers, keras.regularizers))
    else:
        name = part["registered_name"]
        is_stock = name is None or str(part.get("module")).split(".")[0] in ("keras", "builtins")
    return None if is_stock or keras.saving.get_registered_object(name) is not None else name


def _find_function(source: str) -> Callable[[], Any]:
    module_name, name = source.split(":")
    module = _import(module_name, source)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        has = f"has {', '.join(known)}" if known else "has no functions"
        raise InputError(f"--own_model {source}: there is no function {name}; {module.__file__} {has}")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise InputError(f"--own_model {source} must be a function without arguments. Received: {error}") from error
    return function


def _import(name: str, source: str) -> ModuleType:
    directory = caller_directory()
    if str(directory) not in sys.path:
        sys.path.append(str(directory))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise InputError(f"--own_model {source}: module {name} needs {error.name}, which is not there") from error
        raise InputError(f"--own_model {source}: there is no module {name} in {directory} or on sys.path") from error
    except Exception as error:  # the user's own code
        raise InputError(
            f"--own_model {source}: module {name} failed: {type(error).__name__}: {first_line(error)} "
            "(--debug shows where)"
        ) from error
    wanted = directory.joinpath(*name.split("."))
    found = Path(getattr(module, "__file__", None) or directory)
    if (wanted.with_suffix(".py").exists() or wanted.is_dir()) and not found.is_relative_to(directory):
        raise InputError(f"--own_model {source}: the name {name} is taken by {found}; rename your module")
    return module
