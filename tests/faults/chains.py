"""One run that is disturbed again and again, goes on by the same command, and must end as one that was left alone."""

import json
import signal
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from tests.faults.starts import Disturbance, Ended, Starts
from utils.checkpoints import read_checkpoint
from utils.errors import RunError

# Times and speeds, all that may differ in report.json, stages.json, search.jsonl and the figures of checkpoints.
TIMES = {
    "seconds", "agent_seconds", "step_seconds", "seconds_per_rollout", "images_per_second",
    "dense_step_seconds", "dense_step_equivalents", "one_thread", "all_threads", "peak_memory_bytes",
}  # fmt: skip
CHECKSUM = "lines"  # of search.jsonl, among the figures of the agent's checkpoint; it covers the times too


class Kill(NamedTuple):
    """A place to kill a run at: at the n-th moment (tests/faults/plug.py) of a kind in files of a pattern.

    moments: n is drawn from these, first and behind the last; where the run has fewer, it is not killed.
    """

    pattern: str
    kind: str
    moments: tuple[int, int] = (0, 1)


class AfterSeconds(NamedTuple):
    """A kill of the process group by the clock, at most so long after the run has its directory."""

    most: float


class Interrupt(NamedTuple):
    """A signal as a file of the pattern is opened for writing for the n-th time.

    saves: a checkpoint and the step that it must be of afterwards.
    """

    pattern: str
    number: signal.Signals
    at: int = 0
    saves: tuple[str, int] | None = None


def disturb_again_and_again(
    starts: Starts, run_dir: Path, flags: str, events: Sequence[Kill | AfterSeconds | Interrupt], seed: int
) -> None:
    """Disturbs one start after the other, and lets the last one end; each must be disturbed, and it must end well."""
    random = np.random.default_rng(seed)
    for event in events:
        if isinstance(event, Kill):
            at = int(random.integers(*event.moments))
            plug = {"pattern": event.pattern, "kind": event.kind, "at": at}
            ended = starts.start(run_dir, flags, Disturbance(plug))
            check_killed(ended, event)
            if event.kind == "write" and event.pattern.endswith(".npz"):
                check_half_written(run_dir / ended.pulled["path"])
        elif isinstance(event, AfterSeconds):
            seconds = float(random.uniform(0, event.most))
            check_killed(starts.start(run_dir, flags, Disturbance(seconds=seconds)), event)
        else:
            plug = {"pattern": event.pattern, "kind": "open", "at": event.at, "number": event.number}
            check_interrupted(starts.start(run_dir, flags, Disturbance(plug)), event, run_dir)
    last = starts.start(run_dir, flags)
    assert last.code == 0, last.err[-3000:]
    assert "WARNING:tensorflow" not in last.err


def check_killed(ended: Ended, event: Kill | AfterSeconds) -> None:
    """A start was killed, and had not ended before."""
    assert ended.code == -signal.SIGKILL, f"{event}: exit code {ended.code}\n{ended.err[-3000:]}"


def check_interrupted(ended: Ended, event: Interrupt, run_dir: Path) -> None:
    """A start had the signal, has saved what it had done, and says in one line how to go on."""
    assert ended.pulled, f"{event}: exit code {ended.code}\n{ended.err[-3000:]}"
    assert ended.code == 128 + event.number
    assert "Traceback" not in ended.err
    assert ended.err.splitlines()[-1] == "interrupted: the same command goes on from the last checkpoint"
    if event.saves:
        checkpoint, step = event.saves
        assert read_checkpoint(run_dir / checkpoint).meta["step"] == step


def check_half_written(temporary: Path) -> None:
    """The kill has left a checkpoint under its temporary name, which would not be taken for a whole one."""
    assert ".partial" in temporary.name
    assert temporary.is_file()
    with pytest.raises(RunError, match="no readable checkpoint"):
        read_checkpoint(temporary)


def check_same(run_dir: Path, whole: Path) -> None:
    """What two runs of one command left is the same, to the last bit where it is no time."""
    assert files(run_dir) == files(whole), "the same files, and no temporary ones"
    assert not [path for path in files(run_dir) if "partial" in path]
    for name in ("report.json", "stages.json", "exports/exports.json"):
        if (whole / name).exists():
            found, expected = (json.loads((path / name).read_text()) for path in (run_dir, whole))
            assert list(found) == list(expected)
            assert without_times(found) == without_times(expected), name
    found, expected = records(run_dir), records(whole)
    assert [record["index"] for record in found] == list(range(len(expected)))
    assert found == expected
    for name in (name for name in files(whole) if name.endswith(".keras")):
        np.testing.assert_equal(weights(run_dir / name), weights(whole / name), err_msg=name)
    for name in (name for name in files(whole) if name.endswith(".npz") and ".previous" not in name):
        np.testing.assert_equal(arrays(run_dir / name), arrays(whole / name), err_msg=name)


def files(run_dir: Path) -> list[str]:
    """Names of all files; of TensorBoard's, which each start adds one to, the directories."""
    paths = [path.relative_to(run_dir) for path in run_dir.rglob("*") if path.is_file()]
    events = {path.parent if path.name.startswith("events.") else path for path in paths}
    return sorted(path.as_posix() for path in events)


def without_times(value: Any) -> Any:
    """The same without what is a time."""
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key not in TIMES}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def records(run_dir: Path) -> list[dict[str, Any]]:
    """Of the roll-outs, without times."""
    path = run_dir / "search.jsonl"
    return [without_times(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def weights(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a `.keras` file."""
    found = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file, h5py.File(file) as content:
        content.visititems(collect)
    assert found
    return found


def arrays(path: Path) -> dict[str, Any]:
    """All arrays of an `.npz` file, and a checkpoint's figures without times."""
    with np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    if "__meta__" in found:
        figures = json.loads(found["__meta__"].tobytes())
        figures.pop(CHECKSUM, None)
        found["__meta__"] = without_times(figures)
    return found
