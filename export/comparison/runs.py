"""The runs to compare, read from their directories; whatever cannot be compared is refused here."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.comparison.measures import ACCURACY, Measures, measures_of
from export.report_schema import whole_report
from utils.errors import InputError
from utils.json_files import read_json

REPORT, CONFIG = "report.json", "config.json"
MOST_HINTS = 8  # runs that a message proposes


@dataclass(frozen=True)
class ComparedRun:
    """A finished run.

    Args:
        name: short, and of no other run of the comparison.
        directory: where it lies.
        config: flag -> value, what `config.json` holds.
        report: what `report.json` holds, complete.
        measures: the figures of the report.
    """

    name: str
    directory: Path
    config: Mapping[str, Any]
    report: Mapping[str, Any]
    measures: Measures

    @property
    def metric(self) -> str:
        """What is called accuracy here."""
        return self.report.get("metric", ACCURACY)


def read_runs(directories: Sequence[Path]) -> list[ComparedRun]:
    """The finished runs in `directories`, in that order.

    Raises:
        InputError: fewer than two, one given twice, one that is not finished or damaged, or runs that cannot be
            ranked together, as their data sets or metrics differ.
    """
    if len(directories) < 2:
        received = ", ".join(map(str, directories)) or "none"
        raise InputError(f"there must be at least two runs to compare. Received: {received}")
    _check_all_different(directories)
    problems = [problem for problem in map(_problem, directories) if problem]
    if problems:
        raise InputError("\n".join(problems))
    names = short_names(directories)
    runs = [_read_run(name, directory) for name, directory in zip(names, directories, strict=True)]
    _check_one_of_a_kind(runs, "data sets", lambda run: run.report["dataset"])
    _check_one_of_a_kind(runs, "metrics", lambda run: run.metric)
    return runs


def short_names(directories: Sequence[Path]) -> list[str]:
    """A name for each directory: its path below what all have in common, or its own name where that is all."""
    paths = [Path(os.path.abspath(directory)) for directory in directories]
    common = Path(os.path.commonpath(paths))
    names = [path.name if path == common else path.relative_to(common).as_posix() for path in paths]
    return [os.fsencode(name).decode("utf-8", "replace") for name in names]  # of a name that is no UTF-8


def _check_all_different(directories: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for directory in directories:
        place = directory.resolve()
        if place in seen:
            other = "" if seen[place] == directory else f" (as {seen[place]})"
            raise InputError(f"each run may be given once. Received twice: {directory}{other}")
        seen[place] = directory


def _problem(directory: Path) -> str | None:
    """Why there is no finished run in `directory`, and how to go on; None where there is one."""
    if not directory.exists():
        return f"there is no run directory {directory}"
    if not directory.is_dir():
        return f"a run to compare must be a directory. Received: {directory}, which is a file"
    has_report, has_config = (directory / REPORT).is_file(), (directory / CONFIG).is_file()
    if has_report and has_config:
        return None
    if has_config:
        return f"the run in {directory} is not finished: the command that began it goes on with it"
    below = sorted(path.parent.name for path in directory.glob(f"*/{REPORT}"))
    if below:
        told = ", ".join(below[:MOST_HINTS]) + (" ..." if len(below) > MOST_HINTS else "")
        return f"{directory} is no run but holds some, of which two or more can be given: {told}"
    return f"there is no run in {directory}: it has no {CONFIG if has_report else REPORT}"


def _read_run(name: str, directory: Path) -> ComparedRun:
    config = _read_json(directory / CONFIG)
    try:
        report = whole_report(_read_json(directory / REPORT))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{directory / REPORT} is not a whole report: {error}") from error
    return ComparedRun(name, directory, config, report, measures_of(report))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _check_one_of_a_kind(runs: Sequence[ComparedRun], kind: str, value_of: Any) -> None:
    """InputError where runs differ in what makes their accuracies comparable; names one run of each value."""
    first: dict[str, ComparedRun] = {}
    for run in runs:
        first.setdefault(value_of(run), run)
    if len(first) > 1:
        told = ", ".join(f"{value} ({run.directory})" for value, run in first.items())
        raise InputError(f"runs of different {kind} cannot be ranked together. Received: {told}")
