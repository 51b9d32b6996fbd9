"""Starts of the program that are disturbed: killed or interrupted at a chosen moment. See forks.py and plug.py."""

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TINY = "tests/nets_for_tests/tiny_at_cifar10_run.py"
# Not even a path.conf of this machine changes where data and model come from.
FEW = (
    "--data_disk embedded --model_http_url= --nb_smpls_train 160 --nb_smpls_val 50 --nb_smpls_eval 50 --batch_size 32 "
    "--export_formats none"
)


class Ended(NamedTuple):
    """How a start ended: exit code (negative: the signal), what it wrote, where it was pulled, moments in all."""

    code: int
    out: str
    err: str
    pulled: dict[str, str] | None
    moments: int | None


@dataclass(frozen=True)
class Disturbance:
    """What happens to a start.

    plug: of `tests.faults.plug.Plug`, such as {"at": 7}.
    seconds: SIGKILL to the process group so long after the run directory has its configuration.
    """

    plug: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None


NOTHING = Disturbance()


class Starts:
    """Processes of the program, one after another."""

    def __init__(self, patience: float = 200.0):
        self._patience = patience
        command = [sys.executable, str(ROOT / "tests/faults/forks.py")]
        self._server = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    def start(self, run_dir: Path, flags: str, disturbance: Disturbance = NOTHING) -> Ended:
        """Runs `main.py` in `run_dir` to whatever end it takes."""
        log = f"{run_dir}."
        order = {
            "arguments": ["main.py", TINY, "--run_dir", str(run_dir), *FEW.split(), *flags.split()],
            "run_dir": str(run_dir),
            "log": log,
            "plug": disturbance.plug,
            "sign": str(run_dir / "config.json"),
            "seconds": disturbance.seconds,
        }
        self._server.stdin.write(f"{json.dumps(order)}\n".encode())
        self._server.stdin.flush()
        answer = json.loads(self._answer())
        pulled = next((moment for moment in answer["told"] if "kind" in moment), None)
        moments = next((moment["count"] for moment in answer["told"] if "count" in moment), None)
        out, err = (Path(log + stream).read_text() for stream in ("out", "err"))
        return Ended(answer["code"], out, err, pulled, moments)

    def _answer(self) -> bytes:
        if not select.select([self._server.stdout], [], [], self._patience)[0]:
            raise TimeoutError(f"a start did not end within {self._patience} s")
        return self._server.stdout.readline()

    def stop(self) -> None:
        """Ends the server."""
        self._server.stdin.close()
        try:
            self._server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
