"""Own data in TFRecord files, as TensorFlow Datasets writes them: encoded pictures with a class index each."""

import contextlib
import gzip
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from datasets.ilsvrc12.index import FRAME_BYTES, HEADER_BYTES, masked_crc32c
from datasets.own_labels import class_indices
from datasets.own_memory import check_memory
from datasets.own_pictures import Picture
from datasets.own_split import OwnSource
from utils.errors import InputError
from utils.progress import Progress

IMAGE_FEATURES = ("image", "image/encoded")
LABEL_FEATURES = ("label", "image/class/label")
# train-00000-of-00008, train.tfrecord, and mnist-train.tfrecord-00000-of-00001.
_FILE_NAME = re.compile(r"(train|val|validation|test)(?:-.*|\.tfrecords?.*)|.+-(train|val|validation|test)\.tfrecord.*")
_MOST_PER_BYTE = 1032  # what GZIP can make of a byte at the very most
_OTHER_FILES = re.compile(r".*\.(csv|json|md|npy|npz|tar|txt|yaml|zip|png|jpe?g|bmp|gif|webp)", re.IGNORECASE)


def record_files(names: Sequence[str]) -> dict[str, list[str]]:
    """Part -> those of `names` that are its TFRecord files, in order; only the parts that have some."""
    files: dict[str, list[str]] = {}
    for name in names:
        match = _FILE_NAME.fullmatch(name)
        if match and not _OTHER_FILES.fullmatch(name):
            word = match[1] or match[2]
            files.setdefault("validation" if word == "val" else word, []).append(name)
    return files


def read_records(directory: str, files: Mapping[str, Sequence[str]], quiet: bool = False) -> OwnSource:
    """The pictures in `files`, not decoded, with classes named "0", "1" and so on.

    A record is a `tf.train.Example` with `image` or `image/encoded`, the bytes of a picture's file, and `label` or
    `image/class/label`, an integer. Files may be GZIP.

    Raises:
        InputError: there are no training files or no records, or a record is damaged or lacks something.
    """
    if "train" not in files:
        raise InputError(
            f"--own_data must hold TFRecord files train-*. Received: only {', '.join(files)} in {directory}"
        )
    paths = {part: [os.path.join(directory, name) for name in names] for part, names in files.items()}
    part_of = {path: part for part in paths for path in paths[part]}
    sizes = [_checked_size(path) for path in part_of]
    check_memory(sum(sizes), f"{len(part_of)} TFRecord files", "give fewer of them")
    samples: dict[str, list[Any]] = {part: [] for part in paths}
    labels: dict[str, list[Any]] = {part: [] for part in paths}
    with Progress("Reading records", len(part_of), "file", quiet=quiet) as progress:
        for done, (path, part) in enumerate(part_of.items(), start=1):
            for number, record in enumerate(_records(path)):
                picture, label = _picture_and_label(path, number, record)
                samples[part].append(picture)
                labels[part].append(label)
            progress.update(done)
    for part, found in labels.items():
        if not found:
            raise InputError(
                f"the TFRecord files of {part} must hold records. Received: none in {', '.join(paths[part])}"
            )
    arrays = {f"the labels of {part} in {directory}": np.array(values) for part, values in labels.items()}
    indices, names = class_indices(arrays)
    return OwnSource(samples, dict(zip(labels, indices.values(), strict=True)), names)


def _records(path: str) -> Iterator[bytes]:
    """The contents of a file's records, in order."""
    options = tf.data.Options()
    # As in pipeline.py: its thread often misses that an iterator goes.
    options.autotune.enabled = False
    with _damages_told(path):
        records = tf.data.TFRecordDataset(path, compression_type=_compression(path)).with_options(options)
        yield from records.as_numpy_iterator()


@contextlib.contextmanager
def _damages_told(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, tf.errors.OpError) as error:
        reason = str(getattr(error, "message", error)).splitlines()[0]
        raise InputError(f"TFRecord files must be whole and readable. Received: {path} ({reason})") from error


def _checked_size(path: str) -> int:
    """Bytes in the file, decompressed, after a look at the length of each record.

    TensorFlow takes memory for the length that a record says before it looks whether the file is as long, and dies
    where that is too much; and where a file is cut within a record's frame it sees no record.
    """
    with _damages_told(path):
        is_plain = not _compression(path)
        with open(path, "rb") if is_plain else gzip.open(path) as file:
            position, end = 0, os.path.getsize(path) * (1 if is_plain else _MOST_PER_BYTE)
            while header := file.read(HEADER_BYTES):
                if len(header) == HEADER_BYTES and header[8:] != masked_crc32c(header[:8]):
                    raise EOFError(f"no record begins at byte {position}")
                position += int.from_bytes(header[:8], "little") + FRAME_BYTES
                is_cut = len(header) < HEADER_BYTES or position > end
                if is_cut or file.seek(position) != position:
                    raise EOFError("it ends within a record")
            return position


def _compression(path: str) -> str:
    """`GZIP` or none, by trying: the first bytes of a record, its length, may look like those of GZIP."""
    try:
        with gzip.open(path) as file:
            file.read(1)
    except (gzip.BadGzipFile, zlib.error):
        return ""
    except EOFError:
        pass
    return "GZIP"


def _picture_and_label(path: str, number: int, record: bytes) -> tuple[Picture, int]:
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise InputError(
            f"each record must be a tf.train.Example. Received: record {number} of {path} ({error})"
        ) from error
    values = []
    for names, kind in ((IMAGE_FEATURES, "bytes_list"), (LABEL_FEATURES, "int64_list")):
        name = next((name for name in names if name in features), None)
        value = [] if name is None else getattr(features[name], kind).value
        if len(value) != 1:
            there = ", ".join(f"{key} ({features[key].WhichOneof('kind')})" for key in sorted(features)) or "none"
            raise InputError(
                f"each record must have one {kind.removesuffix('_list')} value in {' or '.join(names)}. "
                f"Received: features {there} in record {number} of {path}"
            )
        values.append(value[0])
    return Picture(f"{path}, record {number}", values[0]), values[1]
