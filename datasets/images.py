"""What a data set of labelled images, or other samples, is in memory, and how it is cut to size."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from utils.errors import InputError


class ImageArrays(NamedTuple):
    """Images, usually `uint8 [N, H, W, C]`, and their labels, usually `int32 [N]`.

    Of the user's own data, other numbers of any shape `[N, ...]`, and of a regression its targets `float32 [N, k]`.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """The three splits of a data set and what its input pipeline needs to know.

    Attributes:
        name: `cifar10`, `digits32`, or that of the user's own data.
        title: for the first lines of a run, its report and its plots.
        mean, std: what an image is normalised by, `(x - mean) / std`, `float32 [C]` or `[]` along its last axis. Of our
            own data sets, those of each channel over the training images, in units of 0..255.
        crop_padding: pixels added on each side before the random crop of a training image.
        flip: whether a training image may be mirrored left to right.
    """

    name: str
    title: str
    num_classes: int
    train: ImageArrays
    validation: ImageArrays
    test: ImageArrays
    mean: np.ndarray
    std: np.ndarray
    crop_padding: int
    flip: bool


def first_images(arrays: ImageArrays, count: int, flag_name: str) -> ImageArrays:
    """The first `count` images, or all of them where `count` is 0.

    Raises:
        InputError: there are fewer than `count`.
    """
    check_count(count, len(arrays.labels), flag_name)
    return ImageArrays(*(array[: count or None] for array in arrays))


def check_count(count: int, available: int, flag_name: str) -> None:
    """Raises InputError where more images are asked for than there are."""
    if count > available:
        raise InputError(f"--{flag_name} must be at most {available}, the images there are. Received: {count}")


def check_validation_size(count: int, available: int) -> None:
    """Raises InputError unless `count` of `available` images can be kept for validation and some left to train on."""
    if not 0 < count < available:
        raise InputError(
            f"--nb_smpls_val must be below {available}, the training images there are (some must be left to train on). "
            f"Received: {count}"
        )


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of `uint8 [N, H, W, C]`, each `float32 [C]`, from exact counts."""
    values = np.arange(256, dtype=np.float64)
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(images.shape[-1])])
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    variance = np.sum(shares * (values - mean[:, None]) ** 2, axis=1)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
