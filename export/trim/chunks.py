"""Chunks: the values of a kernel, or of several smaller variables, as bytes."""

import math
from typing import NamedTuple

import keras  # noqa: F401  NumPy learns bfloat16 from it
import numpy as np

from export.trim.coder import (
    DecodeError,
    RangeDecoder,
    RangeEncoder,
    SymbolModel,
    decode_places,
    decode_symbols,
    encode_places,
    encode_symbols,
    place_bits,
)
from export.trim.kinds import CODED_BYTES

FLAT = 0  # no columns: a vector
COLUMNS = (FLAT, -2, -1)  # the axis whose members have counts of their own: none, inputs, outputs


class ChunkInfo(NamedTuple):
    """What the table of a file says of a chunk."""

    stored: str | int  # the type of its numbers, or the codebook that its symbols are indices into
    axis: int  # one of COLUMNS
    words: int  # 32-bit words of the range coder
    raw: int  # bytes after them


class Models:
    """What has been learned of symbols in the chunks before, for each codebook and each byte of each type."""

    def __init__(self) -> None:
        self._models: dict[tuple[str | int, int], SymbolModel] = {}

    def next(self, stored: str | int, place: int, size: int) -> SymbolModel:
        """The model for a new chunk."""
        key = (stored, place)
        if key in self._models:
            self._models[key].age()
        return self._models.setdefault(key, SymbolModel(size))


def encode_numbers(values: np.ndarray, axis: int, models: Models) -> tuple[ChunkInfo, bytes]:
    """An array bit for bit: where its bits are not all 0, and for those the bytes of each number.

    The bytes go from the highest, all of the highest first. The leading ones are entropy-coded, the others follow as
    they are (`kinds.CODED_BYTES`).
    """
    stored = values.dtype.name
    matrix = as_matrix(_as_bits(values), axis)
    places, coder = matrix != 0, RangeEncoder()
    encode_places(coder, places)
    planes = _planes(matrix[places])
    for place, plane in enumerate(planes[: CODED_BYTES[stored]]):
        encode_symbols(coder, plane, models.next(stored, place, 256))
    raw = planes[CODED_BYTES[stored] :].tobytes()
    words = coder.get_compressed()
    return ChunkInfo(stored, axis, len(words), len(raw)), words.astype("<u4").tobytes() + raw


def decode_numbers(data: bytes, info: ChunkInfo, shape: tuple[int, ...], models: Models) -> np.ndarray:
    """The array of `shape` that was encoded.

    Raises:
        DecodeError: damaged data.
    """
    assert isinstance(info.stored, str), "it is not coded with a codebook"
    stored = np.dtype(info.stored)
    coder = RangeDecoder(np.frombuffer(data[: 4 * info.words], "<u4").astype(np.uint32))
    places = decode_places(coder, matrix_shape(shape, info.axis))
    count, coded = int(places.sum()), CODED_BYTES[info.stored]
    if info.raw != count * (stored.itemsize - coded):
        raise DecodeError("the bytes of a variable are more or fewer than its numbers")
    planes = np.zeros((stored.itemsize, count), np.uint8)
    for place in range(coded):
        planes[place] = decode_symbols(coder, count, models.next(info.stored, place, 256))
    planes[coded:] = np.frombuffer(data[4 * info.words :], np.uint8).reshape(stored.itemsize - coded, count)
    words = np.ascontiguousarray(planes[::-1].T).view(f"<u{stored.itemsize}")[:, 0]
    matrix = np.zeros(places.shape, f"u{stored.itemsize}")
    matrix[places] = words
    array = from_matrix(matrix, shape, info.axis)
    return array != 0 if info.stored == "bool" else array.view(stored)


def encode_indices(
    kernel: np.ndarray, indices: np.ndarray, book: int, size: int, axis: int, models: Models
) -> tuple[ChunkInfo, bytes]:
    """Where `kernel` is not 0, and there its `indices` (of the same shape) into codebook number `book`."""
    places, coder = as_matrix(kernel != 0, axis), RangeEncoder()
    encode_places(coder, places)
    encode_symbols(coder, as_matrix(indices, axis)[places], models.next(book, 0, size))
    words = coder.get_compressed()
    return ChunkInfo(book, axis, len(words), 0), words.astype("<u4").tobytes()


def decode_indices(
    data: bytes, info: ChunkInfo, shape: tuple[int, ...], values: np.ndarray, models: Models
) -> np.ndarray:
    """The float32 array of `shape`, of which the indices point into `values`.

    Raises:
        DecodeError: damaged data.
    """
    coder = RangeDecoder(np.frombuffer(data[: 4 * info.words], "<u4").astype(np.uint32))
    places = decode_places(coder, matrix_shape(shape, info.axis))
    matrix = np.zeros(places.shape, np.float32)
    matrix[places] = values[decode_symbols(coder, int(places.sum()), models.next(info.stored, 0, len(values)))]
    return from_matrix(matrix, shape, info.axis)


def best_axis(places: np.ndarray) -> int:
    """The member of COLUMNS with which `places` (bool, of a kernel's shape) take the fewest bits."""
    return min(COLUMNS, key=lambda axis: place_bits(as_matrix(places, axis)))


def as_matrix(values: np.ndarray, axis: int) -> np.ndarray:
    """`values` as rows and columns, the columns being those along `axis`: filter after filter where it is -2."""
    if axis == FLAT:
        return values.reshape(matrix_shape(values.shape, axis))
    return values.transpose(_order(values.ndim, axis)).reshape(matrix_shape(values.shape, axis))


def from_matrix(matrix: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The inverse of `as_matrix`, contiguous."""
    if axis == FLAT:
        return matrix.reshape(shape)
    order = _order(len(shape), axis)
    turned = matrix.reshape([shape[place] for place in order])
    return np.ascontiguousarray(turned.transpose(np.argsort(order)))


def matrix_shape(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Rows and columns."""
    size = math.prod(shape)
    columns = 1 if axis == FLAT else shape[axis]
    return (size // columns, columns) if size else (0, 0)


def _order(rank: int, axis: int) -> tuple[int, ...]:
    return (rank - 1, *range(rank - 1)) if axis == -2 else tuple(range(rank))


def _as_bits(values: np.ndarray) -> np.ndarray:
    return values.view(f"u{values.dtype.itemsize}")


def _planes(words: np.ndarray) -> np.ndarray:
    """The bytes `[itemsize, count]` of unsigned numbers, the highest first."""
    size = words.dtype.itemsize
    raw = np.ascontiguousarray(words.astype(f"<u{size}")).view(np.uint8).reshape(-1, size)
    return raw.T[::-1]
