"""Checkpoints: named arrays and a dictionary in one sealed .npz file, with the one before it beside it.

The seal is the SHA-256 of all bytes before it, as the comment of the zip archive: the file stays one that NumPy reads.
So nothing of a checkpoint that was cut off or in which a bit has changed is ever used, or kept as the good one before.
"""

import hashlib
import json
import os
import shutil
import struct
import sys
from io import BufferedRandom
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from utils.errors import RunError
from utils.files import write_atomically
from utils.json_files import parse_json
from utils.npz_files import ArrayFile

_META = "__meta__"
_SEAL_LENGTH = 64  # hexadecimal digits of a SHA-256
_CHUNK = 1 << 20


class Checkpoint(NamedTuple):
    """Named arrays and a JSON-able dictionary."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; the one before is kept beside it as `<name>.previous.npz`, unless it is damaged."""
    meta = np.frombuffer(json.dumps(checkpoint.meta).encode(), np.uint8)

    def write(temporary: Path) -> None:
        with open(temporary, "w+b") as file:
            np.savez(file, allow_pickle=False, **{_META: meta}, **checkpoint.arrays)
            _seal(file)
        if _is_whole(path):
            _keep(path, previous_of(path))

    write_atomically(path, write)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, else the one before it, else None where neither was ever written.

    Falling back is told on stderr.

    Raises:
        RunError: there are checkpoints but none can be read.
    """
    previous = previous_of(path)
    if not is_kept(path):
        return None
    found, problem = _try(path)
    if found is None:
        found, problem_before = _try(previous)
        if found is None:
            raise RunError(
                f"no readable checkpoint: {path} is {problem}, {previous.name} beside it is {problem_before}. "
                "Put a whole copy of one back; --overwrite starts anew"
            )
        print(f"warning: {path} is {problem}; going on from the checkpoint before it, {previous}", file=sys.stderr)
    return found


def read_meta(path: Path) -> dict[str, Any]:
    """The dictionary of the checkpoint at `path` without its arrays; empty where there is none that can be read."""
    try:
        _check_seal(path)
        with ArrayFile(path) as members:
            return parse_json(members[_META].tobytes(), only_finite=False)
    except (OSError, ValueError, KeyError):
        return {}


def is_kept(path: Path) -> bool:
    """Whether there is a checkpoint at `path`, or one before it, good or not."""
    return path.exists() or previous_of(path).exists()


def previous_of(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_suffix(".previous" + path.suffix)


def _try(path: Path) -> tuple[Checkpoint | None, str]:
    """The checkpoint, or what is wrong with it in words that follow "is"."""
    try:
        _check_seal(path)
        with ArrayFile(path) as members:
            arrays = dict(members)
        meta = parse_json(arrays.pop(_META).tobytes(), only_finite=False)
        return Checkpoint(arrays, meta), ""
    except FileNotFoundError:
        return None, "missing"
    except (OSError, ValueError, KeyError) as error:
        return None, f"damaged ({error})"


def _check_seal(path: Path) -> None:
    """Raises ValueError unless the file ends with the hash of all that is before it."""
    with open(path, "rb") as file:
        if _digest_before_seal(file) != file.read():
            raise ValueError("its checksum is wrong or missing")


def _is_whole(path: Path) -> bool:
    try:
        _check_seal(path)
        return True
    except (OSError, ValueError):
        return False


def _keep(path: Path, previous: Path) -> None:
    """A hard link, so that `path` itself is never missing; a copy where the file system knows none."""
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:
        shutil.copyfile(path, previous)


def _seal(file: BufferedRandom) -> None:
    """Makes the hash of all that the archive holds its comment, whose length is the last field of a zip archive."""
    file.seek(-2, os.SEEK_END)
    file.write(struct.pack("<H", _SEAL_LENGTH))
    file.seek(0)
    file.write(hashlib.file_digest(file, "sha256").hexdigest().encode())


def _digest_before_seal(file: BinaryIO) -> bytes:
    """The hash of all but the seal, before which the file is left."""
    left, digest = file.seek(0, os.SEEK_END) - _SEAL_LENGTH, hashlib.sha256()
    file.seek(0)
    while left > 0 and (chunk := file.read(min(left, _CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest().encode()
