"""The kinds of values that a trim file can have, and the numbers of its format."""

from typing import NamedTuple

import numpy as np


class CodebookKind(NamedTuple):
    """How codebooks of a kind are found and written."""

    size: int  # at most so many levels
    rate: float  # the price of a bit, in mean squares of a kernel's weights
    level_type: str  # as NumPy names it
    is_shared: bool  # one for all kernels, each having its own scale; else each kernel has its own

    @property
    def largest_level(self) -> int:
        return int(np.iinfo(self.level_type).max)


CODEBOOKS = {
    "codebook-256": CodebookKind(256, 0.001, "<i2", is_shared=True),
    "codebook-16": CodebookKind(16, 0.012, "|i1", is_shared=False),
}
VALUES = ("float32", "float16", *CODEBOOKS)

MAGIC, VERSION = b"TRIM", 1
# Of these types a variable may be: how many of the leading bytes of a number are entropy-coded. What follows them, the
# lower part of a mantissa, is as good as random and is written as it is.
CODED_BYTES = {
    "float64": 2,
    "float32": 2,
    "float16": 1,
    "bfloat16": 2,
    **{f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "bool": 1,
}
