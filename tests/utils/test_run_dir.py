import json
import os
import shutil

import pytest

from utils.errors import InputError, RunError
from utils.files import write_json
from utils.run_dir import RunDir


def test_nan_is_refused_in_json_and_the_old_file_stays(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"accuracy": 0.5})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"accuracy": float("nan")})
    assert json.loads(path.read_text()) == {"accuracy": 0.5}


def test_the_same_configuration_opens_again(tmp_path):
    RunDir(tmp_path / "run").open({"seed": 1})
    RunDir(tmp_path / "run").open({"seed": 1})


def test_another_configuration_names_every_difference(tmp_path):
    RunDir(tmp_path / "run").open({"seed": 1, "lrn_rate_init": 0.1, "momentum": 0.9})
    with pytest.raises(InputError) as error:
        RunDir(tmp_path / "run").open({"seed": 2, "lrn_rate_init": 0.2, "momentum": 0.9})
    assert "--seed: 1 there, 2 now" in str(error.value)
    assert "--lrn_rate_init: 0.1 there, 0.2 now" in str(error.value)
    assert "momentum" not in str(error.value)


def test_overwrite_deletes_a_run_but_nothing_else(tmp_path):
    run = RunDir(tmp_path / "run")
    run.open({"seed": 1})
    run.finish_stage("dense", 1.0)
    run.open({"seed": 2}, overwrite=True)
    assert run.stages() == {}
    stranger = tmp_path / "photos"
    stranger.mkdir()
    (stranger / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="holds no run of ours"):
        RunDir(stranger).open({"seed": 1}, overwrite=True)
    assert (stranger / "holiday.jpg").exists()


def test_a_run_that_did_nothing_is_released_and_one_that_did_is_kept(tmp_path):
    run = RunDir(tmp_path / "run")
    run.open({"model_http_url": "https://example.org/wrong.keras"})
    run.file("dense", "download.keras")  # makes the folder only
    run.release()
    run.open({"model_http_url": "https://example.org/right.keras"})
    run.finish_stage("dense", 1.0)
    run.release()
    assert list(run.stages()) == ["dense"]


def test_a_run_that_has_only_its_command_beside_is_released_too(tmp_path):
    run = RunDir(tmp_path / "run")
    run.open({"seed": 1})
    write_json(tmp_path / "run" / "command.json", {})
    run.release()
    assert not (tmp_path / "run").exists()


def test_a_second_run_is_refused_while_the_first_is_at_work(tmp_path):
    first, second = RunDir(tmp_path / "run"), RunDir(tmp_path / "run")
    first.open({"seed": 1})
    first.finish_stage("dense", 1.0)
    for overwrite in (False, True):
        with pytest.raises(InputError) as error:
            second.open({"seed": 1}, overwrite)
        assert f"another run is at work in {tmp_path / 'run'}: process {os.getpid()}, since 2" in str(error.value)
    assert list(first.stages()) == ["dense"]
    first.close()
    second.open({"seed": 1})
    assert list(second.stages()) == ["dense"]
    second.close()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "stages.json"]


def test_who_is_refused_leaves_the_lock_to_others(tmp_path):
    run = RunDir(tmp_path / "run")
    run.open({"seed": 1})
    run.close()
    with pytest.raises(InputError, match="another configuration"):
        RunDir(tmp_path / "run").open({"seed": 2})
    assert not (tmp_path / "run" / "run.lock").exists()


def test_what_a_start_leaves_that_was_killed_at_once_is_no_stranger_s(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").write_text("")
    (tmp_path / "run" / ".config.partial.json").write_text("{")
    RunDir(tmp_path / "run").open({"seed": 1})
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"seed": 1}


def test_a_deleted_run_directory_ends_the_run_and_is_not_made_again(tmp_path):
    run = RunDir(tmp_path / "run")
    run.open({"seed": 1})
    run.finish_stage("dense", 1.0)
    shutil.rmtree(run.path)
    for use in (run.stages, lambda: run.finish_stage("search", 1.0), lambda: run.file("training", "checkpoint.npz")):
        with pytest.raises(RunError, match=f"{run.path} was deleted, moved or replaced"):
            use()
    run.close()
    assert not run.path.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"dense": 3}', '{"dense": {}}', "\xff"])
def test_damaged_stages_are_named_with_what_to_do(tmp_path, content):
    run = RunDir(tmp_path / "run")
    run.open({"seed": 1})
    (run.path / "stages.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"stages\.json is damaged .*\. Delete it: the same command then finds out"):
        run.stages()
    with pytest.raises(RunError, match=r"stages\.json is damaged"):
        run.finish_stage("dense", 1.0)
    assert (run.path / "stages.json").read_bytes() == content.encode("latin-1")


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "\xff"])
def test_a_damaged_configuration_is_named_and_can_be_overwritten(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json is damaged .*: --overwrite starts anew"):
        RunDir(tmp_path).open({"seed": 1})
    RunDir(tmp_path).open({"seed": 1}, overwrite=True)
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 1}


def test_without_its_configuration_a_directory_is_nobody_s(tmp_path):
    run = RunDir(tmp_path / "run")
    run.open({"seed": 1})
    run.finish_stage("dense", 1.0)
    run.close()
    (run.path / "config.json").unlink()
    with pytest.raises(InputError, match="is not empty and holds no run of ours"):
        RunDir(tmp_path / "run").open({"seed": 1}, overwrite=True)


def test_a_link_to_a_directory_and_a_name_with_spaces_are_directories_too(tmp_path):
    (tmp_path / "a disk with room").mkdir()
    (tmp_path / "run").symlink_to("a disk with room")
    for overwrite in (False, True):
        run = RunDir(tmp_path / "run")
        run.open({"seed": 1}, overwrite)
        run.finish_stage("dense", 1.0)
        run.close()
    assert (tmp_path / "run").is_symlink()
    assert sorted(path.name for path in (tmp_path / "a disk with room").iterdir()) == ["config.json", "stages.json"]


def test_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "run").symlink_to("gone")
    with pytest.raises(InputError, match="a link to what is not there"):
        RunDir(tmp_path / "run").open({})


def test_a_directory_below_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*file/run: Not a directory"):
        RunDir(tmp_path / "file" / "run").open({})


def test_a_file_as_run_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="which is a file"):
        RunDir(tmp_path / "file").open({})


def test_stages_are_remembered_in_order(tmp_path):
    run = RunDir(tmp_path)
    run.finish_stage("dense", 1.5, {"accuracy": 0.9})
    run.finish_stage("search", 2.5)
    assert list(RunDir(tmp_path).stages().items()) == [
        ("dense", {"seconds": 1.5, "accuracy": 0.9}),
        ("search", {"seconds": 2.5}),
    ]
