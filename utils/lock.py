"""A lock that keeps a second process out of a directory or file, and that no dead process holds."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from utils.files import refusals_of_the_disk

RUN_LOCK = "run.lock"  # in a run directory
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_PATIENCE = 1.0  # seconds in which who has just taken a lock has written who it is
_PAUSE = 0.05


class Holder(NamedTuple):
    """Who took a lock.

    began: the process' own time of start, by which it is told from a later one of the same number.
    since: when it took the lock, in words.
    """

    pid: int
    began: str
    host: str
    since: str

    @property
    def is_alive(self) -> bool:
        """Whether the process is still there; of one on another machine nothing else is known."""
        return self.host != socket.gethostname() or self.began == _began(self.pid) != ""

    def __str__(self) -> str:
        where = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.pid}{where}, since {self.since}"


class FileLock:
    """An exclusive lock on a file, which is there as long as the lock is held, and says who holds it.

    The kernel frees it when the last process that has it open ends, however that does. Programs that a process starts
    do not have it open, unless they are given `descriptor`.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file: IO[bytes] | None = None

    @property
    def descriptor(self) -> int:
        """For `pass_fds`: who inherits it holds the lock too."""
        assert self._file is not None, "it must have been taken"
        return self._file.fileno()

    def take(self, wait: bool = False) -> bool:
        """Takes the lock; whether it did. Where files cannot be locked that is told on stderr, and it did.

        Args:
            wait: for as long as another process holds it.

        Raises:
            RunError: the file cannot be written.
        """
        with refusals_of_the_disk(self.path):
            while True:
                file = open(self.path, "ab", buffering=0)  # noqa: SIM115  stays open as long as the lock is held
                if not _is_locked(file, wait):
                    file.close()
                    return False
                if _is_at(file, self.path):
                    break
                file.close()  # who held it has deleted it
            file.truncate(0)
            file.write(json.dumps(_myself()._asdict()).encode())
        self._file = file
        return True

    def free(self) -> None:
        """Gives the lock back, if it was taken."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                if _is_at(self._file, self.path):
                    self.path.unlink()
            self._file.close()
            self._file = None

    def holder(self, patience: float = _PATIENCE) -> Holder | None:
        """The living process that took the lock; None where that is not known, as where only its children still do."""
        deadline = time.monotonic() + patience
        while True:
            found = self._read()
            if found is not None and found.is_alive:
                return found
            if time.monotonic() > deadline:
                return None
            time.sleep(_PAUSE)

    def _read(self) -> Holder | None:
        try:
            known: Any = json.loads(self.path.read_text(encoding="utf-8"))
            return Holder(int(known["pid"]), str(known["began"]), str(known["host"]), str(known["since"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _is_locked(file: IO[bytes], wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(
            f"warning: {file.name} cannot be locked ({error.strerror}): nothing keeps a second process out",
            file=sys.stderr,
        )
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is the one at `path`, and not one that was deleted meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _myself() -> Holder:
    now = datetime.now().astimezone()
    return Holder(os.getpid(), _began(os.getpid()), socket.gethostname(), now.strftime("%Y-%m-%d %H:%M:%S %Z"))


def _began(pid: int) -> str:
    """When a process began, in ticks since the machine did; "" where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
