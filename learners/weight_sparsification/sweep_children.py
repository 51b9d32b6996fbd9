"""The processes of a sweep: so many at a time, each with a log of its own; none outlives the sweep."""

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from utils.printing import printable

PATIENCE = 30.0  # seconds in which a process that is told to end must have ended
_PAUSE = 0.1
_TAIL = 8192  # bytes at the end of a log in which its last line is looked for
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class Job(NamedTuple):
    """A process to be: what it is called, its command, and where its output goes."""

    name: str
    command: tuple[str, ...]
    log: Path


class State(NamedTuple):
    """How a job stands.

    status: "waits", "runs", "done" or "failed".
    line: the last line of its output.
    """

    name: str
    status: str
    seconds: float = 0.0
    line: str = ""


class Ended(NamedTuple):
    """How a job ended: its exit code (below 0: by a signal), wall time and the last lines of its output."""

    code: int
    seconds: float
    said: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why it failed, in its own words; without such ones its last line, which of a traceback says most."""
        last = f": {self.said[-1]}" if self.said and self.code > 0 else ""
        return error_in(self.said) or how_it_ended(self.code) + last


Show = Callable[[Sequence[State]], None]


def run_jobs(
    jobs: Sequence[Job],
    places: int,
    environment: Callable[[int, int], Mapping[str, str]],
    show: Show = lambda states: None,
    *,
    keep_open: Sequence[int] = (),
) -> dict[str, Ended]:
    """Runs the jobs in their order, as many at a time as there are places; one that fails stops no other.

    Whatever interrupts this, no process is left: each gets SIGTERM, and SIGKILL after 30 s or at a second interrupt.

    Args:
        environment: index of the job, its place -> the variables of its process.
        show: is called about ten times a second.
        keep_open: file descriptors that the processes inherit.
    """
    waiting = list(enumerate(jobs))
    running: dict[int, Child] = {}
    ended: dict[str, Ended] = {}
    try:
        while waiting or running:
            for place in range(places):
                if place not in running and waiting:
                    index, job = waiting.pop(0)
                    running[place] = Child(job, environment(index, place), keep_open)
            for place, child in list(running.items()):
                if (result := child.result()) is not None:
                    ended[child.job.name] = result
                    del running[place]
            show(_states(jobs, list(running.values()), ended))
            if running:
                time.sleep(_PAUSE)
    finally:
        stop(list(running.values()))
    return ended


class Child:
    """One process and its log. It gets SIGTERM when the thread that began it ends, however that does."""

    def __init__(self, job: Job, environment: Mapping[str, str], keep_open: Sequence[int] = ()):
        self.job, self._began = job, time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "a", encoding="utf-8") as log:
            own = [f"{name}={value}" for name, value in environment.items() if os.environ.get(name) != value]
            log.write(f"$ {shlex.join([*own, *job.command])}\n")  # so it can be repeated exactly
            log.flush()
            self._offset = log.tell()  # what is behind is of this start
            self.process = subprocess.Popen(
                job.command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(keep_open),
                process_group=0,  # Ctrl-C is for the sweep, which then tells its processes
                preexec_fn=_die_with(os.getpid()),
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def result(self) -> Ended | None:
        """How it ended; None while it runs."""
        code = self.process.poll()
        return None if code is None else Ended(code, self.seconds, tuple(self.said()))

    def said(self, tail: int = _TAIL) -> list[str]:
        """The last lines of its output, without empty ones."""
        with open(self.job.log, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._offset, size - tail))
            text = log.read().decode("utf-8", "replace")
        return [printable(line.rstrip()) for line in text.replace("\r", "\n").splitlines() if line.strip()]


def stop(children: Sequence[Child], patience: float = PATIENCE) -> None:
    """Ends the processes and waits until they have: by SIGTERM, after a while or an impatient Ctrl-C by SIGKILL."""
    deadline = time.monotonic() + patience
    try:
        _send(children, signal.SIGTERM)
        while any(child.process.poll() is None for child in children) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
    finally:
        _send(children, signal.SIGKILL)
        for child in children:
            child.process.wait()


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        hint = "; was there too little memory? --sweep_processes 1 needs least" if -code == signal.SIGKILL else ""
        return f"ended by {name}{hint}"
    return f"ended by signal {-code}"


def error_in(lines: Sequence[str]) -> str:
    """The last error message of a program of ours, without "error: "; "" where there is none."""
    starts = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    return "\n".join(lines[starts[-1] :]).removeprefix("error: ") if starts else ""


def _states(jobs: Sequence[Job], running: Sequence[Child], ended: Mapping[str, Ended]) -> list[State]:
    children = {child.job.name: child for child in running}
    states = []
    for job in jobs:
        if job.name in ended:
            result = ended[job.name]
            states.append(State(job.name, "failed" if result.code else "done", result.seconds))
        elif job.name in children:
            child = children[job.name]
            states.append(State(job.name, "runs", child.seconds, (child.said() or [""])[-1]))
        else:
            states.append(State(job.name, "waits"))
    return states


def _send(children: Sequence[Child], number: signal.Signals) -> None:
    for child in children:
        if child.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, number)


def _die_with(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: nothing may be left of a sweep that was killed without warning."""

    def ask() -> None:
        _prctl(_DIE_WITH_PARENT, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it was faster
            os._exit(1)

    return ask
