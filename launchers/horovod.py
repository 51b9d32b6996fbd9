"""Starts the program in several processes, on this and other machines, and stays the parent of them all.

python -m launchers.horovod -n=4 [-H=host1:2,host2:2 | --hostfile=FILE] -- nets/resnet_at_cifar10_run.py [flags]

It checks all that can be known before anything is started. Everything else is launchers.job, launchers.worker (which
supervises one rank) and, for other machines, launchers.relay.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from commands.command_line import check_command_line
from launchers import worker
from launchers.environment import job_environment, ssh_environment
from launchers.hosts import Host, first_slots, host_of_ranks, parse_hostfile, parse_hosts, total_slots
from utils.caller import find_from_caller
from utils.errors import InputError
from utils.printing import printable

ROOT = Path(__file__).resolve().parents[1]
SECONDS_TO_START = 120  # what horovodrun may take until the processes run


def main(words: list[str], command: Sequence[str] | None = None) -> int:
    """Runs a command line; its exit code.

    Args:
        words: options, `--`, net script, flags.
        command: what each rank runs, words after `python`, in place of main.py with net script and flags.
    """
    try:
        options, rest = _read_options(words)
        if command is None:
            _check_command_line(rest)
            command = ["main.py", rest[0], "--enbl_multi_gpu", *rest[1:]]
        return _start(options, command, is_debug=_is_debug(rest))
    except KeyboardInterrupt:
        print("interrupted: nothing was started", file=sys.stderr)
        return 130
    except InputError as error:
        if _is_debug(words):
            raise
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2


def _start(options: argparse.Namespace, command: Sequence[str], is_debug: bool) -> int:
    hosts = _chosen_hosts(options)
    horovodrun = Path(sys.executable).parent / "horovodrun"
    if not horovodrun.is_file():
        raise InputError(f"Horovod is not installed: scripts/install_horovod.sh builds it. There is no {horovodrun}")
    from launchers import preflight
    from launchers.job import Job

    environment = job_environment(os.environ)
    environment[worker.LAUNCHER] = str(os.getpid())
    interface = options.network_interface
    if interface and not preflight.is_interface(interface):
        raise InputError(f"--network_interface must be one of this machine, see `ip address`. Received: {interface}")
    for_horovod = preflight.named_for_horovod(hosts)
    others = preflight.remote_hosts(for_horovod)
    if others:
        environment |= ssh_environment(options.ssh_port, options.ssh_identity_file)
        addresses = preflight.check_hosts(others, ROOT, environment, options.wait_for_hosts)
        environment["PATH"] = f"{ROOT / 'launchers/bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"
        if not interface:
            interface = preflight.common_interface(addresses)
    if options.network_interface:
        environment[worker.INTERFACE] = options.network_interface
    started = [sys.executable, str(horovodrun), "--gloo", "--disable-cache", "-np", str(total_slots(hosts))]
    started += ["-H", ",".join(f"{host.name}:{host.slots}" for host in for_horovod)]
    started += ["--start-timeout", str(SECONDS_TO_START)]
    if interface:
        started += ["--network-interface", interface]
    started += [sys.executable, "-m", "launchers.worker", *command]
    return Job(started, host_of_ranks(hosts), ROOT, environment, is_debug).run()


def _chosen_hosts(options: argparse.Namespace) -> tuple[Host, ...]:
    """As many slots as there will be processes."""
    if options.hosts is not None:
        hosts = parse_hosts(options.hosts)
    elif options.hostfile is not None:
        hosts = parse_hostfile(find_from_caller("--hostfile", options.hostfile, ROOT))
    elif options.number is None:
        raise InputError("-n=N, -H=HOSTS or --hostfile=FILE is needed. Received: none of them")
    else:
        return (Host("localhost", options.number),)
    return first_slots(hosts, total_slots(hosts) if options.number is None else options.number)


def _check_command_line(words: list[str]) -> None:
    """A mistake in the flags is told now, not by every process a while later."""
    if not words:
        raise InputError("a net script is needed behind `--`. Received: nothing")
    check_command_line(words)


def _is_debug(words: Sequence[str]) -> bool:
    return any(word in ("--debug", "--debug=true", "-debug") for word in words)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"launchers.horovod: {message}")


def _read_options(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options before `--`, and the words behind it."""
    place = words.index("--") if "--" in words else len(words)
    parser = _Parser(prog="python -m launchers.horovod", allow_abbrev=False, add_help=False)
    parser.add_argument("-n", dest="number")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-H", dest="hosts")
    where.add_argument("--hostfile")
    parser.add_argument("--wait_for_hosts", default="0")
    parser.add_argument("--ssh_port")
    parser.add_argument("--ssh_identity_file")
    parser.add_argument("--network_interface")
    options = parser.parse_args(words[:place])
    # Not by argparse, which has its own words for what these raise.
    options.number = _number("-n", options.number, 1, 9999)
    options.wait_for_hosts = _number("--wait_for_hosts", options.wait_for_hosts, 0, 86400)
    options.ssh_port = _number("--ssh_port", options.ssh_port, 1, 65535)
    if options.ssh_identity_file is not None:
        options.ssh_identity_file = find_from_caller("--ssh_identity_file", options.ssh_identity_file, ROOT)
    return options, words[place + 1 :]


def _number(option: str, text: str | None, lowest: int, highest: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 9 and lowest <= int(text) <= highest):
        raise InputError(f"{option} must be a whole number from {lowest} to {highest}. Received: {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
