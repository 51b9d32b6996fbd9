"""The content of a trim file around its values: header, table, codebooks, and every check of what they say of sizes."""

import itertools
import json
import lzma
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export.trim.chunks import COLUMNS, FLAT, ChunkInfo
from export.trim.coder import DecodeError
from export.trim.container import check_name, read_container
from export.trim.encode import OWN, Content, TensorInfo
from export.trim.kinds import CODEBOOKS, CODED_BYTES, MAGIC, VALUES, VERSION, CodebookKind
from utils.errors import InputError, first_line

LONGEST_TABLE = 1 << 25
MOST_PER_BYTE = 1 << 16  # numbers that one byte of a file can stand for; the coder's least cost gives 1 / 22,700
MOST_AXES = 32
SCALE_BYTES = 4
_HEADER = struct.Struct("<4sBBHQII")  # magic, version, kind, 0, bytes of the variables, of the table, of it packed
_PACKING = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0, "nice_len": 273, "depth": 512}]


class TrimFile(NamedTuple):
    """A file that is sound up to the values themselves."""

    model: Mapping[str, Any]  # Keras' configuration
    weight_bytes: int  # of all variables in memory
    tensors: list[TensorInfo]
    num_shared: int
    chunks: list[ChunkInfo]
    data: list[memoryview]  # of each chunk
    levels: list[np.ndarray]  # of each codebook, float32
    level_size: int  # bytes of a level in the file
    paths: list[str]  # of the variables, where Keras would give them others; else none

    def tensors_of_chunks(self) -> list[list[int]]:
        """The numbers of the tensors in each chunk."""
        members: list[list[int]] = [[] for _ in self.chunks]
        own = itertools.count(self.num_shared)
        for number, tensor in enumerate(self.tensors):
            if not isinstance(tensor.chunk, tuple):
                members[next(own) if tensor.chunk == OWN else tensor.chunk].append(number)
        return members

    def level_bytes(self, codebook: int) -> int:
        """What a codebook takes."""
        return len(self.levels[codebook]) * self.level_size

    def is_own(self, chunk: int) -> bool:
        """Whether the chunk is that of one kernel."""
        return chunk >= self.num_shared


def pack_file(
    model: Mapping[str, Any], content: Content, values: str, weight_bytes: int, paths: Sequence[str]
) -> bytes:
    """All the bytes of a file.

    Args:
        paths: of the variables, where Keras would give them others; else none.

    Raises:
        InputError: the table is too long.
    """
    table = {
        "tensors": content.tensors,
        "shared": content.num_shared,
        "chunks": content.chunks,
        "codebooks": [len(levels) for levels in content.levels],
        "paths": paths,
        "model": model,
    }
    text = json.dumps(table, separators=(",", ":")).encode()
    if len(text) > LONGEST_TABLE:
        raise InputError(f"The table of a trim file may have {LONGEST_TABLE:,} bytes. Received: {len(text):,}")
    packed = lzma.compress(text, format=lzma.FORMAT_RAW, filters=_PACKING)
    header = _HEADER.pack(MAGIC, VERSION, VALUES.index(values), 0, weight_bytes, len(text), len(packed))
    levels = [level.astype(CODEBOOKS[values].level_type).tobytes() for level in content.levels]
    return b"".join([header, packed, *levels, *content.data])


def read_file(path: Path, max_bytes: int) -> TrimFile:
    """Everything but the values, checked: sizes first, before anything of such a size is made.

    Raises:
        InputError: no such file, a damaged one, a later version, or a network of more than `max_bytes`.
    """
    check_name(path)
    content = memoryview(read_container(path, max_bytes))
    if len(content) < _HEADER.size or content[: len(MAGIC)] != MAGIC:
        raise InputError(f"{path} cannot be read: it is no trim file")
    _, version, kind, reserved, weight_bytes, table_bytes, packed_bytes = _HEADER.unpack_from(content)
    if version > VERSION:
        raise InputError(
            f"{path} is a trim file of version {version}, of a later TrimFlow. This one reads up to version {VERSION}"
        )
    if weight_bytes > max_bytes:
        raise InputError(f"A network may take {max_bytes:,} bytes (max_bytes). Received: {weight_bytes:,} in {path}")
    try:
        if version < 1 or kind >= len(VALUES) or reserved:
            raise DecodeError("its header is not one that a TrimFlow writes")
        rest = content[_HEADER.size :]
        file = _parse(_unpack(rest[:packed_bytes], table_bytes), rest[packed_bytes:], CODEBOOKS.get(VALUES[kind]))
        _check_sizes(file, weight_bytes, len(content))
    except (DecodeError, lzma.LZMAError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    return file


def _unpack(packed: memoryview, size: int) -> dict[str, Any]:
    if size > LONGEST_TABLE:
        raise DecodeError("its table is too long")
    text = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_PACKING).decompress(packed, size + 1)
    if len(text) != size:
        raise DecodeError("its table is longer or shorter than it says")
    return json.loads(text)


