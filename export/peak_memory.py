"""The most memory that a runtime takes to load a file and run one example, beyond its own code.

As a program, in a process of its own: python -m export.peak_memory FILE DTYPE SIZE [SIZE ...]
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from export.runtimes import LitertRunner, OnnxRunner

RUNNERS: dict[str, Callable[..., Callable[[np.ndarray], object]]] = {".tflite": LitertRunner, ".onnx": OnnxRunner}
ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 120


def peak_memory(path: Path, example_shape: Sequence[int], dtype: str) -> int | None:
    """Bytes of a .tflite or .onnx file on one thread; None of others, and where it cannot be known (not Linux).

    Nor is it known of a file that takes more than two minutes.
    """
    if path.suffix not in RUNNERS or not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, "-m", "export.peak_memory", str(path.absolute()), dtype, *map(str, example_shape)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return None
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else None


def _resident(kind: str) -> int:
    """VmRSS (now) or VmHWM (the most since the last reset) of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{kind}:")))


def _measure(path: Path, dtype: str, example_shape: Sequence[int]) -> int:
    runner = RUNNERS[path.suffix]
    if path.suffix == ".onnx":
        import onnxruntime  # noqa: F401  its code is not the file's
    else:
        import ai_edge_litert.interpreter  # noqa: F401
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)
    before = _resident("VmRSS")
    run, example = runner(path, 1), np.zeros((1, *example_shape), dtype)
    for _ in range(3):
        run(example)
    return _resident("VmHWM") - before


if __name__ == "__main__":
    print(_measure(Path(sys.argv[1]), sys.argv[2], [int(size) for size in sys.argv[3:]]))
