"""Trim files: a network, saved and loaded, and what each of its kernels takes there (docs/trim_format.md)."""

import itertools
import json
import lzma
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from export.trim.architecture import architecture_of, build_model, finish_loading
from export.trim.chunks import COLUMNS, FLAT, ChunkInfo, Models, decode_indices, decode_numbers
from export.trim.coder import DecodeError
from export.trim.container import check_name, read_container, write_container
from export.trim.encode import OWN, TensorInfo, encode
from export.trim.kinds import CODEBOOKS, CODED_BYTES, MAGIC, VALUES, VERSION, CodebookKind
from export.trim.storage import FLOATS, stored_variables
from utils.errors import InputError, first_line

MAX_BYTES = 4 << 30
LONGEST_TABLE = 1 << 25
MOST_PER_BYTE = 1 << 16  # numbers that one byte of a file can stand for; the coder's least cost gives 1 / 22,700
SCALE_BYTES = 4
_HEADER = struct.Struct("<4sBBHQII")
_PACKING = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0, "mode": lzma.MODE_NORMAL}]


class _File(NamedTuple):
    """A file that is sound up to the values themselves."""

    model: Mapping[str, Any]
    weight_bytes: int
    tensors: list[TensorInfo]
    num_shared: int
    chunks: list[ChunkInfo]
    data: list[memoryview]
    levels: list[np.ndarray]

    def numbers_of_chunks(self) -> list[list[int]]:
        """The tensors in each chunk."""
        members: list[list[int]] = [[] for _ in self.chunks]
        own = itertools.count(self.num_shared)
        for number, tensor in enumerate(self.tensors):
            if not isinstance(tensor.chunk, tuple):
                members[next(own) if tensor.chunk == OWN else tensor.chunk].append(number)
        return members


