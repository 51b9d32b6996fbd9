"""Flags of the exports. No TensorFlow here: `--help` reads this."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from utils.errors import InputError
from utils.flags import flag

FORMAT_NAMES = (
    "keras",
    "keras-folded",
    "saved-model",
    "litert",
    "litert-sparse",
    "litert-int8",
    "litert-full-int8",
    "litert-float16",
    "onnx",
    "trim",
    "trim-float16",
    "trim-256",
    "trim-16",
)
DEFAULT_FORMATS = tuple(name for name in FORMAT_NAMES if name != "keras-folded")
# Where the flag does not say: as many as CIFAR-10 tests with; fewer of large ones, of which 10,000 would take hours.
MOST_CHECKED_IMAGES, MOST_LARGE_IMAGES = 10_000, 1_000
LARGE = 64 * 64 * 3  # numbers in an example


@dataclass(frozen=True)
class ExportConfig:
    """Exports"""

    formats: str = flag(
        "all",
        f"files to make at the end: none, all (but keras-folded), or a comma list of {', '.join(FORMAT_NAMES)}",
        name="export_formats",
        affects_result=False,
    )
    check_images: int = flag(
        0,
        f"test images that each file is run over to prove it; 0: all, {MOST_CHECKED_IMAGES:,} at most, of those above "
        f"64x64 {MOST_LARGE_IMAGES:,}",
        name="export_check_images",
        minimum=0,
        affects_result=False,
    )


def num_checked_images(asked: int, example_shape: Sequence[int]) -> int:
    """How many test images files are run over at most; `asked` is what the flag says, 0 for nothing."""
    return asked or (MOST_LARGE_IMAGES if math.prod(example_shape) > LARGE else MOST_CHECKED_IMAGES)


def parse_formats(text: str, option: str) -> set[str]:
    """The names in a comma list; `all` stands for all but `keras-folded`, `none` for nothing.

    Raises:
        InputError: a word that is no name; `option` is what the list was given to.
    """
    words = [word.strip() for word in text.split(",")]
    if words == ["none"]:
        return set()
    unknown = [word for word in words if word not in (*FORMAT_NAMES, "all")]
    if unknown:
        allowed = ", ".join(("all", *FORMAT_NAMES))
        raise InputError(f"{option} must be none, or a comma list of {allowed}. Received: {text!r}")
    return {name for word in words for name in (DEFAULT_FORMATS if word == "all" else (word,))}
