"""Own data as files: tiny pictures that can be told apart, arrays, TFRecords."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from datasets.config import DataConfig, OwnDataConfig
from datasets.own import OwnDataset, load_own_dataset

SIZE = (4, 6)


def picture(label: int, number: int, channels: int = 3) -> np.ndarray:
    """A picture `uint8 [4, 6, channels]` of random pixels whose first channel begins with its class and number."""
    pixels = np.random.default_rng([label, number]).integers(0, 256, (*SIZE, channels), dtype=np.uint8)
    pixels[0, :2, 0] = label, number
    return pixels


def write_picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path)


def write_classes(root: Path, counts: dict[str, int], first: int = 0) -> Path:
    """`counts` pictures in a folder for each class, labelled in the order written and numbered from `first`."""
    for label, (name, count) in enumerate(counts.items()):
        for number in range(first, first + count):
            write_picture(root / name / f"{number:03}.png", picture(label, number))
    return root


def write_records(path: Path, examples: list[dict], compression: str = "") -> None:
    """A TFRecord file of `tf.train.Example`s: feature -> bytes or a whole number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for example in examples:
            features = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                if isinstance(value, bytes)
                else tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                for name, value in example.items()
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def png(pixels: np.ndarray) -> bytes:
    return tf.io.encode_png(pixels).numpy()


def load(
    source: Path, *, task="classification", input_shape=(*SIZE, 3), seed=0, quiet=True, counts=None, **options
) -> OwnDataset:
    return load_own_dataset(
        OwnDataConfig(source=str(source), **options),
        counts or DataConfig(batch_size=1),
        task=task,
        input_shape=input_shape,
        seed=seed,
        quiet=quiet,
    )


def identities(arrays) -> list[tuple[int, int]]:
    """Class and number written into each picture, in order."""
    return [tuple(map(int, pixels)) for pixels in arrays.images[:, 0, :2, 0]]
