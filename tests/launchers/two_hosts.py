"""Two hosts on one machine: network namespaces joined by a cable, an sshd in each, keys and names of their own."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PORT = 2222
NAMES = ("host1", "host2")


def why_not() -> str | None:
    """What this machine lacks for it."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in (("ip", "iproute2"), ("ssh-keygen", "openssh-client"), ("sshd", "openssh-server")):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            return f"there is no program {program} (Debian's package {package})"
    name = f"trimflow-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=False)
    return None


class TwoHosts:
    """host1 with the address 10.77.0.1 and host2 with 10.77.0.2, both at eth0; `with` makes and removes them.

    Args:
        folder: an empty one for keys and configurations.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._spaces = [f"trimflow-{os.getpid()}-{name}" for name in NAMES]
        self._servers: list[subprocess.Popen] = []
        self.identity_file = folder / "client_key"
        self.programs = folder / "bin"

    def __enter__(self) -> "TwoHosts":
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for server in self._servers:
            server.terminate()
            server.wait(timeout=10)
        for space in self._spaces:
            answer = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
            for pid in answer.stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / space, ignore_errors=True)

    def on(self, number: int) -> list[str]:
        """What goes before a command to run it on host 1 or 2."""
        return ["ip", "netns", "exec", self._spaces[number - 1]]

    @property
    def path(self) -> str:
        """A PATH whose `ssh` keeps known hosts here, not at the user's home."""
        return f"{self.programs}:{os.environ['PATH']}"

    def set_cable(self, state: str) -> None:
        """Cuts the cable (`down`) or mends it (`up`)."""
        _run("ip", "-n", self._spaces[1], "link", "set", "eth0", state)
        if state == "up":  # host1 believes for a second more that nobody is there
            _run("ip", "-n", self._spaces[0], "neighbour", "flush", "dev", "eth0")

    def _make(self) -> None:
        first, second = self._spaces
        names = "127.0.0.1 localhost\n" + "".join(f"10.77.0.{n} {name}\n" for n, name in enumerate(NAMES, 1))
        for space in self._spaces:
            (Path("/etc/netns") / space).mkdir(parents=True)
            # `ip netns exec` shows it as /etc/hosts. The machine's own name has no address there: none may be needed.
            (Path("/etc/netns") / space / "hosts").write_text(names)
            _run("ip", "netns", "add", space)
            _run("ip", "-n", space, "link", "set", "lo", "up")
        _run("ip", "-n", first, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", second)
        for number, space in enumerate(self._spaces, 1):
            _run("ip", "-n", space, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            _run("ip", "-n", space, "link", "set", "eth0", "up")
        self._make_keys()
        Path("/run/sshd").mkdir(exist_ok=True)
        self._servers = [self._start_sshd(number) for number in (1, 2)]
        self._wait_for_sshd()

    def _make_keys(self) -> None:
        for name in ("client_key", "host1_key", "host2_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / name))
        self.programs.mkdir()
        wrapped = self.programs / "ssh"
        wrapped.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self._folder}/ssh_config "$@"\n')
        wrapped.chmod(0o755)
        (self._folder / "ssh_config").write_text(f"UserKnownHostsFile {self._folder}/known_hosts\n")

    def _start_sshd(self, number: int) -> subprocess.Popen:
        config = self._folder / f"sshd_config_{number}"
        config.write_text(
            f"Port {PORT}\nListenAddress 10.77.0.{number}\nHostKey {self._folder}/host{number}_key\nPidFile none\n"
            f"AuthorizedKeysFile {self._folder}/client_key.pub\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        )
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        log = self._folder / f"sshd_{number}.log"
        command = [*self.on(number), sshd, "-D", "-f", str(config), "-E", str(log)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRIMFLOW_")}
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    def _wait_for_sshd(self) -> None:
        deadline = time.monotonic() + 20
        command = [*self.on(1), self.programs / "ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
        command += ["-p", str(PORT), "-i", self.identity_file, "host2", "true"]
        while True:
            answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                return
            assert time.monotonic() < deadline, answer.stderr
            time.sleep(0.2)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
