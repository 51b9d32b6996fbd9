"""The run directory: configuration, checkpoints and finished stages, each written whole or not at all."""

import contextlib
import json
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.errors import InputError, RunError
from utils.files import write_atomically, write_json
from utils.workers import ALONE, Workers, from_first

_META = "__meta__"


class Checkpoint(NamedTuple):
    """Named arrays and a JSON-able dictionary."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; the one before is kept beside it as `<name>.previous.npz`."""
    meta = np.frombuffer(json.dumps(checkpoint.meta).encode(), np.uint8)

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **{_META: meta}, **checkpoint.arrays)
        if path.exists():
            # A hard link, so that `path` itself is never missing.
            previous = _previous(path)
            previous.unlink(missing_ok=True)
            os.link(path, previous)

    write_atomically(path, write)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, else the one before it, else None where neither was ever written.

    Raises:
        RunError: there are checkpoints but none can be read.
    """
    candidates = [candidate for candidate in (path, _previous(path)) if candidate.exists()]
    for candidate in candidates:
        try:
            with np.load(candidate, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return Checkpoint(meta=json.loads(arrays.pop(_META).tobytes()), arrays=arrays)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            print(f"warning: {candidate} is damaged ({error}); trying the checkpoint before it", file=sys.stderr)
    if candidates:
        raise RunError(f"no readable checkpoint: {path} and the one before it are damaged; --overwrite starts anew")
    return None


def read_meta(path: Path) -> dict[str, Any]:
    """The dictionary of the checkpoint at `path` without its arrays; empty where there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return json.loads(file[_META].tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}


def _previous(path: Path) -> Path:
    return path.with_suffix(".previous" + path.suffix)


class RunDir:
    """One run's directory: `config.json`, `stages.json` and whatever its stages leave.

    A stage that is finished is never repeated: its JSON-able result and its seconds are in `stages.json`. The directory
    is rank 0's alone; what the others must know of it they are told. `open` and `stages` are collective.
    """

    def __init__(self, path: str | os.PathLike, workers: Workers = ALONE):
        self.path, self._workers = Path(path), workers

    def open(self, config: Mapping[str, Any], overwrite: bool = False) -> None:
        """Claims the directory for a run of `config` (flag name -> value).

        Raises:
            InputError: it holds a run of another configuration, or something that is not a run.
        """
        from_first(self._workers, lambda: self._claim(config, overwrite))

    def _claim(self, config: Mapping[str, Any], overwrite: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--run_dir must be a directory. Received: {self.path}, which is a file")
        known = self.path / "config.json"
        if known.exists() and overwrite:
            self._delete()
        if known.exists():
            self._check_same(known, config)
        elif self.path.exists() and any(not _is_of_a_start(path) for path in self.path.iterdir()):
            raise InputError(f"--run_dir {self.path} is not empty and holds no run of ours: give another directory")
        else:
            write_json(known, dict(config))

    def _check_same(self, known: Path, config: Mapping[str, Any]) -> None:
        try:
            before = json.loads(known.read_text())
        except ValueError as error:
            raise InputError(f"{known} is damaged ({error}): --overwrite starts anew") from error
        names = sorted(before.keys() | config.keys())
        different = [name for name in names if before.get(name) != config.get(name)]
        if different:
            lines = "".join(f"\n  --{name}: {before.get(name)!r} there, {config.get(name)!r} now" for name in different)
            raise InputError(
                f"{self.path} holds a run of another configuration:{lines}\n"
                "Give another --run_dir, or --overwrite to delete that run and start anew."
            )

    def release(self) -> None:
        """Gives the directory up if it holds only its configuration: a corrected command may then claim it."""
        if not self._workers.is_first:
            return
        if [path for path in self.path.rglob("*") if path.is_file()] == [self.path / "config.json"]:
            self._delete()

    def _delete(self) -> None:
        # The configuration last: what is left of a deletion that was killed is still a run of ours.
        for path in sorted(self.path.iterdir(), key=lambda path: path.name == "config.json"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        with contextlib.suppress(OSError):  # where the directory itself is mounted, such as in a container
            self.path.rmdir()

    def file(self, *parts: str) -> Path:
        """The path of a file in the directory; its folder is made."""
        path = self.path.joinpath(*parts)
        if self._workers.is_first:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def stages(self) -> dict[str, dict[str, Any]]:
        """Finished stages in order: name -> `{"seconds": ..., **result}`."""
        return from_first(self._workers, self._read_stages)

    def _read_stages(self) -> dict[str, dict[str, Any]]:
        path = self.path / "stages.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def finish_stage(self, name: str, seconds: float, result: Mapping[str, Any] | None = None) -> None:
        """Records that a stage is done, with what rank 0 says of it."""
        if self._workers.is_first:
            stages = self._read_stages() | {name: {"seconds": seconds, **(result or {})}}
            write_json(self.path / "stages.json", stages)


def _is_of_a_start(path: Path) -> bool:
    """Whether a run leaves it that was killed before it had written its configuration."""
    return path.name.startswith(".config.partial")
