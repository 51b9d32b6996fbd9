"""How few bytes a kernel could take: the entropy bound that a file is measured by."""

import math

import numpy as np

from export.trim.codebook import assign, entropy, fit_codebook, root_mean_square
from export.trim.kinds import CODEBOOKS
from utils.errors import InputError

INT8_LARGEST = 127
KINDS = ("float32", "float16", "int8", *CODEBOOKS)


def ideal_bytes(kernel: np.ndarray, values: str) -> int:
    """Bytes for a kernel of n weights, z of them not 0, with no knowledge but how many there are of each value.

        ceil((n H(z / n) + z b) / 8),   H(p) = -p log2 p - (1 - p) log2(1 - p),

    with b = 32 or 16 bits for floats, else the empirical entropy of what is stored for the weights that are not 0:

    - "int8": `round(127 w / m_o)`, m_o the largest |w| of the same output channel (the last axis), as LiteRT has it;
      a weight that becomes 0 counts as 0, so z is smaller;
    - "codebook-256", "codebook-16": indices into a codebook found for this kernel alone.

    Scales, codebooks, names and headers are not counted. A coder that learns where zeros gather can be below it.

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
        kernel = _int8_codes(kernel)
    nonzero = kernel[kernel != 0]
    if not len(nonzero):
        return 0
    if values in ("float32", "float16"):
        bits = 32.0 if values == "float32" else 16.0
    elif values == "int8":
        bits = entropy(np.unique(nonzero, return_counts=True)[1])
    else:
        bits = _index_entropy(nonzero, values)
    places = kernel.size * entropy(np.array([len(nonzero), kernel.size - len(nonzero)]))
    return math.ceil((places + len(nonzero) * bits) / 8)


def _int8_codes(kernel: np.ndarray) -> np.ndarray:
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