def _parse(table: dict[str, Any], data: memoryview, kind: CodebookKind | None) -> TrimFile:
    tensors = [TensorInfo(dtype, tuple(shape), _chunk_of(chunk)) for dtype, shape, chunk in table["tensors"]]
    chunks = [ChunkInfo(*chunk) for chunk in table["chunks"]]
    sizes, shared = table["codebooks"], table["shared"]
    if not all(map(_is_count, [*sizes, shared])) or (sizes and kind is None):
        raise DecodeError("its codebooks are none")
    own = sum(tensor.chunk == OWN for tensor in tensors)
    if shared + own != len(chunks) or any(isinstance(t.chunk, int) and t.chunk >= shared for t in tensors):
        raise DecodeError("its variables and chunks do not belong together")
    level_size = np.dtype(kind.level_type).itemsize if kind else 0
    lengths = [size * level_size for size in sizes]
    lengths += [_length(chunk, len(sizes), number < shared) for number, chunk in enumerate(chunks)]
    ends = list(itertools.accumulate(lengths, initial=0))
    if ends[-1] != len(data):
        raise DecodeError("it is longer or shorter than it says")
    parts = [data[first:last] for first, last in itertools.pairwise(ends)]
    level_type, most = (kind.level_type, kind.size) if kind else ("<f4", 0)  # without a kind there is no codebook
    levels = [np.frombuffer(part, level_type).astype(np.float32) for part in parts[: len(sizes)]]
    if any(not 1 <= len(level) <= most for level in levels):
        raise DecodeError("its codebooks are too large or too small")
    paths = table["paths"]
    if not isinstance(paths, list) or len(paths) not in (0, len(tensors)) or not all(isinstance(p, str) for p in paths):
        raise DecodeError("its variables have no names")
    weight_bytes = sum(_size(tensor) * np.dtype(tensor.dtype).itemsize for tensor in tensors)
    return TrimFile(
        table["model"], weight_bytes, tensors, shared, chunks, parts[len(sizes) :], levels, level_size, paths
    )


def _check_sizes(file: TrimFile, weight_bytes: int, file_bytes: int) -> None:
    """Raises DecodeError where the file says one thing here and another there, or more than it can hold."""
    if file.weight_bytes != weight_bytes:
        raise DecodeError("its variables do not take the bytes that it says")
    if sum(map(_size, file.tensors)) > MOST_PER_BYTE * file_bytes:
        raise DecodeError("it is too short for the network that it says it holds")


def _chunk_of(chunk: Any) -> int | tuple[float]:
    if isinstance(chunk, list) and len(chunk) == 1 and isinstance(chunk[0], float):
        return (chunk[0],)
    if not (_is_count(chunk) or (type(chunk) is int and chunk == OWN)):
        raise DecodeError("a variable has no chunk")
    return chunk


def _size(tensor: TensorInfo) -> int:
    """Numbers in it."""
    is_shape = len(tensor.shape) <= MOST_AXES and all(map(_is_count, tensor.shape))
    # Axes of length 0 left out: NumPy has no array of such a shape either.
    if tensor.dtype not in CODED_BYTES or not is_shape or not _is_count(math.prod(filter(None, tensor.shape))):
        raise DecodeError("a variable has a type or shape that none can have")
    if tensor.chunk == OWN and len(tensor.shape) < 2:
        raise DecodeError("a kernel must have two axes")
    return math.prod(tensor.shape)


def _length(chunk: ChunkInfo, num_codebooks: int, is_shared: bool) -> int:
    """Bytes of a chunk."""
    if type(chunk.axis) is not int or chunk.axis not in COLUMNS or (is_shared and chunk.axis != FLAT):
        raise DecodeError("a chunk has an axis that none can have")
    if not (_is_count(chunk.words) and _is_count(chunk.raw)):
        raise DecodeError("a chunk has a size that none can have")
    if isinstance(chunk.stored, str):
        if chunk.stored not in CODED_BYTES:
            raise DecodeError("a chunk has a type that none can have")
        return 4 * chunk.words + chunk.raw
    if not _is_count(chunk.stored) or chunk.stored >= num_codebooks or chunk.raw or is_shared:
        raise DecodeError("a chunk has a codebook that is not there")
    return SCALE_BYTES + 4 * chunk.words


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48
