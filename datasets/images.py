"""What a data set of labelled images, or other samples, is in memory, and how it is cut to size."""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from datasets import pipeline
from utils.errors import InputError


class ImageArrays(NamedTuple):
    """Images, usually `uint8 [N, H, W, C]`, and their labels, usually `int32 [N]`.

    Of the user's own data, other numbers of any shape `[N, ...]`, and of a regression its targets `float32 [N, k]`.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A `Dataset` in memory: its three splits and what its input pipeline needs to know.

    Attributes:
        name: `cifar10`, `digits32`, or that of the user's own data.
        title: for the first lines of a run, its report and its plots.
        mean, std: what an image is normalised by, `(x - mean) / std`, `float32 [C]` or `[]` along its last axis. Of our
            own data sets, those of each channel over the training images, in units of 0..255.
        crop_padding: pixels added on each side before the random crop of a training image.
        flip: whether a training image may be mirrored left to right.
        resize_to: height and width of the images in batches, where it is not their own.
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
    resize_to: tuple[int, int] | None = None

    def __post_init__(self):
        for name in ("train", "validation", "test"):
            if not len(getattr(self, name).labels):
                raise InputError(f"the data {self.title} must have at least one image for {name}. Received: none")

    @property
    def num_training_images(self) -> int:
        return len(self.train.labels)

    @property
    def image_shape(self) -> tuple[int, ...]:
        shape = self.train.images.shape[1:]
        return shape if self.resize_to is None else (*self.resize_to, *shape[2:])

    def training_batches(
        self, *, batch_size: int, seed: int, start_step: int = 0, rank: int = 0, size: int = 1
    ) -> tf.data.Dataset:
        return pipeline.training_batches(
            self.train,
            mean=self.mean,
            std=self.std,
            batch_size=batch_size,
            seed=seed,
            start_step=start_step,
            rank=rank,
            size=size,
            crop_padding=self.crop_padding,
            flip=self.flip,
            resize_to=self.resize_to,
        )

    def validation_batches(self, *, batch_size: int, rank: int = 0, size: int = 1) -> tf.data.Dataset:
        return self._in_order(self.validation, batch_size, rank, size)

    def test_batches(self, *, batch_size: int, rank: int = 0, size: int = 1) -> tf.data.Dataset:
        return self._in_order(self.test, batch_size, rank, size)

    def calibration_images(self, count: int, seed: int) -> np.ndarray:
        generator = np.random.default_rng([seed, 0xCA11])
        chosen = np.sort(generator.permutation(len(self.train.labels))[:count])
        images = (self.train.images[chosen].astype(np.float32) - self.mean) / self.std
        return np.asarray(pipeline.resized(images, self.resize_to))

    def fingerprint(self) -> str:
        facts = []
        for name in ("train", "validation", "test"):
            labels = np.ascontiguousarray(getattr(self, name).labels)
            facts.append(f"{name} {len(labels)} {zlib.crc32(labels.tobytes()):08x}")
        return f"{self.name}: {', '.join(facts)}"

    def _in_order(self, arrays: ImageArrays, batch_size: int, rank: int, size: int) -> tf.data.Dataset:
        return pipeline.evaluation_batches(
            arrays,
            mean=self.mean,
            std=self.std,
            batch_size=batch_size,
            rank=rank,
            size=size,
            resize_to=self.resize_to,
        )


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
