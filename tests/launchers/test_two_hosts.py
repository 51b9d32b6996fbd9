"""Jobs across two hosts, for real: over ssh, through a cable that can be cut."""

import os
import re
import signal
import time

import pytest

from tests.launchers.jobs import ADDING, WAITING, Running, needs_horovod
from tests.launchers.two_hosts import PORT, TwoHosts, why_not

GOES_ON = "the same command goes on from the last checkpoint"
pytestmark = needs_horovod


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with TwoHosts(tmp_path_factory.mktemp("two_hosts")) as two:
        yield two


@pytest.fixture
def start_on_both(hosts, start):
    """`start_on_both(code, *arguments, hosts=...)`: a job started on host1, by default with a rank on each."""

    def run(code, *arguments, where="-H=host1:1,host2:1", options=()):
        options = [where, f"--ssh_port={PORT}", f"--ssh_identity_file={hosts.identity_file}", *options]
        return start(options, code, *arguments, before=hosts.on(1), PATH=hosts.path)

    return run


@pytest.fixture
def start_program(hosts, start_running, tmp_path):
    """`start_program()`: the same command each time, a training of 400 steps with a rank on each host."""
    options = ["-H=host1:1,host2:1", f"--ssh_port={PORT}", f"--ssh_identity_file={hosts.identity_file}"]
    flags = "--data_disk embedded --model_http_url= --nb_smpls_train 320 --nb_smpls_val 100 --nb_smpls_eval 100 "
    flags += "--export_formats none "
    flags += (
        f"--batch_size 32 --nb_epochs_rat 10 --summ_step 2 --save_step 4 --learner full-prec --run_dir {tmp_path}/run"
    )
    net = "tests/nets_for_tests/tiny_at_cifar10_run.py"
    return lambda: start_running([*options, "--", net, *flags.split()], before=hosts.on(1), PATH=hosts.path)


def ended_by(running: Running, code: int, seconds: float = 60) -> list[str]:
    """The lines of stderr of a job that must end within that time on both hosts."""
    began = time.monotonic()
    assert running.end(timeout=seconds) == code, running.errors
    assert running.nothing_is_left(max(1, seconds - (time.monotonic() - began))), running.left()
    return [line.rstrip("\n") for line in running.errors]


def test_ranks_on_both_hosts_add_up(start_on_both):
    running = start_on_both(ADDING, 11, where="-H=host1:1,host2:2")
    assert ended_by(running, 0) == []
    told = [line for line in running.lines if "step 10" in line]
    assert sorted(told) == [f"[{rank}] step 10 sum 3\n" for rank in ("0 host1", "1 host2", "2 host2")]


def test_a_cut_cable_ends_the_program_on_both_hosts_and_the_same_command_goes_on(hosts, start_program):
    running = start_program()
    running.wait_for("dense training", 2)
    hosts.set_cable("down")
    try:
        last = ended_by(running, 1, seconds=60)[-1]
    finally:
        hosts.set_cable("up")
    assert last == f"error: rank 1 on host2 is out of reach: its ssh connection broke (exit code 255); {GOES_ON}"
    again = start_program()
    ended_by(again, 0, seconds=120)
    steps = [int(re.search(r"(\d+)/400 steps", line)[1]) for line in again.wait_for("dense training")]
    assert steps[0] > 4, "it must not begin anew"
    assert steps[-1] == 400
    assert "test accuracy" in "".join(again.lines)


def test_a_rank_killed_on_the_other_host_is_told(start_on_both):
    running = start_on_both(WAITING)
    os.kill(running.pids(2)[1][0], signal.SIGKILL)
    assert ended_by(running, 1) == [f"error: rank 1 on host2 was ended by signal 9 (SIGKILL); {GOES_ON}"]
    assert "[0 host1] saved\n" in running.lines


def test_an_interrupt_lets_the_other_host_save(start_on_both):
    running = start_on_both(WAITING)
    running.pids(2)
    running.process.send_signal(signal.SIGINT)
    assert ended_by(running, 130) == [f"interrupted: {GOES_ON}"]
    assert "[0 host1] saved\n" in running.lines
    assert "[1 host2] saved\n" in running.lines


def test_a_killed_launcher_leaves_nothing_on_the_other_host(start_on_both):
    running = start_on_both(WAITING)
    running.pids(2)
    running.process.kill()
    assert running.nothing_is_left(seconds=30), running.left()


def test_a_host_alone_that_is_not_the_launchers_own(start_on_both):
    running = start_on_both("import os; print(os.environ['HOROVOD_GLOO_IFACE'])", where="-H=host2:2")
    assert ended_by(running, 0) == []
    assert sorted(running.lines) == ["[0 host2] eth0\n", "[1 host2] eth0\n"]


@pytest.mark.parametrize(
    ("where", "options", "words"),
    [
        (
            "-H=host1:1,host2:1",
            ["--ssh_port=2223"],
            ["host host2 cannot be reached at port 2223", "Connection refused"],
        ),
        ("-H=host3:1", [], ["host host3 cannot be reached", "Could not resolve hostname"]),
        ("-H=host1:1,10.77.0.9:1", [], ["host 10.77.0.9 cannot be reached"]),
        ("-H=host2:1", ["--network_interface=eth7"], ["--network_interface", "Received: eth7"]),
        ("-H=localhost:1,127.0.0.1:1", [], ["localhost and 127.0.0.1 are the same"]),
    ],
)
def test_hosts_that_cannot_be_used_are_one_line(start_on_both, where, options, words):
    running = start_on_both("print('never')", where=where, options=options)
    errors = ended_by(running, 2, seconds=40)
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    for word in words:
        assert word in errors[0]
    assert running.lines == []


def test_a_host_that_is_still_starting_is_waited_for(hosts, start_on_both):
    hosts.set_cable("down")
    try:
        running = start_on_both("print('there')", where="-H=host2:1", options=["--wait_for_hosts=60"])
        time.sleep(4)
        assert running.process.poll() is None
    finally:
        hosts.set_cable("up")
    assert ended_by(running, 0) == []
    assert running.lines == ["[0 host2] there\n"]
