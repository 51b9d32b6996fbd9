"""The directory that ImageNet's records are written into, and its `conversion.json`, which says what is done."""

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.ilsvrc12.conversion_records import WrittenShard
from datasets.ilsvrc12.conversion_source import Shard
from datasets.own_split import shortened
from utils.errors import InputError
from utils.files import write_json
from utils.json_files import read_json

STATE_FILE = "conversion.json"
SECONDS_BETWEEN_SAVES = 1.0
_BYTES_BESIDE_PICTURE = 512  # of a record, at most, with names of usual length


class ConversionState:
    """What decides the records, and which of their files are finished.

    Attributes:
        directory: where the records are.
        settings: name -> value, of all that the bytes of the records depend on.
        shards: name of a finished record file -> what `WrittenShard` says, and whether it was `verified`.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any], shards: dict[str, dict[str, Any]]):
        self.directory, self.settings, self.shards = directory, dict(settings), shards
        self._is_saved, self._next_time = False, 0.0

    def save(self) -> None:
        """Writes `conversion.json`, whole or not at all."""
        shards = {name: self.shards[name] for name in sorted(self.shards)}
        write_json(self.directory / STATE_FILE, {"settings": self.settings, "shards": shards})
        self._is_saved, self._next_time = True, time.monotonic() + SECONDS_BETWEEN_SAVES

    def save_now_and_then(self) -> None:
        """Saves what changed, unless the last time was just now: with a thousand small files it would take longest."""
        if not self._is_saved and time.monotonic() >= self._next_time:
            self.save()

    @contextlib.contextmanager
    def saved(self) -> Iterator[None]:
        """Saves what changed, however the block ends."""
        try:
            yield
        finally:
            if not self._is_saved:
                self.save()

    def add(self, name: str, written: WrittenShard) -> None:
        """Notes that a record file is written."""
        self.shards[name] = {**written._asdict(), "verified": False}
        self._is_saved = False

    def confirm(self, name: str) -> None:
        """Notes that a record file was read back."""
        self.shards[name]["verified"] = True
        self._is_saved = False

    def remove(self, name: str) -> None:
        """Notes that a record file is to be made again."""
        del self.shards[name]
        self._is_saved = False

    def is_whole(self, name: str) -> bool:
        """Whether a finished file is still there, in the size it was written in."""
        path = self.directory / name
        return path.is_file() and path.stat().st_size == self.shards[name]["bytes"]

    def unreadable(self) -> list[tuple[str, str]]:
        """`(path, reason)` of every picture that was left out, sorted."""
        return sorted(tuple(pair) for shard in self.shards.values() for pair in shard["unreadable"])


@contextlib.contextmanager
def claimed(out: Path, settings: Mapping[str, Any], shards: Sequence[Shard]) -> Iterator[ConversionState]:
    """`out` for this process alone, with what was done there before. A finished file that is gone is to be made again.

    Raises:
        InputError: another process has it, it holds something else, or there is too little room. Nothing was changed.
    """
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        directory = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"OUT must be a directory to write to. Received: {out} ({error.strerror})") from error
    try:
        _lock(directory, out)
        state = _read_state(out, settings)
        lost = [name for name in state.shards if not state.is_whole(name)]
        for name in lost:
            state.remove(name)
        _check_room(out, [shard for shard in shards if shard.name not in state.shards])
        if lost:
            told = f"{len(lost)} finished files are missing or have another size: {shortened(lost)}"
            print(f"warning: {told}; they are made again", file=sys.stderr)
        state.save()
        yield state
    finally:
        os.close(directory)
        if is_new:
            with contextlib.suppress(OSError):  # unless it is still empty
                out.rmdir()


def read_finished(directory: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]] | None:
    """Settings and finished files as `conversion.json` in `directory` has them; None where there is no such file.

    Raises:
        InputError: it is damaged.
    """
    path = directory / STATE_FILE
    if not path.exists():
        return None
    try:
        state = read_json(path)
        if not all(isinstance(state.get(part), dict) for part in ("settings", "shards")):
            raise ValueError("it has no settings or shards")
        for name, shard in state["shards"].items():
            counts = [shard.get("records"), shard.get("bytes")] if isinstance(shard, dict) else [None]
            if any(type(count) is not int or count < 0 for count in counts):
                raise ValueError(f"{name} has no records or bytes")
        return state["settings"], state["shards"]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} must be what a conversion left. Received: a damaged file ({error})") from error


def format_bytes(number: int) -> str:
    """Such as `146.1 GB`, in powers of ten."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if number >= 1000**power:
            return f"{number / 1000**power:.1f} {unit}"
    return f"{number} bytes"


def _lock(directory: int, out: Path) -> None:
    """Keeps other conversions out of the open directory until it is closed, however this process ends."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"OUT must be free. Received: {out}, where another conversion is running") from error
    except OSError:  # some network file systems lock no directories
        pass


def _read_state(out: Path, settings: Mapping[str, Any]) -> ConversionState:
    finished = read_finished(out)
    if finished is None:
        # A conversion that was killed at its very first step leaves this.
        first = f".{STATE_FILE.removesuffix('.json')}.partial.json"
        others = sorted(set(os.listdir(out)) - {first})
        if others:
            raise InputError(
                f"OUT must be new, empty or hold this conversion, unfinished. Received: {out} with {shortened(others)}"
            )
        return ConversionState(out, settings, {})
    before, shards = finished
    names = [*settings, *sorted(before.keys() - settings.keys())]
    different = [
        f"{name} was {before.get(name)} and is {settings.get(name)}"
        for name in names
        if before.get(name) != settings.get(name)
    ]
    if different:
        raise InputError(
            f"OUT must be new, empty or hold this conversion, unfinished. Received: {out} with another one "
            f"({'; '.join(different)})"
        )
    return ConversionState(out, settings, shards)


def _check_room(out: Path, shards: Sequence[Shard]) -> None:
    """Raises InputError where the pictures of `shards` do not fit on the disk."""
    needed = sum(
        int(shard.split.sizes[shard.indices].sum()) + _BYTES_BESIDE_PICTURE * len(shard.indices) for shard in shards
    )
    free = shutil.disk_usage(out).free
    if free < needed:
        raise InputError(
            f"the disk of OUT must have {format_bytes(needed)} free. Received: {format_bytes(free)} at {out}"
        )
