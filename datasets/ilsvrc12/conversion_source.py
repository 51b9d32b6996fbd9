"""ImageNet as folders of pictures, one for each class, and how its pictures are spread over record files."""

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.own_split import shortened
from utils.errors import InputError
from utils.printing import printable
from utils.progress import Progress

PICTURE_SUFFIXES = (".jpeg", ".jpg", ".png")
_LAYOUT = "train/<class>/*.JPEG and val/<class>/*.JPEG"
_VALIDATION_FOLDERS = ("val", "validation")


class RawSplit(NamedTuple):
    """The N pictures of a split, sorted by class, then by name.

    Attributes:
        name: `train` or `validation`, as in the names of record files.
        directory: where the class folders are.
        files: of each picture `class/name`, below the directory.
        labels: of each picture, from 1, `int32 [N]`.
        sizes: of each picture in bytes, `int64 [N]`.
    """

    name: str
    directory: Path
    files: list[str]
    labels: np.ndarray
    sizes: np.ndarray

    def path(self, index: int) -> Path:
        return self.directory / self.files[index]


class RawImages(NamedTuple):
    """Both splits; label n is that of `classes[n - 1]`."""

    classes: tuple[str, ...]
    splits: tuple[RawSplit, RawSplit]


class Shard(NamedTuple):
    """One record file to be: its name, and which of a split's pictures go into it, in order, `int64 [n]`."""

    name: str
    split: RawSplit
    indices: np.ndarray


def split_directories(raw: Path) -> dict[str, Path]:
    """`train` and `validation` -> the directory in `raw` that holds the split's class folders.

    Raises:
        InputError: there is none, or more than one.
    """
    if not raw.is_dir():
        raise InputError(f"RAW must be a directory that holds {_LAYOUT}. Received: {raw}, which is none")
    if not (raw / "train").is_dir():
        raise InputError(f"RAW must hold {_LAYOUT}. Received: {raw} without a directory train")
    found = [raw / name for name in _VALIDATION_FOLDERS if (raw / name).is_dir()]
    if len(found) != 1:
        received = "both val and validation" if found else "neither val nor validation"
        raise InputError(f"RAW must hold {_LAYOUT}. Received: {raw} with {received}")
    return {"train": raw / "train", "validation": found[0]}


def list_pictures(raw: Path, quiet: bool = False) -> RawImages:
    """The pictures in `raw` by split and class; the classes are the folders of train, sorted.

    What is hidden is passed over; how many files else are no pictures is told on standard error.

    Raises:
        InputError: the layout is another, a class has no pictures, or a directory cannot be read.
    """
    directories = split_directories(raw)
    classes, *_ = _entries(directories["train"])
    if not classes:
        raise InputError(f"RAW must hold {_LAYOUT}. Received: no class folders in {directories['train']}")
    folders = {"train": classes, "validation": _validation_folders(directories["validation"], classes)}
    label_of = {folder: label for label, folder in enumerate(classes, start=1)}
    splits: list[RawSplit] = []
    others = 0
    with Progress("Listing", len(classes) + len(folders["validation"]), "folder", quiet=quiet) as progress:
        for name, directory in directories.items():
            files, sizes, counts = [], [], []
            for done, folder in enumerate(folders[name], start=len(classes) * len(splits) + 1):
                pictures, sizes_there, others_there = _pictures(directory / folder)
                files += [f"{folder}/{picture}" for picture in pictures]
                sizes += sizes_there
                counts.append(len(pictures))
                others += others_there
                progress.update(done)
            _check_none_is_empty(directory, folders[name], counts)
            labels = np.repeat(np.array([label_of[folder] for folder in folders[name]], np.int32), counts)
            splits.append(RawSplit(name, directory, files, labels, np.array(sizes, np.int64)))
    if not quiet:
        _tell(classes, folders["validation"], others)
    return RawImages(tuple(classes), (splits[0], splits[1]))


def digest_of_files(split: RawSplit) -> str:
    """A hash of the sorted names and sizes of the pictures: the same for the same files."""
    digest = hashlib.sha256()
    for file, size in zip(split.files, split.sizes.tolist(), strict=True):
        digest.update(os.fsencode(file) + b"\0%d\n" % size)
    return digest.hexdigest()


def plan_shards(split: RawSplit, num_shards: int, seed: int) -> list[Shard]:
    """All pictures shuffled over `num_shards` record files, whose counts differ by one at most.

    Raises:
        InputError: there are fewer pictures than files.
    """
    count = len(split.files)
    if count < num_shards:
        raise InputError(
            f"--{split.name}_shards must be at most {count}, the pictures in {split.directory}. Received: {num_shards}"
        )
    generator = np.random.default_rng([seed, 0 if split.name == "train" else 1])
    order = generator.permutation(count)
    return [
        Shard(f"{split.name}-{number:05}-of-{num_shards:05}", split, indices)
        for number, indices in enumerate(np.array_split(order, num_shards))
    ]


def _validation_folders(directory: Path, classes: Sequence[str]) -> list[str]:
    """The class folders of the validation split, sorted; not all classes must be there."""
    folders, pictures, _ = _entries(directory)
    if not folders:
        raise InputError(
            f"{directory} must hold class folders like those of train: move each picture into the folder of its class, "
            f"which the file with the validation labels says. Received: {len(pictures)} pictures and no folders"
        )
    unknown = sorted(set(folders) - set(classes))
    if unknown:
        raise InputError(
            f"the folders of {directory} must be classes of train. Received: {shortened(unknown)}, not among the "
            f"{len(classes)} folders of train"
        )
    return folders


def _check_none_is_empty(directory: Path, folders: Sequence[str], counts: Sequence[int]) -> None:
    empty = [str(directory / folder) for folder, count in zip(folders, counts, strict=True) if not count]
    if empty:
        raise InputError(
            f"every class folder must hold pictures ({', '.join(PICTURE_SUFFIXES)}). Received: none in "
            f"{shortened(empty)}"
        )


def _pictures(directory: Path) -> tuple[list[str], list[int], int]:
    """Names and sizes of the pictures in a class folder, sorted by name, and how much else lies there."""
    folders, pictures, others = _entries(directory)
    try:
        sizes = [os.stat(f"{directory}/{name}").st_size for name in pictures]
    except OSError as error:
        raise InputError(f"RAW must be readable. Received: {error.filename} ({error.strerror})") from error
    return pictures, sizes, len(folders) + others


def _entries(directory: Path) -> tuple[list[str], list[str], int]:
    """The names of folders and of pictures in `directory`, each sorted, and the number of other things.

    Links are followed; what is hidden does not count.
    """
    folders, pictures, others = [], [], 0
    try:
        with os.scandir(directory) as listing:
            for entry in listing:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.name.lower().endswith(PICTURE_SUFFIXES):
                    pictures.append(entry.name)
                else:
                    others += 1
    except OSError as error:
        raise InputError(f"RAW must be readable. Received: {directory} ({error.strerror})") from error
    return sorted(folders), sorted(pictures), others


def _tell(classes: Sequence[str], validation_folders: Sequence[str], others: int) -> None:
    """What may be a mistake, or may not."""
    if others:
        print(f"warning: {others} files or folders in class folders are no pictures: left aside", file=sys.stderr)
    missing = sorted(set(classes) - set(validation_folders))
    if missing:
        told = f"warning: {len(missing)} classes have no validation folder: {shortened(missing)}"
        print(printable(told), file=sys.stderr)
