"""Runs horovodrun as a child: shows what it prints, hands on Ctrl-C, and leaves no process behind however it ends."""

import codecs
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from launchers.output import Narrator, Splitter
from launchers.processes import adopt_orphans, descendants, die_with_parent, kill
from launchers.verdict import GOES_ON, judge

# Horovod gives each process 5 s after SIGTERM and then takes up to 10 s more.
SECONDS_TO_END = 25.0  # from an interrupt, or the first process that failed, until we kill what is left
SECONDS_FOR_ORPHANS = 15.0  # from the end of horovodrun


class Job:
    """One horovodrun and all that it begins. The process that makes one adopts what its descendants leave behind.

    Args:
        command: horovodrun and its arguments.
        hosts: the name of each rank's host.
        is_debug: whether to show also what Horovod itself says.
    """

    def __init__(
        self, command: Sequence[str], hosts: Sequence[str], root: Path, environment: Mapping[str, str], is_debug: bool
    ):
        self._command, self._hosts, self._root, self._environment = command, hosts, root, environment
        self._narrator = Narrator(hosts, is_debug)
        self._printing = threading.Lock()
        self._interrupt: int | None = None
        self._ends_at: float | None = None
        self._process: subprocess.Popen | None = None

    def run(self) -> int:
        """Runs it to its end; its exit code."""
        adopt_orphans()
        numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # until there is something to interrupt
        # A session of its own: Ctrl-C is for us, and we tell it once. It ends by SIGTERM when we are killed.
        prepare = die_with_parent(signal.SIGTERM)
        self._process = subprocess.Popen(
            self._command,
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: (signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers), prepare()),
        )
        for number in numbers:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
                signal.signal(number, self._on_signal)
        readers = [
            threading.Thread(target=self._show, args=streams, daemon=True)
            for streams in ((self._process.stdout, sys.stdout), (self._process.stderr, sys.stderr))
        ]
        for reader in readers:
            reader.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        status = self._wait()
        self._end_orphans()
        for reader in readers:
            reader.join(timeout=5)
        return self._conclude(status)

    @property
    def _started(self) -> subprocess.Popen:
        assert self._process is not None, "run starts it"
        return self._process

    def _conclude(self, status: int) -> int:
        line: str | None
        if self._interrupt is not None:
            code, line = 128 + self._interrupt, f"interrupted: {GOES_ON}"
        else:
            narrator = self._narrator
            code, line = judge(status, narrator.exits, narrator.signals, self._hosts, narrator.last_of_horovod)
        if line:
            with suppress(OSError):
                print(line, file=sys.stderr, flush=True)
        return code

    def _wait(self) -> int:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return self._started.wait(timeout=0.5)
            if self._narrator.exits and self._ends_at is None:
                self._ends_at = time.monotonic() + SECONDS_TO_END
            if self._ends_at is not None and time.monotonic() > self._ends_at:
                self._kill_all()

    def _on_signal(self, number: int, _: object) -> None:
        if self._interrupt is not None:  # asked again
            self._kill_all()
            return
        self._interrupt = number
        self._ends_at = time.monotonic() + SECONDS_TO_END
        with suppress(ProcessLookupError):
            self._started.send_signal(signal.SIGTERM)

    def _kill_all(self) -> None:
        """Ends horovodrun and all below it at once, and once more what these began meanwhile."""
        self._started.kill()
        for _ in range(3):
            for process in descendants(os.getpid()):
                kill(process)

    def _end_orphans(self) -> None:
        """Horovod's helpers end their processes when it is gone; what they do not end in time is killed."""
        deadline = time.monotonic() + SECONDS_FOR_ORPHANS
        while True:
            left = descendants(os.getpid())
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            if not left:
                return
            if time.monotonic() > deadline:
                for process in left:
                    kill(process)
            time.sleep(0.05)

    def _show(self, source: BinaryIO, target: TextIO) -> None:
        """Hands on one stream until its end, each piece as soon as it is complete."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        splitter, is_broken = Splitter(), False
        while True:
            data = os.read(source.fileno(), 1 << 16)
            pieces = splitter.add(decoder.decode(data, final=not data), is_last=not data)
            with self._printing:
                text = "".join(self._narrator.show(piece) for piece in pieces)
            if text and not is_broken:
                try:
                    target.buffer.write(text.encode())
                    target.buffer.flush()
                except OSError:  # `run_local.sh ... | head`: the job ends as by Ctrl-C, and is still read from
                    is_broken = True
                    os.kill(os.getpid(), signal.SIGTERM)
            if not data:
                return
