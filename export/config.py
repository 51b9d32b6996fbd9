"""Flags of the exports. No TensorFlow here: `--help` reads this."""

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
MOST_CHECKED_IMAGES = 10_000  # where the flag does not say: as many as CIFAR-10 tests with


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
        f"test images that each file is run over to prove it; 0: all, {MOST_CHECKED_IMAGES:,} at most",
        name="export_check_images",
        minimum=0,
        affects_result=False,
    )


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
