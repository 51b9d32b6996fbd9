"""The records of ILSVRC-12: any of them read by its number, and checked."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import fsspec
import numpy as np
import tensorflow as tf
from fsspec.implementations.local import LocalFileSystem
from google.protobuf.message import DecodeError

from datasets.ilsvrc12.index import HEADER_BYTES, RecordIndex
from utils.errors import InputError

_MOST_CHECKED_FILES = 64


class Record(NamedTuple):
    """An image's file and its class, from 0; `name` says which record it is."""

    encoded: bytes
    label: int
    name: str


class RecordFiles:
    """Reads records of `tf.train.Example`s in the schema of TensorFlow's models, from several threads at once.

    Of a record only `image/encoded` and `image/class/label`, from 1, are needed; `image/filename` is used to name it.

    Args:
        filesystem: where the files lie.
        index: of the files.
        num_classes: labels are 1 to this.
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, index: RecordIndex, num_classes: int):
        self._filesystem, self._index, self._num_classes = filesystem, index, num_classes

    def __len__(self) -> int:
        return len(self._index.lengths)

    def read(self, number: int) -> Record:
        """The record `number` of all, counted from 0.

        Raises:
            InputError: it cannot be read, lacks something, or its label is out of range.
        """
        index = self._index
        file = int(np.searchsorted(index.firsts, number, side="right")) - 1
        path, offset, length = index.paths[file], int(index.offsets[number]), int(index.lengths[number])
        name = f"record {number - index.firsts[file]} of {path}"
        try:
            frame = read_range(self._filesystem, path, offset - HEADER_BYTES, offset + length)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error}") from error
        if len(frame) != HEADER_BYTES + length or frame[:8] != length.to_bytes(8, "little"):
            raise InputError(
                f"TFRecord files must not change while they are read. Received: {name}, which is not what it was when "
                f"its file was indexed"
            )
        return parse_record(memoryview(frame)[HEADER_BYTES:], name, self._num_classes)

    def check_first_records(self) -> None:
        """Reads the first record of each file, or of 64 of them, so that the usual mistakes are told at once.

        Raises:
            InputError: as `read`.
        """
        firsts = np.unique(self._index.firsts[:-1])
        for place in np.unique(np.linspace(0, len(firsts) - 1, _MOST_CHECKED_FILES).round().astype(int)):
            self.read(int(firsts[place]))


def parse_record(content: bytes | memoryview, name: str, num_classes: int) -> Record:
    """The record whose serialised `tf.train.Example` is `content`; `name` is for errors.

    Raises:
        InputError: it is none, lacks the image or its label, or the label is out of range.
    """
    try:
        features = tf.train.Example.FromString(content).features.feature
    except DecodeError as error:
        raise InputError(f"each record must be a tf.train.Example. Received: {name} ({error})") from error
    encoded: Sequence[bytes] = features["image/encoded"].bytes_list.value if "image/encoded" in features else ()
    labels: Sequence[int] = features["image/class/label"].int64_list.value if "image/class/label" in features else ()
    if len(encoded) != 1 or len(labels) != 1:
        there = ", ".join(f"{key} ({features[key].WhichOneof('kind')})" for key in sorted(features)) or "none"
        raise InputError(
            f"each record must have one bytes value image/encoded and one int64 value image/class/label. "
            f"Received: features {there} in {name}"
        )
    if not 1 <= labels[0] <= num_classes:
        raise InputError(
            f"image/class/label must be 1 to {num_classes} (--nb_classes). Received: {labels[0]} in {name}"
        )
    file_names: Sequence[bytes] = features["image/filename"].bytes_list.value if "image/filename" in features else ()
    told = f"{name}, {file_names[0].decode(errors='replace')}" if file_names else name
    return Record(encoded[0], labels[0] - 1, told)


def read_range(filesystem: fsspec.AbstractFileSystem, path: str, start: int, stop: int) -> bytes:
    """The bytes `[start, stop)` of a file, fewer where it ends before."""
    if not isinstance(filesystem, LocalFileSystem):
        return filesystem.cat_file(path, start=start, end=stop)
    # Opened for each record: a batch is spread over so many files that keeping them open would exceed the limit of a
    # process for little.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, stop - start, start)
    finally:
        os.close(descriptor)
