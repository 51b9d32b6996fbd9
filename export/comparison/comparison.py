"""A comparison of runs: what differs, what was measured, and which of them nothing else beats."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from export.comparison.differences import Differences, canonical, find_differences
from export.comparison.groups import SEED, SPLIT, Group, Spread, group_runs, seeds_of, spread_over_seeds
from export.comparison.pareto import pareto_front
from export.comparison.runs import ComparedRun

MOST_NAMES = 3  # in a note


Measure = Callable[[ComparedRun], float | None]
EXACT_DIGITS = 12


class Cost(NamedTuple):
    """What a user pays for accuracy.

    key: "bytes", "flops" or "latency"; values are bytes, FLOPs of an image, milliseconds of an image.
    title: what it is, and the unit that it is shown in.
    accuracy: of the model, or of the very file whose bytes or latency it is.
    value: the cost of a run; None where it has none.
    dense: the dense network's accuracy and cost; None where they are not known.
    digits: significant digits that two costs must differ in; less of a latency is noise.
    """

    key: str
    title: str
    accuracy: Measure
    value: Measure
    dense: Callable[[ComparedRun], tuple[float, float] | None]
    digits: int = EXACT_DIGITS


class CostPoint(NamedTuple):
    """What a group reaches at a cost, both over its seeds."""

    group: int
    accuracy: Spread
    cost: Spread


class Front(NamedTuple):
    """The groups that have a certain cost, and those of them that nothing else beats.

    cost: what is paid.
    points: one for each group that has the cost.
    members: numbers of the groups on the Pareto front of the means.
    """

    cost: Cost
    points: list[CostPoint]
    members: frozenset[int]


@dataclass(frozen=True)
class Comparison:
    """All that the table, the page and the file of a comparison are made from.

    Args:
        runs: in the order given.
        groups: runs that differ in nothing but the seed; most hold one run.
        differences: of their configurations.
        fronts: those that there are figures for.
        notes: what a reader must know before he trusts a comparison.
    """

    runs: Sequence[ComparedRun]
    groups: Sequence[Group]
    differences: Differences
    fronts: Sequence[Front]
    notes: Sequence[str]

    @property
    def metric(self) -> str:
        """What is called accuracy, in all runs."""
        return self.runs[0].metric

    @property
    def formats(self) -> dict[str, str]:
        """Format -> title of every file that some run has, in the order met."""
        return {file.format: file.title for run in self.runs for file in run.measures.files.values()}

    def members(self, group: Group) -> list[ComparedRun]:
        """The runs of a group."""
        return [self.runs[index] for index in group.members]

    def group_of(self, run: int) -> int:
        """The number of the group that run number `run` is in."""
        return next(number for number, group in enumerate(self.groups) if run in group.members)

    def fronts_of(self, group: int) -> list[str]:
        """The keys of the fronts that group number `group` is on."""
        return [front.cost.key for front in self.fronts if group in front.members]


def compare_runs(runs: Sequence[ComparedRun]) -> Comparison:
    """The comparison of runs that `export.comparison.runs.read_runs` has read."""
    differences = find_differences([run.config for run in runs])
    groups = group_runs(runs, differences.varying)
    members = [[runs[index] for index in group.members] for group in groups]
    fronts = [front for cost in _costs(runs) if (front := _find_front(cost, members)).points]
    return Comparison(runs, groups, differences, fronts, _notes(runs, members))


def _costs(runs: Sequence[ComparedRun]) -> list[Cost]:
    """The costs that these runs can be ranked by."""
    if any(run.measures.smallest for run in runs):
        title = "size of the smallest file (kB)"
        costs = [Cost("bytes", title, _accuracy_of_smallest, _bytes_of_smallest, _dense_bytes)]
    else:
        title = "size of all weights, gzipped (kB)"
        costs = [Cost("bytes", title, _accuracy, lambda run: run.measures.gzip_bytes, lambda run: None)]
    title = "MFLOPs of non-zero weights"
    costs.append(Cost("flops", title, _accuracy, lambda run: run.measures.flops_sparse, _dense_flops))
    if len(_kinds(runs, _machine)) == 1:  # latencies of two machines say nothing of the networks
        title = "latency with one thread (ms)"
        measures = _accuracy_of_fastest, _milliseconds_of_fastest, _dense_milliseconds
        costs.append(Cost("latency", title, *measures, digits=2))
    return costs


def _find_front(cost: Cost, members: Sequence[Sequence[ComparedRun]]) -> Front:
    points = []
    for number, runs in enumerate(members):
        # Of the same runs, or the accuracy would be of some and the cost of others.
        paying = [run for run in runs if cost.value(run) is not None]
        accuracy, value = spread_over_seeds(paying, cost.accuracy), spread_over_seeds(paying, cost.value)
        if accuracy is not None and value is not None:
            points.append(CostPoint(number, accuracy, value))
    front = pareto_front([(_rounded(point.accuracy.mean), _rounded(point.cost.mean, cost.digits)) for point in points])
    return Front(cost, points, frozenset(points[index].group for index in front))


def _rounded(mean: float, digits: int = EXACT_DIGITS) -> float:
    """So many significant digits. Of exact figures twelve: the mean of 0.8 and 0.9 is no better than 0.85."""
    return float(f"{mean:.{digits}g}")


def _accuracy(run: ComparedRun) -> float:
    return run.measures.accuracy


def _accuracy_of_smallest(run: ComparedRun) -> float | None:
    file = run.measures.smallest
    return file and file.accuracy


def _bytes_of_smallest(run: ComparedRun) -> int | None:
    file = run.measures.smallest
    return file and file.bytes


def _accuracy_of_fastest(run: ComparedRun) -> float | None:
    file = run.measures.fastest
    return file and file.accuracy


def _milliseconds_of_fastest(run: ComparedRun) -> float | None:
    file = run.measures.fastest
    return file and file.median


def _dense_bytes(run: ComparedRun) -> tuple[float, float] | None:
    file = run.measures.dense_file
    return file and (file.accuracy, file.bytes)


def _dense_flops(run: ComparedRun) -> tuple[float, float] | None:
    flops = run.measures.flops_dense
    return None if flops is None else (run.measures.dense_accuracy, flops)


def _dense_milliseconds(run: ComparedRun) -> tuple[float, float] | None:
    file = run.measures.dense_file
    return file and file.one_thread and (file.accuracy, file.median)


def _machine(run: ComparedRun) -> str | None:
    return run.report["exports"]["machine"] if run.measures.fastest else None


def _kinds(runs: Sequence[ComparedRun], value_of: Callable[[ComparedRun], Any]) -> dict[str, list[ComparedRun]]:
    """What `value_of` says (None left out), as text -> the runs that it says it of."""
    kinds: dict[str, list[ComparedRun]] = {}
    for run in runs:
        value = value_of(run)
        if value is not None:
            kinds.setdefault(value if isinstance(value, str) else canonical(value), []).append(run)
    return kinds


def _notes(runs: Sequence[ComparedRun], members: Sequence[Sequence[ComparedRun]]) -> list[str]:
    notes = [*_version_notes(runs), *_test_set_notes(runs)]
    machines = _kinds(runs, _machine)
    if len(machines) > 1:
        notes.append(f"Latencies were measured on different machines and are not ranked: {_told(machines)}.")
    without = [run for run in runs if not run.report.get("exports")]
    if without:
        have = "has" if len(without) == 1 else "have"
        notes.append(
            f"{_names(without)} {have} no exported files measured: `python main.py export RUN` makes and measures them."
        )
    for group in members:
        for seed, repeated in seeds_of(group).items():
            if len(repeated) > 1:
                notes.append(
                    f"{_names(repeated)} are repetitions with the same configuration and seed {seed}; they count once."
                )
    return notes


def _version_of(name: str, run: ComparedRun) -> str | None:
    return run.report["versions"].get(name)


def _version_notes(runs: Sequence[ComparedRun]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run.report["versions"])
    notes = []
    for name in names:
        kinds = _kinds(runs, functools.partial(_version_of, name))
        if len(kinds) > 1:
            notes.append(f"Runs were made with different versions of {name}: {_told(kinds)}.")
    return notes


def _test_set_notes(runs: Sequence[ComparedRun]) -> list[str]:
    counts = _kinds(runs, lambda run: run.config.get("nb_smpls_eval"))
    if len(counts) > 1:
        counts = {f"nb_smpls_eval {count}": some for count, some in counts.items()}
        return [f"Accuracies are of test sets of different size: {_told(counts)}."]
    contents = _kinds(runs, lambda run: run.config.get(SPLIT))
    if len(contents) > 1:
        why = (
            "another seed splits own data anew"
            if len(_kinds(runs, lambda run: run.config.get(SEED))) > 1
            else ("the data or how they are split was changed")
        )
        return [f"Accuracies are not all of the same test samples, as {why}: {_told(contents)}."]
    return []


def _told(kinds: Mapping[str, Sequence[ComparedRun]]) -> str:
    return "; ".join(f"{value} ({_names(runs)})" for value, runs in kinds.items())


def _names(runs: Sequence[ComparedRun]) -> str:
    names = [run.name for run in runs]
    rest = len(names) - MOST_NAMES
    if rest > 1:
        return f"{', '.join(names[:MOST_NAMES])} and {rest} more"
    return ", ".join(names)
