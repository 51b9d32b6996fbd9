"""What a network is trained and judged on, however it is kept: in memory, or in files larger than that."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import tensorflow as tf


class Dataset(Protocol):
    """A data set of three splits that gives batches `(float32 [B, ...], int32 [B] or float32 [B, k])`.

    Of several workers, worker `rank` of `size` gets its own part of each batch, or of each split.
    """

    @property
    def name(self) -> str:
        """Such as `cifar10`."""

    @property
    def title(self) -> str:
        """For the first lines of a run, its report and its plots."""

    @property
    def num_classes(self) -> int:
        """Of a classification; of a regression the numbers of a label."""

    @property
    def num_training_images(self) -> int:
        """Examples of the training split."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of an example in a batch, such as `(height, width, 3)`."""

    def training_batches(
        self, *, batch_size: int, seed: int, start_step: int = 0, rank: int = 0, size: int = 1
    ) -> tf.data.Dataset:
        """Endless augmented batches from step `start_step` on; batch t depends on the seed and t alone."""

    def validation_batches(self, *, batch_size: int, rank: int = 0, size: int = 1) -> tf.data.Dataset:
        """The validation split in order, once, the last batch as small as it comes."""

    def test_batches(self, *, batch_size: int, rank: int = 0, size: int = 1) -> tf.data.Dataset:
        """The test split, likewise."""

    def calibration_images(self, count: int, seed: int) -> np.ndarray:
        """At most `count` training examples `float32 [N, ...]`, prepared like those of `test_batches`."""

    def fingerprint(self) -> str:
        """A line that is the same for the same data: the size of each split and a hash."""


@contextlib.contextmanager
def telling_of_bad_data(dataset: object) -> Iterator[None]:
    """Where batches of `dataset` are read: raises the InputError that an error of TensorFlow's stands for.

    TensorFlow passes on only the text of an error in its input, beside much else. A data set that knows better has a
    method `problem`, which gives the InputError or None.
    """
    try:
        yield
    except tf.errors.OpError as error:
        problem = getattr(dataset, "problem", None)
        cause = None if problem is None else problem()
        if cause is None:
            raise
        raise cause from error
