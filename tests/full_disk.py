"""A disk that is full, as far as a test needs one: by a limit of the kernel, without a disk or rights of one's own."""

import contextlib
import resource
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Within it the kernel refuses every byte of this process that would make a file longer than `size` (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit_for_child(size: int) -> Callable[[], None]:
    """The same, for `preexec_fn` of a process to be."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
