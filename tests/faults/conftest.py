"""What the tests of faults share: one process that starts others, and runs that were left alone."""

import pytest

from tests.faults.starts import Starts


@pytest.fixture(scope="session")
def starts(_shared_cache):
    found = Starts()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def undisturbed(starts, tmp_path_factory):
    """`undisturbed(flags)`: the run directory of a run with these flags that nothing happened to; made once."""
    known = {}

    def find(flags):
        if flags not in known:
            run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
            ended = starts.start(run_dir, flags)
            assert ended.code == 0, ended.err[-3000:]
            known[flags] = run_dir
        return known[flags]

    return find
