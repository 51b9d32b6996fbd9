"""Which machines a job runs on: `host1:2,host2:2` or a hostfile, and the rank of each process on them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.errors import InputError

# What Horovod can hand to ssh: the names of user and port stand in ~/.ssh/config or in options.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
HOST_AND_SLOTS = re.compile(r"(?P<name>[^:\s]*):(?P<slots>[^:\s]*)")
FILE_LINE = re.compile(r"(?P<name>\S*)\s+slots\s*=\s*(?P<slots>\S*)")
NUMBER = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


class Host(NamedTuple):
    """A machine, and how many processes it takes."""

    name: str
    slots: int


def parse_hosts(text: str) -> tuple[Host, ...]:
    """The hosts of `host1:2,host2:2`; InputError for anything else."""
    what = "-H takes host1:slots,host2:slots"
    hosts = []
    for part in text.split(","):
        match = HOST_AND_SLOTS.fullmatch(part.strip())
        if not match:
            raise InputError(f"{what}. Received: {text!r}")
        hosts.append(_host(match, what, text))
    return _different(hosts, what)


def parse_hostfile(path: Path) -> tuple[Host, ...]:
    """The hosts of a file with a line `host slots=2` or `host:2` for each; `#` begins a comment."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--hostfile must be a text file that can be read. Received: {path}: {error}") from error
    hosts = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        what = f"{path}, line {number}: a line is `host slots=2` or `host:2`"
        match = FILE_LINE.fullmatch(text) or HOST_AND_SLOTS.fullmatch(text)
        if not match:
            raise InputError(f"{what}. Received: {text!r}")
        hosts.append(_host(match, what, text))
    if not hosts:
        raise InputError(f"--hostfile must name at least one host. Received: {path}, which names none")
    return _different(hosts, str(path))


def total_slots(hosts: Sequence[Host]) -> int:
    """How many processes all hosts together take."""
    return sum(host.slots for host in hosts)


def first_slots(hosts: Sequence[Host], number: int) -> tuple[Host, ...]:
    """The hosts with as many of their slots, from the front, as there are processes.

    Horovod itself would start a process for every slot, whatever `-np` says.

    Raises:
        InputError: there are fewer slots than processes.
    """
    if not 1 <= number <= total_slots(hosts):
        listed = ",".join(f"{host.name}:{host.slots}" for host in hosts)
        raise InputError(f"-n must be 1 to the number of slots, {total_slots(hosts)} ({listed}). Received: {number}")
    chosen = []
    for host in hosts:
        if number > 0:
            chosen.append(Host(host.name, min(host.slots, number)))
            number -= host.slots
    return tuple(chosen)


def host_of_ranks(hosts: Sequence[Host]) -> tuple[str, ...]:
    """The name of each rank's host, as Horovod assigns them: the first host's slots first."""
    return tuple(host.name for host in hosts for _ in range(host.slots))


def _host(match: re.Match[str], what: str, text: str) -> Host:
    name, slots = match["name"], match["slots"]
    if not NAME.fullmatch(name):
        raise InputError(f"{what}, and a host's name has letters, digits, '.', '-' and '_'. Received: {text!r}")
    if not NUMBER.fullmatch(slots):
        raise InputError(f"{what}, and slots is a whole number from 1 to 9999. Received: {text!r}")
    return Host(name, int(slots))


def _different(hosts: list[Host], what: str) -> tuple[Host, ...]:
    names = [host.name.lower() for host in hosts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"{what}: each host once, with all of its slots. Received: {twice} more than once")
    return tuple(hosts)
