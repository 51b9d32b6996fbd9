"""A record file of ImageNet's, made from pictures."""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from datasets.ilsvrc12.conversion_source import Shard
from datasets.own_pictures import Picture, decode
from utils.errors import RunError
from utils.files import write_atomically

# TF-models' names, and the kind of each feature. Bounding boxes are left out: nothing here needs them.
FEATURES = {
    "image/encoded": "bytes_list",
    "image/class/label": "int64_list",
    "image/class/synset": "bytes_list",
    "image/class/text": "bytes_list",
    "image/filename": "bytes_list",
    "image/height": "int64_list",
    "image/width": "int64_list",
    "image/channels": "int64_list",
    "image/colorspace": "bytes_list",
    "image/format": "bytes_list",
}
FRAME_BYTES = 16  # of each record: its length, and checksums of that and of the content
JPEG_QUALITY = 95
_JPEG_START = b"\xff\xd8"


class UnreadableImageError(ValueError):
    """A picture that neither TensorFlow nor Pillow can decode; the message says why."""


class Jpeg(NamedTuple):
    """A JPEG of one or three channels that TensorFlow decodes, and its size in pixels."""

    content: bytes
    height: int
    width: int


class WrittenShard(NamedTuple):
    """What a record file holds, and `(path, reason)` of each picture that was left out."""

    records: int
    bytes: int
    unreadable: list[tuple[str, str]]


def as_jpeg(content: bytes) -> Jpeg:
    """The bytes as they are where they are an RGB or grey JPEG; anything else, such as CMYK or PNG, as a new RGB JPEG.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    shape = jpeg_shape(content)
    if shape is not None and shape[2] in (1, 3):
        return Jpeg(content, *shape[:2])
    if not content:
        raise UnreadableImageError("the file is empty")
    try:
        pixels = decode(Picture("", content), channels=3)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    except Exception as error:  # A damaged file makes Pillow fail in any way: struct.error, SyntaxError, ...
        # Pillow's own sentence would name an address in memory.
        is_unknown = isinstance(error, UnidentifiedImageError)
        raise UnreadableImageError("not a picture" if is_unknown else str(error) or type(error).__name__) from error
    return Jpeg(file.getvalue(), *pixels.shape[:2])


def jpeg_shape(content: bytes) -> tuple[int, int, int] | None:
    """Height, width and channels in the file; None where TensorFlow does not decode it as a JPEG."""
    if not content.startswith(_JPEG_START):  # of another picture TensorFlow would take the size, with a complaint
        return None
    try:
        height, width, channels = tf.io.extract_jpeg_shape(content).numpy().tolist()
        # An eighth of the size is decoded much faster, from all of the bytes: it fails where the full size does.
        tf.io.decode_jpeg(content, channels=3, ratio=8)
    except tf.errors.InvalidArgumentError:
        return None
    return height, width, channels


def write_shard(path: Path, shard: Shard, classes: Sequence[str], count: Callable[[int, int], None]) -> WrittenShard:
    """Writes the record file, whole or not at all; the same pictures make the same bytes.

    Args:
        count: is told of each picture: images done, and of them unreadable ones; what it raises ends the work.

    Raises:
        RunError: a picture cannot be read from the disk, or the file cannot be written.
    """
    split, unreadable, size = shard.split, [], 0

    def write(temporary: Path) -> None:
        nonlocal size
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for index in shard.indices.tolist():
                try:
                    jpeg = as_jpeg(_content(split.path(index), int(split.sizes[index])))
                except UnreadableImageError as error:
                    reason = " ".join(str(error).split())
                    unreadable.append((f"{split.directory.name}/{split.files[index]}", reason))
                    count(1, 1)
                    continue
                label = int(split.labels[index])
                record = make_record(jpeg, label, classes[label - 1], split.files[index].partition("/")[2])
                writer.write(record)
                size += len(record) + FRAME_BYTES
                count(1, 0)

    try:
        write_atomically(path, write)
    except tf.errors.OpError as error:
        reason = "no space left on the disk" if isinstance(error, tf.errors.ResourceExhaustedError) else error.message
        raise RunError(f"cannot write {path}: {reason}") from error
    written = path.stat().st_size
    if written != size:
        raise RunError(f"{path} must have {size} bytes after it was written. Received: {written}")
    return WrittenShard(len(shard.indices) - len(unreadable), size, unreadable)


def make_record(jpeg: Jpeg, label: int, synset: str, filename: str) -> bytes:
    """A `tf.train.Example` in TF-models' schema; the text of a class is its synset, for nothing else is known."""
    values = {
        "image/encoded": jpeg.content,
        "image/class/label": label,
        "image/class/synset": os.fsencode(synset),
        "image/class/text": os.fsencode(synset),
        "image/filename": os.fsencode(filename),
        "image/height": jpeg.height,
        "image/width": jpeg.width,
        "image/channels": 3,  # that of the decoded picture, also of a grey one
        "image/colorspace": b"RGB",
        "image/format": b"JPEG",
    }
    example = tf.train.Example()
    for name, value in values.items():
        getattr(example.features.feature[name], FEATURES[name]).value.append(value)
    # A map is otherwise written in any order.
    return example.SerializeToString(deterministic=True)


def _content(path: Path, size: int) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:  # no damaged picture: a disk or a network that fails would lose them all
        raise RunError(f"cannot read {path}: {error.strerror}; the same command goes on") from error
    if len(content) != size:
        raise RunError(f"{path} must stay as it is meanwhile. Received: {len(content)} bytes, {size} when listed")
    return content
