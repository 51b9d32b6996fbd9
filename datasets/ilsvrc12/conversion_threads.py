"""Work on many files in threads, counted image by image, that ends at once when it is interrupted."""

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

from utils.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

_SECONDS_BETWEEN_UPDATES = 0.2


class Tally:
    """What all threads have done so far.

    Attributes:
        images: counted in all.
        mishaps: unreadable pictures, or problems.
    """

    def __init__(self):
        self.images = self.mishaps = 0
        self._lock = threading.Lock()
        self._is_stopped = False

    def count(self, images: int, mishaps: int) -> None:
        """Adds to both; called for each image by the thread that works on it, which ends here once stopped."""
        with self._lock:
            if self._is_stopped:
                raise _StoppedError
            self.images += images
            self.mishaps += mishaps

    def stop(self) -> None:
        """Ends all threads at their next image."""
        self._is_stopped = True


class _StoppedError(Exception):
    """Ends a thread whose work is no longer wanted; nobody sees it."""


def in_threads(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    tally: Tally,
    show: Callable[[], None],
    finish: Callable[[Item, Result], None],
) -> None:
    """`finish(item, work(item))` for all items, in any order: the work in threads, all else in this one.

    Whatever goes wrong, also Ctrl-C, ends the other threads at their next image.

    Args:
        items: at least one.
        workers: threads at most.
        show: called now and then, and after the last item.
    """
    pool = ThreadPoolExecutor(min(workers, len(items)))
    # Pillow's remarks on palettes and large pictures would tear the progress bar.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            waiting = {pool.submit(work, item): item for item in items}
            while waiting:
                done, _ = wait(waiting, _SECONDS_BETWEEN_UPDATES, FIRST_COMPLETED)
                # What succeeded is noted before what failed ends it all.
                for future in sorted(done, key=lambda future: future.exception() is not None):
                    finish(waiting.pop(future), future.result())
                show()
        finally:
            tally.stop()
            pool.shutdown(cancel_futures=True)


def thread_count(workers: int) -> int:
    """`workers`, or one for each processor core that this process may run on where that is 0.

    Raises:
        InputError: it is negative.
    """
    if workers < 0:
        raise InputError(f"--workers must be at least 0. Received: {workers}")
    return workers or len(os.sched_getaffinity(0))
