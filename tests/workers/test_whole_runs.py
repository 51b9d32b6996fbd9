"""Whole runs of the program in two processes, as `run_local.sh -n=2` starts them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from launchers.processes import descendants
from tests.workers.two_processes import needs_horovod

pytestmark = needs_horovod

ROOT = Path(__file__).resolve().parents[2]
TINY = "tests/nets_for_tests/tiny_at_cifar10_run.py"
FEW = [
    "--data_disk",
    "embedded",
    "--model_http_url=",
    "--export_formats",
    "none",
    "--nb_smpls_train",
    "320",
    "--nb_smpls_val",
    "100",
    "--nb_smpls_eval",
    "101",
]
SHORT = [*FEW, *["--batch_size", "32", "--nb_epochs_rat", "0.25", "--summ_step", "2", "--save_step", "2"]]
SEARCH = [*SHORT, *["--learner", "weight-sparse", "--ws_nb_rlouts", "30", "--ws_nb_rlouts_min", "12"]]
SEARCH += ["--ws_nb_iters_ft", "4", "--ws_nb_finalists", "3", "--ws_prune_ratio", "0.75"]
TIMES = ("seconds", "agent_seconds")


def command(run_dir, flags, net=TINY, size=2):
    launch = [sys.executable, "-m", "launchers.horovod", f"-n={size}", "-H", f"localhost:{size}", "--"]
    return [*launch, net, "--run_dir", str(run_dir), *flags]


def run(run_dir, flags, net=TINY, code=0, size=2):
    """Its output, all of it."""
    done = subprocess.run(
        command(run_dir, flags, net, size), cwd=ROOT, capture_output=True, text=True, timeout=280, env=environment()
    )
    assert done.returncode == code, (done.stdout + done.stderr)[-4000:]
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def started(run_dir, flags):
    """The same as a process to be disturbed, its output in one."""
    return subprocess.Popen(
        command(run_dir, flags),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )


def environment():
    # The tests' own setting of one thread is raised by the program: see commands.start.share_processor.
    return os.environ | {"TRIMFLOW_CALLER_DIRECTORY": str(ROOT)}


def rank_of(pid):
    """The Horovod rank of a running program, or None."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    if b"main.py" not in words[1:2]:
        return None
    ranks = [variable.split(b"=")[1] for variable in variables if variable.startswith(b"HOROVOD_RANK=")]
    return int(ranks[0]) if ranks else None


