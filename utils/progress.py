"""How far a long piece of work is: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_FRAMES = 0.1


class Progress:
    """Shows how far a piece of work is, at which rate it goes, and how long it will still take.

        with Progress("Training", total=1000) as progress:
            for step in range(1000):
                ...
                progress.update(step + 1, loss=loss)

    On a terminal it is a bar (without colours where NO_COLOR is set); elsewhere it is one line at most every five
    seconds, the first and the last one always. The rate and the time left count from the first update on, for the first
    unit of work often costs far more than the others (tracing). One bar at a time: do not nest them.

    Args:
        title: what is being done.
        total: units of work in all.
        unit: name of one unit.
        stream: where to write; standard error if None.
        quiet: whether to write nothing, as on all workers but the first.
        initial: units done before this run; rates count new work only.
        clock: seconds, never going backwards.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "step",
        *,
        stream: TextIO | None = None,
        quiet: bool = False,
        initial: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title, self._total, self._unit = title, total, unit
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._initial = self._done = initial
        self._clock = clock
        self._metrics: dict[str, Any] = {}
        self._start_time = self._next_time = clock()
        self._first_update: tuple[float, int] | None = None
        self._is_closed = False
        self._bar = None if quiet else _terminal_bar(self._stream)
        if self._bar is not None:
            self._task = self._bar.add_task(title, total=total, completed=initial, status="")
            self._bar.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def update(self, done: int, **metrics: Any) -> None:
        """Sets the units done in all, and figures to show beside them, such as `loss=0.412`."""
        self._done = done
        self._metrics.update(metrics)
        now = self._clock()
        if self._first_update is None:
            self._first_update = (now, done)
        if not self._quiet and now >= self._next_time:
            self._next_time = now + (SECONDS_BETWEEN_LINES if self._bar is None else SECONDS_BETWEEN_FRAMES)
            self._show(now, is_last=False)

    def close(self) -> None:
        """Shows where the work ended and how long it took; further calls do nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._quiet:
            self._show(self._clock(), is_last=True)
        if self._bar is not None:
            self._bar.stop()

    def _show(self, now: float, is_last: bool) -> None:
        work = f"{self._done}/{self._total} {self._unit}s"
        metrics = [f"{name} {_figure(value)}" for name, value in self._metrics.items()]
        status = ", ".join([work, *self._speed(now, is_last), *metrics])
        if self._bar is None:
            percent = 100 * self._done // max(self._total, 1)
            print(f"{self._title}: {percent}%, {status}", file=self._stream, flush=True)
        else:
            self._bar.update(self._task, completed=self._done, status=status, refresh=is_last)

    def _speed(self, now: float, is_last: bool) -> list[str]:
        """The rate since the first update and the time left by it; at the last, the whole run's rate and its time."""
        since, done_then = self._first_update or (now, self._done)
        if is_last:
            since, done_then = self._start_time, self._initial
        work, seconds = self._done - done_then, now - since
        words = []
        if work > 0 and seconds > 0:
            rate = work / seconds
            words.append(f"{rate:.1f} {self._unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{self._unit}")
            if not is_last:
                words.append(f"ETA {format_seconds((self._total - self._done) / rate)}")
        if is_last:
            words.append(f"took {format_seconds(seconds)}")
        return words


def format_seconds(seconds: float) -> str:
    """A duration as `0:42`, `12:05` or `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _figure(value: Any) -> str:
    """A metric in four digits; anything but a fractional number as it is."""
    return str(value) if isinstance(value, int | str) else f"{float(value):.4g}"


def _terminal_bar(stream: TextIO) -> RichProgress | None:
    """A bar that writes to `stream`, or None where `stream` is no terminal that can show one."""
    if not stream.isatty():
        return None
    console = Console(file=stream)
    if console.is_dumb_terminal:
        return None
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%", markup=False),
        TextColumn("{task.fields[status]}", markup=False),
    )
    return RichProgress(*columns, console=console)