def save_trim(model: keras.Model, path: str | Path, values: str) -> None:
    """Writes `model` to `path` (.trim.npz): only the weights that are not 0, and those with as few bits as `values` has.

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
    variables = stored_variables(model, is_exact=values == "float32")
    weight_bytes = sum(stored.values.nbytes for stored in variables)
    config = architecture_of(model)
    content = encode(variables, values)
    _check_same(model, build_model(config, weight_bytes), content.tensors)
    table = {
        "tensors": [[t.dtype, t.shape, t.chunk] for t in content.tensors],
        "shared": content.num_shared,
        "chunks": content.chunks,
        "codebooks": [len(levels) for levels in content.levels],
        "model": config,
    }
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) > LONGEST_TABLE:
        raise InputError(f"A trim file's table may have {LONGEST_TABLE:,} bytes. Received: a network of {len(text):,}")
    packed = lzma.compress(text, format=lzma.FORMAT_RAW, filters=_PACKING)
    header = _HEADER.pack(MAGIC, VERSION, VALUES.index(values), 0, weight_bytes, len(text), len(packed))
    levels = b"".join(level.astype(CODEBOOKS[values].level_type).tobytes() for level in content.levels)
    write_container(path, b"".join([header, packed, levels, *content.data]))


def load_trim(path: str | Path, *, max_bytes: int = MAX_BYTES) -> keras.Model:
    """The network in a trim file.

    Args:
        max_bytes: how much its variables may take in memory, by what the file says and by what is then built.

    Raises:
        InputError: there is no such file, it is damaged, of a later version, too large, or has layers that Keras does
            not know (those of your own must be registered with Keras first).
    """
    path = Path(path)
    file = _read(path, max_bytes)
    try:
        arrays = _decode(file)
        model = build_model(file.model, file.weight_bytes)
        _check_same(model, model, file.tensors)
    except (DecodeError, InputError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    for variable, array in zip(model.variables, arrays, strict=True):
        variable.assign(array)
    finish_loading(model)
    return model


def trim_layer_bytes(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, int]:
    """Kernel's path -> its bytes in a trim file, with its scale and with its codebook where that is its own.

    Raises:
        InputError: as `load_trim` does.
    """
    path = Path(path)
    file = _read(path, max_bytes)
    try:
        model = build_model(file.model, file.weight_bytes)
        _check_same(model, model, file.tensors)
    except InputError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    sizes = {}
    for members, info, data in zip(file.numbers_of_chunks(), file.chunks, file.data, strict=True):
        if len(members) == 1 and file.tensors[members[0]].chunk == OWN:
            is_own = isinstance(info.stored, int) and len(file.levels) > 1
            sizes[model.variables[members[0]].path] = len(data) + (len(file.levels[info.stored]) if is_own else 0)
    return sizes


def _check_same(model: keras.Model, built: keras.Model, tensors: list[TensorInfo]) -> None:
    """Raises InputError where the network that Keras builds has not the variables of the file."""
    found = [(keras.backend.standardize_dtype(v.dtype), tuple(v.shape)) for v in built.variables]
    if found != [(tensor.dtype, tensor.shape) for tensor in tensors]:
        raise InputError(
            f"Keras must build the same network from the configuration of {model.name}. "
            "Received: other variables than those to be kept"
        )


def _read(path: Path, max_bytes: int) -> _File:
    """Everything but the values, checked: sizes first, before anything of such a size is made."""
    check_name(path)
    content = memoryview(read_container(path, max_bytes))
    if len(content) < _HEADER.size or content[: len(MAGIC)] != MAGIC:
        raise InputError(f"{path} cannot be read: it is no trim file")
    _, version, kind, _, weight_bytes, table_bytes, packed_bytes = _HEADER.unpack_from(content)
    if version > VERSION:
        raise InputError(
            f"{path} is a trim file of version {version}, from a later TrimFlow; this one reads versions up to {VERSION}"
        )
    if weight_bytes > max_bytes:
        raise InputError(f"A network may take {max_bytes:,} bytes (max_bytes). Received: {weight_bytes:,} in {path}")
    try:
        if version < 1 or kind >= len(VALUES):
            raise DecodeError("it has a version or a kind of values that never was")
        rest = content[_HEADER.size :]
        table = _unpack(rest[:packed_bytes], table_bytes)
        return _parse(table, rest[packed_bytes:], CODEBOOKS.get(VALUES[kind]), weight_bytes, len(content))
    except (DecodeError, lzma.LZMAError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error


def _unpack(packed: memoryview, size: int) -> dict[str, Any]:
    if size > LONGEST_TABLE:
        raise DecodeError("its table is too long")
    text = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_PACKING).decompress(packed, size + 1)
    if len(text) != size:
        raise DecodeError("its table is longer or shorter than it says")
    return json.loads(text)


def _parse(
    table: dict[str, Any], data: memoryview, kind: CodebookKind | None, weight_bytes: int, file_bytes: int
) -> _File:
    tensors = [TensorInfo(dtype, tuple(shape), _chunk_of(chunk)) for dtype, shape, chunk in table["tensors"]]
    chunks = [ChunkInfo(*chunk) for chunk in table["chunks"]]
    counts = [_size(tensor) for tensor in tensors]
    if sum(n * np.dtype(tensor.dtype).itemsize for n, tensor in zip(counts, tensors, strict=True)) != weight_bytes:
        raise DecodeError("its variables do not take what it says")
    if sum(counts) > MOST_PER_BYTE * file_bytes:
        raise DecodeError("it is too short for the network that it says it holds")
    sizes, shared = table["codebooks"], table["shared"]
    if not all(map(_is_count, [*sizes, shared])) or (sizes and kind is None):
        raise DecodeError("its codebooks are none")
    own = sum(tensor.chunk == OWN for tensor in tensors)
    if shared + own != len(chunks) or any(isinstance(t.chunk, int) and t.chunk >= shared for t in tensors):
        raise DecodeError("its variables and chunks do not belong together")
    parts, first = [], 0
    lengths = [size * np.dtype(kind.level_type).itemsize for size in sizes]
    for length in [*lengths, *(_length(chunk, len(sizes), number < shared) for number, chunk in enumerate(chunks))]:
        parts.append(data[first : first + length])
        first += length
    if first != len(data):
        raise DecodeError("it is longer or shorter than it says")
    levels = [np.frombuffer(part, kind.level_type).astype(np.float32) for part in parts[: len(sizes)]]
    if any(not 1 <= len(level) <= kind.size for level in levels):
        raise DecodeError("its codebooks are too large or too small")
    return _File(table["model"], weight_bytes, tensors, shared, chunks, parts[len(sizes) :], levels)


def _chunk_of(chunk: Any) -> int | tuple[float]:
    if isinstance(chunk, list) and len(chunk) == 1 and isinstance(chunk[0], float):
        return (chunk[0],)
    if chunk != OWN and not _is_count(chunk):
        raise DecodeError("a variable has no chunk")
    return chunk


def _size(tensor: TensorInfo) -> int:
    if tensor.dtype not in CODED_BYTES or not all(map(_is_count, tensor.shape)):
        raise DecodeError("a variable has a type or shape that none can have")
    if tensor.chunk == OWN and len(tensor.shape) < 2:
        raise DecodeError("a kernel must have two axes")
    return math.prod(tensor.shape)


def _length(chunk: ChunkInfo, num_codebooks: int, is_shared: bool) -> int:
    """Bytes of a chunk."""
    is_indices = _is_count(chunk.stored)
    if not (_is_count(chunk.words) and _is_count(chunk.raw)) or chunk.axis not in COLUMNS:
        raise DecodeError("a chunk has a size or an axis that none can have")
    if is_indices and (chunk.stored >= num_codebooks or chunk.raw or is_shared):
        raise DecodeError("a chunk has a codebook that is not there")
    if not is_indices and chunk.stored not in CODED_BYTES or is_shared and chunk.axis != FLAT:
        raise DecodeError("a chunk has a type that none can have")
    return SCALE_BYTES * is_indices + 4 * chunk.words + chunk.raw


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _decode(file: _File) -> list[np.ndarray]:
    """The values of all variables, in their own types."""
    arrays = [np.zeros(0)] * len(file.tensors)
    for number, tensor in enumerate(file.tensors):
        if isinstance(tensor.chunk, tuple):
            if tensor.dtype not in FLOATS:
                raise DecodeError("a constant must be a float")
            arrays[number] = np.full(tensor.shape, tensor.chunk[0], tensor.dtype)
    models = Models()
    for members, info, data in zip(file.numbers_of_chunks(), file.chunks, file.data, strict=True):
        for number, array in _decode_chunk([file.tensors[n] for n in members], info, bytes(data), file.levels, models):
            arrays[members[number]] = array
    return arrays


def _decode_chunk(
    tensors: list[TensorInfo], info: ChunkInfo, data: bytes, levels: list[np.ndarray], models: Models
) -> Iterator[tuple[int, np.ndarray]]:
    is_own = len(tensors) == 1 and tensors[0].chunk == OWN
    shape = tensors[0].shape if is_own else (sum(math.prod(tensor.shape) for tensor in tensors),)
    if isinstance(info.stored, int):
        scale = np.frombuffer(data[:SCALE_BYTES], "<f4").astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            values = levels[info.stored] * scale
        numbers = decode_indices(data[SCALE_BYTES:], info, shape, values, models)
    else:
        numbers = decode_numbers(data, info, shape, models)
    first = 0
    for number, tensor in enumerate(tensors):
        part = numbers.reshape(-1)[first : first + math.prod(tensor.shape)]
        first += part.size
        if part.dtype.name != tensor.dtype and not {part.dtype.name, tensor.dtype} <= set(FLOATS):
            raise DecodeError("a variable is stored as another type")
        with np.errstate(over="ignore", invalid="ignore"):
            yield number, part.astype(tensor.dtype).reshape(tensor.shape)
