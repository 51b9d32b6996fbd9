"""ILSVRC-12's record files in small: real JPEGs in the standard schema, several shards, odd sizes, and bad ones."""

import functools
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

SIZES = [(20, 30), (31, 17), (24, 24), (5, 7), (1, 40), (40, 3)]


@functools.cache
def pixels(number: int, height: int, width: int) -> np.ndarray:
    """A smooth picture `uint8 [height, width, 3]` that differs from number to number."""
    base = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(base).resize((width, height), Image.Resampling.BILINEAR))


def encode(image: Image.Image | np.ndarray, kind: str = "JPEG", **options) -> bytes:
    """The picture as the content of a file; a JPEG is of the best quality unless told otherwise."""
    content = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(content, kind, **({"quality": 100, "subsampling": 0} | options if kind == "JPEG" else options))
    return content.getvalue()


def jpeg(number: int, size: tuple[int, int] | None = None) -> bytes:
    """The picture of that number, of one of several odd sizes unless told otherwise."""
    return encode(pixels(number, *(size or SIZES[number % len(SIZES)])))


def truncated(number: int) -> bytes:
    """A JPEG of which the last quarter is missing."""
    content = jpeg(number, (20, 30))
    return content[: len(content) * 3 // 4]


def corrupt(number: int) -> bytes:
    """A JPEG that begins and ends as it should, and has a table of a number that does not exist."""
    content = bytearray(jpeg(number, (20, 30)))
    content[content.index(b"\xff\xdb") + 4] = 0x37
    return bytes(content)


def example(encoded: bytes, label: int, name: str, **changes) -> bytes:
    """A serialised record; `changes` replace features, `None` leaves one out."""
    features = {
        "image/encoded": encoded,
        "image/class/label": label,
        "image/filename": name.encode(),
        "image/class/synset": f"n{label:08}".encode(),
        "image/class/text": f"n{label:08}".encode(),
        "image/height": 20,
        "image/width": 30,
        "image/channels": 3,
        "image/colorspace": b"RGB",
        "image/format": b"JPEG",
    } | changes
    made = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        for key, value in features.items()
        if value is not None
    }
    made["image/object/bbox/xmin"] = tf.train.Feature(float_list=tf.train.FloatList(value=[0.25] if label % 2 else []))
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def examples(count: int, first: int = 0, num_classes: int = 10) -> list[bytes]:
    """Records of the pictures `first` and so on, whose labels go round from 1 to `num_classes`."""
    return [example(jpeg(number), number % num_classes + 1, f"{number}.JPEG") for number in range(first, first + count)]


def write_part(directory: Path, part: str, records: Sequence[bytes], num_shards: int, compression: str = "") -> None:
    """The records in as many files, the first ones in the first."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, chunk in enumerate(np.array_split(np.arange(len(records)), num_shards)):
        path = directory / f"{part}-{number:05}-of-{num_shards:05}"
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for place in chunk:
                writer.write(records[place])


def write_ilsvrc12(
    directory: Path, train: Sequence[bytes] | None = None, test: Sequence[bytes] | None = None, shards=(3, 2)
) -> Path:
    """A whole data set: by default 33 training records in three files and 11 of test in two."""
    write_part(directory, "train", examples(33) if train is None else train, shards[0])
    write_part(directory, "validation", examples(11, first=100) if test is None else test, shards[1])
    return directory
