"""Which images make a batch, and which part of each: all of it but the decoding."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from datasets.ilsvrc12.bad_images import BadImageError, BadImages, jpeg_size, reencode
from datasets.ilsvrc12.records import RecordFiles
from datasets.ilsvrc12.windows import central_windows, draw_numbers, is_mirrored, random_windows
from utils.errors import InputError


class Examples(NamedTuple):
    """A batch that is not decoded yet.

    Attributes:
        numbers: of the records asked for, without those left out, `int64 [B]`.
        encoded: JPEG files, `object [B]`.
        windows: the part of each that is used, `int32 [B, 4]`: top, left, height, width.
        mirrored: whether it is mirrored left to right, `bool [B]`.
        labels: from 0, `int32 [B]`.
    """

    numbers: np.ndarray
    encoded: np.ndarray
    windows: np.ndarray
    mirrored: np.ndarray
    labels: np.ndarray


class _Found(NamedTuple):
    encoded: bytes
    size: tuple[int, int]
    label: int


# (positions [B], numbers of records [B], is_decodable bool [B]) -> their examples
ReadExamples = Callable[[np.ndarray, np.ndarray, np.ndarray], Examples]


def training_reader(files: RecordFiles, split: range, seed: int, bad: BadImages) -> ReadExamples:
    """Reads batches for training: a random window of each image, mirrored or not.

    Window and mirroring depend on the seed and the image's position in the endless sequence alone. A bad image's place
    is taken by the next one of the split that is none.
    """

    def read(positions: np.ndarray, numbers: np.ndarray, is_decodable: np.ndarray) -> Examples:
        found = []
        for number, decodable in zip(numbers.tolist(), is_decodable.tolist(), strict=True):
            found.append(_usable(files, number, decodable, bad) or _next_good(files, number, split))
        draws = draw_numbers(seed, int(positions[0]), len(positions))
        return _examples(numbers, found, lambda sizes: random_windows(sizes, draws), is_mirrored(draws))

    return read


def evaluation_reader(files: RecordFiles, image_size: int, bad: BadImages) -> ReadExamples:
    """Reads batches for evaluation: the central window of each image. Bad images are left out."""

    def read(positions: np.ndarray, numbers: np.ndarray, is_decodable: np.ndarray) -> Examples:
        pairs = zip(numbers.tolist(), is_decodable.tolist(), strict=True)
        found = [_usable(files, number, decodable, bad) for number, decodable in pairs]
        kept = np.array([one is not None for one in found], bool)
        good = [one for one in found if one is not None]
        return _examples(
            numbers[kept], good, lambda sizes: central_windows(sizes, image_size), np.zeros(len(good), bool)
        )

    return read


def _examples(
    numbers: np.ndarray, found: list[_Found], windows_of: Callable[[np.ndarray], np.ndarray], mirrored: np.ndarray
) -> Examples:
    encoded = np.empty(len(found), object)
    encoded[:] = [one.encoded for one in found]
    sizes = np.array([one.size for one in found], np.int64).reshape(-1, 2)
    labels = np.array([one.label for one in found], np.int32)
    return Examples(numbers, encoded, windows_of(sizes), mirrored, labels)


def _usable(files: RecordFiles, number: int, decodable: bool, bad: BadImages) -> _Found | None:
    """The image of a record as a JPEG that TensorFlow can decode; None, and told, of one that nobody can.

    Args:
        decodable: False if TensorFlow has tried and failed.
    """
    record = files.read(number)
    size = jpeg_size(record.encoded) if decodable else None
    if size is not None:
        return _Found(record.encoded, size, record.label)
    try:
        mended = reencode(record.encoded)
    except BadImageError as error:
        bad.tell(record.name, str(error))
        return None
    return _Found(mended, _size_of(mended), record.label)


def _size_of(mended: bytes) -> tuple[int, int]:
    size = jpeg_size(mended)
    assert size is not None, "it was encoded just now"
    return size


def _next_good(files: RecordFiles, number: int, split: range) -> _Found:
    """The first image after `number` in the split, as in a circle, that can be decoded.

    Always encoded anew, so that it is the same whether or not it comes as a replacement of a replacement.
    """
    place = split.index(number)
    for step in range(1, len(split)):
        record = files.read(split[(place + step) % len(split)])
        try:
            mended = reencode(record.encoded)
        except BadImageError:
            continue
        return _Found(mended, _size_of(mended), record.label)
    raise InputError("some image must be one that can be decoded. Received: none in all of the training split")
