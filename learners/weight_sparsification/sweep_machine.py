"""What a machine has for a sweep, and how its members share it: how many run at a time, with which threads and GPU."""

import importlib.metadata
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from utils.errors import InputError

SPARE = 0.9  # of the memory that is available
GROWTH = 1.5  # a member's peak over that of the dense training: two models, validation images, fine-tuning
LEAST_PEAK = 2**30  # bytes, of a process with TensorFlow
_THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_IDLE = 0.1  # of a GPU's memory and time, as in scripts/lib.sh
_QUERY = ("nvidia-smi", "--query-gpu=index,memory.used,memory.total,utilization.gpu", "--format=csv,noheader,nounits")


class Machine(NamedTuple):
    """Cores for this process, bytes of memory that can still be had, and the GPUs to use (none: the cores work)."""

    cores: int
    memory: int
    gpus: tuple[str, ...] = ()


class Places(NamedTuple):
    """How many members run at a time, and what decided it."""

    count: int  # type: ignore[assignment]  # in place of the tuple's method, which nobody calls
    reason: str


def this_machine(environment: Mapping[str, str] = os.environ) -> Machine:
    """The machine as it is now.

    Raises:
        InputError: it has GPUs that TensorFlow could use, but all are in use.
    """
    return Machine(len(os.sched_getaffinity(0)), available_memory(), _gpus(environment))


def places_for(members: int, machine: Machine, need: int, asked: int = 0) -> Places:
    """How many of the members run at a time: where it pays, and as many as there is memory for; at least one.

    Args:
        need: bytes that one takes, see `bytes_of_a_member`.
        asked: what the user wants, 0 for no wish.
    """
    if asked:
        return Places(min(asked, members), "as asked for")
    devices, name = (len(machine.gpus), "idle GPUs") if machine.gpus else (machine.cores, "cores")
    fitting = int(SPARE * machine.memory / need)
    count = max(1, min(members, devices, fitting))
    if fitting < min(members, devices):
        have, takes = machine.memory / 1e9, need / 1e9
        return Places(count, f"{have:.1f} GB of memory are free, a member takes about {takes:.1f}")
    return Places(count, f"{devices} {name if devices > 1 else name.removesuffix('s')}")


def bytes_of_a_member(peak: int, state: int) -> int:
    """About what a member needs.

    Args:
        peak: bytes of the largest process so far, that of the dense training where there was one.
        state: bytes of Gram matrices and paths.
    """
    return round(GROWTH * max(peak, LEAST_PEAK)) + state


def threads_of(index: int, jobs: int, places: int, cores: int) -> int:
    """Threads of the job that is started as number `index`: the cores over those that run beside it.

    In the last round, where fewer are left than there are places, each has more.
    """
    beside = min(places, jobs - index // places * places)
    return max(1, cores // beside)


def environment_of(
    index: int, place: int, jobs: int, places: int, machine: Machine, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The variables of a job's process: its share of the cores, unless the environment says otherwise, and its GPU."""
    threads = threads_of(index, jobs, places, machine.cores)
    # Two operations at a time: while another member waits for its disk, its core is not idle.
    own = dict.fromkeys(_THREADS, str(threads)) | {"TF_NUM_INTEROP_THREADS": str(max(2, threads))}
    variables = own | dict(environment)
    if machine.gpus:
        # nvidia-smi counts in bus order; CUDA alone would count the fastest first.
        variables |= {"CUDA_VISIBLE_DEVICES": machine.gpus[place % len(machine.gpus)]}
        variables.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        if places > len(machine.gpus):
            variables["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    return variables


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that processes can still have, by the machine and by the container it is in."""
    found = []
    with open(root / "proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    limit, used = (_number(root / f"sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit is not None:
        cache = _inactive(root / "sys/fs/cgroup/memory.stat")  # files that the kernel gives up when it must
        found.append(max(0, limit - (used or 0) + cache))
    return min(found)


def _number(path: Path) -> int | None:
    """What a file of a control group says; None for no limit, or no such file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _inactive(path: Path) -> int:
    try:
        lines = (line.split() for line in path.read_text().splitlines())
        return sum(int(value) for name, value in lines if name == "inactive_file")
    except (OSError, ValueError):
        return 0


def _gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, else the idle ones; none where TensorFlow is that for CPUs."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(device.strip() for device in chosen.split(",") if device.strip() and device.strip()[0] != "-")
    try:
        importlib.metadata.distribution("tensorflow-cpu")
        return ()
    except importlib.metadata.PackageNotFoundError:
        pass
    try:
        table = subprocess.run(_QUERY, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    idle = idle_gpus(table)
    if table.strip() and not idle:
        raise InputError(
            "a sweep needs an idle GPU, or CUDA_VISIBLE_DEVICES to name those to use (empty for none). Received: none "
            "of them idle"
        )
    return idle


def idle_gpus(table: str) -> tuple[str, ...]:
    """Of nvidia-smi's table (index, memory used, memory total, utilisation) those that nobody uses.

    What a driver does not tell ([N/A]) counts as unused.
    """
    rows = ([part.strip() for part in line.split(",")] for line in table.splitlines())
    idle = []
    for index, *figures in (row for row in rows if len(row) == 4):
        used, total, busy = (float(text) if text.replace(".", "", 1).isdigit() else 0.0 for text in figures)
        if used <= _IDLE * total and busy <= 100 * _IDLE:
            idle.append(index)
    return tuple(idle)
