"""What a process holds, measured again and again: memory, open files, threads, networks, compiled programs."""

import ctypes
import gc
import os
import statistics
import sys
import time
from collections import Counter
from typing import NamedTuple

import keras
import tensorflow as tf

PAGE = os.sysconf("SC_PAGE_SIZE")
LIBC = ctypes.CDLL("libc.so.6")
Function = type(tf.function(lambda: None))
COLUMNS = (
    "at", "seconds", "memory, MB", "files", "threads", "networks", "variables", "programs", "traces", "objects"
)  # fmt: skip


class Size(NamedTuple):
    """What the process holds at one moment.

    memory: resident, in MB, once garbage is collected and free memory given back.
    files, threads: as Linux counts them.
    networks: `keras.Model`s alive.
    variables: TensorFlow's variables alive.
    programs: graphs alive that `tf.function` traced.
    traces: how often the functions that are alive were traced.
    objects: Python objects that the garbage collector knows.
    """

    memory: float
    files: int
    threads: int
    networks: int
    variables: int
    programs: int
    traces: int
    objects: int


def process_size() -> Size:
    """This process now."""
    gc.collect()
    LIBC.malloc_trim(0)
    with open("/proc/self/statm") as file:
        memory = int(file.read().split()[1]) * PAGE / 2**20
    objects = gc.get_objects()
    count_of = Counter(map(type, objects))
    return Size(
        memory=memory,
        files=len(os.listdir("/proc/self/fd")) - 1,  # that of the listing itself
        threads=len(os.listdir("/proc/self/task")),
        networks=sum(count for kind, count in count_of.items() if issubclass(kind, keras.Model)),
        variables=sum(count for kind, count in count_of.items() if issubclass(kind, tf.Variable)),
        programs=sum(count for kind, count in count_of.items() if issubclass(kind, tf.Graph)),
        traces=sum(thing.experimental_get_tracing_count() for thing in objects if type(thing) is Function),
        objects=len(objects),
    )


class Series:
    """Sizes at places of one long piece of work, printed as they come.

    Args:
        unit: what the places count.
        warm_up: the place from which on nothing may grow: by then all is compiled and every buffer is full.
    """

    def __init__(self, title: str, unit: str, warm_up: int):
        self.title, self.unit, self.warm_up = title, unit, warm_up
        self.places: list[int] = []
        self.sizes: list[Size] = []
        self.seconds: list[float] = []
        self._since = time.perf_counter()

    def look(self, place: int) -> None:
        """Measures now; the time of measuring is left out."""
        seconds = time.perf_counter() - self._since
        if not self.places:
            print(f"\n{self.title}: after so many {self.unit}, and the seconds since the line before")
            print(" ".join(f"{name:>10}" for name in COLUMNS), flush=True)
        size = process_size()
        self.places.append(place)
        self.sizes.append(size)
        self.seconds.append(seconds)
        numbers = [f"{place}", f"{seconds:.1f}", f"{size.memory:.1f}", *(f"{value:,}" for value in size[1:])]
        print(" ".join(f"{number:>10}" for number in numbers), flush=True)
        self._since = time.perf_counter()

    def problems(self, megabytes: float, slower: float | None = None) -> list[str]:
        """What grew more than it may, a line each.

        Args:
            megabytes: the memory that may be gained after the warm-up.
            slower: how many times the time of a line may grow, first half to second (medians); None: not looked at.
        """
        sizes = [size for place, size in zip(self.places, self.sizes, strict=True) if place >= self.warm_up]
        first, last = sizes[0], sizes[-1]
        found = []
        gained = last.memory - first.memory
        if gained >= megabytes:
            found.append(f"{self.title}: memory grew by {gained:.1f} MB, allowed are {megabytes:g}")
        for name in ("files", "threads", "networks", "variables", "programs", "traces"):
            before, after = getattr(first, name), getattr(last, name)
            if after > before:
                found.append(f"{self.title}: {name} grew from {before} to {after}")
        seconds = [spent for place, spent in zip(self.places, self.seconds, strict=True) if place > self.warm_up]
        half = len(seconds) // 2
        early, late = statistics.median(seconds[:half]), statistics.median(seconds[half:])
        if slower is not None and late > slower * early:
            found.append(f"{self.title}: a line took {early:.1f} s in the first half, {late:.1f} s in the second")
        print(
            f"{self.title}: {gained:+.1f} MB of memory and {last.objects - first.objects:+,} objects after "
            f"{self.warm_up} {self.unit}; a line took {late / early:.2f} times as long in the second half"
        )
        return found


def verdict(problems: list[str]) -> None:
    """Prints the problems, and ends with code 1 where there are any."""
    print("\n" + ("\n".join(problems) or "nothing grew"))
    sys.exit(bool(problems))
