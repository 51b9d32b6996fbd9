"""How few bytes a kernel could take: the entropy bound that a file is measured by."""

import math

import numpy as np

from export.trim.codebook import assign, entropy, fit_codebook, root_mean_square
from export.trim.kinds import CODEBOOKS
from utils.errors import InputError

INT8_LARGEST = 127
MANTISSAS = {"float32": 23, "float16": 10}  # bits
KINDS = ("float32", "float16", "int8", *CODEBOOKS)


def ideal_bytes(kernel: np.ndarray, values: str) -> int:
    """Bytes for a kernel, z of whose weights are not 0, by the entropy of their places and of their values.

        ceil((sum over inputs i of n_i H(z_i / n_i) + z b) / 8),   H(p) = -p log2 p - (1 - p) log2(1 - p),

    where z_i of the n_i weights of input i (the last axis but one) are not 0, and b is the empirical entropy of what is
    stored for a weight that is not 0:

    - "float32", "float16": that of sign and exponent, and 23 or 10 bits of mantissa, which hold nothing but noise;
    - "int8": `round(127 w / m_o)`, m_o the largest |w| of the same output channel (the last axis), as LiteRT has it;
      a weight that becomes 0 counts as 0, so z is smaller;
    - "codebook-256", "codebook-16": indices into a codebook found for this kernel alone.

    A coder must learn the counts that this takes for known, so it is a little above. Scales, codebooks, names and
    headers are not counted.

    Args:
        kernel: floats of any shape.
        values: one of "float32", "float16", "int8", "codebook-256", "codebook-16".

    Raises:
        InputError: other `values`.
    """
    if values not in KINDS:
        raise InputError(f"values must be one of {', '.join(KINDS)}. Received: {values!r}")
    kernel = np.asarray(kernel, np.float64)
    if not kernel.size:
        return 0
    if values == "int8":
        kernel = int8_codes(kernel)
    nonzero = kernel[kernel != 0]
    if not len(nonzero):
        return 0
    if values in MANTISSAS:
        bits = _float_entropy(nonzero, values)
    elif values == "int8":
        bits = entropy(np.unique(nonzero, return_counts=True)[1])
    else:
        bits = _index_entropy(nonzero, values)
    return math.ceil((_bits_of_places(kernel != 0) + len(nonzero) * bits) / 8)


def _bits_of_places(is_nonzero: np.ndarray) -> float:
    """The entropy of a mask whose density differs from input to input (of fewer than two axes: of all together)."""
    rows = np.moveaxis(is_nonzero, -2, 0) if is_nonzero.ndim > 1 else is_nonzero[None]
    rows = rows.reshape(len(rows), -1)
    counts = rows.sum(1)
    return sum(rows.shape[1] * entropy(np.array([count, rows.shape[1] - count])) for count in counts)


def _float_entropy(nonzero: np.ndarray, values: str) -> float:
    """Bits of a float: the empirical entropy of sign and exponent, and the whole mantissa."""
    mantissa = MANTISSAS[values]
    words = nonzero.astype(values).view(f"u{4 if values == 'float32' else 2}")
    return mantissa + entropy(np.unique(words >> mantissa, return_counts=True)[1])


def int8_codes(kernel: np.ndarray) -> np.ndarray:
    """Whole numbers of -127..127 with a scale for each output channel."""
    rows = kernel.reshape(-1, kernel.shape[-1]) if kernel.ndim else kernel.reshape(1, 1)
    largest = np.abs(rows).max(0, initial=0.0)
    return np.round(rows * (INT8_LARGEST / np.where(largest > 0, largest, 1.0)))


def _index_entropy(nonzero: np.ndarray, values: str) -> float:
    if not np.isfinite(nonzero).all():
        return 32.0  # no codebook holds these: they are stored as they are
    kind = CODEBOOKS[values]
    normalised = nonzero / root_mean_square(nonzero)
    codebook = fit_codebook(normalised, kind.size, kind.rate, kind.largest_level)
    return entropy(np.bincount(assign(normalised, codebook, kind.rate)))
