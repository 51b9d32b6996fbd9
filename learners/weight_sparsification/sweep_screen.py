"""What a sweep shows while its members run: a line for each on a terminal, elsewhere one line every few seconds."""

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from learners.weight_sparsification.sweep_children import State
from utils.progress import format_seconds

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_FRAMES = 0.5
_PROGRESS = re.compile(r"(?P<title>[^:]+): (?P<percent>\d+)%, (?P<rest>.*)")
# Where each part of a member lies in its whole time, measured on ResNet-20 with 100 roll-outs; for the bar alone.
_PARTS = {
    "given allocations": (0.02, 0.03),
    "solving front to back": (0.03, 0.06),
    "search": (0.06, 0.34),
    "finalists": (0.34, 0.64),
    "final training": (0.64, 1.0),
    "dense training": (0.0, 1.0),
}


class SweepScreen:
    """Shows how the members of a sweep are doing, on standard error unless it is told otherwise.

    Args:
        titles: a job's name -> what it is called.
        quiet: whether to show nothing.
        clock: seconds, never going backwards.
    """

    def __init__(
        self,
        titles: Mapping[str, str],
        *,
        stream: TextIO | None = None,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._titles, self._quiet, self._clock = titles, quiet, clock
        self._stream = sys.stderr if stream is None else stream
        self._next_time = clock()
        self._states: Sequence[State] = ()
        self._shares = dict.fromkeys(titles, 0.0)
        self._bars = None if quiet else _terminal_bars(self._stream)
        if self._bars is not None:
            self._tasks = {name: self._bars.add_task(title, total=1.0, status="") for name, title in titles.items()}
            self._bars.start()

    def __enter__(self) -> "SweepScreen":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._draw(self._bars)  # how it ended, which may have come too soon after the frame before
            self._bars.stop()

    def say(self, line: str) -> None:
        """Prints a line, above the bars where there are any."""
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)

    def update(self, states: Sequence[State]) -> None:
        """Shows the states, unless that was done a moment ago."""
        now, self._states = self._clock(), states
        if self._quiet or now < self._next_time:
            return
        self._next_time = now + (SECONDS_BETWEEN_LINES if self._bars is None else SECONDS_BETWEEN_FRAMES)
        if self._bars is not None:
            self._draw(self._bars)
        else:
            running = [state for state in states if state.status == "runs"]
            told = [f"{self._titles[state.name]}: {in_short(state)}" for state in running]
            others = _counted(states)
            print(" | ".join([*told, *([others] if others else [])]), file=self._stream, flush=True)

    def _draw(self, bars: Progress) -> None:
        for state in self._states:
            self._shares[state.name] = max(self._shares[state.name], share_done(state))
            bars.update(self._tasks[state.name], completed=self._shares[state.name], status=in_short(state))
        bars.refresh()


def in_short(state: State) -> str:
    """How a job stands, in a few words."""
    if state.status == "waits":
        return "waits"
    if state.status != "runs":
        return f"{state.status}, {format_seconds(state.seconds)}"
    found = _PROGRESS.fullmatch(state.line)
    if not found:
        return state.line or "starts"
    left = re.search(r"ETA [\d:]+", found["rest"])
    return f"{found['title']} {found['percent']}%{f', {left[0]}' if left else ''}"


def share_done(state: State) -> float:
    """About how much of a job is done, in [0, 1]."""
    found = _PROGRESS.fullmatch(state.line)
    if state.status != "runs" or not found or found["title"] not in _PARTS:
        return 1.0 if state.status == "done" else 0.0
    begin, end = _PARTS[found["title"]]
    return begin + (end - begin) * int(found["percent"]) / 100


def _counted(states: Sequence[State]) -> str:
    """ "1 done, 2 wait": of those that do not run."""
    words = {"done": "done", "failed": "failed", "waits": "waiting"}
    counts = {status: sum(state.status == status for state in states) for status in words}
    return ", ".join(f"{count} {words[status]}" for status, count in counts.items() if count)


def _terminal_bars(stream: TextIO) -> Progress | None:
    """Bars that write to `stream`, or None where it is no terminal that can show them."""
    if not stream.isatty():
        return None
    console = Console(file=stream)
    if console.is_dumb_terminal:
        return None
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)  # gives way where the terminal is narrow
    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%", markup=False, table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[status]}", markup=False, table_column=rest),
    )
    # No thread of its own: the processes that are begun meanwhile are forked from this one.
    return Progress(*columns, console=console, auto_refresh=False, expand=True)
