"""A comparison as JSON, for programs."""

import operator
import os
from pathlib import Path
from typing import Any

from export.comparison.comparison import Comparison, Front
from export.comparison.groups import Group, Spread, seeds_of, spread_over_seeds
from export.comparison.measures import NUMBERS, ExportFile
from export.comparison.runs import ComparedRun

SPREADS = ("dense_accuracy", "accuracy", "change", "sparsity")


def comparison_record(comparison: Comparison, output: Path) -> dict[str, Any]:
    """What `compare.json` holds, see docs/compare.md; directories are relative to `output`."""
    first = comparison.runs[0].report
    return {
        "dataset": first["dataset"],
        "data_title": first["data_title"],
        "metric": comparison.metric,
        "varying": comparison.differences.varying,
        "same": comparison.differences.same,
        "partial": comparison.differences.partial,
        "runs": [_run_record(comparison, index, output) for index in range(len(comparison.runs))],
        "groups": [_group_record(comparison, number, group) for number, group in enumerate(comparison.groups)],
        "fronts": {front.cost.key: _front_record(comparison, front) for front in comparison.fronts},
        "notes": list(comparison.notes),
    }


def relative_directory(run: ComparedRun, output: Path) -> str:
    """Where the run lies as seen from `output`, both without links."""
    return Path(os.path.relpath(run.directory.resolve(), output.resolve())).as_posix()


def _run_record(comparison: Comparison, index: int, output: Path) -> dict[str, Any]:
    run = comparison.runs[index]
    varying = {name: run.config[name] for name in comparison.differences.varying if name in run.config}
    group = comparison.group_of(index)
    return {
        "name": run.name,
        "directory": relative_directory(run, output),
        **{key: run.report[key] for key in ("model", "learner", "seed")},
        "config": varying,
        **{key: getattr(run.measures, key) for key in NUMBERS},
        "smallest": _file_record(run.measures.smallest),
        "fastest": _file_record(run.measures.fastest),
        "bytes": {name: file.bytes for name, file in run.measures.files.items()},
        "group": comparison.groups[group].name,
        "fronts": comparison.fronts_of(group),
    }


def _file_record(file: ExportFile | None) -> dict[str, Any] | None:
    if file is None:
        return None
    return {"format": file.format, "bytes": file.bytes, "accuracy": file.accuracy, "one_thread": file.one_thread}


def _group_record(comparison: Comparison, number: int, group: Group) -> dict[str, Any]:
    members = comparison.members(group)
    spreads = {key: spread_over_seeds(members, operator.attrgetter(f"measures.{key}")) for key in SPREADS}
    return {
        "name": group.name,
        "runs": [run.name for run in members],
        "seeds": list(seeds_of(members)),
        **{key: _spread_record(value) for key, value in spreads.items()},
        "fronts": comparison.fronts_of(number),
    }


def _front_record(comparison: Comparison, front: Front) -> dict[str, Any]:
    points = [
        {
            "group": comparison.groups[point.group].name,
            "accuracy": _spread_record(point.accuracy),
            "cost": _spread_record(point.cost),
            "is_member": point.group in front.members,
        }
        for point in front.points
    ]
    return {"title": front.cost.title, "points": points}


def _spread_record(spread: Spread | None) -> dict[str, Any] | None:
    return None if spread is None else spread._asdict()
