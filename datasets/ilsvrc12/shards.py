"""The files that hold ILSVRC-12's records: which there are, and whether all are there."""

import posixpath
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import fsspec

from utils.errors import InputError

PARTS = ("train", "validation")
_NAME = re.compile(r"(train|validation)-(\d+)-of-(\d+)")
_TIMES = ("mtime", "modified", "last_modified", "created")  # what file systems call it
_MOST_NAMED = 3


class Shard(NamedTuple):
    """One file of several that hold a part's records together.

    Attributes:
        size: in bytes.
        modified: when it was written last, as its file system tells it; empty where it does not.
    """

    path: str
    size: int
    modified: str


def find_shards(filesystem: fsspec.AbstractFileSystem, directory: str) -> dict[str, list[Shard]]:
    """The files `train-00000-of-01024` ... and `validation-00000-of-00128` ... of each part, in order.

    They lie in `directory`, or in `train/` and `validation/` in it. Any total is allowed.

    Raises:
        InputError: the directory or a part is not there, a part is not whole, or a file is empty.
    """
    entries = _entries(filesystem, directory)
    return {part: _shards_of_part(filesystem, directory, part, entries) for part in PARTS}


def _shards_of_part(
    filesystem: fsspec.AbstractFileSystem, directory: str, part: str, entries: Sequence[dict[str, Any]]
) -> list[Shard]:
    found = _shards(entries, part)
    if not found and any(_base_name(entry) == part and entry["type"] == "directory" for entry in entries):
        found = _shards(_entries(filesystem, posixpath.join(directory, part)), part)
    if not found:
        raise InputError(
            f"the data directory must hold TFRecord files {part}-00000-of-N, or a folder {part} with them "
            f"(`scripts/convert_ilsvrc12.py` makes them). Received: none in {directory}"
        )
    _check_all_are_there(part, found)
    shards = [shard for _, shard in sorted(found.items())]
    for shard in shards:
        if shard.size == 0:
            raise InputError(f"TFRecord files must hold records. Received: {shard.path}, which is empty")
    return shards


def _shards(entries: Sequence[dict[str, Any]], part: str) -> dict[tuple[int, int], Shard]:
    """Total and number -> file, of those of `part`."""
    found = {}
    for entry in entries:
        match = _NAME.fullmatch(_base_name(entry))
        if match and match[1] == part and entry["type"] != "directory":
            modified = next((str(entry[key]) for key in _TIMES if key in entry), "")
            found[int(match[3]), int(match[2])] = Shard(entry["name"], entry["size"], modified)
    return found


def _check_all_are_there(part: str, found: dict[tuple[int, int], Shard]) -> None:
    totals = sorted({total for total, _ in found})
    if len(totals) > 1:
        one, other = (next(shard.path for key, shard in found.items() if key[0] == total) for total in totals[:2])
        raise InputError(f"the {part} files must be parts of one whole, of equal -of-N. Received: {one} and {other}")
    total = totals[0]
    numbers = {number for _, number in found}
    beyond = sorted(number for number in numbers if number >= total)
    if beyond:
        raise InputError(
            f"the {part} files must be numbered from 0 to {total - 1}. Received: {found[total, beyond[0]].path}"
        )
    missing = [f"{part}-{number:05}-of-{total:05}" for number in range(total) if number not in numbers]
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        folder = posixpath.dirname(next(iter(found.values())).path)
        raise InputError(
            f"all {total} {part} files must be there. Received: {total - len(missing)} in {folder}; missing: "
            f"{', '.join(missing[:_MOST_NAMED])}{more}"
        )


def _entries(filesystem: fsspec.AbstractFileSystem, directory: str) -> list[dict[str, Any]]:
    try:
        if not filesystem.isdir(directory):
            raise InputError(f"the data directory must exist. Received: {directory}")
        return filesystem.ls(directory, detail=True)
    except OSError as error:
        raise InputError(f"cannot read {directory}: {error}") from error


def _base_name(entry: dict[str, Any]) -> str:
    return posixpath.basename(entry["name"].rstrip("/"))
