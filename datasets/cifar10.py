"""CIFAR-10 (Krizhevsky 2009) from its binary files: one label byte and 3,072 bytes an image, channel by channel."""

import posixpath
from collections.abc import Sequence
from typing import NoReturn

import fsspec
import numpy as np

from datasets.images import ImageArrays, ImageDataset, check_validation_size, first_images
from utils.errors import InputError

NUM_CLASSES = 10
IMAGE_SHAPE = (32, 32, 3)
RECORD_BYTES = 1 + 3 * 32 * 32
TRAINING_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
ARCHIVE_DIRECTORY = "cifar-10-batches-bin"
NUM_VALIDATION_IMAGES = 5000

# Of the 50,000 training images, in units of 0..255.
MEAN = np.array([125.307, 122.950, 113.865], np.float32)
STD = np.array([62.993, 62.089, 66.705], np.float32)


def load_cifar10(
    directory: str,
    *,
    filesystem: fsspec.AbstractFileSystem | None = None,
    num_train: int = 0,
    num_validation: int = 0,
    num_test: int = 0,
) -> ImageDataset:
    """CIFAR-10 from `directory`, or from the `cifar-10-batches-bin` in it.

    Args:
        directory: holds `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`.
        filesystem: where the directory lies; None: this machine.
        num_train: training images, the first ones that validation leaves; 0: all.
        num_validation: images of validation, the last of training; 0: 5,000.
        num_test: test images, the first ones; 0: all.

    Raises:
        InputError: the directory or one of the files is missing, empty, of a wrong size or holds a wrong label, or
            there are fewer images than asked for.
    """
    filesystem = filesystem or fsspec.filesystem("file")
    directory = _data_directory(filesystem, directory)
    for name in TRAINING_FILES + TEST_FILES:
        _check_file(filesystem, posixpath.join(directory, name))
    training = read_batches(filesystem, directory, TRAINING_FILES)
    num_validation = num_validation or NUM_VALIDATION_IMAGES
    check_validation_size(num_validation, len(training.labels))
    return ImageDataset(
        name="cifar10",
        title="CIFAR-10",
        num_classes=NUM_CLASSES,
        train=first_images(ImageArrays(*(array[:-num_validation] for array in training)), num_train, "nb_smpls_train"),
        validation=ImageArrays(*(array[-num_validation:] for array in training)),
        test=first_images(read_batches(filesystem, directory, TEST_FILES), num_test, "nb_smpls_eval"),
        mean=MEAN,
        std=STD,
        crop_padding=4,
        flip=True,
    )


def read_batches(filesystem: fsspec.AbstractFileSystem, directory: str, names: Sequence[str]) -> ImageArrays:
    """The images of several files, one after the other.

    Raises:
        InputError: a file cannot be read, its size is not that of whole records, or a label is out of range.
    """
    paths = [posixpath.join(directory, name) for name in names]
    counts = [_check_file(filesystem, path) // RECORD_BYTES for path in paths]
    # Filled file by file, so that no second copy of the whole set is ever held.
    images = np.empty((sum(counts), *IMAGE_SHAPE), np.uint8)
    labels = np.empty(sum(counts), np.int32)
    first = 0
    for path, count in zip(paths, counts, strict=True):
        part = decode_records(_read(filesystem, path), path)
        images[first : first + count], labels[first : first + count] = part
        first += count
    return ImageArrays(images, labels)


def decode_records(content: bytes, path: str) -> ImageArrays:
    """The images and labels of one file's content; `path` is for errors."""
    _check_size(len(content), path)
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0].astype(np.int32)
    wrong = np.flatnonzero(labels >= NUM_CLASSES)
    if wrong.size:
        raise InputError(
            f"a label must be 0 to {NUM_CLASSES - 1}. Received: {labels[wrong[0]]} in {path}, "
            f"record {wrong[0]} (counted from 0)"
        )
    return ImageArrays(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels)


def encode_records(arrays: ImageArrays) -> bytes:
    """The content of the file that `decode_records` reads as `arrays`."""
    pixels = arrays.images.transpose(0, 3, 1, 2).reshape(len(arrays.labels), -1)
    return np.concatenate([arrays.labels.astype(np.uint8)[:, None], pixels], axis=1).tobytes()


def _data_directory(filesystem: fsspec.AbstractFileSystem, directory: str) -> str:
    """The directory that holds the files: `directory`, or the one that the archive unpacks to in it."""
    try:
        if not filesystem.isdir(directory):
            raise InputError(f"the data directory must exist. Received: {directory}")
        names = {posixpath.basename(path.rstrip("/")) for path in filesystem.ls(directory, detail=False)}
    except OSError as error:
        _fail_to_read(directory, error)
    if ARCHIVE_DIRECTORY in names and TRAINING_FILES[0] not in names:
        return _data_directory(filesystem, posixpath.join(directory, ARCHIVE_DIRECTORY))
    if not names:
        raise InputError(
            f"the data directory must hold CIFAR-10's binary files; it is empty. Received: {directory}. "
            f"`scripts/download_cifar10.sh DIR` fetches them"
        )
    return directory


def _check_file(filesystem: fsspec.AbstractFileSystem, path: str) -> int:
    """The size in bytes of a file that holds whole records."""
    try:
        if not filesystem.isfile(path):
            names = ", ".join(TRAINING_FILES + TEST_FILES)
            raise InputError(f"the data directory must hold {names}. Missing: {path}")
        size = filesystem.size(path)
    except OSError as error:
        _fail_to_read(path, error)
    _check_size(size, path)
    return size


def _check_size(size: int, path: str) -> None:
    records, rest = divmod(size, RECORD_BYTES)
    if records == 0 or rest:
        raise InputError(
            f"the size of {path} must be a multiple of {RECORD_BYTES} bytes (CIFAR-10's own files have "
            f"{10_000 * RECORD_BYTES}). Received: {size} bytes, {records} records and {rest} bytes"
        )


def _read(filesystem: fsspec.AbstractFileSystem, path: str) -> bytes:
    try:
        return filesystem.cat_file(path)
    except OSError as error:
        _fail_to_read(path, error)


def _fail_to_read(path: str, error: OSError) -> NoReturn:
    raise InputError(f"cannot read {path}: {error}") from error
