import io
import re

import pytest

from utils.progress import Progress, format_seconds


class FakeClock:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def run(progress: Progress, clock: FakeClock, updates: list[tuple[float, int]], close_at: float) -> None:
    with progress:
        for seconds, done in updates:
            clock.seconds = 100.0 + seconds
            progress.update(done)
        clock.seconds = 100.0 + close_at


def test_lines_come_at_most_every_five_seconds_and_always_first_and_last(clock):
    stream = io.StringIO()
    progress = Progress("Training", 40, stream=stream, clock=clock)
    run(progress, clock, [(second, second) for second in range(1, 13)], close_at=12.5)
    assert [re.search(r"(\d+)/40", line)[1] for line in stream.getvalue().splitlines()] == ["1", "6", "11", "12"]


def test_line_holds_percent_rate_and_time_left(clock):
    stream = io.StringIO()
    run(Progress("Search", 200, "roll-out", stream=stream, clock=clock), clock, [(30, 1), (40, 51)], close_at=60)
    # After the first, slow unit: 50 in 10 s, so 149 more take 29.8 s. In all: 51 in 60 s.
    assert stream.getvalue().splitlines() == [
        "Search: 0%, 1/200 roll-outs",
        "Search: 25%, 51/200 roll-outs, 5.0 roll-outs/s, ETA 0:30",
        "Search: 25%, 51/200 roll-outs, 1.2 s/roll-out, took 1:00",
    ]


def test_rates_of_resumed_work_count_new_work_only(clock):
    stream = io.StringIO()
    progress = Progress("Training", 1000, stream=stream, initial=900, clock=clock)
    run(progress, clock, [(0, 900), (10, 920)], close_at=10)
    assert stream.getvalue().splitlines() == [
        "Training: 90%, 900/1000 steps",
        "Training: 92%, 920/1000 steps, 2.0 steps/s, ETA 0:40",
        "Training: 92%, 920/1000 steps, 2.0 steps/s, took 0:10",
    ]


def test_metrics_stay_until_replaced(clock):
    stream = io.StringIO()
    with Progress("Training", 2, stream=stream, clock=clock) as progress:
        progress.update(1, loss=0.41234, layers=22, stage="warm-up")
        progress.update(2, loss=0.5)
    first, last = stream.getvalue().splitlines()
    assert first.endswith("loss 0.4123, layers 22, stage warm-up")
    assert last.endswith("took 0:00, loss 0.5, layers 22, stage warm-up")


def test_quiet_progress_writes_nothing(clock, terminal):
    for stream in (io.StringIO(), terminal):
        run(Progress("Training", 10, stream=stream, quiet=True, clock=clock), clock, [(1, 5), (9, 9)], close_at=10)
        assert stream.getvalue() == ""


def test_closing_twice_writes_the_last_line_once(clock):
    stream = io.StringIO()
    progress = Progress("Training", 10, stream=stream, clock=clock)
    progress.close()
    progress.close()
    assert stream.getvalue() == "Training: 0%, 0/10 steps, took 0:00\n"


def test_empty_work_is_no_division_by_zero(clock):
    stream = io.StringIO()
    run(Progress("Training", 0, stream=stream, clock=clock), clock, [(1, 0)], close_at=2)
    assert stream.getvalue().splitlines()[-1] == "Training: 0%, 0/0 steps, took 0:02"


def test_an_exception_passes_through_and_leaves_the_last_line(clock):
    stream = io.StringIO()

    def failing_work():
        with Progress("Training", 10, stream=stream, clock=clock) as progress:
            progress.update(3)
            raise KeyError("from the work")

    with pytest.raises(KeyError, match="from the work"):
        failing_work()
    assert stream.getvalue().splitlines()[-1].startswith("Training: 30%, 3/10 steps")


def test_terminal_shows_a_bar_with_percent_and_metrics(clock, terminal):
    with Progress("Training [a]", 4, stream=terminal, clock=clock) as progress:
        progress.update(1, loss=0.412)
        clock.seconds += 1
        progress.update(3, loss=0.412)
    shown = terminal.getvalue()
    assert "\x1b[?25l" in shown, "a bar hides the cursor while it moves"
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert re.search(r"Training \[a\].*75%.*3/4 steps, 3.0 steps/s, took 0:01, loss 0.412", plain)


def test_no_color_leaves_the_bar_without_colours(clock, terminal, monkeypatch):
    colour = re.compile(r"\x1b\[[0-9;]*[39][0-9][0-9;]*m")  # 3x, or of a terminal with few colours 9x
    run(Progress("Training", 4, stream=terminal, clock=clock), clock, [(1, 2)], close_at=2)
    assert colour.search(terminal.getvalue())

    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    run(Progress("Training", 4, stream=plain, clock=clock), clock, [(1, 2)], close_at=2)
    assert "50%" in plain.getvalue()
    assert not colour.search(plain.getvalue())


def test_dumb_terminal_gets_plain_lines(clock, terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    run(Progress("Training", 4, stream=terminal, clock=clock), clock, [(1, 2)], close_at=2)
    assert terminal.getvalue().startswith("Training: 50%, 2/4 steps\n")
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0:00"), (42.4, "0:42"), (59.6, "1:00"), (725, "12:05"), (3723, "1:02:03")]
)
def test_durations_read_as_a_clock(seconds, words):
    assert format_seconds(seconds) == words
