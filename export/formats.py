"""The formats of a finished network: how each is written, and how its own runtime runs it."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import keras
import numpy as np

from export import keras_model, litert, onnx, runtimes, saved_model
from export.config import FORMAT_NAMES, parse_formats
from export.trim import load_trim, save_trim
from utils.errors import InputError
from utils.keras_layers import all_layers, is_ours


class Source(NamedTuple):
    """What a format is made from.

    Args:
        model: the compressed network of stock Keras layers.
        example_shape: of one example, without the batch, every size known.
        calibration: training examples [N, ...] for the ranges of integers.
        fold: a copy of a network without the batch norms that can be folded.
    """

    model: keras.Model
    example_shape: tuple[int, ...]
    calibration: np.ndarray
    fold: Callable[[keras.Model], keras.Model]

    @property
    def is_continuous(self) -> bool:
        """Whether the network has none of our layers, which round activations."""
        return not any(is_ours(type(layer)) for layer in all_layers(self.model))


class Runner(Protocol):
    """A loaded file: examples [B, ...] -> outputs [B, ...]."""

    def __call__(self, examples: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Format:
    """One way to store a network.

    Args:
        file: its name among a run's exports; a SavedModel is a folder.
        write: makes the file, whole or not at all.
        load: the runner of a file, with that many threads unless the runtime has them for the whole process.
        values: how the kernels' values are stored, for `ideal_bytes`.
        is_exact: whether outputs must be those of the network but for rounding in 32 bits.
        packages: what must be installed beside TensorFlow, as pip calls it.
        has_threads: whether a runner keeps to the number of threads.
        is_compact: whether it is a form to store rather than one to run.
    """

    name: str
    title: str
    file: str
    write: Callable[[Source, Path], None]
    load: Callable[[Path, int, Source], Runner]
    values: str = "float32"
    is_exact: bool = True
    packages: tuple[str, ...] = ()
    has_threads: bool = False
    is_compact: bool = False


def _litert(name: str, title: str, file: str, kind: str, values: str = "float32", is_exact: bool = True) -> Format:
    def write(source: Source, path: Path) -> None:
        litert.write_litert(source.model, path, kind, source.example_shape, source.calibration)

    def load(path: Path, threads: int, source: Source) -> Runner:
        return runtimes.LitertRunner(path, threads)

    return Format(name, title, file, write, load, values, is_exact, packages=("ai-edge-litert",), has_threads=True)


def _trim(name: str, title: str, file: str, values: str) -> Format:
    def write(source: Source, path: Path) -> None:
        save_trim(source.model, path, values)

    def load(path: Path, threads: int, source: Source) -> Runner:
        return keras_model.KerasRunner(load_trim(path))

    return Format(name, title, file, write, load, values, is_exact=values == "float32", is_compact=True)


def _load_keras(path: Path, threads: int, source: Source) -> Runner:
    return keras_model.KerasRunner(keras_model.load_plain_model(path, like=source.model))


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format(
            "keras",
            "Keras",
            "model.keras",
            lambda source, path: keras_model.save_plain_model(source.model, path),
            _load_keras,
        ),
        Format(
            "keras-folded",
            "Keras, batch norm folded",
            "model.folded.keras",
            lambda source, path: keras_model.save_plain_model(source.fold(source.model), path),
            _load_keras,
        ),
        Format(
            "saved-model",
            "SavedModel",
            "saved_model",
            lambda source, path: saved_model.write_saved_model(source.model, path, source.example_shape),
            lambda path, threads, source: saved_model.SavedModelRunner(path),
        ),
        _litert("litert", "LiteRT, float32", "model.tflite", "float32"),
        _litert("litert-sparse", "LiteRT, sparse float32", "model.sparse.tflite", "sparse"),
        _litert("litert-int8", "LiteRT, int8 weights", "model.int8.tflite", "int8", "int8", False),
        _litert("litert-full-int8", "LiteRT, all int8", "model.full_int8.tflite", "full-int8", "int8", False),
        _litert("litert-float16", "LiteRT, float16", "model.float16.tflite", "float16", "float16", False),
        Format(
            "onnx",
            "ONNX",
            "model.onnx",
            lambda source, path: onnx.write_onnx(source.model, path, source.example_shape),
            lambda path, threads, source: runtimes.OnnxRunner(path, threads),
            packages=("tf2onnx", "onnxruntime"),
            has_threads=True,
        ),
        _trim("trim", "TrimFlow, float32", "model.trim.npz", "float32"),
        _trim("trim-float16", "TrimFlow, float16", "model.float16.trim.npz", "float16"),
        _trim("trim-256", "TrimFlow, 256 values", "model.256.trim.npz", "codebook-256"),
        _trim("trim-16", "TrimFlow, 16 values", "model.16.trim.npz", "codebook-16"),
    )
}
assert tuple(FORMATS) == FORMAT_NAMES


def chosen_formats(text: str, option: str) -> tuple[Format, ...]:
    """The formats of a comma list as `export.config.parse_formats` reads it, in the order of FORMATS.

    Raises:
        InputError: a name that is none, or a format asked for by name whose package is not installed; `option` is what
            the list was given to.
    """
    names = parse_formats(text, option)
    for name in (name for name in names if name in text.split(",")):
        package = missing_package(FORMATS[name])
        if package:
            raise InputError(f"{option} {name} needs the package {package}. {how_to_install(package)}")
    return tuple(form for name, form in FORMATS.items() if name in names)


def missing_package(form: Format) -> str:
    """What `form` needs and is not installed; empty where nothing is missing."""
    missing = (name for name in form.packages if importlib.util.find_spec(name.replace("-", "_")) is None)
    return next(missing, "")


def how_to_install(package: str) -> str:
    """What to do about a package that is missing."""
    return f"scripts/setup_venv.sh installs all packages; this one alone: .venv/bin/python -m pip install {package}"
