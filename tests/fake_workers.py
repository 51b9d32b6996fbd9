"""Workers that are threads of one process: what several do together, without Horovod and in no time."""

import pickle
import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from utils.workers import Workers


class _ThreadWorker:
    """`mean` and `sum` are for tensors that have values; nothing here can be compiled."""

    def __init__(self, rank: int, size: int, slots: list[Any], barrier: threading.Barrier):
        self.rank, self.size, self.local_rank, self.is_first = rank, size, rank, rank == 0
        self._slots, self._barrier = slots, barrier

    def all_gather(self, value):
        self._slots[self.rank] = value
        self._barrier.wait()
        found = pickle.loads(pickle.dumps(self._slots))  # each has objects of its own, as in processes
        self._barrier.wait()
        return found

    def broadcast(self, value, root=0):
        return self.all_gather(value)[root]

    def sum(self, tensors):
        return [tf.add_n(parts) for parts in zip(*self.all_gather(list(tensors)), strict=True)]

    def mean(self, tensors):
        return [tensor / self.size for tensor in self.sum(tensors)]


def run_in_threads(size: int, function: Callable[[Workers], Any]) -> list[Any]:
    """What `function` returns for each rank, or the exception that it raises there; who waits for such a one breaks."""
    slots, barrier = [None] * size, threading.Barrier(size, timeout=20)
    found: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = function(_ThreadWorker(rank, size, slots, barrier))
        except Exception as error:
            found[rank] = error
            barrier.abort()

    threads = [threading.Thread(target=run, args=[rank]) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
