"""The run directory: whose it is, what configuration it holds, and which stages of it are finished."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import InputError, RunError
from utils.files import check_is_there, make_directory, refusals_of_the_disk, unwatch, watch, write_json
from utils.json_files import read_json
from utils.lock import RUN_LOCK, FileLock
from utils.workers import ALONE, Workers, from_first

CONFIGURATION = "config.json"
_STAGES = "stages.json"
_OF_NO_WORK = {CONFIGURATION, RUN_LOCK, "command.json"}  # what a run leaves that has done nothing yet


class RunDir:
    """One run's directory: `config.json`, `stages.json` and whatever its stages leave.

    A stage that is finished is never repeated: its JSON-able result and its seconds are in `stages.json`. The directory
    is rank 0's alone; what the others must know of it they are told. `open` and `stages` are collective.
    """

    def __init__(self, path: str | os.PathLike, workers: Workers = ALONE):
        self.path, self._workers = Path(path), workers
        self._lock = FileLock(self.path / RUN_LOCK)

    def open(self, config: Mapping[str, Any], overwrite: bool = False) -> None:
        """Claims the directory for a run of `config` (flag name -> value) until `close`, `release` or the process' end.

        Raises:
            InputError: it holds a run of another configuration, something that is not a run, or another run is at work
                in it.
            RunError: it cannot be written.
        """
        from_first(self._workers, lambda: self._claim(config, overwrite))

    def _claim(self, config: Mapping[str, Any], overwrite: bool) -> None:
        self.close()
        self._check(config, overwrite)  # before anything is touched
        self._take_lock()
        try:
            self._check(config, overwrite)  # again: now nobody else writes here
            if overwrite:
                self._delete()
            known = self.path / CONFIGURATION
            if not known.exists():
                write_json(known, dict(config))
        except BaseException:
            self.close()
            raise

    def _check(self, config: Mapping[str, Any], overwrite: bool) -> None:
        """Whether a run of this configuration may work here; looks only."""
        known = self.path / CONFIGURATION
        if self.path.is_symlink() and not self.path.exists():
            raise InputError(f"--run_dir must be a directory. Received: {self.path}, a link to what is not there")
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--run_dir must be a directory. Received: {self.path}, which is a file")
        if known.exists():
            if not overwrite:
                self._check_same(known, config)
        elif self.path.exists() and any(not _is_of_a_start(path) for path in self.path.iterdir()):
            raise InputError(f"--run_dir {self.path} is not empty and holds no run of ours: give another directory")

    def _take_lock(self) -> None:
        make_directory(self.path)
        if not self._lock.take():
            raise InputError(
                f"another run is at work in {self.path}: {self._lock.holder() or 'a process that does not tell'}. "
                "Wait until it has ended, or give another --run_dir"
            )
        watch(self.path)

    def close(self) -> None:
        """Lets others work in the directory; what was not claimed is left as it is."""
        if self._workers.is_first:
            unwatch(self.path)
            self._lock.free()

    def _check_same(self, known: Path, config: Mapping[str, Any]) -> None:
        try:
            before = read_json(known)
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
        """Gives the directory up if nothing was done in it: a corrected command may then claim it."""
        if not self._workers.is_first:
            return
        files = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}
        if files <= _OF_NO_WORK:
            self._delete()
        self.close()
        with contextlib.suppress(OSError):  # it is not empty, or is itself mounted, such as in a container
            self.path.rmdir()

    def _delete(self) -> None:
        """Deletes everything but the lock.

        The configuration comes last: what is left of a deletion that was killed is still a run of ours.
        """
        with refusals_of_the_disk(self.path):
            for path in sorted(self.path.iterdir(), key=lambda path: path.name == CONFIGURATION):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != RUN_LOCK:
                    path.unlink()

    def file(self, *parts: str) -> Path:
        """The path of a file in the directory; its folder is made."""
        path = self.path.joinpath(*parts)
        if self._workers.is_first:
            make_directory(path.parent)
        return path

    def stages(self) -> dict[str, dict[str, Any]]:
        """Finished stages in order: name -> `{"seconds": ..., **result}`."""
        return from_first(self._workers, self._read_stages)

    def _read_stages(self) -> dict[str, dict[str, Any]]:
        path = self.path / _STAGES
        check_is_there(path)
        try:
            stages = read_json(path)
            if not all(isinstance(stage, dict) and _is_number(stage.get("seconds")) for stage in stages.values()):
                raise ValueError("a stage without its seconds")
            return stages
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise RunError(
                f"{path} is damaged ({error}). Delete it: the same command then finds out by the checkpoints what is "
                "done. --overwrite starts anew"
            ) from error

    def finish_stage(self, name: str, seconds: float, result: Mapping[str, Any] | None = None) -> None:
        """Records that a stage is done, with what rank 0 says of it."""
        if self._workers.is_first:
            stages = self._read_stages() | {name: {"seconds": seconds, **(result or {})}}
            write_json(self.path / _STAGES, stages)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_of_a_start(path: Path) -> bool:
    """Whether a run leaves it that was killed before it had written its configuration."""
    return path.name == RUN_LOCK or path.name.startswith(f".{Path(CONFIGURATION).stem}.partial")
