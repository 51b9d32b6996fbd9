"""How long one example takes: several programs measured in turn in one process, so that all see the same machine."""

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np

from utils.progress import Progress

Key = TypeVar("Key", bound=Hashable)

WARM_UP_CALLS = 5
LEAST_SECONDS = 0.002  # of one measurement; several calls of a quick program make one
LEAST_ROUNDS, MOST_ROUNDS = 5, 100


def interleaved_seconds(
    calls: Mapping[Key, Callable[[], object]],
    budget: float = 10.0,
    clock: Callable[[], float] = time.perf_counter,
    seed: int = 0,
    quiet: bool = True,
) -> dict[Key, np.ndarray]:
    """Seconds of one call of each, float64 [rounds]; each round measures each once, in an order drawn anew.

    Args:
        budget: seconds that all rounds together may take; at least LEAST_ROUNDS and at most MOST_ROUNDS are made.
    """
    repeats, cost = {}, 0.0
    for key, call in calls.items():
        for _ in range(WARM_UP_CALLS):
            started = clock()
            call()
            seconds = clock() - started
        repeats[key] = max(1, math.ceil(LEAST_SECONDS / max(seconds, 1e-9)))
        cost += repeats[key] * seconds
    rounds = int(np.clip(budget / max(cost, 1e-9), LEAST_ROUNDS, MOST_ROUNDS))
    keys, order = list(calls), np.random.default_rng(seed)
    measured = {key: np.empty(rounds) for key in keys}
    with Progress("measuring latency", rounds, "round", quiet=quiet) as progress:
        for r in range(rounds):
            for index in order.permutation(len(keys)):
                key = keys[index]
                started = clock()
                for _ in range(repeats[key]):
                    calls[key]()
                measured[key][r] = (clock() - started) / repeats[key]
            progress.update(r + 1)
    return measured


def milliseconds(seconds: np.ndarray) -> dict[str, float]:
    """Median, lowest and highest, as `report.json` holds them."""
    return {name: 1e3 * float(of(seconds)) for name, of in (("median", np.median), ("low", np.min), ("high", np.max))}
