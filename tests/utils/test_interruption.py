import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from utils import interruption
from utils.interruption import Terminated, exit_code, heeded, is_asked, postponed

ROOT = Path(__file__).resolve().parents[2]
BOTH = pytest.mark.parametrize(
    ("number", "kind", "code"),
    [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, Terminated, 143)],
    ids=["SIGINT", "SIGTERM"],
)


@pytest.fixture(autouse=True)
def _heeds_interrupts():
    """Tests that a shell started in the background ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def heeding(body, **options):
    with heeded(None, **options):
        body()


@BOTH
def test_a_signal_is_raised_right_where_the_program_is(number, kind, code):
    def body():
        signal.raise_signal(number)
        pytest.fail("the program went on")

    with pytest.raises(kind) as raised:
        heeding(body)
    assert type(raised.value) is kind
    assert exit_code(raised.value) == code


@BOTH
def test_a_postponed_signal_is_told_and_raised_at_the_end(number, kind, code):
    done = []

    def body():
        with postponed():
            assert not is_asked()
            signal.raise_signal(number)
            assert is_asked()
            done.append("saved")
        done.append("more")

    with pytest.raises(kind) as raised:
        heeding(body)
    assert done == ["saved"]
    assert exit_code(raised.value) == code


def test_without_a_signal_nothing_is_raised_and_all_is_as_it_was():
    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before = handlers()
    with heeded(None), postponed():
        assert handlers() != before
    assert handlers() == before


def test_a_signal_is_forgotten_once_the_program_has_ended():
    with pytest.raises(Terminated):
        heeding(lambda: signal.raise_signal(signal.SIGTERM))
    assert not is_asked()


def test_an_error_within_goes_before_the_signal():
    def body():
        with postponed():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        heeding(body)


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with heeded(None):
        signal.raise_signal(signal.SIGINT)
        assert not is_asked()


def test_a_fellow_worker_s_signal_counts_like_sigterm():
    def body():
        with postponed():
            interruption.ask()
            assert is_asked()

    with pytest.raises(Terminated):
        heeding(body)


def test_without_the_thread_a_second_signal_is_raised_again():
    caught = []

    def body():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            caught.append("first")
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated):
        heeding(body, patience=None)
    assert caught == ["first"]


def running(body):
    """A process that has said that it runs `body` within `heeded`."""
    program = "import signal, time\nfrom utils.interruption import *\nfrom utils.quiet import quiet_stderr\n"
    program += "signal.signal(signal.SIGINT, signal.default_int_handler)\n" + textwrap.dedent(body)
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "runs\n"
    return process


@BOTH
def test_a_program_that_does_not_end_by_itself_is_ended_and_has_its_last_word(number, kind, code):
    # Its standard error leads elsewhere at that time, and whatever is raised is swallowed.
    process = running(
        """
        with heeded("the last word", 0.2), quiet_stderr():
            while True:
                try:
                    print("runs", flush=True)
                    time.sleep(60)
                except BaseException:
                    pass
        """
    )
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "the last word\n")


@BOTH
def test_a_second_signal_ends_it_at_once(number, kind, code):
    process = running(
        """
        with heeded("the last word", 1e6), postponed():
            print("runs", flush=True)
            while not is_asked():
                time.sleep(0.01)
            print("saves", flush=True)
            while True:
                time.sleep(60)
        """
    )
    process.send_signal(number)
    assert process.stdout.readline() == "saves\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "the last word\n")
