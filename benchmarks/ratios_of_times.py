"""Times several functions in turn, so that a machine whose speed drifts drifts for all of them alike."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def asked_rounds(description: str, default: int = 30) -> int:
    """`--rounds` of the command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=default)
    return parser.parse_args().rounds


def interleaved_seconds(
    functions: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call, by name: A B C, A B C, ..."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(warm_up + rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if index >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio_line(name: str, numerator: list[float], denominator: list[float], limit: float | None = None) -> str:
    """Median and spread of the ratios round by round."""
    ratios = sorted(a / b for a, b in zip(numerator, denominator, strict=True))
    goal = f"  goal at most {limit}" if limit is not None else ""
    return f"{name:<44} {statistics.median(ratios):.3f}  ({ratios[0]:.3f} to {ratios[-1]:.3f}){goal}"
