"""Adaptive entropy coding: the place of what is not zero, and symbols, in growing blocks that NumPy can take at once.

Both sides count what they have seen, in integers, so no table is in the file. Within a block the probabilities stand
still; as a block is a fixed share of what came before it, a long stream takes a few hundred steps and loses nothing.
"""

from collections.abc import Iterator
from typing import TypeAlias

import constriction
import numpy as np

# A module of machine code: its parts cannot be imported by name.
RangeDecoder: TypeAlias = constriction.stream.queue.RangeDecoder
RangeEncoder: TypeAlias = constriction.stream.queue.RangeEncoder
Categorical: TypeAlias = constriction.stream.model.Categorical

ONE = 1 << 16  # a probability of 1; every probability is a whole number of these
LEAST = 1 << 4  # so that a zero costs at least 0.00035 bits, which bounds what a short file can say
SHRINKAGE = 16  # a column counts like its whole kernel until it has been seen this often
PLACE_SHIFT = 6  # a block of rows is at most 1/64 of the rows before it
SYMBOL_SHIFT = 5
LEAST_SYMBOLS = 32
INCREMENT = 8  # what a symbol seen once weighs against one not seen yet

_PLACE = constriction.stream.model.Bernoulli(perfect=False)


class DecodeError(Exception):
    """The data cannot come from an encoder."""


class PlaceModel:
    """Probability that an entry of a matrix is not zero, from the entries of its column and of all rows before.

    With c of the r entries above it in its column not zero, and g of all N entries above:

        G = floor(2^16 (g + 1) / (N + 2)),   p = floor((2^16 c + 16 G) / (r + 16)) / 2^16,   within [2^-12, 1 - 2^-12].
    """

    def __init__(self, num_columns: int):
        self._columns, self._rows = np.zeros(num_columns, np.int64), 0
        self._nonzero, self._seen = 1, 2

    def probabilities(self) -> np.ndarray:
        """The p of each column times 2^16, int64 `[columns]`."""
        overall = (self._nonzero << 16) // self._seen
        shrunk = ((self._columns << 16) + SHRINKAGE * overall) // (self._rows + SHRINKAGE)
        return np.clip(shrunk, LEAST, ONE - LEAST)

    def update(self, block: np.ndarray) -> None:
        """Counts rows `[rows, columns]` of 0 and 1."""
        counts = block.sum(0, dtype=np.int64)
        self._columns += counts
        self._rows += len(block)
        self._nonzero += int(counts.sum())
        self._seen += block.size


class SymbolModel:
    """Frequencies of the symbols 0..size-1: 1 at first, and 8 more for each time seen."""

    def __init__(self, size: int):
        self._counts, self._seen = np.ones(size, np.int64), 0

    @property
    def size(self) -> int:
        return len(self._counts)

    def age(self) -> None:
        """Halves what was seen: another kernel may differ from those before."""
        self._counts = (self._counts + 1) // 2
        self._seen //= 2

    def block(self, remaining: int) -> int:
        """How many symbols the next block has."""
        return min(remaining, max(LEAST_SYMBOLS, self._seen >> SYMBOL_SHIFT))

    def categorical(self) -> Categorical:
        return Categorical(self._counts.astype(np.float64), perfect=False)

    def update(self, symbols: np.ndarray) -> None:
        self._counts += INCREMENT * np.bincount(symbols, minlength=self.size)
        self._seen += len(symbols)


def encode_places(coder: RangeEncoder, places: np.ndarray) -> None:
    """Encodes a matrix of 0 and 1, row after row."""
    model = PlaceModel(places.shape[1])
    for first, last in _row_blocks(places.shape):
        block = places[first:last]
        coder.encode(block.astype(np.int32).ravel(), _PLACE, np.tile(model.probabilities() / ONE, last - first))
        model.update(block)


def decode_places(coder: RangeDecoder, shape: tuple[int, int]) -> np.ndarray:
    """The bool matrix that was encoded.

    Raises:
        DecodeError: damaged data.
    """
    places, model = np.zeros(shape, bool), PlaceModel(shape[1])
    for first, last in _row_blocks(shape):
        bits = _decoded(coder, _PLACE, np.tile(model.probabilities() / ONE, last - first))
        places[first:last] = bits.reshape(last - first, shape[1])
        model.update(places[first:last])
    return places


def place_bits(places: np.ndarray) -> float:
    """What `encode_places` takes, in bits."""
    model, bits = PlaceModel(places.shape[1]), 0.0
    for first, last in _row_blocks(places.shape):
        block, p = places[first:last], model.probabilities() / ONE
        ones = block.sum(0, dtype=np.int64)
        bits -= float(ones @ np.log2(p) + (len(block) - ones) @ np.log2(1 - p))
        model.update(block)
    return bits


def encode_symbols(coder: RangeEncoder, symbols: np.ndarray, model: SymbolModel) -> None:
    """Encodes `symbols` of 0..size-1; the model learns them. Of a single symbol there is nothing to say."""
    first = 0
    while model.size > 1 and first < len(symbols):
        block = symbols[first : first + model.block(len(symbols) - first)]
        coder.encode(block.astype(np.int32), model.categorical())
        model.update(block)
        first += len(block)


def decode_symbols(coder: RangeDecoder, count: int, model: SymbolModel) -> np.ndarray:
    """The `count` symbols that were encoded.

    Raises:
        DecodeError: damaged data.
    """
    symbols, first = np.zeros(count, np.int64), 0
    while model.size > 1 and first < count:
        block = _decoded(coder, model.categorical(), model.block(count - first))
        symbols[first : first + len(block)] = block
        model.update(block)
        first += len(block)
    return symbols


def _row_blocks(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of each block."""
    rows, first = (shape[0] if shape[1] else 0), 0
    while first < rows:
        last = min(rows, first + max(1, first >> PLACE_SHIFT))
        yield first, last
        first = last


def _decoded(coder: RangeDecoder, *model: object) -> np.ndarray:
    try:
        return coder.decode(*model)
    except AssertionError as error:  # which is how constriction tells of data that no encoder writes
        raise DecodeError("its entropy-coded part is not what an encoder writes") from error
