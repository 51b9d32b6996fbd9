"""ILSVRC-12 (ImageNet; Russakovsky et al. 2015) from TFRecord files in the schema of TensorFlow's models."""

import functools
import zlib

import fsspec
import numpy as np
import tensorflow as tf

from datasets.dataset import telling_of_bad_data
from datasets.ilsvrc12.bad_images import BadImages
from datasets.ilsvrc12.examples import ReadExamples, evaluation_reader, training_reader
from datasets.ilsvrc12.index import RecordIndex, files_of_index, index_shards
from datasets.ilsvrc12.pipeline import decoded_batches
from datasets.ilsvrc12.records import RecordFiles
from datasets.ilsvrc12.shards import find_shards
from datasets.images import check_count, check_validation_size
from datasets.pipeline import shuffled_indices, steps_from
from utils.errors import InputError

NUM_CLASSES = 1000
IMAGE_SIZE = 224
MOST_VALIDATION_IMAGES = 10_000
_CALIBRATION_BATCH = 64

# Of the training images, red, green and blue in units of 0..255.
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


class Ilsvrc12Dataset:
    """A `Dataset` in TFRecord files, of which no more is held than the index and the batches under way.

    A training image is a random window of random aspect, resized and mirrored with probability 1/2 (Szegedy et al.
    2015); one of evaluation the central window of `central_windows`. The records of training are those before
    `num_train`, those of validation the last `num_validation`.

    Args:
        train, test: the indices of the two kinds of files.
        bad: takes the images that cannot be decoded.
        mean, std: what images are normalised by, `float32 [3]` in units of 0..255.
    """

    name = "ilsvrc12"
    title = "ImageNet ILSVRC-12"

    def __init__(
        self,
        filesystem: fsspec.AbstractFileSystem,
        train: RecordIndex,
        test: RecordIndex,
        *,
        num_train: int,
        num_validation: int,
        num_test: int,
        num_classes: int,
        image_size: int,
        mean: np.ndarray,
        std: np.ndarray,
        bad: BadImages,
    ):
        self.num_classes = num_classes
        self._indices = train, test
        self._train_files = RecordFiles(filesystem, train, num_classes)
        self._test_files = RecordFiles(filesystem, test, num_classes)
        self._train = range(num_train)
        self._validation = range(len(self._train_files) - num_validation, len(self._train_files))
        self._test = range(num_test)
        self._image_size, self._mean, self._std, self._bad = image_size, mean, std, bad
        self._problem: InputError | None = None

    @property
    def num_training_images(self) -> int:
        return len(self._train)

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self._image_size, self._image_size, 3

    @property
    def skipped(self) -> list[str]:
        """The names of the images that could not be decoded, of those met up to now."""
        return self._bad.names

    def problem(self) -> InputError | None:
        """What is wrong with the data, where an error of TensorFlow's stands for that."""
        return self._problem

    def training_batches(
        self, *, batch_size: int, seed: int, start_step: int = 0, rank: int = 0, size: int = 1
    ) -> tf.data.Dataset:
        """As of the data sets in memory: the order and its slices are those of `datasets/pipeline.py`."""
        num_images = len(self._train)

        def choose(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            positions = (step * size + rank) * batch_size + tf.range(batch_size, dtype=tf.int64)
            return positions, shuffled_indices(positions, num_images, seed)

        steps = steps_from(start_step).map(tf.autograph.experimental.do_not_convert(choose))
        return self._decoded(steps, training_reader(self._train_files, self._train, seed, self._bad))

    def validation_batches(self, *, batch_size: int, rank: int = 0, size: int = 1) -> tf.data.Dataset:
        return self._in_order(self._train_files, self._validation, batch_size, rank, size)

    def test_batches(self, *, batch_size: int, rank: int = 0, size: int = 1) -> tf.data.Dataset:
        return self._in_order(self._test_files, self._test, batch_size, rank, size)

    def calibration_images(self, count: int, seed: int) -> np.ndarray:
        generator = np.random.default_rng([seed, 0xCA11])
        chosen = np.sort(generator.permutation(len(self._train))[:count])
        numbers = tf.data.Dataset.from_tensor_slices(chosen.astype(np.int64)).batch(_CALIBRATION_BATCH)
        batches = self._evaluated(self._train_files, numbers)
        with telling_of_bad_data(self):
            images = [images for images, _ in batches.as_numpy_iterator()]
        return np.concatenate([np.empty((0, *self.image_shape), np.float32), *images])

    def fingerprint(self) -> str:
        counts = f"train {len(self._train)}, validation {len(self._validation)}, test {len(self._test)}"
        checksum = 0
        for index in self._indices:
            for numbers in (index.firsts, index.lengths):
                checksum = zlib.crc32(np.ascontiguousarray(numbers, "<i8").data, checksum)
        return f"{self.name}: {counts}, records {checksum:08x}"

    def _in_order(self, files: RecordFiles, split: range, batch_size: int, rank: int, size: int) -> tf.data.Dataset:
        share = split[len(split) * rank // size : len(split) * (rank + 1) // size]
        return self._evaluated(files, tf.data.Dataset.range(share.start, share.stop).batch(batch_size))

    def _evaluated(self, files: RecordFiles, numbers: tf.data.Dataset) -> tf.data.Dataset:
        return self._decoded(
            tf.data.Dataset.zip(numbers, numbers), evaluation_reader(files, self._image_size, self._bad)
        )

    def _decoded(self, steps: tf.data.Dataset, read: ReadExamples) -> tf.data.Dataset:
        return decoded_batches(
            steps, self._remembering(read), image_size=self._image_size, mean=self._mean, std=self._std
        )

    def _remembering(self, read: ReadExamples) -> ReadExamples:
        """`read` that keeps its first InputError, of which TensorFlow passes on no more than a text."""

        @functools.wraps(read)
        def remembering(*arguments):
            try:
                return read(*arguments)
            except InputError as error:
                self._problem = self._problem or error
                raise

        return remembering


def load_ilsvrc12(
    directory: str,
    *,
    filesystem: fsspec.AbstractFileSystem | None = None,
    image_size: int = IMAGE_SIZE,
    num_classes: int = NUM_CLASSES,
    mean: np.ndarray = MEAN,
    std: np.ndarray = STD,
    num_train: int = 0,
    num_validation: int = 0,
    num_test: int = 0,
    skip_bad: bool = False,
    quiet: bool = False,
) -> Ilsvrc12Dataset:
    """ILSVRC-12 from the record files in `directory`, found and indexed, and the first record of each looked at.

    The `validation` files are the test split: validation is kept from the training records.

    Args:
        directory: holds `train-00000-of-01024` ... and `validation-00000-of-00128` ...; any totals are allowed.
        filesystem: where the directory lies; None: this machine.
        image_size: height and width of the images in batches.
        num_classes: labels in the records are 1 to this, in batches 0 to one less.
        mean, std: what images are normalised by, `float32 [3]` in units of 0..255.
        num_train: training records, the first ones that validation leaves; 0: all.
        num_validation: records of validation, the last of training; 0: 10,000, or a tenth of them where that is less.
        num_test: test records, the first ones; 0: all.
        skip_bad: whether to go on without images that cannot be decoded.
        quiet: whether to show no progress and no warnings.

    Raises:
        InputError: files are missing, damaged or compressed, a record lacks something, a label is out of range, or
            there are fewer records than asked for.
    """
    filesystem = filesystem or fsspec.filesystem("file")
    shards = find_shards(filesystem, directory)
    index = index_shards(filesystem, [*shards["train"], *shards["validation"]], quiet)
    num_files = len(shards["train"])
    train, test = files_of_index(index, 0, num_files), files_of_index(index, num_files, len(index.paths))
    num_records = len(train.lengths)
    num_validation = num_validation or max(1, min(MOST_VALIDATION_IMAGES, num_records // 10))
    check_validation_size(num_validation, num_records)
    check_count(num_train, num_records - num_validation, "nb_smpls_train")
    check_count(num_test, len(test.lengths), "nb_smpls_eval")
    for part in (train, test):
        RecordFiles(filesystem, part, num_classes).check_first_records()
    return Ilsvrc12Dataset(
        filesystem,
        train,
        test,
        num_train=num_train or num_records - num_validation,
        num_validation=num_validation,
        num_test=num_test or len(test.lengths),
        num_classes=num_classes,
        image_size=image_size,
        mean=mean,
        std=std,
        bad=BadImages(skip_bad, quiet),
    )
