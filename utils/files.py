"""Files that are written whole or not at all, and lines that are seen to the disk."""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from utils.errors import RunError

_REFUSALS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ESTALE,
    errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE,
)  # fmt: skip
_watched: dict[Path, int] = {}  # directory -> a descriptor of it, by which it is told from a later one of its name


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path beside `path`, then renames it: a reader sees the old file or the new.

    Raises:
        RunError: the disk is full or refuses to be written; the file that was there stays.
    """
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    with refusals_of_the_disk(path):
        make_directory(path.parent)
        try:
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            check_is_there(path)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # the directory may be gone, or the disk no longer be written
                temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Appends one line and sees it to the disk.

    Raises:
        RunError: the disk is full or refuses to be written.
    """
    check_is_there(path)
    with refusals_of_the_disk(path), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Makes a directory and those above it, where they are not there; never one that is watched and was deleted.

    Raises:
        RunError: the disk is full or refuses to be written.
    """
    check_is_there(path)
    with refusals_of_the_disk(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def refusals_of_the_disk(path: Path) -> Iterator[None]:
    """Within it a disk that is full or must not be written becomes one clear RunError."""
    try:
        yield
    except OSError as error:
        if error.errno in _REFUSALS:
            kept = f"the last good {path.name} stays" if path.is_file() else "nothing was overwritten"
            raise RunError(f"cannot write {path}: {error.strerror}; {kept}") from error
        raise


def watch(directory: Path) -> None:
    """From now on nothing is written below `directory` once it was deleted, moved or put in the place of another.

    Writers are given paths and make what directories are missing. A run whose directory was deleted would leave the
    rest of its files in a new one, perhaps in the midst of another run.
    """
    unwatch(directory)
    _watched[directory.absolute()] = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)


def unwatch(directory: Path) -> None:
    """Ends what `watch` began."""
    descriptor = _watched.pop(directory.absolute(), None)
    if descriptor is not None:
        os.close(descriptor)


def check_is_there(path: Path) -> None:
    """Raises RunError where `path` is, or is below, a watched directory that is no longer what it was."""
    for directory, descriptor in _watched.items():
        if path.absolute().is_relative_to(directory):
            try:
                is_same = os.path.samestat(os.fstat(descriptor), directory.stat())
            except OSError:
                is_same = False
            if not is_same:
                raise RunError(
                    f"{directory} was deleted, moved or replaced while the run was at work in it; nothing more is "
                    "written there. The same command begins anew"
                )


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, whole or not at all. Half a character, as a damaged name may hold, becomes "?"."""
    content = text.encode("utf-8", "replace")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
