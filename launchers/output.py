"""What the processes of a job print, as Horovod hands it on and as a user sees it: `[1 host2] text`."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

LONGEST = 1 << 20  # characters of a line that is waited for
_MARK = re.compile(r"\[(\d+)\]<(?:stdout|stderr)>:")
_END = re.compile(r"Process (\d+) exit with status code (-?\d+)\.|Terminating remaining workers after failure of .*?\.")
# Horovod ends its own lines by itself, but writes them behind a worker's last one where that has no end.
_ENDS_BEHIND = re.compile(rf"(?P<own>.+?)(?P<ends>(?:{_END.pattern})+)$", re.DOTALL)
# By launchers.worker.
_SIGNAL = re.compile(r"error: rank (\d+) on \S+ was ended by signal (\d+) \(\S.*\)")
# What TensorFlow's and Horovod's libraries note for their developers, whatever is asked of them, and what the shell
# above a process says when a signal ended it, which the last line of a job tells better.
_NOTE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    r"|[IW]0000 00:00:\d+\.\d+ +\d+ \S+:\d+\] "
    r"|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [TDIWEF] \S*/horovod/\S+:\d+\] "
    r"|(?:Terminated|Killed)$"
)


class Exit(NamedTuple):
    """A process of the job that failed: what Horovod said of it, 128 and more for signals, and when (seconds)."""

    rank: int
    code: int
    at: float = 0.0


class Piece(NamedTuple):
    """A line, or a part of one that a carriage return ends.

    rank: whose it is; None for Horovod itself.
    end: newline, carriage return or nothing.
    is_rest: whether it goes on where the piece before it was cut for its length.
    """

    rank: int | None
    text: str
    end: str
    is_rest: bool = False


class Splitter:
    """Cuts one stream of horovodrun into pieces as soon as they are complete."""

    def __init__(self):
        self._rest = ""
        self._cut: int | None = None  # whose line was cut for its length

    def add(self, text: str, is_last: bool = False) -> Iterator[Piece]:
        """The pieces that `text` completes; with `is_last`, all that is left."""
        *complete, self._rest = re.split(r"(?<=[\r\n])", self._rest + text)
        if self._rest and (is_last or len(self._rest) > LONGEST):
            complete.append(self._rest)
            self._rest = ""
        for line in complete:
            end = line[-1] if line[-1] in "\r\n" else ""
            pieces = list(_pieces(line.removesuffix(end), end))
            if self._cut is not None and pieces[0].rank is None:
                pieces[0] = pieces[0]._replace(rank=self._cut, is_rest=True)
            self._cut = pieces[-1].rank if not end else None
            yield from pieces


class Narrator:
    """Turns pieces of both streams into what is shown, and remembers what they say about the end of the job.

    Args:
        hosts: the name of each rank's host.
        is_debug: whether to show all of it.
        clock: tells the time in seconds.
    """

    def __init__(self, hosts: Sequence[str], is_debug: bool = False, clock: Callable[[], float] = time.monotonic):
        self._hosts = hosts
        self._is_debug = is_debug
        self._clock = clock
        self._first_to_say: dict[str, int | None] = {}
        self._returned: set[int | None] = set()  # ranks whose last piece ended with a carriage return
        self.exits: list[Exit] = []
        self.signals: dict[int, int] = {}  # rank -> signal that its supervisor told of
        self.last_of_horovod = ""

    def show(self, piece: Piece) -> str:
        """The text to print for it; it may be empty."""
        is_end_of_returned = piece.rank in self._returned and not piece.text and piece.end == "\n"
        (self._returned.add if piece.end == "\r" else self._returned.discard)(piece.rank)
        if piece.rank is None:
            return self._show_horovod(piece)
        if is_end_of_returned:  # "\r\n", which Horovod takes apart
            return "\n"
        told = _SIGNAL.fullmatch(piece.text)
        if told:
            self.signals[int(told[1])] = int(told[2])
        is_noise = told or _NOTE.match(piece.text) or self._is_said(piece)
        if is_noise and not self._is_debug:
            return ""
        if piece.is_rest:
            return piece.text + piece.end
        host = self._hosts[piece.rank] if piece.rank < len(self._hosts) else "?"
        return f"[{piece.rank} {host}] {piece.text}{piece.end}"

    def _is_said(self, piece: Piece) -> bool:
        """Whether another rank gave the same error before."""
        if not piece.text.startswith("error: "):
            return False
        return self._first_to_say.setdefault(piece.text, piece.rank) != piece.rank

    def _show_horovod(self, piece: Piece) -> str:
        ends = list(_END.finditer(piece.text))
        self.exits += [Exit(int(end[1]), int(end[2]), self._clock()) for end in ends if end[1]]
        if piece.text.strip() and not ends:
            self.last_of_horovod = piece.text.strip()
        return piece.text + piece.end if self._is_debug else ""


def _pieces(line: str, end: str) -> Iterator[Piece]:
    """The pieces of a line: more than one where a rank's output stopped within it."""
    marks = list(_MARK.finditer(line))
    starts = [mark.start() for mark in marks] + [len(line)]
    if starts[0] > 0 or not marks:
        yield Piece(None, line[: starts[0]], end if not marks else "\n")
    for mark, stop in zip(marks, starts[1:], strict=True):
        text, is_final = line[mark.end() : stop], mark is marks[-1]
        behind = _ENDS_BEHIND.match(text)
        if behind:
            yield Piece(int(mark[1]), behind["own"], "\n")
            yield Piece(None, behind["ends"], "\n")
        else:
            yield Piece(int(mark[1]), text, end if is_final else "\n")
