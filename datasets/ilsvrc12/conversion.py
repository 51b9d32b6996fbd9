"""ImageNet's record files from folders of pictures: in parallel, resumable, verified by a second pass.

What is written depends on the pictures, the seed and the numbers of files alone, byte for byte, however often the work
was interrupted. `conversion.json` beside the records says what is done.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets.ilsvrc12.conversion_check import LABELS_FILE, CheckedShard, check_shard, count_problems
from datasets.ilsvrc12.conversion_records import FEATURES, write_shard
from datasets.ilsvrc12.conversion_source import (
    RawImages,
    Shard,
    digest_of_files,
    list_pictures,
    plan_shards,
    split_directories,
)
from datasets.ilsvrc12.conversion_state import ConversionState, claimed
from datasets.ilsvrc12.conversion_threads import Tally, in_threads, thread_count
from datasets.own_split import shortened
from utils.errors import InputError, RunError
from utils.files import write_atomically
from utils.progress import Progress

UNREADABLE_FILE = "unreadable.txt"
_MOST_SHARDS = 99_999  # their names have five digits
_FORMAT = 1  # of the records; another one is another conversion


class Summary(NamedTuple):
    """What a conversion left.

    Attributes:
        records, files: of train and of validation.
        bytes: of all record files.
        unreadable: pictures left out.
        seconds: of this call.
    """

    classes: int
    records: tuple[int, int]
    files: tuple[int, int]
    bytes: int
    unreadable: int
    seconds: float


def convert(
    raw: Path,
    out: Path,
    *,
    train_shards: int = 1024,
    validation_shards: int = 128,
    seed: int = 0,
    workers: int = 0,
    quiet: bool = False,
) -> Summary:
    """Makes the record files in `out` from the pictures in `raw`, going on where an earlier call stopped.

    Args:
        raw: holds `train/<class>/*.JPEG` and `val/<class>/*.JPEG`.
        seed: of the order in which pictures are spread over the files.
        workers: threads; 0: one for each core that may be used.

    Raises:
        InputError: the pictures, `out` or the numbers are not as they must be.
        RunError: the disk failed, or what was written is not what can be read back.
    """
    start = time.monotonic()
    counts = {"train": train_shards, "validation": validation_shards}
    _check_numbers(counts, seed)
    threads = thread_count(workers)
    _check_places(raw, out)
    images = list_pictures(raw, quiet)
    plans = [plan_shards(split, counts[split.name], seed) for split in images.splits]
    shards = [shard for plan in plans for shard in plan]
    with claimed(out, _settings(images, counts, seed), shards) as state:
        _write_lines(out / LABELS_FILE, images.classes)
        _write_shards(state, shards, images, threads, quiet)
        unreadable = state.unreadable()
        if unreadable:
            _write_lines(out / UNREADABLE_FILE, ["\t".join(pair) for pair in unreadable])
        records = [sum(state.shards[shard.name]["records"] for shard in plan) for plan in plans]
        for split, count in zip(images.splits, records, strict=True):
            if not count:
                raise InputError(
                    f"{split.directory} must hold pictures that can be decoded. Received: {len(split.files)}, none of "
                    f"which can be; {out / UNREADABLE_FILE} says why"
                )
        _verify_shards(state, images.classes, threads, quiet)
    return Summary(
        classes=len(images.classes),
        records=tuple(records),
        files=(len(plans[0]), len(plans[1])),
        bytes=sum(shard["bytes"] for shard in state.shards.values()),
        unreadable=len(unreadable),
        seconds=time.monotonic() - start,
    )


def _check_numbers(counts: Mapping[str, int], seed: int) -> None:
    for name, count in counts.items():
        if not 1 <= count <= _MOST_SHARDS:
            raise InputError(f"--{name}_shards must be 1 to {_MOST_SHARDS}. Received: {count}")
    if seed < 0:
        raise InputError(f"--seed must be at least 0. Received: {seed}")


def _check_places(raw: Path, out: Path) -> None:
    """Raises InputError where the records would lie among the pictures."""
    for directory in split_directories(raw).values():
        if out.resolve().is_relative_to(directory.resolve()):
            raise InputError(f"OUT must be outside of {directory}, where the pictures are. Received: {out}")


def _settings(images: RawImages, counts: Mapping[str, int], seed: int) -> dict[str, Any]:
    """All that the bytes of the records depend on, by the names that an error tells."""
    settings: dict[str, Any] = {"format": _FORMAT, "--seed": seed, "classes": len(images.classes)}
    for split in images.splits:
        settings |= {
            f"--{split.name}_shards": counts[split.name],
            f"{split.name} pictures": len(split.files),
            f"{split.name} bytes": int(split.sizes.sum()),
            f"{split.name} names and sizes": digest_of_files(split),
        }
    return settings


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    content = os.fsencode("".join(f"{line}\n" for line in lines))
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _write_shards(
    state: ConversionState, shards: Sequence[Shard], images: RawImages, threads: int, quiet: bool
) -> None:
    """Writes the record files that are not finished."""
    left = [shard for shard in shards if shard.name not in state.shards]
    if not left:
        return
    total = sum(len(shard.indices) for shard in shards)
    before = total - sum(len(shard.indices) for shard in left)
    unreadable, tally = len(state.unreadable()), Tally()

    def show() -> None:
        state.save_now_and_then()
        progress.update(before + tally.images, unreadable=unreadable + tally.mishaps)

    with state.saved(), Progress("Converting", total, "image", quiet=quiet, initial=before) as progress:
        in_threads(
            lambda shard: write_shard(state.directory / shard.name, shard, images.classes, tally.count),
            left,
            threads,
            tally,
            show,
            lambda shard, written: state.add(shard.name, written),
        )


def _verify_shards(state: ConversionState, classes: Sequence[str], threads: int, quiet: bool) -> None:
    """Reads back the record files that were not read yet; those that are wrong are no longer finished.

    Raises:
        RunError: some are wrong.
    """
    left = [name for name, shard in state.shards.items() if not shard["verified"]]
    if not left:
        return
    total = sum(shard["records"] for shard in state.shards.values())
    before = total - sum(state.shards[name]["records"] for name in left)
    tally, problems = Tally(), []

    def finish(name: str, checked: CheckedShard) -> None:
        found = checked.problems + count_problems(name, state.shards[name]["records"], checked.records)
        problems.extend(found)
        (state.remove if found else state.confirm)(name)

    def show() -> None:
        state.save_now_and_then()
        progress.update(before + tally.images, problems=len(problems))

    with state.saved(), Progress("Verifying", total, "image", quiet=quiet, initial=before) as progress:
        in_threads(
            lambda name: check_shard(state.directory / name, classes, tuple(FEATURES), tally.count),
            left,
            threads,
            tally,
            show,
            finish,
        )
    if problems:
        told = shortened([str(problem) for problem in sorted(problems)])
        raise RunError(f"what was written cannot be read back: {told}; the same command makes these files again")
