"""The directory of a family of runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from learners.weight_sparsification.sweep_family import FamilyDir, is_finished, work_done
from learners.weight_sparsification.sweep_plan import Member
from utils.errors import InputError, RunError
from utils.lock import FileLock

NET, FLAGS = "net_run.py", {"seed": 0, "save_path": ""}


@pytest.fixture
def family(tmp_path):
    """Of two ratios."""
    found = FamilyDir(tmp_path / "family")
    found.open({"net": NET, "flags": FLAGS, "ratios": [0.5, 0.9]})
    return found


def test_a_new_directory_may_be_missing_or_empty(tmp_path):
    FamilyDir(tmp_path / "new").check(NET, FLAGS, [0.5], False)
    FamilyDir(tmp_path).check(NET, FLAGS, [0.5], False)
    assert list(tmp_path.iterdir()) == []


def test_the_same_sweep_and_one_of_more_ratios_may_go_on(family):
    family.check(NET, FLAGS, [0.9, 0.5], False)
    family.check(NET, FLAGS, [0.5, 0.75, 0.9], False)


def test_each_difference_of_another_sweep_is_named(family):
    with pytest.raises(InputError) as error:
        family.check("other_run.py", {"seed": 1, "batch_size": 8}, [0.5, 0.8], False)
    for line in (
        "net script: net_run.py there, other_run.py now",
        "--seed: 0 there, 1 now",
        "--batch_size: None there, 8 now",
        "--save_path: '' there, None now",
        "--ws_prune_ratio: 0.5,0.9 there, 0.5,0.8 now",
    ):
        assert f"\n  {line}\n" in str(error.value)
    family.check("other_run.py", {"seed": 1}, [0.1], overwrite=True)


def test_something_else_in_the_directory_is_refused_and_stays(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is not empty and holds no sweep of ours"):
            FamilyDir(tmp_path).check(NET, FLAGS, [0.5], overwrite)
    with pytest.raises(InputError, match="which is a file"):
        FamilyDir(tmp_path / "photo.jpg").check(NET, FLAGS, [0.5], False)
    FamilyDir(tmp_path).delete()
    assert (tmp_path / "photo.jpg").exists()


def test_a_damaged_record_is_named(family):
    (family.path / "sweep.json").write_text("{")
    with pytest.raises(InputError, match=r"sweep\.json is damaged .*--overwrite starts anew"):
        family.check(NET, FLAGS, [0.5], False)


def test_facts_and_seconds_are_kept_over_starts(family):
    family.record(title="a net")
    family.add_seconds("members", 2.5)
    family.add_seconds("members", 1.0)
    family.open({"net": NET, "flags": FLAGS, "ratios": [0.5, 0.75, 0.9]})
    known = family.known()
    assert (known["facts"], known["seconds"], known["ratios"]) == (
        {"title": "a net"},
        {"members": 3.5},
        [0.5, 0.75, 0.9],
    )


def test_overwriting_deletes_what_a_sweep_leaves_and_nothing_else(family):
    for name in ("ratio_0.5", "ratio_0.9", "dense", "logs", "mine"):
        (family.path / name).mkdir()
        (family.path / name / "file").touch()
    for name in ("paths.npz", "compare.html", "notes.txt"):
        (family.path / name).touch()
    family.record(title="old")
    family.open({"net": NET, "flags": FLAGS, "ratios": [0.5]}, overwrite=True)
    assert {path.name for path in family.path.iterdir()} == {"sweep.json", "mine", "notes.txt"}
    assert family.known()["facts"] == {}


def test_overwriting_stops_at_a_run_that_is_at_work_in_the_family(family):
    for name in ("ratio_0.5", "ratio_0.9"):
        (family.path / name).mkdir()
        (family.path / name / "model.keras").touch()
    lock = FileLock(family.path / "ratio_0.9" / "run.lock")
    lock.take()
    with pytest.raises(InputError, match=rf"a run is at work in .*ratio_0\.9: process {os.getpid()}"):
        family.open({"net": NET, "flags": FLAGS, "ratios": [0.5]}, overwrite=True)
    assert (family.path / "ratio_0.5" / "model.keras").exists()
    lock.free()
    family.open({"net": NET, "flags": FLAGS, "ratios": [0.5]}, overwrite=True)
    assert not (family.path / "ratio_0.5").exists()


def test_a_second_sweep_is_told_who_is_at_work(family):
    with (
        family.hold(print),
        pytest.raises(InputError, match=f"another sweep is at work in .*: process {os.getpid()}"),
        FamilyDir(family.path).hold(print),
    ):
        pytest.fail("two sweeps hold the family")
    with family.hold(print):  # free again
        pass


def test_the_runs_of_a_sweep_that_was_killed_are_waited_for(family):
    """A child that has the lock, as a member has it, outlives the process whose number is in it."""
    said, lock = [], FileLock(family.path / "sweep.lock")
    lock.take()
    command = [sys.executable, "-S", "-c", "input()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(lock.descriptor,))
    holder = json.loads(lock.path.read_text()) | {"pid": 1, "began": "0"}  # number 1 began at another time
    lock.path.write_text(json.dumps(holder))
    del lock  # as if this process had been killed: the file stays
    try:
        with pytest.raises(RunError, match="runs of an earlier sweep are still at work"), family.hold(said.append, 0.3):
            pytest.fail("the child still has the lock")
    finally:
        child.communicate(b"\n")
    assert said == ["waiting for the runs of an earlier sweep to end"]
    with family.hold(said.append, 0.3):
        pass


def _member(tmp_path, *flags):
    return Member("ratio_0.5", "0.5", tmp_path / "ratio_0.5", ("net_run.py", *flags))


def _write(member, config, *files):
    member.run_dir.mkdir()
    (member.run_dir / "config.json").write_text(json.dumps(config))
    for name in files:
        (member.run_dir / name).write_text('{"dense": {}, "paths": {}}')


def test_finished_is_a_run_with_a_report_and_these_flags(tmp_path):
    flags = ("--ws_prune_ratio=0.5", "--save_path=/here/model.keras", "--seed=3", "--enbl_amp=false", "--run_dir=x")
    member = _member(tmp_path, *flags)
    assert not is_finished(member)
    config = {"ws_prune_ratio": 0.5, "save_path": "/moved/model.keras", "seed": 3, "enbl_amp": False, "resnet_size": 20}
    _write(member, config, "report.json")
    assert is_finished(member)
    assert not is_finished(_member(tmp_path, "--seed=4"))
    assert not is_finished(_member(tmp_path, "--enbl_amp=true"))
    (member.run_dir / "report.json").unlink()
    assert not is_finished(member)


def test_a_damaged_run_is_not_finished(tmp_path):
    member = _member(tmp_path)
    _write(member, {}, "report.json")
    Path(member.run_dir / "report.json").write_text("{")
    assert not is_finished(member)


def test_who_has_finished_fewer_stages_has_more_to_do(tmp_path):
    member = _member(tmp_path)
    assert work_done(member) == 0
    _write(member, {}, "stages.json")
    assert work_done(member) == 2
