"""The plug that is pulled: ends this process, or sends it a signal, at a given moment of its work on its files."""

import fnmatch
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FILE_EVENTS = {"os.rename": "rename", "os.remove": "remove", "os.link": "link"}


class Plug:
    """Counts moments: a file of the directory is opened for writing, written into, renamed, linked or removed.

    A moment lies before what it is named after. Writes are those of Python into temporary files, from the first to the
    last piece; so a process that ends between two of them leaves half a file.

    Args:
        directory: the run's.
        at: the moment to do something at, counted from 0 among those of `kind` in files that `pattern` fits; None:
            never.
        kind: "open", "write", "rename", "link", "remove"; "": all of them.
        pattern: of paths relative to the directory, as in a shell.
        number: the signal to send; SIGKILL ends the process there and then.
        tell: is told what was pulled, before it is.
    """

    def __init__(
        self,
        directory: str,
        at: int | None = None,
        kind: str = "",
        pattern: str = "*",
        number: int = signal.SIGKILL,
        tell: Callable[[dict[str, Any]], None] = lambda moment: None,
    ):
        self._directory, self._at, self._kind, self._pattern = Path(directory), at, kind, pattern
        self._number, self._tell = number, tell
        self.count = 0
        self._written = ""  # the temporary file that is being written

    def plug_in(self) -> None:
        """From now on moments count, for as long as the process lives."""
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self._is_ours(path):
                self._moment("open", path)
                if ".partial" in Path(path).name:
                    self._written = str(path)
                    sys.setprofile(self._on_call)
        elif event in _FILE_EVENTS and self._is_ours(arguments[0]):
            if str(arguments[0]) == self._written:
                sys.setprofile(None)
            self._moment(_FILE_EVENTS[event], arguments[0])

    def _on_call(self, frame: Any, event: str, function: Any) -> None:
        is_write = event == "c_call" and function.__name__ in ("write", "writelines")
        if is_write and str(getattr(function.__self__, "name", "")) == self._written:
            self._moment("write", self._written)

    def _is_ours(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).is_relative_to(self._directory)

    def _moment(self, kind: str, path: Any) -> None:
        name = Path(path).relative_to(self._directory).as_posix()
        if self._kind not in ("", kind) or not fnmatch.fnmatch(name, self._pattern):
            return
        self.count += 1
        if self.count - 1 == self._at:
            self._tell({"kind": kind, "path": name})
            os.kill(os.getpid(), self._number)
