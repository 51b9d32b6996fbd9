"""ImageNet as folders of tiny pictures, for tests: a few classes, greyscale, CMYK, a PNG in disguise, damaged ones."""

import io
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

HEIGHT, WIDTH = 16, 20
CLASSES = ("n03", "n01", "n02")
TRAIN_PICTURES = 8  # of each class, without the special ones
VALIDATION_PICTURES = 2


def pixels(number: int) -> np.ndarray:
    """A smooth picture `uint8 [16, 20, 3]` of its own, which JPEG keeps nearly as it is."""
    coarse = np.random.default_rng(number).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def encoded(number: int, mode: str = "RGB", kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(number)).convert(mode).save(file, kind)
    return file.getvalue()


def damaged(number: int) -> bytes:
    """A JPEG that ends in the middle of its pixels."""
    whole = encoded(number)
    return whole[: len(whole) - 40]


SPECIAL = {
    "train/n01/grey.JPEG": lambda: encoded(900, "L"),
    "train/n01/cmyk.jpg": lambda: encoded(901, "CMYK"),
    "train/n02/really_a_png.JPEG": lambda: encoded(902, kind="PNG"),
    "train/n02/a.png": lambda: encoded(903, "P", "PNG"),
}
BAD = {
    "train/n02/cut.JPEG": lambda: damaged(904),
    "train/n03/text.jpeg": lambda: b"This is no picture.",
    "val/n01/empty.JPEG": lambda: b"",
}


def write_raw(raw: Path, *, special: bool = True) -> Path:
    """24 and 6 pictures of three classes in `raw`; with those that are `special`, 28 and 6, and three that are bad."""
    number = 0
    for split, count in (("train", TRAIN_PICTURES), ("val", VALIDATION_PICTURES)):
        for name in CLASSES:
            directory = raw / split / name
            directory.mkdir(parents=True)
            (directory / ".hidden.JPEG").write_bytes(b"not for you")
            for index in range(count):
                (directory / f"{name}_{index}.JPEG").write_bytes(encoded(number))
                number += 1
    for path, make in (SPECIAL | BAD).items() if special else ():
        (raw / path).write_bytes(make())
    return raw


def content(directory: Path) -> dict[str, bytes]:
    """Every file in `directory`, also hidden ones."""
    return {name: (directory / name).read_bytes() for name in sorted(os.listdir(directory))}


def examples(path: Path) -> list[dict[str, bytes | int]]:
    """The records of a file: feature -> its one value."""
    found = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        found.append({name: getattr(value, value.WhichOneof("kind")).value[0] for name, value in features.items()})
    return found
