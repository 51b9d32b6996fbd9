"""Whether data fits into memory, asked before it is read."""

from utils.errors import InputError


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Raises InputError where `what` needs more bytes than are free; where nobody says how many are, nothing."""
    free = available_memory()
    if free is not None and needed > free:
        gibibyte = 2**30
        raise InputError(
            f"the data must fit into memory. Received: {what} need {needed / gibibyte:.1f} GiB where "
            f"{free / gibibyte:.1f} GiB are free; {remedy}"
        )


def available_memory() -> int | None:
    """Bytes of memory that Linux can give to a program without swapping; None on another system."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            values = dict(line.split(":", 1) for line in file)
        return int(values["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
