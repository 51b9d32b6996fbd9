import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.full_disk import no_file_above
from utils.errors import RunError
from utils.lock import FileLock

ROOT = Path(__file__).resolve().parents[2]
# Waits for a line, tries to take the lock, says whether it has it, and holds it until its input ends.
TAKER = """
import sys
from pathlib import Path
from utils.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(lock.take(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.lock"


@pytest.fixture
def starters(path):
    """`start(n)`: n processes that are ready to take the lock."""
    processes = []

    def start(count):
        for _ in range(count):
            command = [sys.executable, "-c", TAKER, str(path)]
            pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.append(subprocess.Popen(command, cwd=ROOT, **pipes))
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        return processes

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _ask(processes):
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.stdout.readline() == "True\n" for process in processes]


def test_of_several_that_start_at_the_same_instant_exactly_one_gets_it(starters, path):
    processes = starters(3)
    got = _ask(processes)
    assert sum(got) == 1
    winner = processes[got.index(True)]
    assert FileLock(path).holder().pid == winner.pid
    assert not FileLock(path).take()


def test_a_process_that_was_killed_holds_it_no_longer(starters, path):
    (process,) = starters(1)
    assert _ask([process]) == [True]
    process.kill()
    process.wait()
    assert path.exists()
    lock = FileLock(path)
    assert lock.take()
    assert lock.holder().pid == os.getpid()


def test_who_holds_it_and_since_when_is_told(path):
    lock = FileLock(path)
    assert lock.take()
    told = str(FileLock(path).holder())
    assert re.fullmatch(rf"process {os.getpid()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d \S+", told)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"host": "elsewhere"}))
    assert f"process {os.getpid()} on elsewhere, since" in str(FileLock(path).holder())
    path.write_text(json.dumps(content | {"began": "0"}))  # another process of this number, long ago
    assert FileLock(path).holder(patience=0) is None
    path.write_text("{")
    assert FileLock(path).holder(patience=0) is None


def test_given_back_it_is_free_and_leaves_no_file(path):
    lock = FileLock(path)
    assert lock.take()
    assert not FileLock(path).take()
    lock.free()
    assert not path.exists()
    lock.free()
    assert FileLock(path).take()


def test_a_lock_whose_file_was_deleted_meanwhile_is_not_taken_for_it(path, monkeypatch):
    """Who opens the file just before its holder deletes it has the lock of a file that is no longer there."""
    lock, locked = FileLock(path), []
    original = fcntl.flock

    def flock(file, operation):
        original(file, operation)
        if not locked:
            path.unlink()
        locked.append(file)

    monkeypatch.setattr("fcntl.flock", flock)
    assert lock.take()
    assert len(locked) == 2
    assert not FileLock(path).take()


def test_programs_that_a_process_starts_do_not_hold_it(path):
    lock = FileLock(path)
    lock.take()
    command = [sys.executable, "-S", "-c", "input()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, close_fds=False)
    lock.free()
    try:
        assert FileLock(path).take()
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP], ids=errno.errorcode.get)
def test_where_files_cannot_be_locked_that_is_a_warning(path, monkeypatch, capsys, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    lock = FileLock(path)
    assert lock.take()
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: {path} cannot be locked")
    assert warning.endswith("nothing keeps a second process out\n")
    lock.free()


def test_a_disk_without_room_for_it_is_one_clear_error(path):
    with no_file_above(0), pytest.raises(RunError, match=r"cannot write .*run\.lock: File too large"):
        FileLock(path).take()
    assert FileLock(path).take()
