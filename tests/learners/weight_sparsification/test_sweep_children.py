"""The processes of a sweep. They are real ones; what they do is a line of Python."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from learners.weight_sparsification.sweep_children import Child, Job, error_in, how_it_ended, run_jobs, stop

ROOT = Path(__file__).resolve().parents[3]
QUICK = (sys.executable, "-S", "-c")
FOR_EVER = "import time\nprint('here', flush=True)\nwhile True: time.sleep(0.01)"


def _job(directory, name, code):
    return Job(name, (*QUICK, code), directory / "logs" / f"{name}.log")


def _environment(index, place):
    return os.environ | {"INDEX": str(index), "PLACE": str(place)}


def _wait_for(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_more_run_at_a_time_than_there_are_places_and_the_next_starts_as_soon_as_one_is_free(tmp_path):
    """Each waits for a file of its own; `c` can only be given its file once it runs, beside `b`."""
    code = "import os, sys, time\nwhile not os.path.exists({!r}): time.sleep(0.01)\nprint(os.environ['PLACE'])"
    jobs = [_job(tmp_path, name, code.format(str(tmp_path / name))) for name in "abc"]
    seen = []

    def show(states):
        statuses = tuple(state.status for state in states)
        if statuses not in seen:
            seen.append(statuses)
        if statuses == ("runs", "runs", "waits"):
            (tmp_path / "a").touch()
        if statuses == ("done", "runs", "runs"):
            (tmp_path / "c").touch()
        if statuses == ("done", "runs", "done"):
            (tmp_path / "b").touch()

    ended = run_jobs(jobs, 2, _environment, show)
    assert {name: result.code for name, result in ended.items()} == {"a": 0, "b": 0, "c": 0}
    assert [ended[name].said for name in "abc"] == [("0",), ("1",), ("0",)]
    assert seen[0] == ("runs", "runs", "waits")
    assert seen[-1] == ("done", "done", "done")
    assert all(statuses.count("runs") <= 2 for statuses in seen)


def test_one_that_fails_stops_no_other_and_tells_why(tmp_path):
    codes = {
        "a": "print('work'); print('error: no data'); print('  at all'); raise SystemExit(2)",
        "b": "print('fine')",
    }
    ended = run_jobs([_job(tmp_path, name, code) for name, code in codes.items()], 1, _environment)
    assert (ended["a"].code, ended["a"].reason) == (2, "no data\n  at all")
    assert (ended["b"].code, ended["b"].said) == (0, ("fine",))


def test_one_that_a_signal_ended_says_so(tmp_path):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    ended = run_jobs([_job(tmp_path, "a", code)], 1, _environment)["a"]
    assert ended.code == -signal.SIGKILL
    assert "ended by SIGKILL; was there too little memory?" in ended.reason


def test_a_log_keeps_earlier_starts_but_tells_only_of_this_one(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text("error: of yesterday\n")
    ended = run_jobs([_job(tmp_path, "a", "raise SystemExit(3)")], 1, _environment)["a"]
    assert ended.reason == "exit code 3"
    text = (tmp_path / "logs" / "a.log").read_text()
    assert text.startswith(f"error: of yesterday\n$ INDEX=0 PLACE=0 {sys.executable} -S -c")
    assert "SystemExit" in text


def test_the_last_line_of_a_traceback_is_the_reason(tmp_path):
    ended = run_jobs([_job(tmp_path, "a", "1 / 0")], 1, _environment)["a"]
    assert ended.reason == "exit code 1: ZeroDivisionError: division by zero"


def test_an_interrupt_ends_all_of_them(tmp_path):
    def interrupt(states):
        if all(state.line == "here" for state in states):
            assert [state.status for state in states] == ["runs", "runs"]
            raise KeyboardInterrupt

    jobs = [_job(tmp_path, name, f"import os\nprint(os.getpid())\n{FOR_EVER}") for name in "ab"]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, 2, _environment, interrupt)
    for job in jobs:
        with pytest.raises(ProcessLookupError):
            os.kill(int(job.log.read_text().splitlines()[-2]), 0)


def test_one_that_does_not_heed_sigterm_is_killed(tmp_path):
    code = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FOR_EVER}"
    child = Child(_job(tmp_path, "a", code), os.environ)
    _wait_for(lambda: child.said() == ["here"])
    stop([child], patience=0.2)
    assert child.process.returncode == -signal.SIGKILL


def test_none_outlives_a_sweep_that_is_killed_and_until_then_the_lock_is_theirs(tmp_path):
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from learners.weight_sparsification.sweep_children import Job, run_jobs
import fcntl
lock = open({str(tmp_path / "lock")!r}, "w")
fcntl.flock(lock, fcntl.LOCK_EX)
job = Job("a", (sys.executable, "-S", "-c", {FOR_EVER!r}), Path({str(tmp_path)!r}) / "a.log")
run_jobs([job], 1, lambda index, place: os.environ, keep_open=[lock.fileno()])
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        _wait_for(lambda: (tmp_path / "a.log").exists() and "here\n" in (tmp_path / "a.log").read_text())
        with open(tmp_path / "lock") as lock:
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            parent.kill()

            def is_free():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

            _wait_for(is_free)  # the last process that had it has ended
    finally:
        parent.kill()
        parent.wait()


def test_an_exit_code_in_words():
    assert how_it_ended(2) == "exit code 2"
    assert how_it_ended(-signal.SIGSEGV) == "ended by SIGSEGV"
    assert how_it_ended(-99) == "ended by signal 99"


def test_the_last_error_counts():
    assert error_in(["error: a", "went on", "error: b", "  --seed: 1"]) == "b\n  --seed: 1"
    assert error_in(["all well"]) == ""
