"""Pictures in files as one array: decoded and resized side by side, the bad ones told together."""

import io
import os
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from datasets.own_memory import check_memory
from datasets.own_split import shortened
from utils.errors import InputError
from utils.printing import printable
from utils.progress import Progress

# What a .png or .jpg may really hold. Not all that Pillow reads: some of its formats start other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_CHUNK = 32  # pictures of one task of the pool
_MOST_THREADS = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is not decoded yet: a file, or the `content` of one that lies within another file.

    Attributes:
        name: the file's path, or for errors, which picture it is.
    """

    name: str
    content: bytes | None = None


def decode_pictures(
    pictures: Sequence[Picture], shape: tuple[int, int, int], *, skip_bad: bool = False, quiet: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Images `uint8 [M, height, width, channels]`, and which of the N pictures they are, `int64 [M]`, increasing.

    Bilinear and without antialias, as Keras' `image_dataset_from_directory` resizes, then rounded. Pictures are turned
    upright first (EXIF).

    Args:
        shape: height, width and channels of every image: 1 grey, 3 RGB, 4 RGBA.
        skip_bad: leave out what cannot be decoded, and say so; otherwise that is an error.

    Raises:
        InputError: pictures cannot be decoded, or the images do not fit into memory.
    """
    check_memory(
        2 * len(pictures) * int(np.prod(shape)),
        f"{len(pictures)} images of {shape[0]}x{shape[1]}x{shape[2]}, held twice,",
        "use fewer (--nb_smpls_train) or smaller ones (--own_image_size)",
    )
    images = np.empty((len(pictures), *shape), np.uint8)
    bad = _decode_into(images, pictures, quiet)
    if not bad:
        return images, np.arange(len(pictures))
    told = f"{len(bad)} of {len(pictures)} images cannot be decoded: "
    told += shortened([f"{pictures[index].name} ({reason})" for index, reason in sorted(bad.items())])
    if not skip_bad:
        raise InputError(f"{told}. --own_skip_bad leaves them out")
    if not quiet:
        print(printable(f"warning: {told}; they are left out"), file=sys.stderr)
    kept = np.setdiff1d(np.arange(len(pictures)), list(bad))
    # One by one and in place, for there may be no room for a second copy.
    for new, old in enumerate(kept):
        if new != old:
            images[new] = images[old]
    return images[: len(kept)], kept


def decode(picture: Picture, channels: int) -> np.ndarray:
    """The picture upright and in its own size, `uint8 [height, width, channels]`; fails in one of Pillow's many ways.

    Transparency is dropped, of sixteen bits the upper eight are used, of an animation the first frame.
    """
    source = picture.name if picture.content is None else io.BytesIO(picture.content)
    with Image.open(source, formats=_FORMATS) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):
            # Converted by Pillow, all values above 255 would be white.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return np.asarray(image.convert(_MODES[channels])).reshape(image.height, image.width, channels)


def _decode_into(images: np.ndarray, pictures: Sequence[Picture], quiet: bool) -> dict[int, str]:
    """Fills `images` with the pictures; index and reason of those that cannot be decoded."""
    height, width, channels = images.shape[1:]

    def decode_chunk(start: int) -> dict[int, str]:
        bad = {}
        for index in range(start, min(start + _CHUNK, len(pictures))):
            try:
                pixels = decode(pictures[index], channels)
            except Exception as error:  # A damaged file makes Pillow fail in any way: struct.error, SyntaxError, ...
                bad[index] = _reason(error)
                continue
            with tf.device("/CPU:0"):
                resized = tf.image.resize(pixels, (height, width), method="bilinear")
            images[index] = np.rint(resized.numpy())
        return bad

    bad: dict[int, str] = {}
    starts = range(0, len(pictures), _CHUNK)
    pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
    # Pillow's remarks on palettes and large pictures would tear the progress bar.
    with warnings.catch_warnings(), Progress("Decoding", len(pictures), "image", quiet=quiet) as progress:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            for start, bad_of_chunk in zip(starts, pool.map(decode_chunk, starts), strict=True):
                bad |= bad_of_chunk
                progress.update(min(start + _CHUNK, len(pictures)))
        finally:
            pool.shutdown(cancel_futures=True)
    return bad


def _reason(error: Exception) -> str:
    # Pillow's own sentence would name the file, or a BytesIO, a second time.
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
