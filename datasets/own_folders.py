"""Pictures in folders, one for each class: `train/`, `val/` and `test/` with class folders inside, or one tree."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from datasets.own_pictures import Picture
from datasets.own_split import OwnSource, shortened
from utils.errors import InputError
from utils.printing import printable

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_PART_OF_FOLDER = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")


def read_folders(root: str, quiet: bool = False) -> OwnSource:
    """The pictures below `root`, not decoded, with their folders' names as class names, sorted.

    What is hidden is passed over. What else is no picture of a class is left aside and told on standard error.

    Raises:
        InputError: there are no class folders, one has no pictures, or a directory cannot be read.
    """
    folders, files = visible(root)
    aside = [file.path for file in files]
    parts = _parts(root, folders)
    if parts:
        used = {folder.path for folder in parts.values()}
        aside += [f"{folder.path}{os.sep}" for folder in folders if folder.path not in used]
        directories = {part: folder.path for part, folder in parts.items()}
    else:
        directories = {"train": root}
    by_class = {part: _classes(root, directory, aside) for part, directory in directories.items()}
    names = tuple(sorted(set().union(*by_class.values())))
    if aside and not quiet:
        told = (
            f"warning: {len(aside)} files or folders under {root} are left aside, as they are no picture "
            f"({', '.join(PICTURE_SUFFIXES)}) of a class: {shortened([os.path.relpath(path, root) for path in aside])}"
        )
        print(printable(told), file=sys.stderr)
    return OwnSource(
        samples={
            part: [Picture(path) for paths in classes.values() for path in paths] for part, classes in by_class.items()
        },
        labels={
            part: np.repeat(
                np.array([names.index(name) for name in classes], np.int32), [len(paths) for paths in classes.values()]
            )
            for part, classes in by_class.items()
        },
        class_names=names,
    )


def visible(directory: str) -> tuple[list[os.DirEntry], list[os.DirEntry]]:
    """Folders and files in `directory`, links followed, each sorted by name; without what is hidden.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with os.scandir(directory) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        entries = [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _LITTER]
        return [entry for entry in entries if _is_folder(entry)], [entry for entry in entries if _is_file(entry)]
    except OSError as error:
        raise InputError(f"--own_data must be readable. Received: {directory} ({error.strerror})") from error


def _is_folder(entry: os.DirEntry) -> bool:
    # Of a link in a circle DirEntry's own method would fail.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry) -> bool:
    """Also of a link to nowhere: a file that cannot be decoded. Not of a pipe."""
    if entry.is_symlink():
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()


def _parts(root: str, folders: Sequence[os.DirEntry]) -> dict[str, os.DirEntry]:
    """The folder of each part; none where `folders` are those of the classes."""
    named = [folder for folder in folders if folder.name.lower() in _PART_OF_FOLDER]
    flat = [folder for folder in named if not visible(folder.path)[0]]
    # Without class folders in any of them, they may be classes themselves: trains beside cars.
    if len(flat) == len(named) < len(folders) or not folders:
        return {}
    parts: dict[str, Any] = {}
    for folder in named:
        part = _PART_OF_FOLDER[folder.name.lower()]
        if part in parts:
            raise InputError(
                f"--own_data must have one folder for {part}. Received: {parts[part].name} and {folder.name} in {root}"
            )
        parts[part] = folder
    if flat:
        raise InputError(
            f"{flat[0].path} must hold one folder of pictures for each class, as the folders train, val and test do. "
            "Received: no folders in it"
        )
    if "train" not in parts:
        raise InputError(
            f"--own_data must hold a folder train beside {', '.join(folder.name for folder in named)}. Received: {root}"
        )
    return parts


def _classes(root: str, directory: str, aside: list[str]) -> dict[str, list[str]]:
    """Class name -> paths of its pictures, all sorted; `aside` is added to."""
    folders, files = visible(directory)
    if not folders:
        raise InputError(
            "--own_data must hold one folder of pictures for each class, or TFRecord files named train-* and test-*. "
            f"Received: {directory} with {len(files)} files and no folders"
        )
    if directory != root:
        aside += [file.path for file in files]
    classes = {}
    for folder in folders:
        # The directories above are as good as visited, so that a link to one of them is no way round in circles.
        visited = {os.path.realpath(root), os.path.realpath(directory)}
        classes[folder.name] = _pictures(folder.path, visited, aside)
    empty = [folder.path for folder in folders if not classes[folder.name]]
    if empty:
        raise InputError(
            f"every class folder must hold pictures ({', '.join(PICTURE_SUFFIXES)}). Received: none in "
            f"{shortened(empty)}"
        )
    return classes


def _pictures(directory: str, visited: set[str], aside: list[str]) -> list[str]:
    """Paths of all pictures in a class folder and the folders in it, each real folder once."""
    real = os.path.realpath(directory)
    if real in visited:
        return []
    visited.add(real)
    folders, files = visible(directory)
    paths: list[str] = []
    for file in files:
        (paths if file.name.lower().endswith(PICTURE_SUFFIXES) else aside).append(file.path)
    for folder in folders:
        paths += _pictures(folder.path, visited, aside)
    return paths
