"""Silence for libraries that write to standard error from compiled code, where no setting of theirs helps."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_stderr(show_on_error: bool = False) -> Iterator[None]:
    """Within it, nothing that this process writes to file descriptor 2 is seen.

    Args:
        show_on_error: whether it is written after all where an exception leaves the block.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            if show_on_error:
                said.seek(0)
                os.write(stderr, said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
