"""What is said to have ended a job."""

import pytest

from launchers.output import Exit
from launchers.verdict import GOES_ON, judge

HOSTS = ("host1", "host2", "host3")


@pytest.mark.parametrize(
    ("exits", "signals", "line"),
    [
        ([Exit(1, 137)], {1: 9}, "rank 1 on host2 was ended by signal 9 (SIGKILL)"),
        ([Exit(1, 137)], {}, "rank 1 on host2 lost its supervisor, which was ended by signal 9 (SIGKILL)"),
        ([Exit(1, -9)], {}, "rank 1 on host2 lost its launcher process, which was ended by signal 9 (SIGKILL)"),
        ([Exit(2, 255)], {}, "rank 2 on host3 is out of reach: its ssh connection broke (exit code 255)"),
        ([Exit(0, 7)], {}, "rank 0 on host1 ended with exit code 7"),
        ([Exit(0, 143)], {}, "rank 0 on host1 ended with exit code 143"),
        # The others fail for want of the one that was killed, and at times sooner.
        ([Exit(0, 1), Exit(2, 134), Exit(1, 139)], {2: 6, 1: 11}, "rank 1 on host2 was ended by signal 11 (SIGSEGV)"),
        ([Exit(0, 1), Exit(2, 1)], {}, "rank 0 on host1 ended with exit code 1"),
        ([Exit(0, 143), Exit(2, 1)], {}, "rank 2 on host3 ended with exit code 1"),
        ([Exit(0, 1), Exit(1, 255)], {}, "rank 1 on host2 is out of reach: its ssh connection broke (exit code 255)"),
        # Five seconds after the first one Horovod kills those that are left.
        ([Exit(0, 1, 10.0), Exit(1, 137, 15.1)], {}, "rank 0 on host1 ended with exit code 1"),
    ],
)
def test_the_cause_is_named(exits, signals, line):
    assert judge(1, exits, signals, HOSTS, "") == (1, f"error: {line}; {GOES_ON}")


def test_a_mistake_of_the_user_has_been_told_by_the_program():
    assert judge(1, [Exit(0, 1), Exit(1, 2)], {}, HOSTS, "RuntimeError") == (2, None)


def test_success_needs_no_word():
    assert judge(0, [], {}, HOSTS, "") == (0, None)


def test_horovodrun_can_fail_itself():
    assert judge(-9, [], {}, HOSTS, "") == (1, f"error: horovodrun was ended by signal 9 (SIGKILL); {GOES_ON}")
    code, line = judge(1, [], {}, HOSTS, "ValueError: no interface")
    assert code == 1
    assert line.endswith("exit code 1; it said: ValueError: no interface")
