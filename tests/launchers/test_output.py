"""What Horovod prints, hand-written, and what a user sees of it."""

import hypothesis
import hypothesis.strategies as st
import pytest

from launchers.output import LONGEST, Exit, Narrator, Splitter

HOSTS = ("host1", "host2")


def shown(text: str, narrator: Narrator | None = None, size: int = 7) -> str:
    """What is printed for one whole stream that comes `size` characters at a time."""
    narrator, splitter = narrator or Narrator(HOSTS), Splitter()
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    pieces = [piece for part in parts for piece in splitter.add(part)] + list(splitter.add("", is_last=True))
    return "".join(narrator.show(piece) for piece in pieces)


def test_lines_get_rank_and_host():
    text = "[0]<stdout>:step 1\n[1]<stderr>:a: b [0] <stdout>:\n[1]<stdout>:\n"
    assert shown(text) == "[0 host1] step 1\n[1 host2] a: b [0] <stdout>:\n[1 host2] \n"


def test_progress_is_shown_when_it_returns():
    splitter, narrator = Splitter(), Narrator(HOSTS)
    pieces = list(splitter.add("[0]<stdout>: 10%\r[0]<std"))
    assert [narrator.show(piece) for piece in pieces] == ["[0 host1]  10%\r"]
    assert [narrator.show(piece) for piece in splitter.add("out>:done\n")] == ["[0 host1] done\n"]


def test_an_end_of_line_of_two_characters_stays_one():
    # Horovod hands on "text\r\n" as a line that ends with \r and an empty one.
    assert shown("[0]<stdout>:text\r[0]<stdout>:\n[0]<stdout>:\n") == "[0 host1] text\r\n[0 host1] \n"


def test_a_line_that_stopped_is_parted_from_what_follows():
    assert shown("[0]<stdout>:half[1]<stdout>:whole\n") == "[0 host1] half\n[1 host2] whole\n"
    narrator = Narrator(HOSTS, clock=lambda: 5.0)
    assert shown("[1]<stderr>:halfProcess 1 exit with status code 137.\n", narrator) == "[1 host2] half\n"
    assert narrator.exits == [Exit(1, 137, 5.0)]


def test_horovods_own_lines_are_kept_and_not_shown():
    text = (
        "Process 1 exit with status code 137.\nTerminating remaining workers after failure of Process 1.\n"
        "Traceback (most recent call last):\n  File x\nRuntimeError: Horovod detected\n\n"
    )
    narrator = Narrator(HOSTS, clock=lambda: 5.0)
    assert shown(text, narrator) == ""
    assert narrator.exits == [Exit(1, 137, 5.0)]
    assert narrator.last_of_horovod == "RuntimeError: Horovod detected"
    assert shown(text, Narrator(HOSTS, is_debug=True)) == text


def test_lines_written_at_the_same_time_are_told_apart():
    # Horovod's print writes text and end of line one after the other.
    narrator = Narrator(HOSTS)
    text = "Process 1 exit with status code 1.[0]<stdout>:hello\n\nProcess 0 exit with status code -9.\n"
    assert shown(text, narrator) == "[0 host1] hello\n"
    assert [(one.rank, one.code) for one in narrator.exits] == [(1, 1), (0, -9)]


def test_a_worker_may_speak_like_horovod():
    narrator = Narrator(HOSTS)
    text = "[0]<stdout>:Process 1 exit with status code 1.\n[0]<stderr>:Traceback (most recent call last):\n"
    assert shown(text, narrator) == text.replace("[0]<stdout>:", "[0 host1] ").replace("[0]<stderr>:", "[0 host1] ")
    assert narrator.exits == []


def test_the_same_error_of_several_ranks_is_shown_once():
    text = "[1]<stderr>:error: no\n[0]<stderr>:error: no\n[0]<stderr>:error: other\n[1]<stderr>:error: no\n"
    assert shown(text) == "[1 host2] error: no\n[0 host1] error: other\n[1 host2] error: no\n"


def test_what_a_supervisor_tells_is_kept_for_the_last_line():
    narrator = Narrator(HOSTS)
    assert shown("[1]<stderr>:error: rank 1 on host2 was ended by signal 9 (SIGKILL)\n", narrator) == ""
    assert narrator.signals == {1: 9}


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:1763750000.123456   12345 cpu_feature_guard.cc:210] This TensorFlow binary",
        "W0000 00:00:1763750000.123456 12345 cuda_executor.cc:1] x",
        "[2026-11-21 19:00:00.123456: E /tmp/b/horovod/common/operations.cc:697] [0]: Horovod background loop",
        *("Terminated", "Killed"),
    ],
)
def test_notes_of_libraries_and_shells_are_shown_only_for_debugging(line):
    assert shown(f"[0]<stderr>:{line}\n") == ""
    assert shown(f"[0]<stderr>:{line}\n", Narrator(HOSTS, is_debug=True)) == f"[0 host1] {line}\n"


def test_an_endless_line_is_not_waited_for():
    text = "[1]<stdout>:" + "x" * (LONGEST + 10) + "y\n[0]<stdout>:z\n"
    assert shown(text, size=1 << 16) == "[1 host2] " + "x" * (LONGEST + 10) + "y\n[0 host1] z\n"


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 1), st.text(st.sampled_from("ab [1]<>:é%"), min_size=1))), st.integers(1, 40)
)
def test_no_word_of_a_worker_is_lost(said, size):
    lines = [(rank, text) for rank, text in said if "]<" not in text]
    text = "".join(f"[{rank}]<stdout>:{line}\n" for rank, line in lines)
    assert shown(text, size=size) == "".join(f"[{rank} {HOSTS[rank]}] {line}\n" for rank, line in lines)
