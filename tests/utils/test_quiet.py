"""Silence for what compiled code writes to standard error."""

import os
import subprocess
import sys

import pytest

from utils.quiet import quiet_stderr


def test_nothing_is_seen_of_what_is_written_within_and_all_of_what_comes_after(capfd):
    with quiet_stderr():
        os.write(2, b"a library talks\n")
        subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('a child talks')"], check=True)
        print("Python talks", file=sys.__stderr__, flush=True)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_what_was_said_before_an_error_is_shown_where_asked_for(capfd):
    for is_shown in (False, True):
        with pytest.raises(ZeroDivisionError), quiet_stderr(show_on_error=is_shown):
            print(os.write(2, b"the reason\n") / 0)
        assert capfd.readouterr().err == ("the reason\n" if is_shown else "")
