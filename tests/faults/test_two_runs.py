"""Two runs in one run directory: exactly one of them works there."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.faults.in_process import ROOT, run, run_words
from utils.lock import FileLock

FULL_PRECISION = ("--learner", "full-prec")
# Claims a run directory as soon as a line comes, says how that went, and works there until its input ends.
CLAIMER = """
import sys
from utils.errors import InputError
from utils.run_dir import RunDir
run = RunDir(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    run.open({"seed": 1})
    print("claimed", flush=True)
except InputError as error:
    print(error, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    run(run_dir, *FULL_PRECISION)
    return run_dir


@pytest.fixture
def at_work(finished, tmp_path):
    """A run directory in which another run, this process for once, is at work."""
    run_dir = shutil.copytree(finished, tmp_path / "run")
    lock = FileLock(run_dir / "run.lock")
    assert lock.take()
    yield run_dir
    lock.free()


def _is_refused(said, run_dir):
    return f"another run is at work in {run_dir}: process {os.getpid()}, since 2" in said


def _files(run_dir):
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def test_a_second_run_is_refused_even_with_overwrite_and_touches_nothing(at_work):
    before = _files(at_work)
    for flags in ((), ("--overwrite",)):
        assert _is_refused(run(at_work, *FULL_PRECISION, *flags, code=2), at_work)
    assert _files(at_work) == before


def test_a_run_that_is_at_work_is_not_exported(at_work):
    before = _files(at_work)
    assert _is_refused(run_words("export", str(at_work), "--formats", "keras", code=2), at_work)
    assert _files(at_work) == before


def test_who_only_reads_needs_no_lock(at_work):
    run(at_work, *FULL_PRECISION, "--exec_mode", "eval")


def test_the_lock_of_a_process_that_is_gone_keeps_nobody_out(finished, tmp_path):
    run_dir = shutil.copytree(finished, tmp_path / "run")
    (run_dir / "run.lock").write_text('{"pid": 1, "began": "0", "host": "here", "since": "long ago"}')
    run(run_dir, *FULL_PRECISION)
    assert not (run_dir / "run.lock").exists()


def test_of_two_that_start_at_the_same_instant_one_gets_the_directory(tmp_path):
    run_dir = tmp_path / "run"
    command = [sys.executable, "-c", CLAIMER, str(run_dir)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    processes = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.stdout.readline() for process in processes]
        assert said.count("claimed\n") == 1
        winner = processes[said.index("claimed\n")]
        refused = next(line for line in said if line != "claimed\n")
        assert f"another run is at work in {run_dir}: process {winner.pid}, since" in refused
    finally:
        for process in processes:
            process.kill()
            process.communicate()
