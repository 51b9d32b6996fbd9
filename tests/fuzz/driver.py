"""Runs a reader over many drawn inputs: each is read, or refused in one sentence, in little time and memory.

Every input is drawn with a generator of its own, so that a failure is repeated by its number:

    TRIMFLOW_FUZZ_SEED=3 TRIMFLOW_FUZZ_FIRST=1234 TRIMFLOW_FUZZ_INPUTS=1 pytest tests/fuzz/test_...
"""

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from utils.errors import InputError, RunError

SEED = int(os.environ.get("TRIMFLOW_FUZZ_SEED", "0"))
FIRST = int(os.environ.get("TRIMFLOW_FUZZ_FIRST", "0"))
INPUTS = int(os.environ.get("TRIMFLOW_FUZZ_INPUTS", "0"))  # 0: as many as the test says
SECONDS = 60  # for one input: nothing that is read takes a thousandth of it, what hangs takes more
MEGABYTES = 200  # for all inputs of a test, where it does not say more

Input = TypeVar("Input")


class Outcome(NamedTuple):
    """How many inputs were read and how many refused."""

    read: int
    refused: int


class _TooLong(BaseException):
    """No reader catches this."""


def fuzz(
    draw: Callable[[random.Random], Input],
    read: Callable[[Input], Any],
    *,
    inputs: int = 2000,
    names: str = "",
    megabytes: int = MEGABYTES,
    errors: tuple[type[Exception], ...] = (InputError, RunError),
) -> Outcome:
    """Reads `inputs` drawn inputs; AssertionError for the first one that does anything but be read or refused.

    Args:
        draw: makes an input.
        read: raises one of `errors` to refuse it, and AssertionError where what it read is none.
        megabytes: of memory that all inputs may take.
        names: what the message of each refusal must have, such as the file's name.
    """
    outcome = Outcome(0, 0)
    with _bounded_memory(megabytes):
        for number in range(FIRST, FIRST + (INPUTS or inputs)):
            rng = random.Random(f"{SEED}/{number}")
            given = draw(rng)
            try:
                with _bounded_time():
                    read(given)
                outcome = outcome._replace(read=outcome.read + 1)
            except errors as error:
                _check_names(names, number, given, error)
                outcome = outcome._replace(refused=outcome.refused + 1)
            except (Exception, _TooLong) as error:
                raise AssertionError(_told(number, given, error)) from error
    if not FIRST:
        # Else the test would say nothing: of inputs that are all refused at once, or none.
        assert min(outcome) > 0, outcome
    return outcome


def _check_names(names: str, number: int, given: Any, error: Exception) -> None:
    assert names in str(error), _told(number, given, error)


def put(path: Path, content: bytes) -> None:
    """Writes a file anew: to write over one makes many file systems wait for the disk."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _told(number: int, given: Any, error: BaseException) -> str:
    text = repr(given)
    shown = text if len(text) < 4000 else f"{text[:4000]}... ({len(text)} letters)"
    return f"input {number} of TRIMFLOW_FUZZ_SEED={SEED}: {type(error).__name__}: {str(error)[:500]}\n{shown}"


@contextlib.contextmanager
def _bounded_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooLong(f"it took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _bounded_memory(megabytes: int) -> Iterator[None]:
    """AssertionError where the process' memory grows by more than is allowed, be it for a moment."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew; where that must not be, an earlier one may hide this one
    before = _peak_megabytes()
    yield
    assert _peak_megabytes() - before < megabytes


def _peak_megabytes() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmHWM"))
