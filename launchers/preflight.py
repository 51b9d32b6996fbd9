"""What must hold on the machines of a job before it starts: asked of all of them at the same time, over ssh."""

import importlib.metadata
import json
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from launchers.hosts import Host
from launchers.relay import PORT, ssh_command
from launchers.worker import interface_of
from utils.errors import InputError, first_line

PACKAGES = ("horovod", "tensorflow", "keras", "numpy")
_NO_REPOSITORY, _NO_PYTHON, _SSH_FAILED = 93, 94, 255
_SAFE_PATH = re.compile(r"[\w@%+=:,./-]+", re.ASCII)  # Horovod writes it into a shell command as it is
# Read by the Python of the other machine from its standard input.
_QUESTIONS = """
import importlib.metadata, json, os
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
packages = {name: version(name) or version(name + "-cpu") for name in NAMES}
print("trimflow:" + json.dumps({"packages": packages, "ssh": os.environ.get("SSH_CONNECTION", "")}))
"""


def named_for_horovod(hosts: Sequence[Host]) -> tuple[Host, ...]:
    """The hosts with `localhost` for a name that means this machine by a loopback address.

    Debian gives a machine's own name the address 127.0.1.1, which Horovod takes for another machine's.

    Raises:
        InputError: two of the names mean that.
    """
    named = tuple(Host("localhost", host.slots) if _is_loopback(host.name) else host for host in hosts)
    own = [host.name for host in hosts if _is_loopback(host.name)]
    if len(own) > 1:
        raise InputError(f"-H takes each host once, and {' and '.join(own)} are the same: this machine")
    return named


def remote_hosts(hosts: Sequence[Host]) -> list[str]:
    """The names of other machines than this one, told apart as Horovod does."""
    kinds = psutil.net_if_addrs().values()
    own = {entry.address for entries in kinds for entry in entries if entry.family == socket.AF_INET}
    return [host.name for host in hosts if _address(host.name) not in own]


def check_hosts(names: Sequence[str], root: Path, environment: Mapping[str, str], wait_seconds: float) -> list[str]:
    """The addresses at which other machines were reached that can run the program.

    Args:
        environment: of launchers.environment.ssh_environment.
        wait_seconds: how long to try again a machine that does not answer: it may still be starting.

    Raises:
        InputError: one of them cannot run it; the first in the order of `names` is told.
    """
    if not _SAFE_PATH.fullmatch(str(root)):
        raise InputError(f"for other machines the repository's path must have no blanks or such. Received: {root}")
    deadline = time.monotonic() + wait_seconds
    with ThreadPoolExecutor(max_workers=64) as pool:
        asked = [pool.submit(_check_host, name, root, environment, deadline) for name in names]
        try:
            return [one.result() for one in asked]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def common_interface(addresses: Sequence[str]) -> str:
    """The network interface of this machine through which it reaches all of these addresses."""
    found = {address: _interface_towards(address) for address in addresses}
    names = sorted({name or "none" for name in found.values()})
    if len(names) != 1 or names == ["none"]:
        raise InputError(
            "all hosts must be reached over one network interface; --network_interface chooses. "
            f"Received: {', '.join(names)}"
        )
    return names[0]


def _check_host(name: str, root: Path, environment: Mapping[str, str], deadline: float) -> str:
    while True:
        result = _ask(name, root, environment)
        if result.returncode != _SSH_FAILED or time.monotonic() > deadline:
            break
        time.sleep(2)
    told = _last_line(result.stderr)
    setup = "scripts/setup_venv.sh and scripts/install_horovod.sh there"
    if result.returncode == _SSH_FAILED:
        port = f" at port {environment[PORT]}" if environment.get(PORT) else ""
        raise InputError(f"host {name} cannot be reached{port}: `ssh {name} true` must work without a password. {told}")
    if result.returncode == _NO_REPOSITORY:
        raise InputError(f"host {name} has no {root}: the repository must be at the same path on all hosts")
    if result.returncode == _NO_PYTHON:
        raise InputError(f"host {name} has no {_python(root)}: run {setup}")
    marked = [line for line in result.stdout.splitlines() if line.startswith("trimflow:")]
    if result.returncode != 0 or not marked:
        raise InputError(f"host {name} cannot run {_python(root)}, exit code {result.returncode}. {told}")
    answer = json.loads(marked[-1].removeprefix("trimflow:"))
    for package in PACKAGES:
        here, there = _version(package), answer["packages"][package]
        if there is None:
            raise InputError(f"host {name} has no {package}: run {setup}")
        if here != there:
            raise InputError(f"host {name} has {package} {there}, this machine has {here}: run {setup}")
    connection = answer["ssh"].split()
    return connection[2] if len(connection) == 4 else _address(name) or name


def _ask(name: str, root: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess:
    where, python = shlex.quote(str(root)), shlex.quote(str(_python(root)))
    steps = f"test -f {where}/main.py || exit {_NO_REPOSITORY}; test -x {python} || exit {_NO_PYTHON}; exec {python} -"
    command = [*ssh_command(environment), name, f"sh -c {shlex.quote(steps)}"]
    questions = f"NAMES = {PACKAGES!r}\n{_QUESTIONS}"
    try:
        return subprocess.run(
            command, input=questions, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, _SSH_FAILED, "", "it did not answer within 60 s")


def _python(root: Path) -> Path:
    """The interpreter of this process is used on all hosts."""
    return Path(sys.executable) if sys.executable else root / ".venv/bin/python"


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"It said: {first_line(OSError(lines[-1]))}" if lines else "It said nothing"


def _address(name: str) -> str | None:
    try:
        return socket.gethostbyname(name)
    except (OSError, UnicodeError):
        return None


def _is_loopback(name: str) -> bool:
    return (_address(name) or "").startswith("127.")


def _interface_towards(address: str) -> str | None:
    """Nothing is sent: the kernel tells which way it would go."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((address, 9))
            return interface_of(asking.getsockname()[0])
        except OSError:
            return None


def is_interface(name: str) -> bool:
    """Whether this machine has a network interface of that name."""
    return name in (known for _, known in socket.if_nameindex())
