"""Supervises one rank: runs the program and ends it when what started it is gone; tells when a signal ended it.

python -m launchers.worker main.py nets/resnet_at_cifar10_run.py --enbl_multi_gpu [flags]

Only the standard library is used, so that it costs little memory and starts at once.
"""

import contextlib
import fcntl
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping

from launchers.processes import Process, ancestors, die_with_parent, is_alive

LAUNCHER = "TRIMFLOW_LAUNCHER"  # pid of launchers.horovod, for ranks on its machine
SSH = "TRIMFLOW_SSH"  # the program that launchers.relay starts, for ranks on other machines
INTERFACE = "TRIMFLOW_NETWORK_INTERFACE"  # what the user chose
GRACE = 10.0  # seconds from the request to save and end to the kill
PATIENCE = 30.0  # seconds without an answer of the launcher's machine
_SIOCGIFADDR = 0x8915  # asks for an interface's IPv4 address, see netdevice(7)


class Supervisor:
    """One child process and the wish to end it.

    Args:
        grace: seconds from SIGTERM to SIGKILL.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], grace: float = GRACE):
        self._grace = grace
        self._lock = threading.RLock()
        self.is_stopping = False
        # It must not outlive this process, whatever ends it. What it has to lose since its checkpoint is little.
        self._child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGKILL)
        )

    def stop(self, *_: object) -> None:
        """Asks the child to save and end; only the first call counts, for it must not be disturbed at saving."""
        with self._lock:
            if self.is_stopping:
                return
            self.is_stopping = True
            self._child.send_signal(signal.SIGTERM)
            timer = threading.Timer(self._grace, self._child.kill)
            timer.daemon = True
            timer.start()

    def wait(self) -> int:
        """The child's exit code; negative: the signal that ended it."""
        return self._child.wait()


def main(words: list[str]) -> int:
    """Runs `python words...`; its exit code, or 128 and the number of the signal that ended it."""
    environment = dict(os.environ)
    rank, host = environment.get("HOROVOD_RANK", "0"), environment.get("HOROVOD_HOSTNAME", "localhost")
    _choose_interface(environment)
    _find_home(environment)
    # Before the child is: what ends meanwhile is missed otherwise.
    watched = starters(environment)
    supervisor = Supervisor([sys.executable, *words], environment)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, supervisor.stop)
    _in_background(_watch_starters, supervisor, watched)
    if _is_remote(environment) and SSH in environment:
        _in_background(_watch_connection, supervisor)
        _in_background(_watch_launcher, supervisor, environment)
    code = supervisor.wait()
    if code >= 0:
        return code
    if not supervisor.is_stopping:
        _say(f"error: rank {rank} on {host} was ended by signal {-code} ({_signal_name(-code)})")
    return 128 - code


def starters(environment: Mapping[str, str]) -> list[Process]:
    """The processes that this one must not outlive: those up to the launcher or, on another machine, to its sshd.

    What is above may go: a user who logs out leaves the launcher running, an administrator restarts the listening sshd.
    """
    found = []
    for process, name in ancestors(os.getpid()):
        found.append(process)
        if _is_remote(environment) and name.startswith(("sshd", "dropbear")):
            return found
        if not _is_remote(environment) and str(process.pid) == environment.get(LAUNCHER):
            return found
    return found[:1]


def interface_towards(address: str, port: int) -> str | None:
    """The network interface of this machine that a connection to there goes through; None where it cannot be told."""
    try:
        with socket.create_connection((address, port), timeout=10) as connection:
            own = connection.getsockname()[0]
    except (OSError, OverflowError):
        return None
    return interface_of(own)


def interface_of(address: str) -> str | None:
    """The network interface with this IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an IPv4 address
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None


def _choose_interface(environment: dict[str, str]) -> None:
    """Horovod hands all machines the name that the interface has on one of them; here it may have another one."""
    address, port = (environment.get(f"HOROVOD_GLOO_RENDEZVOUS_{part}", "") for part in ("ADDR", "PORT"))
    if environment.get(INTERFACE) or not address or not port.isdigit():
        return
    name = interface_towards(address, int(port))
    if name:
        environment["HOROVOD_GLOO_IFACE"] = environment["NCCL_SOCKET_IFNAME"] = name


def _find_home(environment: dict[str, str]) -> None:
    """Horovod hands all machines the home directory of one of them; the user may have another name here."""
    if not os.path.isdir(environment.get("HOME", "")):
        with contextlib.suppress(KeyError):  # a user id without a name, as in containers
            environment["HOME"] = pwd.getpwuid(os.getuid()).pw_dir


def _is_remote(environment: Mapping[str, str]) -> bool:
    return "SSH_CONNECTION" in environment  # set by sshd; the launcher does not hand on its own


def _in_background(function: Callable[..., object], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _watch_starters(supervisor: Supervisor, watched: list[Process]) -> None:
    while all(is_alive(process) for process in watched):
        time.sleep(2)
    supervisor.stop()


def _watch_connection(supervisor: Supervisor) -> None:
    """launchers.relay holds the other end of our standard input, and closes it to have us stop."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    supervisor.stop()


def _watch_launcher(supervisor: Supervisor, environment: Mapping[str, str]) -> None:
    """Where the network is cut, nothing else would tell this side: asks whether Horovod's server still answers."""
    server = environment["HOROVOD_GLOO_RENDEZVOUS_ADDR"], int(environment["HOROVOD_GLOO_RENDEZVOUS_PORT"])
    answered = time.monotonic()
    while time.monotonic() - answered < PATIENCE:
        with contextlib.suppress(OSError), socket.create_connection(server, timeout=5):
            answered = time.monotonic()
        time.sleep(5)
    supervisor.stop()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be listening any more
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
