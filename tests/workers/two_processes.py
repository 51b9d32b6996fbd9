"""Starts a program of these tests in two processes that Horovod joins, and reads what each of them says."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).resolve().parent / "programs"
HOROVODRUN = Path(sys.executable).with_name("horovodrun")

needs_horovod = pytest.mark.skipif(
    find_spec("horovod") is None, reason="Horovod is not installed: scripts/install_horovod.sh builds it"
)


def run_together(program: str, directory: Path, size: int = 2, timeout: int = 200) -> list[dict[str, Any]]:
    """What each rank of `programs/<program>.py` wrote: name of a check -> what it found."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [str(HOROVODRUN), "-np", str(size), "--gloo", sys.executable, str(PROGRAMS / f"{program}.py")]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TRIMFLOW_TEST_DIRECTORY": str(directory),
        "TF_NUM_INTEROP_THREADS": "2",  # with one thread a collective operation and the input pipeline block each other
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return [json.loads((directory / f"rank_{rank}.json").read_text()) for rank in range(size)]
