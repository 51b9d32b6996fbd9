"""Trim files: a network, saved and loaded, and what each of its kernels takes there (docs/trim_format.md)."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from export.trim.architecture import architecture_of, build_model, finish_loading, name_variables
from export.trim.chunks import ChunkInfo, Models, decode_indices, decode_numbers
from export.trim.coder import DecodeError
from export.trim.container import check_name, write_container
from export.trim.encode import TensorInfo, encode
from export.trim.kinds import VALUES
from export.trim.storage import FLOATS, stored_variables
from export.trim.table import SCALE_BYTES, TrimFile, pack_file, read_file
from utils.errors import InputError

MAX_BYTES = 4 << 30


def save_trim(model: keras.Model, path: str | Path, values: str) -> None:
    """Writes `model` to `path` (.trim.npz): the weights that are not 0, each with as few bits as `values` allows.

    Args:
        model: any built network without Python code of its own inside (Lambda) and without vocabularies.
        values: "float32" keeps every variable bit for bit; "float16"; "codebook-256" and "codebook-16" keep at most so
            many different values in a kernel. All but the first keep other variables as float16, and a batch norm as
            the scale and shift that it is at inference.

    Raises:
        InputError: another name or kind, or a network that Keras cannot build from its configuration.
        RunError: the disk is full; an older file at `path` stays.
    """
    path = Path(path)
    check_name(path)
    if values not in VALUES:
        raise InputError(f"values must be one of {', '.join(VALUES)}. Received: {values!r}")
    config = architecture_of(model)
    variables = stored_variables(model, is_exact=values == "float32")
    weight_bytes = sum(stored.values.nbytes for stored in variables)
    content = encode(variables, values)
    built = build_model(config, weight_bytes)
    _check_same(built, content.tensors)
    paths = [stored.path for stored in variables]
    is_named_alike = paths == [variable.path for variable in built.variables]
    write_container(path, pack_file(config, content, values, weight_bytes, [] if is_named_alike else paths))


def load_trim(path: str | Path, *, max_bytes: int = MAX_BYTES) -> keras.Model:
    """The network in a trim file.

    Args:
        max_bytes: how much its variables may take in memory, by what the file says and by what is then built.

    Raises:
        InputError: there is no such file, it is damaged, of a later version, too large, or has layers that Keras does
            not know (those of your own must be registered with Keras first).
    """
    path = Path(path)
    file = read_file(path, max_bytes)
    try:
        arrays = _decode(file)
        model = _build(file)
    except (DecodeError, InputError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    for variable, array in zip(model.variables, arrays, strict=True):
        variable.assign(array)
    finish_loading(model)
    return model


def trim_layer_bytes(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, int]:
    """Kernel's path -> its bytes in a trim file, with its scale and with its codebook where that is its own.

    A kernel is every variable of floats with two axes or more, so an embedding too.

    Raises:
        InputError: as `load_trim` does.
    """
    path = Path(path)
    file = read_file(path, max_bytes)
    try:
        model = _build(file)
    except InputError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    books = [chunk.stored for chunk in file.chunks if isinstance(chunk.stored, int)]
    sizes = {}
    for number, (members, chunk) in enumerate(zip(file.tensors_of_chunks(), file.chunks, strict=True)):
        if file.is_own(number):
            book = chunk.stored if isinstance(chunk.stored, int) and books.count(chunk.stored) == 1 else None
            of_book = 0 if book is None else file.level_bytes(book)
            sizes[model.variables[members[0]].path] = len(file.data[number]) + of_book
    return sizes


def _build(file: TrimFile) -> keras.Model:
    model = build_model(file.model, file.weight_bytes)
    _check_same(model, file.tensors)
    if file.paths:
        name_variables(model, file.paths)
    return model


def _check_same(built: keras.Model, tensors: Sequence[TensorInfo]) -> None:
    """Raises InputError where the network that Keras builds has not the variables of the file."""
    found = [(keras.backend.standardize_dtype(v.dtype), tuple(v.shape)) for v in built.variables]
    if found != [(tensor.dtype, tensor.shape) for tensor in tensors]:
        raise InputError(
            f"Keras must build the same network from its configuration. Received: {built.name}, of which it builds "
            "other variables than are kept"
        )


def _decode(file: TrimFile) -> list[np.ndarray]:
    """The values of all variables, in their own types."""
    arrays = [np.zeros(0)] * len(file.tensors)
    for number, tensor in enumerate(file.tensors):
        if isinstance(tensor.chunk, tuple):
            if tensor.dtype not in FLOATS:
                raise DecodeError("a constant must be a float")
            with np.errstate(over="ignore"):
                arrays[number] = np.full(tensor.shape, tensor.chunk[0], tensor.dtype)
    models = Models()
    for number, members in enumerate(file.tensors_of_chunks()):
        tensors = [file.tensors[member] for member in members]
        shape = tensors[0].shape if file.is_own(number) else (sum(math.prod(tensor.shape) for tensor in tensors),)
        numbers = _decode_chunk(bytes(file.data[number]), file.chunks[number], shape, file.levels, models)
        for member, array in zip(members, _divide(numbers, tensors), strict=True):
            arrays[member] = array
    return arrays


def _decode_chunk(
    data: bytes, info: ChunkInfo, shape: tuple[int, ...], levels: list[np.ndarray], models: Models
) -> np.ndarray:
    if isinstance(info.stored, str):
        return decode_numbers(data, info, shape, models)
    scale = np.frombuffer(data[:SCALE_BYTES], "<f4").astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        values = levels[info.stored] * scale
    return decode_indices(data[SCALE_BYTES:], info, shape, values, models)


def _divide(numbers: np.ndarray, tensors: Sequence[TensorInfo]) -> Iterator[np.ndarray]:
    """The values of each tensor in its own type, from those of all of them one after the other."""
    numbers, first = numbers.reshape(-1), 0
    for tensor in tensors:
        last = first + math.prod(tensor.shape)
        if numbers.dtype.name != tensor.dtype and not {numbers.dtype.name, tensor.dtype} <= set(FLOATS):
            raise DecodeError("a variable is stored as another type")
        with np.errstate(over="ignore", invalid="ignore"):
            yield numbers[first:last].astype(tensor.dtype).reshape(tensor.shape)
        first = last
