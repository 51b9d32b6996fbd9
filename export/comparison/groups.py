"""Runs that differ in nothing but the seed are one result, measured several times."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from export.comparison.differences import canonical
from export.comparison.runs import ComparedRun

SEED = "seed"
SPLIT = "own_data"  # the content of the user's own data as it is split, and the seed says how
FEWEST_FOR_ERROR = 3


class Spread(NamedTuple):
    """A quantity over the seeds: mean, lowest, highest, their number, and the standard error of the mean.

    standard_error = sqrt(sum (x_i - mean)^2 / (n - 1)) / sqrt(n)        (None of fewer than three)
    """

    mean: float
    low: float
    high: float
    count: int  # type: ignore[assignment]  # in place of the tuple's method, which nobody calls
    standard_error: float | None


class Group(NamedTuple):
    """Runs of one configuration but for the seed: a name, and their indices among all runs."""

    name: str
    members: tuple[int, ...]


def spread_of(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) >= FEWEST_FOR_ERROR else None
    return Spread(statistics.fmean(values), min(values), max(values), len(values), error)


def group_runs(runs: Sequence[ComparedRun], varying: Sequence[str]) -> list[Group]:
    """The groups, in the order of their first runs; a run that is alone is a group too.

    Args:
        varying: the flags that differ between runs: a group of several is named by its values of them.
    """
    members: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        members.setdefault(_group_key(run), []).append(index)
    names = [_group_name([runs[i] for i in indices], varying) for indices in members.values()]
    if len(set(names)) < len(names):  # flags that only some runs have tell the others apart
        names = [f"{name} ({runs[indices[0]].name} ...)" for name, indices in zip(names, members.values(), strict=True)]
    return [Group(name, tuple(indices)) for name, indices in zip(names, members.values(), strict=True)]


def seeds_of(runs: Sequence[ComparedRun]) -> dict[Any, list[ComparedRun]]:
    """Seed -> its runs."""
    found: dict[Any, list[ComparedRun]] = {}
    for run in runs:
        found.setdefault(run.report[SEED], []).append(run)
    return found


def spread_over_seeds(runs: Sequence[ComparedRun], value: Callable[[ComparedRun], float | None]) -> Spread | None:
    """The spread of `value` over the seeds of `runs`; None where no run has one.

    Runs of the same seed are repetitions, no new evidence: their mean counts as one value.
    """
    means = []
    for repeated in seeds_of(runs).values():
        known = [found for run in repeated if (found := value(run)) is not None]
        if known:
            means.append(statistics.fmean(known))
    return spread_of(means) if means else None


def _group_key(run: ComparedRun) -> str:
    config: Mapping[str, Any] = {name: value for name, value in run.config.items() if name not in (SEED, SPLIT)}
    return canonical([run.report["model"], run.report["learner"], config])


def _group_name(runs: Sequence[ComparedRun], varying: Sequence[str]) -> str:
    if len(runs) == 1:
        return runs[0].name
    config = runs[0].config
    told = [f"{name} {config[name]}" for name in varying if name in config and name not in (SEED, SPLIT)]
    return ", ".join(told) or runs[0].report["model"]
