"""What a sweep shows while its members run."""

import io
import re

import pytest

from learners.weight_sparsification.sweep_children import State
from learners.weight_sparsification.sweep_screen import SweepScreen, in_short, share_done

TITLES = {"ratio_0.5": "0.5", "ratio_0.9": "0.9"}
SEARCH = "search: 50%, 50/100 roll-outs, 2.0 roll-outs/s, ETA 0:25, reward=0.8, best=0.9"


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self):
        return True


def _states(first, second):
    return [State("ratio_0.5", *first), State("ratio_0.9", *second)]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State("a", "waits"), "waits"),
        (State("a", "runs"), "starts"),
        (State("a", "runs", 3, SEARCH), "search 50%, ETA 0:25"),
        (State("a", "runs", 3, "finalists: 0%, 0/3 networks"), "finalists 0%"),
        (State("a", "runs", 3, "chosen: erk"), "chosen: erk"),
        (State("a", "done", 65.2, "whatever"), "done, 1:05"),
        (State("a", "failed", 3), "failed, 0:03"),
    ],
)
def test_a_state_in_short(state, text):
    assert in_short(state) == text


def test_the_share_that_is_done_grows_from_part_to_part():
    lines = [
        "given allocations: 50%, 3/6 roll-outs", "solving front to back: 50%, x", "search: 10%, x", "search: 100%, x",
        "finalists: 33%, x", "final training: 1%, x", "final training: 100%, x",
    ]  # fmt: skip
    shares = [share_done(State("a", "runs", 1, line)) for line in lines]
    assert shares == sorted(shares)
    assert shares[2] == pytest.approx(0.06 + 0.1 * 0.28)
    assert shares[-1] == 1.0
    assert share_done(State("a", "done")) == 1.0
    assert share_done(State("a", "waits")) == share_done(State("a", "runs", 1, "chosen: erk")) == 0.0


def test_without_a_terminal_there_is_a_line_every_ten_seconds():
    stream, now = io.StringIO(), [0.0]
    with SweepScreen(TITLES, stream=stream, clock=lambda: now[0]) as screen:
        for second in range(0, 21, 2):
            now[0] = float(second)
            screen.update(_states(("runs", second, SEARCH), ("waits",)))
        screen.say("0.5: done")
        now[0] = 31.0
        screen.update(_states(("done", 25), ("runs", 6, "")))
    assert stream.getvalue().splitlines() == [
        *["0.5: search 50%, ETA 0:25 | 1 waiting"] * 3, "0.5: done", "0.9: starts | 1 done",
    ]  # fmt: skip


def test_on_a_terminal_there_is_a_line_for_each_member(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    stream, now = Terminal(), [0.0]
    with SweepScreen(TITLES, stream=stream, clock=lambda: now[0]) as screen:
        screen.update(_states(("runs", 1, SEARCH), ("waits",)))
        screen.say("a line above")
        now[0] = 1.0
        screen.update(_states(("runs", 2, "chosen: erk"), ("runs", 1, "x" * 200)))
    last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue()).replace("\r", "\n").splitlines()
    shown = [line.rstrip() for line in last if line.startswith(("0.5 ", "0.9 "))]
    assert any(re.fullmatch(r"0\.5 .* 20% search 50%, ETA 0:25", line) for line in shown)
    assert shown[-2].endswith("20% chosen: erk")  # a line that tells of no progress takes none back
    assert len(shown[-1]) <= 70
    assert shown[-1].endswith("…")
    assert "a line above" in last
    assert not re.search(r"\x1b\[[\d;]*[349]\dm", stream.getvalue()), "no colours"


def test_quiet_shows_nothing_of_the_progress():
    stream = Terminal()
    with SweepScreen(TITLES, stream=stream, quiet=True) as screen:
        screen.update(_states(("runs", 1, SEARCH), ("waits",)))
    assert stream.getvalue() == ""


def test_the_last_frame_shows_how_it_ended(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    stream = Terminal()
    with SweepScreen(TITLES, stream=stream, clock=lambda: 0.0) as screen:
        screen.update(_states(("runs", 1, SEARCH), ("runs", 1, SEARCH)))
        screen.update(_states(("done", 2), ("failed", 3)))  # in the same moment
    last = stream.getvalue().split("\r")[-1]
    assert "100% done, 0:02" in last
    assert "20% failed, 0:03" in last
