"""What ended a job, in one line, from what became of its processes."""

import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launchers.output import Exit

GOES_ON = "the same command goes on from the last checkpoint"
INPUT_ERROR = 2  # what the program exits with for a mistake of the user's; it has named it then
SSH_FAILED = 255
TOGETHER = 3.0  # seconds; after 5 Horovod kills the processes that have not ended themselves


class Verdict(NamedTuple):
    """The exit code of the job and its last line; no line where all is said."""

    code: int
    line: str | None


def judge(
    status: int, exits: Sequence[Exit], signals: Mapping[int, int], hosts: Sequence[str], last_line: str
) -> Verdict:
    """The verdict on a job that nobody interrupted.

    Args:
        status: exit code of horovodrun; negative: the signal that ended it.
        exits: of the failed processes, in Horovod's order. Where one dies the others fail for want of it, at times
            earlier than Horovod looks: of those that failed together the cause is told by its kind.
        signals: rank -> signal that ended its program, as its supervisor told.
        hosts: the name of each rank's host.
        last_line: what Horovod itself said last.
    """
    if status == 0 and not exits:
        return Verdict(0, None)
    if status < 0:
        return Verdict(1, f"error: horovodrun {_by_signal(-status)}; {GOES_ON}")
    if not exits:
        told = f"it said: {last_line}" if last_line else "it said nothing (--debug shows more)"
        return Verdict(1, f"error: horovodrun could not start the processes, exit code {status}; {told}")
    together = [one for one in exits if one.at - exits[0].at < TOGETHER]
    worst = min(together, key=lambda one: _severity(one, signals))  # of equals, the first
    if worst.code == INPUT_ERROR:
        return Verdict(INPUT_ERROR, None)
    host = hosts[worst.rank] if worst.rank < len(hosts) else "?"
    return Verdict(1, f"error: rank {worst.rank} on {host} {_what_happened(worst, signals)}; {GOES_ON}")


def _severity(one: Exit, signals: Mapping[int, int]) -> int:
    number = signals.get(one.rank, -one.code if one.code < 0 else one.code - 128)
    if one.code == SSH_FAILED:
        return 1
    if one.code == INPUT_ERROR:
        return 3
    if number in (signal.SIGTERM, signal.SIGINT):
        return 5  # so Horovod ends the others
    if number > 0:
        return 2 if number == signal.SIGABRT else 0  # libraries abort when a connection breaks
    return 4


def _what_happened(one: Exit, signals: Mapping[int, int]) -> str:
    if one.rank in signals:
        return _by_signal(signals[one.rank])
    if one.code == SSH_FAILED:
        return "is out of reach: its ssh connection broke (exit code 255)"
    if one.code < 0:
        return f"lost its launcher process, which {_by_signal(-one.code)}"
    if one.code > 128 and one.code - 128 not in (signal.SIGTERM, signal.SIGINT):
        return f"lost its supervisor, which {_by_signal(one.code - 128)}"
    return f"ended with exit code {one.code}"


def _by_signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "a real-time signal"
    return f"was ended by signal {number} ({name})"
