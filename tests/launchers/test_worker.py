"""The supervisor of one rank, as horovodrun and sshd start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launchers.processes import is_alive
from launchers.worker import interface_of, interface_towards, starters
from tests.launchers.jobs import ROOT, WAITING, processes_with

RANK = {"HOROVOD_RANK": "1", "HOROVOD_HOSTNAME": "host2"}


@pytest.fixture
def supervise(tmp_path):
    """`supervise(code, ...)`: a started supervisor of a program; everything it left is ended after the test."""
    mark = f"TRIMFLOW_TEST_MARK={tmp_path}"
    started = []

    def start(code, before=(), stdin=subprocess.DEVNULL, **environment):
        (tmp_path / "program.py").write_text(code)
        name, _, value = mark.partition("=")
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "launchers.worker", str(tmp_path / "program.py")],
            cwd=ROOT,
            env={**os.environ, **RANK, name: value, **environment},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    start.left = lambda: [pid for pid, _ in processes_with(mark)]
    yield start
    for process in started:
        process.kill()
        process.communicate()
    for pid in start.left():
        os.kill(pid, signal.SIGKILL)


def wait_for_none(left, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not left()


@pytest.mark.parametrize("code", [0, 1, 2, 77])
def test_exit_codes_pass_through(supervise, code):
    process = supervise(f"import sys; print(sys.argv[1:]); sys.exit({code})")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "[]\n", "")


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM")])
def test_a_program_ended_by_a_signal_is_told(supervise, number, name):
    process = supervise(f"import os; os.kill(os.getpid(), {number})")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err == f"error: rank 1 on host2 was ended by signal {number} ({name})\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_asked_to_end_it_lets_the_program_save_and_is_silent(supervise, number):
    process = supervise(WAITING)
    process.stdout.readline()
    process.send_signal(number)
    process.send_signal(number)  # the program must not be disturbed again
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (143, "saved\n", "")


def test_a_program_that_does_not_end_is_killed(supervise):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    process = supervise(deaf)
    process.stdout.readline()
    process.terminate()
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (137, "")
    assert 9 < time.monotonic() - began < 15


def test_a_killed_supervisor_takes_its_program_along(supervise):
    process = supervise(WAITING)
    process.stdout.readline()
    process.kill()
    assert wait_for_none(supervise.left, 5)


def test_without_what_started_it_it_ends(supervise):
    # A shell between: as horovodrun and sshd have one.
    process = supervise(WAITING, before=["sh", "-c", '"$@"; true', "sh"])
    process.stdout.readline()
    process.kill()
    assert wait_for_none(supervise.left, 15)


def test_over_ssh_it_ends_when_its_input_is_closed(supervise):
    over_ssh = {"SSH_CONNECTION": "10.0.0.1 4000 10.0.0.2 22", "TRIMFLOW_SSH": "/usr/bin/ssh"}
    server = socket.create_server(("127.0.0.1", 0))
    rendezvous = {
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1",
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(server.getsockname()[1]),
    }
    process = supervise(WAITING, stdin=subprocess.PIPE, **over_ssh, **rendezvous)
    process.stdout.readline()
    time.sleep(0.5)
    assert process.poll() is None
    process.stdin.close()
    process.stdin = None
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (143, "saved\n", "")
    server.close()


def test_input_means_nothing_on_the_launchers_machine(supervise):
    process = supervise("import time; time.sleep(1); print('whole')")
    assert process.communicate(timeout=30) == ("whole\n", "")


def test_home_of_another_machine_is_replaced(supervise):
    process = supervise("import os; print(os.path.isdir(os.environ['HOME']))", HOME="/nobody/has/this")
    assert process.communicate(timeout=30)[0] == "True\n"


def test_the_interface_is_this_machines_own(supervise):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert interface_towards("127.0.0.1", port) == "lo"
        rendezvous = {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port)}
        show = "import os; print(os.environ['HOROVOD_GLOO_IFACE'])"
        there = {"HOROVOD_GLOO_IFACE": "of_another_host", **rendezvous}
        assert supervise(show, **there).communicate(timeout=30)[0] == "lo\n"
        chosen = {**there, "TRIMFLOW_NETWORK_INTERFACE": "of_another_host"}
        assert supervise(show, **chosen).communicate(timeout=30)[0] == "of_another_host\n"
    assert interface_towards("127.0.0.1", port) is None
    assert interface_of("203.0.113.7") is None


def test_starters_are_those_up_to_the_launcher():
    parent = os.getppid()
    assert [process.pid for process in starters({"TRIMFLOW_LAUNCHER": str(parent)})] == [parent]
    assert [process.pid for process in starters({})] == [parent]
    assert is_alive(starters({})[0])
    assert not is_alive(starters({})[0]._replace(started=0))


def test_only_the_standard_library_is_loaded():
    code = "import sys, launchers.worker; print(sorted(m for m in sys.modules if m.split('.')[0] in sys.argv[1:]))"
    words = [sys.executable, "-c", code, "psutil", "numpy", "absl", "tensorflow", "horovod", "utils", "main"]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"
    assert Path(ROOT / "launchers/bin/ssh").stat().st_mode & 0o111
