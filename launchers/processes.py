"""Processes of this machine as Linux tells of them in /proc: who began whom, and who must end with whom."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from typing import NamedTuple

_DIE_WITH_PARENT, _ADOPT_ORPHANS = 1, 36  # PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER of prctl(2)
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class Process(NamedTuple):
    """A process; the number alone could have gone to another one meanwhile.

    pid: its number.
    started: clock ticks from the machine's start to its own.
    """

    pid: int
    started: int


class _Status(NamedTuple):
    name: str
    state: str
    parent: int
    started: int


def is_alive(process: Process) -> bool:
    """Whether it is there and has not ended."""
    status = _status(process.pid)
    return status is not None and status.started == process.started and status.state not in "ZX"


def ancestors(pid: int) -> Iterator[tuple[Process, str]]:
    """The parent, its parent and so on, below process 1; each with the name of its program."""
    status = _status(pid)
    while status and status.parent > 1:
        pid, status = status.parent, _status(status.parent)
        if status:
            yield Process(pid, status.started), status.name


def descendants(pid: int) -> list[Process]:
    """All that a process began, and what these began, that has not ended."""
    statuses = {int(entry): _status(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()}
    family, found = {pid}, []
    grew = True
    while grew:
        grew = False
        for number, status in statuses.items():
            if status and number not in family and status.parent in family:
                family.add(number)
                grew = True
                if status.state not in "ZX":
                    found.append(Process(number, status.started))
    return found


def kill(process: Process) -> None:
    """Ends it at once, if it is still there."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the new process gets this signal when the thread that began it ends, however it does."""
    parent = os.getpid()

    def ask() -> None:
        _prctl(_DIE_WITH_PARENT, number, 0, 0, 0)
        if os.getppid() != parent:  # it was faster
            os._exit(1)

    return ask


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """This process gets the signal when its parent, of that number, ends, however it does; at once if it has."""
    _prctl(_DIE_WITH_PARENT, number, 0, 0, 0)
    if os.getppid() != parent:  # it was faster
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """From now on what our children leave behind becomes a child of this process, not of process 1."""
    _prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)


def _status(pid: int) -> _Status | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return _Status(name, fields[0], int(fields[1]), int(fields[19]))
