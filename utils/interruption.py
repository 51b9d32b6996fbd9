"""Ctrl-C and SIGTERM: the first one ends the program where the least is lost, the second one at once.

with heeded("interrupted: the same command goes on"):
    ...                          # a signal raises KeyboardInterrupt or Terminated right here
    with postponed():
        ...                      # a signal raises nothing here; `is_asked` tells of it
                                 # but here at the latest, or where the block has saved what would be lost
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator

PATIENCE = 8.0  # seconds; whoever stops a program, as `docker stop` does, mostly kills it after ten
_THE_END = b"\0"  # no signal has this number
_SHOW_CURSOR = b"\x1b[?25h\n"  # which the bar on a terminal hides


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C but for the exit code."""


class _Interruption:
    """What this process was asked for; signals are the whole process's, so there is one."""

    number: int | None = None  # of the first signal
    is_postponed = False


_interruption = _Interruption()


@contextlib.contextmanager
def heeded(line: str | None, patience: float | None = PATIENCE) -> Iterator[None]:
    """Within it SIGINT raises KeyboardInterrupt and SIGTERM raises Terminated, once; one that is ignored stays so.

    A thread sees to it that the program ends also where Python does not come to raise anything, such as in a long
    compiled call, or where a library swallows it: at the second signal, and some seconds after the first. It then
    writes `line` and exits with 130 or 143.

    Args:
        line: the last words, on standard error; None: nothing is to be said.
        patience: seconds that the program has to end by itself; None: no such thread, the second signal raises again.
    """
    _interruption.number, _interruption.is_postponed = None, False
    # A signal that is ignored was so before the program began, as nohup and shells do it for work in the background.
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, _on_signal) for number in numbers}
    with contextlib.nullcontext() if patience is None else _watched(line, patience):
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            _interruption.number = None


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Within it a signal raises nothing, but at its end."""
    _interruption.is_postponed = True
    try:
        yield
    finally:
        _interruption.is_postponed = False
    if _interruption.number is not None:
        raise _exception(_interruption.number)


def is_asked() -> bool:
    """Whether the program is to end."""
    return _interruption.number is not None


def ask() -> None:
    """Does as if SIGTERM had come: a fellow worker, with whom this one ends, has had a signal."""
    if _interruption.number is None:
        _interruption.number = signal.SIGTERM


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a program exits with that this ended, by the custom of shells."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def interrupt() -> KeyboardInterrupt:
    """What the first signal raises, to be raised where something else came of it."""
    return _exception(_interruption.number)


def _on_signal(number: int, _frame: object) -> None:
    if _interruption.number is None:
        _interruption.number = number
    if not _interruption.is_postponed:
        raise _exception(number)


def _exception(number: int | None) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated()


@contextlib.contextmanager
def _watched(line: str | None, patience: float) -> Iterator[None]:
    """Within it a thread reads the numbers of the signals, which Python's part in C writes even while Python waits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stderr = os.dup(2)  # number 2 may lead elsewhere by then, see utils.quiet
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, stderr, line, patience), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writer, _THE_END)
        watcher.join()
        for descriptor in (reader, writer, stderr):
            os.close(descriptor)


def _watch(reader: int, stderr: int, line: str | None, patience: float) -> None:
    first = _next_signal(reader)
    if first is None:
        return
    is_second = bool(select.select([reader], [], [], patience)[0])
    second = _next_signal(reader) if is_second else first
    if second is None:  # it has ended by itself
        return
    if os.isatty(stderr):
        os.write(stderr, _SHOW_CURSOR)
    if line is not None:
        os.write(stderr, f"{line}\n".encode())
    os._exit(128 + second)


def _next_signal(reader: int) -> int | None:
    """SIGINT or SIGTERM, once there is one; None at the end. Other signals that Python handles are told here too."""
    while (byte := os.read(reader, 1)) != _THE_END:
        if byte[0] in (signal.SIGINT, signal.SIGTERM):
            return byte[0]
    return None
