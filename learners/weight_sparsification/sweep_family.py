"""The directory of a sweep's family of runs: whose it is, what is finished in it, and who is at work there."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from learners.weight_sparsification.sweep_plan import DENSE, LOGS, PATHS, Member
from utils.errors import InputError, RunError
from utils.files import make_directory, write_text
from utils.json_files import read_json
from utils.lock import RUN_LOCK, FileLock

FILE_NAME = "sweep.json"
LOCK = "sweep.lock"
PATIENCE = 60.0  # seconds in which the members of a sweep that was killed must have ended
_PAUSE = 0.2


class FamilyDir:
    """`<directory>/sweep.json`: the configuration of the family and what is known of it.

    The file holds "net", "flags" (flag -> value, all that the results depend on but the ratios), "ratios", "commands"
    (member -> the command that repeats it alone), "facts" (of the network, and of what the dense run took) and
    "seconds" (part of the sweep -> wall time, over all starts).
    """

    def __init__(self, path: Path):
        self.path = path

    def known(self) -> dict[str, Any]:
        """What sweep.json says; nothing where there is none.

        Raises:
            InputError: it is damaged.
        """
        path = self.path / FILE_NAME
        try:
            known = {"facts": {}, "seconds": {}, "ratios": [], "flags": {}, "net": ""} | read_json(path)
            _check_types(known)
            return known
        except FileNotFoundError:
            return {}
        except (ValueError, OSError) as error:
            raise InputError(f"{path} is damaged ({error}): --overwrite starts anew") from error

    def check(self, net: str, flags: Mapping[str, Any], ratios: Sequence[float], overwrite: bool) -> None:
        """Whether a sweep of this configuration may work here; looks only.

        A sweep with more ratios than before may: it goes on with further members.

        Raises:
            InputError: it is a file, holds a sweep of another configuration, or something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--run_dir must be a directory. Received: {self.path}, which is a file")
        if not (self.path / FILE_NAME).exists():
            if self.path.exists() and {path.name for path in self.path.iterdir()} - {LOCK}:
                raise InputError(
                    f"--run_dir {self.path} is not empty and holds no sweep of ours: give another directory"
                )
            return
        if overwrite:
            return
        known = self.known()
        different = [] if known["net"] == net else [f"net script: {known['net']} there, {net} now"]
        for name in sorted(known["flags"].keys() | flags.keys()):
            before, now = known["flags"].get(name), flags.get(name)
            if before != now:
                different.append(f"--{name}: {before!r} there, {now!r} now")
        if set(known["ratios"]) - set(ratios):
            different.append(f"--ws_prune_ratio: {_listed(known['ratios'])} there, {_listed(ratios)} now")
        if different:
            lines = "".join(f"\n  {difference}" for difference in different)
            raise InputError(
                f"{self.path} holds a sweep of another configuration:{lines}\n"
                "Give another --run_dir, or --overwrite to delete that family and start anew. More ratios may be added."
            )

    @contextlib.contextmanager
    def hold(self, say: Callable[[str], None], patience: float = PATIENCE) -> Iterator[int]:
        """Within it no other sweep works here. Gives the open lock, which children must inherit.

        A sweep that was killed is followed by its members' deaths; until the last of them the lock is theirs.

        Raises:
            InputError: another sweep is at work here.
            RunError: the members of one that was killed do not end.
        """
        make_directory(self.path)
        lock = FileLock(self.path / LOCK)
        deadline, was_told = time.monotonic() + patience, False
        while not lock.take():
            if (holder := lock.holder()) is not None:
                raise InputError(f"another sweep is at work in {self.path}: {holder}")
            if not was_told:
                say("waiting for the runs of an earlier sweep to end")
                was_told = True
            if time.monotonic() > deadline:
                raise RunError(f"runs of an earlier sweep are still at work in {self.path} and do not end")
            time.sleep(_PAUSE)
        try:
            yield lock.descriptor
        finally:
            lock.free()

    def open(self, content: Mapping[str, Any], overwrite: bool = False) -> None:
        """Claims the directory for this configuration; what is known of the same one before stays.

        Args:
            content: keys of sweep.json.
        """
        if overwrite:
            self.delete()
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(self.known() | dict(content))

    def record(self, **facts: Any) -> None:
        """Adds facts of the family."""
        known = self.known()
        self._write(known | {"facts": known["facts"] | facts})

    def add_seconds(self, part: str, seconds: float) -> None:
        """Adds wall time to a part of the sweep."""
        known = self.known()
        total = known["seconds"].get(part, 0.0) + seconds
        self._write(known | {"seconds": known["seconds"] | {part: round(total, 3)}})

    def _write(self, content: Mapping[str, Any]) -> None:
        write_text(self.path / FILE_NAME, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def delete(self) -> None:
        """Deletes all that a sweep leaves, and nothing else; sweep.json last, so that what is left is still ours.

        Raises:
            InputError: a run that was started by hand is at work in it.
        """
        if not (self.path / FILE_NAME).exists():
            return
        folders = [*self.path.glob("ratio_*"), *(self.path / name for name in (DENSE, LOGS))]
        for path in folders:
            _check_idle(path)
        for path in folders:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
        for path in [*self.path.glob("compare.*"), *(self.path / name for name in (PATHS, f"{PATHS}.lock"))]:
            path.unlink(missing_ok=True)
        (self.path / FILE_NAME).unlink()


def _check_idle(run_dir: Path) -> None:
    """Raises InputError where a run is at work in its directory."""
    lock = FileLock(run_dir / RUN_LOCK)
    if lock.path.exists():
        if not lock.take():
            raise InputError(f"a run is at work in {run_dir}: {lock.holder()}. Wait until it has ended")
        lock.free()


def is_finished(member: Member) -> bool:
    """Whether the member's directory holds the finished run of this command line: its report, and no other flags.

    Where files lie does not count: a family may have been moved. What flags the network itself suggests, its run looks
    at where it is not finished.
    """
    try:
        config = read_json(member.run_dir / "config.json")
        read_json(member.run_dir / "report.json")
    except (OSError, ValueError):
        return False
    said = {name: value for name, value in member.flags.items() if name in config and name != "save_path"}
    return all(_is_same(config[name], value) for name, value in said.items())


def work_done(member: Member) -> int:
    """How many stages the member has finished: with fewer there is more to do."""
    try:
        return len(read_json(member.run_dir / "stages.json"))
    except (OSError, ValueError):
        return 0


def _check_types(known: Mapping[str, Any]) -> None:
    """Raises ValueError where sweep.json holds something else than a sweep writes."""
    types = {"facts": dict, "seconds": dict, "ratios": list, "flags": dict, "net": str}
    for name, kind in types.items():
        if not isinstance(known[name], kind):
            raise ValueError(f"its {name} are none")
    numbers = [*known["ratios"], *known["seconds"].values()]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise ValueError("its ratios and seconds must be numbers")


def _is_same(value: Any, word: str) -> bool:
    """Whether a value in config.json is what the command line says."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).lower() == word.lower()
    try:
        return float(word) == value
    except ValueError:
        return False


def _listed(ratios: Sequence[float]) -> str:
    return ",".join(f"{ratio:g}" for ratio in ratios)
