"""`.keras` files: the one place where networks are built from a file or a configuration that may come from strangers.

Keras' safe mode refuses Python code in a file. Everything else that such a file could be made to do is refused here:
an archive that unpacks to far more than it is, members that are not Keras', a configuration that names code which is no
part of a network, and one of a network that is far larger than the weights in the file. Links of the HDF5 file inside
are refused by Keras.
"""

import contextlib
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from utils.errors import InputError, first_cause, first_line

CONFIG = "config.json"
MOST_MEMBERS = 10_000
LONGEST_CONFIG = 64 << 20  # bytes; that of ResNet-152 takes less than one mebibyte
# Keras stores what does not shrink; an archive that was packed anew may shrink, but not as a bomb does.
LARGEST_EXPANSION, EXPANSION_FLOOR = 100, 64 << 20
# Below `keras` or `keras.src`: where layers and what they consist of are. Others fetch, read or write files.
MODULES_OF_NETWORKS = {
    "activations",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "quantizers",
    "random",
    "regularizers",
}
# Layers that take code or files from elsewhere.
FOREIGN_LAYERS = {"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
CODE = {"Lambda", "__lambda__"}
# A network's variables may be made so many times on the way, as a wrapper such as Bidirectional builds layers that it
# does not keep; and some bytes, of states that nobody saves.
TIMES_BUILT, BYTES_BESIDE = 4, 1 << 20


class _TooLarge(ValueError):
    """The variables of a network go beyond what they may take."""


def load_keras_file(path: Path, name: str = "", runs_code: bool = False) -> keras.Model:
    """The network of a `.keras` file, not compiled.

    Args:
        name: of the file in errors; its path where none is given.
        runs_code: Lambda layers, whose Python code is in the file, are loaded too.

    Raises:
        InputError: there is no such file, it is none of Keras', or one that Keras cannot or should not load.
    """
    name = name or str(path)
    check_parts(read_config(path, name), name, runs_code)
    try:
        with variables_within(_unpacked_bytes(path)):
            return keras.saving.load_model(path, compile=False, safe_mode=not runs_code)
    except Exception as error:  # whatever a damaged or foreign file makes Keras raise
        raise InputError(f"{name} cannot be read as a .keras model: {_reason(error)}") from error


def build_network(config: Mapping[str, Any], name: str) -> keras.Model:
    """The network that Keras' configuration describes, its weights new; code in the configuration is refused.

    Raises:
        InputError: it names something that is no part of a network.
        Exception: whatever else Keras makes of a configuration that it cannot build.
    """
    check_parts(config, name)
    return keras.saving.deserialize_keras_object(config, safe_mode=True)


@contextlib.contextmanager
def variables_within(budget: int) -> Iterator[None]:
    """Within it variables of `budget` bytes can be made, `TIMES_BUILT` times, and `BYTES_BESIDE`.

    Raises:
        ValueError: at the first variable beyond that, before it takes any memory.
    """
    used, allowed = 0, TIMES_BUILT * budget + BYTES_BESIDE

    def create(next_creator: Callable[..., tf.Variable], **options: Any) -> tf.Variable:
        nonlocal used
        used += _num_bytes(options["initial_value"])
        if used > allowed:
            raise _TooLarge(f"its variables take more than the {budget:,} bytes that they should")
        return next_creator(**options)

    with tf.variable_creator_scope(create):
        yield


def _num_bytes(initial_value: Any) -> int:
    """What a variable with that initial value, or with what a function gives, would take."""
    if not callable(initial_value):
        return tf.convert_to_tensor(initial_value).numpy().nbytes
    for cell in getattr(initial_value, "__closure__", None) or ():
        if isinstance(cell.cell_contents, keras.Variable):  # that asks Keras' initializer for as much as it has
            variable = cell.cell_contents
            return math.prod(variable.shape) * tf.as_dtype(variable.dtype).size
    # Traced, not run: TensorFlow then knows how large it will be.
    spec = tf.function(initial_value).get_concrete_function().structured_outputs
    return spec.shape.num_elements() * spec.dtype.size


def _unpacked_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def read_config(path: Path, name: str) -> dict[str, Any]:
    """The configuration in a `.keras` file whose archive is as Keras makes them.

    Raises:
        InputError: there is no such file, or it is no `.keras` file of Keras' making.
    """
    if not path.is_file():
        raise InputError(f"there is no model at {path.absolute()}")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{name} cannot be read as a .keras model: it is no zip archive, or not a whole one")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), path.stat().st_size, name)
            config = json.loads(archive.read(CONFIG))
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{name} cannot be read as a .keras model: its {CONFIG} is nested too deeply") from error
    except Exception as error:  # zipfile raises many kinds for damaged archives
        raise InputError(f"{name} cannot be read as a .keras model: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise InputError(f"{name} cannot be read as a .keras model: its {CONFIG} must describe a network")
    return config


def check_parts(config: Mapping[str, Any], name: str, runs_code: bool = False) -> None:
    """Raises InputError where a configuration names a class or function that is no part of a network.

    Allowed is what is registered with Keras (ours, the user's own), and what is in Keras' modules of layers and their
    parts; Python code only with `runs_code`.
    """
    for part in parts_of(config):
        kind = part["class_name"]
        if not runs_code and kind in CODE:
            raise InputError(f"{name} must not have a Lambda layer, that is Python code in the file. Received: one")
        if kind in FOREIGN_LAYERS:
            raise InputError(f"{name} must have its network in the file itself. Received: a {kind}, which reads others")
        module = part.get("module")
        if module is not None and not _is_of_networks(module) and not _is_registered(part):
            raise InputError(
                f"{name} must consist of Keras' layers and of registered classes. Received: "
                f"{_what(part.get('config') if kind == 'function' else kind)} of the module {_what(module)}"
            )


def parts_of(config: Any) -> Iterator[dict[str, Any]]:
    """Every object that a configuration describes, at any depth, outer ones first."""
    left = [config]
    while left:  # no recursion: a file may be nested as deeply as it likes
        value = left.pop()
        if isinstance(value, dict):
            if isinstance(value.get("class_name"), str):
                yield value
            left += reversed(value.values())
        elif isinstance(value, list | tuple):
            left += reversed(value)


def _check_members(members: list[zipfile.ZipInfo], archive_bytes: int, name: str) -> None:
    """Raises InputError for an archive that Keras would not have made."""
    what = f"{name} cannot be read as a .keras model: it is not as Keras makes them"
    if len(members) > MOST_MEMBERS:
        raise InputError(f"{what}, it must have at most {MOST_MEMBERS:,} members. Received: {len(members):,}")
    names = [member.filename for member in members]
    for member in names:
        if member.startswith("/") or "\\" in member or ".." in member.split("/"):
            raise InputError(f"{what}, it has a member outside of it, {_what(member)}")
    if len(set(names)) < len(names):
        raise InputError(f"{what}, it has two members of one name")
    sizes = {member.filename: member.file_size for member in members}
    if sizes.get(CONFIG, 0) > LONGEST_CONFIG:
        raise InputError(f"{what}, {CONFIG} must be at most {LONGEST_CONFIG:,} bytes. Received: {sizes[CONFIG]:,}")
    total = sum(sizes.values())
    if total > EXPANSION_FLOOR + LARGEST_EXPANSION * archive_bytes:
        raise InputError(f"{what}, its {archive_bytes:,} bytes unpack to {total:,}")


def _is_of_networks(module: Any) -> bool:
    if not isinstance(module, str):
        return False
    if module in ("builtins", "keras"):  # functions by their name alone, which Keras looks up in its own; Model itself
        return True
    first, *rest = module.split(".")
    rest = rest[1:] if rest[:1] == ["src"] else rest
    return first == "keras" and bool(rest) and rest[0] in MODULES_OF_NETWORKS


def _is_registered(part: Mapping[str, Any]) -> bool:
    name = part.get("config") if part.get("class_name") == "function" else part.get("registered_name")
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    cause = first_cause(error)  # which Keras wraps in the configuration of one layer after the other
    return first_line(cause if isinstance(cause, _TooLarge) else error)


def _what(value: Any) -> str:
    """A name out of the file, short and printable."""
    return f"{value!r:.80}"
