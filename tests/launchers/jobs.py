"""Jobs of small programs for tests: started, listened to, and looked for when they should be gone."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import pytest

ROOT = Path(__file__).parents[2]
MARK = "TRIMFLOW_TEST_MARK"  # in the environment of every process of a job

needs_horovod = pytest.mark.skipif(
    importlib.util.find_spec("horovod") is None, reason="Horovod is not installed: scripts/install_horovod.sh builds it"
)

# Says who it is and waits; on SIGTERM it saves within a second, like the program does.
WAITING = """\
import os, signal, sys, time
def save(*_):
    time.sleep(0.5)
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("pid", os.getpid(), os.getppid(), flush=True)
time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 120)
"""

# Adds up over all ranks, a few times a second, as long as it is let.
ADDING = """\
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["HOROVOD_GLOO_TIMEOUT_SECONDS"] = "120"
import tensorflow as tf
import horovod.tensorflow as hvd
hvd.init()
print("pid", os.getpid(), os.getppid(), flush=True)
for step in range(int(sys.argv[1])):
    total = hvd.allreduce(tf.constant([1.0]), name="one", op=hvd.Sum)
    if step % 10 == 0:
        print("step", step, "sum", int(total[0]), flush=True)
    time.sleep(0.05)
"""

_START = "import sys; from launchers.horovod import main; split = sys.argv.index('--'); "
_START += "sys.exit(main(sys.argv[1:split], command=sys.argv[split + 1 :]))"


class Running:
    """A started launchers.horovod; its output is read as it comes.

    Args:
        options: of launchers.horovod; without a command, with `--`, net script and flags.
        command: what each rank runs behind `python` in place of main.py.
        before: words before the whole command line, such as `ip netns exec NAME`.
        interrupt: what SIGINT does to it at first; tests in the background of a shell have it ignored.
    """

    def __init__(
        self,
        options: Sequence[str],
        command: Sequence[str] | None = None,
        before: Sequence[str] = (),
        interrupt: signal.Handlers = signal.SIG_DFL,
        **environment: str,
    ):
        words = ["-m", "launchers.horovod", *options] if command is None else ["-c", _START, *options, "--", *command]
        self.mark = uuid.uuid4().hex
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.process = subprocess.Popen(
            [*before, sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, "TRIMFLOW_CALLER_DIRECTORY": str(ROOT), MARK: self.mark, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
        )
        self._readers = [
            threading.Thread(target=_read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def wait_for(self, word: str, number: int = 1, timeout: float = 120) -> list[str]:
        """The first lines of output or errors with this word, once there are as many."""
        return wait_until(lambda: [line for line in self.lines + self.errors if word in line], number, timeout, self)

    def pids(self, number: int) -> dict[int, tuple[int, int]]:
        """Rank -> pid of its program and of its supervisor, once so many have told."""
        found = {}
        for line in self.wait_for("] pid ", number):
            words = line.split()
            found[int(words[0].lstrip("["))] = int(words[-2]), int(words[-1])
        return found

    def end(self, timeout: float = 60) -> int:
        """Its exit code, at most `timeout` seconds from now."""
        code = self.process.wait(timeout=timeout)
        for reader in self._readers:
            reader.join(timeout=10)
        return code

    def left(self) -> list[str]:
        """The command lines of all processes of this job that are there, also on other hosts of this machine."""
        return [command for _, command in processes_with(f"{MARK}={self.mark}")]

    def nothing_is_left(self, seconds: float = 5) -> bool:
        """Whether none of its processes is there, or will be in so many seconds."""
        deadline = time.monotonic() + seconds
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.2)
        return not self.left()

    def hang_up(self) -> None:
        """Reads its output no more, as `head` does."""
        self.process.stdout.close()

    def kill_all(self) -> None:
        """After a test that failed."""
        self.process.kill()
        for pid, _ in processes_with(f"{MARK}={self.mark}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _read(stream: TextIO, lines: list[str]) -> None:
    with contextlib.suppress(ValueError):  # closed by hang_up
        lines.extend(stream)


def wait_until(find: Callable[[], list], number: int, timeout: float, running: Running) -> list:
    """What `find` returns, once it has `number` elements."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = find()
        if len(found) >= number:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout} s for {number}: {running.lines[-20:]} {running.errors[-20:]}")


def processes_with(variable: str) -> list[tuple[int, str]]:
    """Pid and command line of each process with this `NAME=value` in its environment; ended ones have none."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (directory / "environ").read_bytes().split(b"\0"):
                found.append((int(directory.name), (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
        except OSError:
            continue
    return found
