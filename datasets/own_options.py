"""The flags of own data as numbers."""

import math
from collections.abc import Sequence

import numpy as np

from datasets.config import OwnDataConfig
from utils.errors import InputError

CHANNELS = (1, 3, 4)


def read_shares(text: str) -> tuple[float, ...]:
    """`--own_split` as the shares of training, validation and test.

    Raises:
        InputError: it is not three numbers of at least 0 and sum 1, or nothing is left to train on.
    """
    shares = _numbers(text)
    if shares is None or len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(
            "--own_split must be three numbers of at least 0 that sum to 1 (training, validation, test), such as "
            f"0.8,0.1,0.1. Received: {text!r}"
        )
    if shares[0] == 0:
        raise InputError(f"--own_split must leave a share above 0 for training, its first number. Received: {text!r}")
    return shares


def picture_shape(text: str, input_shape: Sequence[int | None]) -> tuple[int, int, int]:
    """Height, width and channels of the images that a network of `input_shape` is given.

    Args:
        text: `--own_image_size`, "height,width", or "" for the network's own.

    Raises:
        InputError: the network takes no pictures, the size is wrong or not the network's, or nobody names one.
    """
    if len(input_shape) != 3 or input_shape[2] not in CHANNELS:
        raise InputError(
            "the network's input must be [height, width, channels] with 1, 3 or 4 channels, for --own_data holds "
            f"pictures. Received: {_shape_text(input_shape)}"
        )
    own_size = tuple(input_shape[:2])
    if not text:
        if None in own_size:
            raise InputError(
                "--own_image_size must be given, as the network's input has no fixed size. "
                f"Received: input {_shape_text(input_shape)}"
            )
        height, width = own_size
        assert height is not None
        assert width is not None
        return height, width, input_shape[2]
    words = [word.strip() for word in text.split(",")]
    if len(words) != 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise InputError(f"--own_image_size must be height,width in pixels, such as 96,128. Received: {text!r}")
    size = tuple(int(word) for word in words)
    if any(own not in (None, asked) for own, asked in zip(own_size, size, strict=True)):
        raise InputError(
            f"--own_image_size must fit the network's input {_shape_text(input_shape)}. Received: {text!r}"
        )
    return size[0], size[1], input_shape[2]


def normalisation(config: OwnDataConfig, channels: int | None) -> tuple[np.ndarray, np.ndarray]:
    """`mean = own_mean / rescale` and `std = own_std / rescale`, each `float32 []` or `[channels]`.

    So `(x - mean) / std` is what the flags say, `(x * rescale - own_mean) / own_std`.

    Args:
        channels: length of an input's last axis; None: not known, any number of means will do.

    Raises:
        InputError: a flag is not a number (or a fraction such as 1/255), or neither one nor one for each channel; a
            factor or a standard deviation is 0.
    """
    rescale = _per_channel("own_rescale", config.rescale, 1)
    mean = _per_channel("own_mean", config.mean or "0", channels)
    std = _per_channel("own_std", config.std or "1", channels)
    for name, text, values in (("own_rescale", config.rescale, rescale), ("own_std", config.std, std)):
        if not np.all(values):
            raise InputError(f"--{name} must not be 0. Received: {text!r}")
    return (mean / rescale).astype(np.float32), (std / rescale).astype(np.float32)


def _per_channel(name: str, text: str, channels: int | None) -> np.ndarray:
    """A flag's numbers, `float64 []` where it is one, else `[channels]`."""
    values = _numbers(text)
    if values is None:
        raise InputError(f"--{name} must be a number such as 0.5 or 1/255. Received: {text!r}")
    if len(values) not in (1, channels or len(values)):
        allowed = "one number" if channels == 1 else f"one number, or {channels}, one for each channel"
        raise InputError(f"--{name} must be {allowed}. Received: {text!r}, {len(values)} numbers")
    return np.array(values[0] if len(values) == 1 else values, np.float64)


def _numbers(text: str) -> tuple[float, ...] | None:
    """Finite numbers and fractions between commas; None where one of them is neither."""
    try:
        numbers = tuple(_number(word) for word in text.split(","))
    except (ValueError, ZeroDivisionError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _number(word: str) -> float:
    numerator, *denominator = word.split("/", 1)
    return float(numerator) / float(denominator[0]) if denominator else float(numerator)


def _shape_text(shape: Sequence[int | None]) -> str:
    return f"[{', '.join(map(str, shape))}]"
