"""Workers that are threads of one process: what several do together, without Horovod and in no time."""

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from utils.messages import pack, unpack
from utils.workers import Workers

SECONDS = 20  # without an answer


class _Meeting:
    """Where the workers of one run put what they send: number of the exchange -> rank -> value."""

    def __init__(self, size: int):
        self.size, self.is_broken = size, False
        self.changed = threading.Condition()
        self.sent: dict[int, dict[int, np.ndarray]] = defaultdict(dict)


class _ThreadWorker:
    """`mean` and `sum` are for tensors that have values; nothing here can be compiled."""

    def __init__(self, rank: int, meeting: _Meeting):
        self.rank, self.size, self.local_rank, self.is_first = rank, meeting.size, rank, rank == 0
        self._meeting, self._count = meeting, 0

    def all_gather(self, value):
        meeting, sent = self._meeting, self._meeting.sent[self._count]
        self._count += 1
        with meeting.changed:
            sent[self.rank] = pack(value)  # each has objects of its own, as in processes
            meeting.changed.notify_all()
            meeting.changed.wait_for(lambda: len(sent) == self.size or meeting.is_broken, SECONDS)
            if len(sent) < self.size:
                raise ConnectionError("a fellow worker is gone")
        return [unpack(sent[rank]) for rank in range(self.size)]

    def broadcast(self, value, root=0):
        return self.all_gather(value)[root]

    def sum(self, tensors):
        return [tf.add_n(parts) for parts in zip(*self.all_gather(list(tensors)), strict=True)]

    def mean(self, tensors):
        return [tensor / self.size for tensor in self.sum(tensors)]


def run_in_threads(size: int, function: Callable[[Workers], Any]) -> list[Any]:
    """What `function` returns for each rank, or the exception that it raises there.

    Who waits for a worker that raised one has a ConnectionError.
    """
    meeting = _Meeting(size)
    found: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = function(_ThreadWorker(rank, meeting))
        except Exception as error:
            found[rank] = error
            with meeting.changed:
                meeting.is_broken = True
                meeting.changed.notify_all()

    threads = [threading.Thread(target=run, args=[rank]) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
