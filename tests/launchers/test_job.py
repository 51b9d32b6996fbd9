"""Whole jobs over the real horovodrun on this machine: how they end, and that nothing of them stays."""

import json
import os
import signal
import time

import pytest

from launchers.horovod import ROOT
from tests.launchers.jobs import ADDING, WAITING, needs_horovod

pytestmark = needs_horovod
GOES_ON = "the same command goes on from the last checkpoint"


def ended_by(running, code: int) -> list[str]:
    """The lines of stderr of a job that must end now, with this code and without leaving anything."""
    began = time.monotonic()
    assert running.end(timeout=60) == code, running.errors
    assert time.monotonic() - began < 60
    assert running.nothing_is_left(), running.left()
    return [line.rstrip("\n") for line in running.errors]


def test_lines_of_all_ranks_come_with_rank_and_host_and_exit_code_0(start):
    code = "import os, sys; print('out', os.environ['HOROVOD_RANK']); print('err ü', file=sys.stderr)"
    running = start(["-n=2"], code)
    assert sorted(ended_by(running, 0)) == ["[0 localhost] err ü", "[1 localhost] err ü"]
    assert sorted(running.lines) == ["[0 localhost] out 0\n", "[1 localhost] out 1\n"]


def test_no_shell_on_the_way_reads_the_flags(start, tmp_path):
    flags = [
        "--run_dir=a b",
        "$(touch hacked)",
        "`touch hacked`",
        "x; touch hacked",
        'it\'s "x"',
        "*",
        "\\",
        "",
        "-x",
        "a\nb",
    ]
    running = start(["-n=2"], "import json, sys; print(json.dumps(sys.argv[1:]))", *flags)
    ended_by(running, 0)
    assert sorted(line.partition("] ")[2] for line in running.lines) == [json.dumps(flags) + "\n"] * 2
    assert not list(tmp_path.rglob("hacked"))
    assert not (ROOT / "hacked").exists()


def test_fewer_ranks_than_slots_are_as_many_as_asked(start):
    running = start(["-n=2", "-H=localhost:5"], "import os; print('of', os.environ['HOROVOD_SIZE'])")
    ended_by(running, 0)
    assert sorted(running.lines) == ["[0 localhost] of 2\n", "[1 localhost] of 2\n"]


def test_a_killed_rank_ends_the_job_with_its_rank_host_and_signal(start):
    running = start(["-n=2"], ADDING, 100000)
    running.wait_for("sum 2", 2)
    os.kill(running.pids(2)[1][0], signal.SIGKILL)
    errors = ended_by(running, 1)
    assert errors[-1] == f"error: rank 1 on localhost was ended by signal 9 (SIGKILL); {GOES_ON}"
    assert sum("was ended by" in line for line in errors) == 1


def test_a_killed_supervisor_takes_its_rank_along(start):
    running = start(["-n=2"], WAITING)
    os.kill(running.pids(2)[0][1], signal.SIGKILL)
    line = f"error: rank 0 on localhost lost its supervisor, which was ended by signal 9 (SIGKILL); {GOES_ON}"
    assert ended_by(running, 1) == [line]
    assert "[1 localhost] saved\n" in running.lines


def test_a_killed_horovodrun_ends_the_job(start):
    running = start(["-n=2"], WAITING)
    running.pids(2)
    children = [int(pid) for pid in _children(running.process.pid)]
    assert len(children) == 1
    os.kill(children[0], signal.SIGKILL)
    assert ended_by(running, 1) == [f"error: horovodrun was ended by signal 9 (SIGKILL); {GOES_ON}"]


def test_a_killed_launcher_leaves_nothing_behind(start):
    running = start(["-n=2"], WAITING)
    running.pids(2)
    running.process.kill()
    assert running.nothing_is_left(seconds=30), running.left()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_lets_all_ranks_save(start, number, code):
    running = start(["-n=2"], WAITING)
    running.pids(2)
    running.process.send_signal(number)
    assert ended_by(running, code) == [f"interrupted: {GOES_ON}"]
    assert sorted(line for line in running.lines if "saved" in line) == [
        "[0 localhost] saved\n",
        "[1 localhost] saved\n",
    ]


def test_a_second_interrupt_kills_at_once(start):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    code = deaf + "print('pid 0 0', flush=True); time.sleep(90)"
    running = start(["-n=2"], code)
    running.pids(2)
    running.process.send_signal(signal.SIGINT)
    time.sleep(1)
    running.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert ended_by(running, 130) == [f"interrupted: {GOES_ON}"]
    assert time.monotonic() - began < 4


def test_an_ignored_interrupt_stays_ignored(start):
    running = start(["-n=1"], WAITING, 3, interrupt=signal.SIG_IGN)
    running.pids(1)
    running.process.send_signal(signal.SIGINT)
    assert ended_by(running, 0) == []


def test_an_interrupt_before_the_ranks_run_ends_it_too(start):
    running = start(["-n=2"], WAITING)
    time.sleep(1)
    running.process.send_signal(signal.SIGTERM)
    assert ended_by(running, 143)[-1].startswith("interrupted:")


def test_a_mistake_of_the_user_is_told_once_with_exit_code_2(start):
    running = start(["-n=3"], "import sys; print('error: --x must be 1. Received: 2', file=sys.stderr); sys.exit(2)")
    errors = ended_by(running, 2)
    assert len(errors) == 1
    assert errors[0].endswith(" localhost] error: --x must be 1. Received: 2")


def test_another_exit_code_is_told_with_its_rank(start):
    running = start(
        ["-n=2"], "import os, sys, time; time.sleep(0 if os.environ['HOROVOD_RANK'] == '1' else 60); sys.exit(7)"
    )
    assert ended_by(running, 1) == [f"error: rank 1 on localhost ended with exit code 7; {GOES_ON}"]


def test_secrets_of_the_environment_do_not_travel(start):
    code = "import os; print(sorted(name for name in os.environ if 'SECRET' in name or 'TOKEN' in name))"
    running = start(["-n=1"], code, MY_SECRET="s", API_TOKEN="t", HOROVOD_SECRET_KEY="k")
    ended_by(running, 0)
    assert running.lines == ["[0 localhost] []\n"]


def test_a_reader_that_goes_away_ends_the_job(start):
    running = start(["-n=2"], "import time\nwhile True:\n    print('x' * 1000, flush=True)\n    time.sleep(0.01)")
    running.wait_for("xxx")
    running.hang_up()
    assert ended_by(running, 143)[-1] == f"interrupted: {GOES_ON}"


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()
