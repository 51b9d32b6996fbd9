"""What a run does where files that it left are damaged or missing, and where its directory goes.

Each time it goes on to the end of a run that nothing happened to, and says what it found; or it is one clear error.
"""

import re
import shutil
import subprocess
import sys
import time

import pytest

from tests.faults.in_process import FEW, ROOT, TINY, cut, flip, results, run

SEARCH = "--learner weight-sparse --ws_nb_rlouts 9 --ws_nb_rlouts_min 7 --ws_nb_iters_ft 2 --ws_nb_finalists 2"
SEARCH = [*SEARCH.split(), "--ws_prune_ratio", "0.75"]
LAST_TWO = ("checkpoint.npz", "checkpoint.previous.npz")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    run(run_dir, *SEARCH)
    return run_dir


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(undisturbed, tmp_path / "run")


def _delete(*names):
    def damage(run_dir):
        for name in names:
            path = run_dir / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def _each(change, *names):
    return lambda run_dir: [change(run_dir / name) for name in names]


def _empty(path):
    path.write_bytes(b"")


AGENT = ("search/agent.npz", "search/agent.previous.npz")
HOPELESS = {
    "network missing": (
        _delete("dense/model.keras"),
        1,
        r"there is no model at .*dense/model\.keras.* whole copy back",
    ),
    "network empty": (_each(_empty, "dense/model.keras"), 1, r"dense/model\.keras cannot be read.* whole copy back"),
    "network flipped": (_each(flip, "dense/model.keras"), 1, r"dense/model\.keras cannot be read.* whole copy back"),
    "stages cut off": (_each(cut, "stages.json"), 1, r"stages\.json is damaged .*\. Delete it"),
    "stages empty": (_each(_empty, "stages.json"), 1, r"stages\.json is damaged .*\. Delete it"),
    "configuration cut off": (_each(cut, "config.json"), 2, r"config\.json is damaged .*--overwrite starts anew"),
    "configuration missing": (_delete("config.json"), 2, r"is not empty and holds no run of ours"),
    "roll-outs missing": (_delete("search.jsonl"), 1, r"search\.jsonl has 0 of 9 roll-outs: put a whole copy back"),
    "roll-outs flipped": (_each(flip, "search.jsonl"), 1, r"search\.jsonl is damaged: put a whole copy back"),
    "agent missing": (_delete("search"), 1, r"search\.jsonl has 9 roll-outs, .*agent\.npz is missing: put a whole"),
    "agent damaged twice": (_each(flip, *AGENT), 1, r"no readable checkpoint: .*agent\.npz is damaged .*Put a whole"),
    "training damaged twice": (
        _each(cut, *(f"training/{name}" for name in LAST_TWO)),
        1,
        r"no readable checkpoint: .*training/checkpoint\.npz is damaged .*Put a whole copy of one back",
    ),
}


@pytest.mark.parametrize(("damage", "code", "message"), HOPELESS.values(), ids=HOPELESS.keys())
def test_where_a_run_cannot_go_on_it_says_what_to_do_and_begins_nothing_anew(finished, damage, code, message):
    damage(finished)
    kept = ("config.json", "stages.json", "search.jsonl", "dense/model.keras", "model.keras", "report.json")
    before = {name: (finished / name).read_bytes() for name in kept if (finished / name).exists()}
    said = run(finished, *SEARCH, code=code)
    assert re.search(message, said), said
    assert {name: (finished / name).read_bytes() for name in kept if (finished / name).exists()} == before


def test_damaged_checkpoints_of_all_stages_give_way_to_those_before(finished, undisturbed):
    """The search repeats its last roll-out, the final training its last steps; paths and finalists are made again."""
    flip(finished / "search" / "agent.npz")
    cut(finished / "training" / "checkpoint.npz", 0.9)
    resolved = min((finished / "finalists").glob("resolved_*.npz"))
    for path in (finished / "finalists" / "finalist_0.npz", resolved, finished / "paths.npz"):
        flip(path, 0.3)
    said = run(finished, *SEARCH)
    for name in ("search/agent", "training/checkpoint"):
        path = finished / f"{name}.npz"
        line = next(line for line in said.splitlines() if line.startswith(f"warning: {path} is damaged"))
        assert line.endswith(f"going on from the checkpoint before it, {finished / name}.previous.npz")
    assert "finalist_0.npz is damaged; its network is made again" in said
    assert f"{finished / 'paths.npz'}" in said
    assert results(finished) == results(undisturbed)


def test_without_the_record_of_stages_the_checkpoints_tell_what_is_done(finished, undisturbed):
    (finished / "stages.json").unlink()
    flip(finished / "dense" / "checkpoint.npz")
    said = run(finished, *SEARCH)
    assert said.count("warning: ") == 1
    assert f"{finished / 'dense' / 'checkpoint.npz'} is damaged" in said
    assert results(finished) == results(undisturbed)


def test_finished_work_of_which_nothing_is_left_is_repeated_and_that_is_said(finished, undisturbed):
    _delete("training", "search", "search.jsonl", "finalists", "model.keras", "plots", "report.json")(finished)
    said = run(finished, *SEARCH)
    assert "warning: the search is finished, but its files are missing; it begins anew" in said
    path = finished / "training" / "checkpoint.npz"
    assert f"warning: final training is finished, but {path} is missing; it begins anew" in said
    assert results(finished) == results(undisturbed)


def _wait_for(path, process, seconds=200):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_whose_directory_is_deleted_ends_and_does_not_make_it_again(tmp_path):
    run_dir = tmp_path / "a run; with spaces"
    flags = [*FEW.split(), "--nb_epochs_rat", "9", "--learner", "full-prec", "--run_dir", str(run_dir)]
    command = [sys.executable, "main.py", TINY, *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(run_dir / "dense" / "checkpoint.npz", process)
        gone = run_dir.rename(tmp_path / "gone")  # at once, where deleting takes a while
        shutil.rmtree(gone)
        _, said = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith(f"error: {run_dir} was deleted, moved or replaced")
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
