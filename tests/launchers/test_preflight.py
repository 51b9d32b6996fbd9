"""What is asked of other machines before a job, with a stand-in for ssh that runs the command here or answers."""

import socket
import time

import psutil
import pytest

from launchers import preflight
from launchers.hosts import Host
from launchers.relay import ssh_command
from tests.launchers.jobs import ROOT, needs_horovod
from utils.errors import InputError

pytestmark = needs_horovod  # whose version all machines must have


@pytest.fixture
def ssh(tmp_path):
    """`ssh(commands)`: the environment with a program that runs these; its last argument is what ssh would run."""

    def make(commands: str) -> dict[str, str]:
        program = tmp_path / "ssh"
        program.write_text(f'#!/bin/bash\necho "$@" >>{tmp_path}/asked\n{commands}\n')
        program.chmod(0o755)
        return {"TRIMFLOW_SSH": str(program)}

    make.asked = lambda: (tmp_path / "asked").read_text().splitlines()
    return make


def answer(**packages: str | None) -> str:
    """Commands that answer like a machine with the packages of this one, but for these."""
    known = {name: preflight._version(name) for name in preflight.PACKAGES} | packages
    told = str(known).replace("'", '"').replace("None", "null")
    return f"""echo 'trimflow:{{"packages": {told}, "ssh": "10.0.0.1 4 10.0.0.2 22"}}'"""


HERE = 'exec sh -c "${@: -1}"'


def test_a_machine_like_this_one_answers(ssh):
    commands = f"export SSH_CONNECTION='10.0.0.1 4000 10.0.0.2 22'\n{HERE}"
    assert preflight.check_hosts(["a"], ROOT, ssh(commands), 0) == ["10.0.0.2"]


def test_all_machines_are_asked_at_once(ssh):
    began = time.monotonic()
    addresses = preflight.check_hosts(list("abcdefgh"), ROOT, ssh(f"cat >/dev/null; sleep 1\n{answer()}"), 0)
    assert addresses == ["10.0.0.2"] * 8
    assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ("echo 'ssh: connect to host b port 22: Connection refused' >&2; exit 255", ["cannot be reached", "refused"]),
        ("exit 93", [f"has no {ROOT}", "same path"]),
        ("exit 94", ["bin/python", "run scripts/setup_venv.sh"]),
        ("echo 'cannot execute: required file not found' >&2; exit 127", ["cannot run", "127", "not found"]),
        ("echo welcome", ["cannot run", "exit code 0"]),
        (answer(horovod=None), ["has no horovod", "scripts/install_horovod.sh"]),
        (answer(tensorflow="2.0.1"), ["has tensorflow 2.0.1, this machine has 2."]),
    ],
)
def test_a_machine_that_cannot_take_part_is_told_in_one_line(ssh, commands, words):
    with pytest.raises(InputError) as error:
        preflight.check_hosts(["b"], ROOT, ssh(f"cat >/dev/null\n{commands}"), 0)
    for word in ["host b", *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_repository_and_python_are_looked_for_where_they_are_here(ssh, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=f"host b has no {tmp_path}: the repository must be at the same path"):
        preflight.check_hosts(["b"], tmp_path, ssh(HERE), 0)
    monkeypatch.setattr("sys.executable", f"{tmp_path}/.venv/bin/python")
    with pytest.raises(InputError, match=f"host b has no {tmp_path}/.venv/bin/python: run scripts/setup_venv.sh"):
        preflight.check_hosts(["b"], ROOT, ssh(HERE), 0)


def test_a_machine_that_does_not_answer_is_asked_again(ssh, tmp_path):
    commands = f"cat >/dev/null\nif [ ! -e {tmp_path}/up ]; then touch {tmp_path}/up; exit 255; fi\n{answer()}"
    assert preflight.check_hosts(["b"], ROOT, ssh(commands), 30) == ["10.0.0.2"]
    assert len(ssh.asked()) == 2


def test_ssh_gets_our_options_before_others(ssh):
    preflight.check_hosts(["b"], ROOT, ssh(f"cat >/dev/null\n{answer()}") | {"TRIMFLOW_SSH_PORT": "2222"}, 0)
    words = ssh.asked()[0]
    assert words.startswith("-o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3")
    assert "-p 2222 b sh -c" in words
    key = ssh_command({"TRIMFLOW_SSH": "ssh", "TRIMFLOW_SSH_IDENTITY_FILE": "/my key"})
    assert key[key.index("-i") + 1] == "/my key"


def test_a_path_that_horovod_cannot_quote_is_refused_before_anything(tmp_path):
    with pytest.raises(InputError, match="no blanks"):
        preflight.check_hosts(["b"], tmp_path / "my repository", {}, 0)


def test_names_of_this_machine_are_told_from_others():
    own = [Host("localhost", 1), Host("203.0.113.9", 1), Host("no-such-host.invalid", 1)]
    assert preflight.remote_hosts(own) == ["203.0.113.9", "no-such-host.invalid"]
    assert preflight.named_for_horovod([Host("127.0.1.1", 2), Host("203.0.113.9", 1)]) == (
        Host("localhost", 2),
        Host("203.0.113.9", 1),
    )
    with pytest.raises(InputError, match=r"localhost and 127\.0\.0\.1 are the same"):
        preflight.named_for_horovod([Host("localhost", 1), Host("127.0.0.1", 1)])


def test_the_interface_is_that_of_the_way_there():
    assert preflight.common_interface(["127.0.0.1", "127.0.0.2"]) == "lo"
    assert preflight.is_interface("lo")
    assert not preflight.is_interface("../lo")
    others = [
        entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family == socket.AF_INET and name != "lo"
    ]
    if others:  # the way to an address of this machine's own is lo's, but the address is the interface's
        with pytest.raises(InputError, match="--network_interface chooses"):
            preflight.common_interface(["127.0.0.1", others[0]])