def processes_of(run_dir):
    """Rank -> pid of the program's processes that work in this run directory."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        rank = rank_of(path.name)
        if rank is not None and str(run_dir).encode() in (path / "cmdline").read_bytes():
            found[rank] = int(path.name)
    return found


def records(run_dir):
    lines = (run_dir / "search.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def report(run_dir):
    """The report without what is a time."""
    found = json.loads((run_dir / "report.json").read_text())
    search = {key: found["search"][key] for key in ("protocol", "rollouts", "best_reward")}
    return {key: found[key] for key in ("dense", "compressed", "layers", "sizes", "workers")} | {"search": search}


def weights(run_dir):
    return keras.models.load_model(run_dir / "model.keras").get_weights()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    return run_dir, run(run_dir, SEARCH)


def test_a_search_by_two_workers_reaches_the_target_and_says_who_did_what(undisturbed):
    run_dir, printed = undisturbed
    assert report(run_dir)["compressed"]["sparsity"] == pytest.approx(0.75, abs=0.001)
    assert report(run_dir)["workers"] == 2
    found = records(run_dir)
    assert [record["index"] for record in found] == list(range(30))
    assert [record["rank"] for record in found] == [0, 1] * 15
    assert "[0 localhost] tiny on digits32" in printed
    assert "[1 localhost]" not in printed


def test_the_first_alone_writes_and_leaves_what_one_worker_leaves(undisturbed):
    run_dir, _ = undisturbed
    names = {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file()}
    events = sorted(name.split("/")[1] for name in names if name.startswith("tensorboard/"))
    curves, pictures = ["dense", "training"], ["report", "weights_after", "weights_before"]
    assert events == sorted(curves + pictures), "one file of rank 0 for each"
    assert {"config.json", "stages.json", "report.json", "model.keras", "search.jsonl", "paths.npz"} <= names
    assert not [name for name in names if "partial" in name]


def wait_until(is_so, process, seconds=150):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert process.poll() is None, "it ended before it was to be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines_of_search(run_dir):
    path = run_dir / "search.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def killed_when(is_time, run_dir, victims):
    """What a job printed some processes of which were killed at a time, and its exit code."""
    process = started(run_dir, SEARCH)
    wait_until(is_time, process)
    for pid in victims(process):
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    printed, _ = process.communicate(timeout=60)
    while left := processes_of(run_dir):  # what was told to die needs a moment
        assert time.monotonic() - began < 60, left
        time.sleep(0.02)
    return printed, process.returncode


def test_a_job_that_loses_processes_again_and_again_ends_like_one_that_did_not(undisturbed, tmp_path):
    run_dir = tmp_path / "run"

    def everything(process):
        return [process.pid, *(found.pid for found in descendants(process.pid))]

    _, code = killed_when((run_dir / "dense" / "checkpoint.npz").exists, run_dir, everything)
    assert code == -signal.SIGKILL
    for victim, is_time in (
        (1, lambda: lines_of_search(run_dir) >= 11),
        (0, (run_dir / "training" / "checkpoint.npz").exists),
    ):
        printed, code = killed_when(is_time, run_dir, lambda _, victim=victim: [processes_of(run_dir)[victim]])
        assert code == 1
        assert f"error: rank {victim} on localhost was ended by signal 9 (SIGKILL)" in printed.splitlines()[-1]

    run(run_dir, SEARCH)
    expected, _ = undisturbed
    assert records(run_dir) == records(expected)
    assert report(run_dir) == report(expected)
    for one, other in zip(weights(run_dir), weights(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not [path for path in run_dir.rglob("*") if "partial" in path.name]


def test_a_run_of_two_goes_on_with_one(undisturbed, tmp_path, run_program):
    run_dir = tmp_path / "run"
    process = started(run_dir, SEARCH)
    wait_until(lambda: lines_of_search(run_dir) >= 8, process)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert printed.splitlines()[-1] == "interrupted: the same command goes on from the last checkpoint"
    done = lines_of_search(run_dir)
    run_program(["main.py", TINY, "--run_dir", str(run_dir), *SEARCH])
    found = records(run_dir)
    assert [record["index"] for record in found] == list(range(30))
    assert found[: done - 2] == records(undisturbed[0])[: done - 2]
    assert {record["rank"] for record in found[done:]} == {0}
    assert "workers" not in json.loads((run_dir / "report.json").read_text())


def test_a_worker_that_stands_still_is_given_up_after_the_timeout(tmp_path):
    run_dir, flags = tmp_path / "run", [*SHORT, "--nb_epochs_rat", "100", "--worker_timeout", "8"]
    process = started(run_dir, flags)
    wait_until((run_dir / "dense" / "checkpoint.npz").exists, process)
    os.kill(processes_of(run_dir)[1], signal.SIGSTOP)
    began = time.monotonic()
    printed, _ = process.communicate(timeout=60)
    assert time.monotonic() - began >= 8
    assert process.returncode == 1
    assert "error: another worker ended or did not answer; --worker_timeout is 8 s" in printed
    assert not processes_of(run_dir)


@pytest.mark.parametrize("schedule", ["schedule", "filters"])
def test_a_schedule_does_the_same_on_all_workers(tmp_path, schedule):
    """Rankings by activations, and ranges of activations, differ with the images; the masks may not."""
    flags = [*SHORT, "--learner", "scheduled", "--compress", f"tests/faults/{schedule}.yaml", "--nb_epochs", "4"]
    run(tmp_path / "run", flags)
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    assert found["compressed"]["sparsity"] > 0.1


def test_lottery_tickets_and_evaluation_by_two_workers(tmp_path):
    run_dir = tmp_path / "run"
    flags = [*SHORT, *["--learner", "lottery-ticket", "--lt_prune_iterations", "2", "--lt_prune_ratio", "0.7"]]
    run(run_dir, flags)
    found = json.loads((run_dir / "report.json").read_text())
    assert found["compressed"]["sparsity"] == pytest.approx(0.7, abs=0.01)
    printed = run(run_dir, [*flags, "--exec_mode", "eval"])
    assert f"test accuracy {found['compressed']['accuracy']:.4f}" in printed
    assert printed.count("test accuracy") == 1


def test_a_run_directory_that_is_deleted_ends_both_workers_and_is_not_made_again(tmp_path):
    run_dir = tmp_path / "run"
    process = started(run_dir, [*SHORT, "--learner", "full-prec", "--nb_epochs_rat", "9"])
    try:
        wait_until((run_dir / "dense" / "checkpoint.npz").exists, process)
        shutil.rmtree(run_dir.rename(tmp_path / "gone"))
        printed, _ = process.communicate(timeout=150)
    finally:
        process.terminate()
    assert process.returncode == 1, printed[-4000:]
    assert f"error: {run_dir} was deleted, moved or replaced while the run was at work in it" in printed
    assert "Traceback" not in printed
    assert processes_of(run_dir) == {}
    assert not run_dir.exists()


def test_a_mistake_is_told_once_and_before_any_work(tmp_path):
    printed = run(tmp_path / "run", [*SEARCH, "--ws_prune_ratio", "0.9999"], code=2)
    assert printed.count("error: ") == 1
    assert "Traceback" not in printed
    assert not (tmp_path / "run").exists()


def test_a_process_that_was_started_alone_cannot_be_one_of_many(tmp_path, run_program):
    told = run_program(["main.py", TINY, "--run_dir", str(tmp_path / "run"), *SHORT, "--enbl_multi_gpu"], code=2)
    assert "scripts/run_local.sh NET_SCRIPT -n=N" in told
