"""digits32 on disk: made once, kept in CIFAR-10's file format in the user's cache, checked at every use."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from datasets.cifar10 import NUM_CLASSES, TEST_FILES, TRAINING_FILES, encode_records, read_batches
from datasets.digits32 import Images, Recipe, make_images
from datasets.images import ImageArrays, ImageDataset, channel_statistics, check_validation_size, first_images
from utils.errors import InputError

NUM_VALIDATION_IMAGES = 2000
DIRECTORY_NAME = "digits32-v1"
TRAINING_SOURCES, TEST_SOURCES = "train_sources.npy", "test_sources.npy"
MANIFEST = "manifest.json"
FILES = (*TRAINING_FILES, *TEST_FILES, TRAINING_SOURCES, TEST_SOURCES)


def load_digits32(
    *,
    num_train: int = 0,
    num_validation: int = 0,
    num_test: int = 0,
    recipe: Recipe | None = None,
    directory: Path | None = None,
) -> ImageDataset:
    """The embedded data set, from its cache, which is made where it is missing, damaged or of another recipe.

    No source digit occurs in two of train, validation and test, not even as a distractor: validation is the last of
    the training images, and training drops those that share a source with it (none for the default size).

    Args:
        num_train: training images, the first ones that validation leaves; 0: all.
        num_validation: images of validation; 0: 2,000.
        num_test: test images, the first ones; 0: all.
        directory: of the cache; None: `$XDG_CACHE_HOME/trimflow/digits32-v1`.

    Raises:
        InputError: there are fewer images than asked for, or the cache cannot be written.
    """
    directory = directory or cache_directory()
    ensure_cache(directory, recipe or Recipe())
    filesystem = fsspec.filesystem("file")
    training = read_batches(filesystem, str(directory), TRAINING_FILES)
    mean, std = channel_statistics(training.images)
    train, validation = split_by_source(
        training, np.load(directory / TRAINING_SOURCES, allow_pickle=False), num_validation or NUM_VALIDATION_IMAGES
    )
    return ImageDataset(
        name="digits32",
        title="digits32 (embedded, not CIFAR-10)",
        num_classes=NUM_CLASSES,
        train=first_images(train, num_train, "nb_smpls_train"),
        validation=validation,
        test=first_images(read_batches(filesystem, str(directory), TEST_FILES), num_test, "nb_smpls_eval"),
        mean=mean,
        std=std,
        crop_padding=2,
        flip=False,
    )


def split_by_source(training: ImageArrays, sources: np.ndarray, num_validation: int) -> tuple[ImageArrays, ImageArrays]:
    """The last `num_validation` images, and before them those that share none of their `sources [N, 2]`."""
    check_validation_size(num_validation, len(training.labels))
    held_out = np.unique(sources[-num_validation:])
    kept = ~np.isin(sources[:-num_validation], held_out).any(axis=1)
    if not kept.any():
        raise InputError(
            f"--nb_smpls_val must leave training images whose digits are not in validation. Received: {num_validation}"
        )
    train = ImageArrays(*(array[:-num_validation][kept] for array in training))
    return train, ImageArrays(*(array[-num_validation:] for array in training))


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/trimflow/digits32-v1`, or the one below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "trimflow" / DIRECTORY_NAME


def ensure_cache(directory: Path, recipe: Recipe) -> None:
    """Makes the cache unless it is there, whole, and of this recipe; several processes may ask at once."""
    if is_intact(directory, recipe):
        return
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _locked(directory.with_name(f"{directory.name}.lock")):
            if not is_intact(directory, recipe):
                _replace_cache(directory, recipe)
    except OSError as error:
        raise InputError(
            f"cannot write the cache of the embedded data set: {error}. The environment variable XDG_CACHE_HOME may "
            f"name another place, with 50 MB free. Received: {directory}"
        ) from error


def is_intact(directory: Path, recipe: Recipe) -> bool:
    """Whether every file of the cache has the size and checksum its manifest says, and the recipe is this one."""
    try:
        return json.loads((directory / MANIFEST).read_text()) == _manifest(directory, recipe)
    except (OSError, ValueError):
        return False


def _manifest(directory: Path, recipe: Recipe) -> dict[str, Any]:
    contents = {name: (directory / name).read_bytes() for name in FILES}
    return {
        "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }


def _replace_cache(directory: Path, recipe: Recipe) -> None:
    """Makes the files in a directory beside, then renames it; called with the lock held."""
    prefix = f".{directory.name}."
    for abandoned in directory.parent.glob(f"{prefix}*"):
        shutil.rmtree(abandoned)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
    try:
        training, test = make_images(recipe)
        _write_images(training, temporary, TRAINING_FILES, TRAINING_SOURCES)
        _write_images(test, temporary, TEST_FILES, TEST_SOURCES)
        (temporary / MANIFEST).write_text(json.dumps(_manifest(temporary, recipe), indent=1))
        if directory.exists():
            shutil.rmtree(directory)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_images(images: Images, directory: Path, names: tuple[str, ...], sources_name: str) -> None:
    for name, part in zip(names, np.array_split(np.arange(len(images.sources)), len(names)), strict=True):
        records = encode_records(ImageArrays(*(array[part] for array in images.arrays)))
        (directory / name).write_bytes(records)
    np.save(directory / sources_name, images.sources)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock file, waiting for whoever else does; the system frees it when the process ends."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
