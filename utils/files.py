"""Files that are written whole or not at all, and lines that are seen to the disk."""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from utils.errors import RunError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path beside `path`, then renames it: a reader sees the old file or the new.

    Raises:
        RunError: the disk is full or refuses to be written; the file that was there stays.
    """
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    with _refusals_of_the_disk(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Appends one line and sees it to the disk.

    Raises:
        RunError: the disk is full or refuses to be written.
    """
    with _refusals_of_the_disk(path), open(path, "a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _refusals_of_the_disk(path: Path) -> Iterator[None]:
    """A disk that is full or must not be written becomes one clear RunError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
            kept = f"the last good {path.name} stays" if path.exists() else "nothing was overwritten"
            raise RunError(f"cannot write {path}: {error.strerror}; {kept}") from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, whole or not at all. Half a character, as a damaged name may hold, becomes "?"."""
    content = text.encode("utf-8", "replace")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
