"""Starts the program in processes of its own that begin where TensorFlow was imported: most of a start's time.

Reads orders from standard input, a line of JSON each, and answers each with a line; tests/faults/starts.py gives them.
A process does what `python main.py ARGUMENTS` does from its first line on. It leads a process group, as a job of a
shell does.
"""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import main  # noqa: E402
from commands.start import learner_class_of, quick_imports  # noqa: E402
from learners.config import LEARNERS  # noqa: E402
from tests.faults.plug import Plug  # noqa: E402
from utils import interruption  # noqa: E402

PAUSE = 0.002


def serve() -> None:
    """Until there are no more orders."""
    with quick_imports():
        for name in ("tensorflow", "learners.agreement", "learners.reporting", "nets.at_cifar10", "export.plots"):
            importlib.import_module(name)
        for name in LEARNERS:
            learner_class_of(name)
    for line in sys.stdin:
        print(json.dumps(_obey(json.loads(line))), flush=True)


def _obey(order: dict[str, Any]) -> dict[str, Any]:
    """Runs one process to its end: its exit code (negative: the signal that ended it) and what it told."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        _become_program(order, writer)
    os.close(writer)
    if order["seconds"] is not None:
        _kill_after(child, Path(order["sign"]), order["seconds"])
    _, status = os.waitpid(child, 0)
    with open(reader) as told:
        lines = [json.loads(line) for line in told]
    return {"code": os.waitstatus_to_exitcode(status), "told": lines}


def _become_program(order: dict[str, Any], writer: int) -> None:
    """Never comes back."""

    def tell(moment: dict[str, Any]) -> None:
        os.write(writer, f"{json.dumps(moment)}\n".encode())

    for descriptor, stream in ((1, "out"), (2, "err")):
        os.dup2(os.open(order["log"] + stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    interruption.PATIENCE = 1e6  # seconds; the machine may be busy, and what is tested is that all is saved
    # Tests that a shell started in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    plug = Plug(order["run_dir"], **order["plug"], tell=tell)
    plug.plug_in()
    try:
        main.run(order["arguments"])
    finally:
        tell({"count": plug.count})


def _kill_after(child: int, sign: Path, seconds: float) -> None:
    """Kills the process group some time after a file is there, unless it has ended before."""
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        if deadline is None and sign.exists():
            deadline = time.monotonic() + seconds
        time.sleep(PAUSE)
    os.killpg(child, signal.SIGKILL)


if __name__ == "__main__":
    serve()
