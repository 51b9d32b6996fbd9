"""The ssh that horovodrun finds, with a stand-in for the real one."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.launchers.jobs import ROOT, processes_with

# Like ssh it runs until the other end has ended, which here it does half a second after its input is closed.
FAKE_SSH = "#!/bin/bash\necho \"started $*\"\nread -r line\necho 'input closed'\nsleep 0.5\nexit 7\n"


@pytest.fixture
def relay(tmp_path):
    """`relay(before)`: a started launchers/bin/ssh and its marked processes."""
    (tmp_path / "real").write_text(FAKE_SSH)
    (tmp_path / "real").chmod(0o755)
    started = []

    def start(before=()):
        environment = {**os.environ, "TRIMFLOW_SSH": str(tmp_path / "real"), "TRIMFLOW_PYTHON": sys.executable}
        process = subprocess.Popen(
            [*before, ROOT / "launchers/bin/ssh", "-o", "StrictHostKeyChecking=no", "host2", "a 'b c'"],
            cwd=ROOT,
            env=environment | {"TRIMFLOW_TEST_MARK": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, process.stdout.readline()

    start.left = lambda: processes_with(f"TRIMFLOW_TEST_MARK={tmp_path}")
    yield start
    for process in started:
        process.kill()
        process.wait()
    for pid, _ in start.left():
        os.kill(pid, signal.SIGKILL)


def test_ssh_is_started_with_our_options_first(relay):
    _, line = relay()
    assert line.startswith("started -o BatchMode=yes")
    assert line.index("StrictHostKeyChecking=accept-new") < line.index("StrictHostKeyChecking=no host2 a 'b c'")


def test_horovods_sigterm_closes_the_input_and_ssh_ends_by_itself(relay):
    process, _ = relay()
    process.terminate()
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (7, "input closed\n")
    assert relay.left() == []


def test_the_same_where_horovod_asks_all_children_of_its_shell(relay):
    process, _ = relay(before=["bash", "-c", '"$@"; exit $?', "bash"])
    for pid, command in relay.left():
        if ("launchers.relay" in command or "bin/ssh" in command) and pid != process.pid:
            os.kill(pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (7, "input closed\n")


def test_a_parent_that_ended_before_it_was_watched_counts_as_ended(tmp_path):
    """The relay's own start takes a while, in which the shell may be killed."""
    (tmp_path / "real").write_text(FAKE_SSH)
    (tmp_path / "real").chmod(0o755)
    environment = {**os.environ, "TRIMFLOW_SSH": str(tmp_path / "real"), "TRIMFLOW_RELAY_PARENT": "999999999"}
    process = subprocess.Popen(
        [sys.executable, "-m", "launchers.relay", "host2", "true"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 7
    assert out.endswith("input closed\n")


def test_killed_it_leaves_no_ssh_behind(relay):
    process, _ = relay()
    process.kill()
    deadline = time.monotonic() + 10
    while relay.left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert relay.left() == []
