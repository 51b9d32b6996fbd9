import errno
import json

import numpy as np
import pytest

from utils.errors import InputError, RunError
from utils.files import write_atomically, write_json
from utils.run_dir import Checkpoint, RunDir, read_checkpoint, write_checkpoint


def _checkpoint(step):
    return Checkpoint({"conv1/kernel": np.full((2, 3), step, np.float32)}, {"step": step, "history": [0.1, 1 / 3]})


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, _checkpoint(7))
    found = read_checkpoint(path)
    assert found.meta == {"step": 7, "history": [0.1, 1 / 3]}
    np.testing.assert_array_equal(found.arrays["conv1/kernel"], np.full((2, 3), 7, np.float32))


def test_no_checkpoint_is_none(tmp_path):
    assert read_checkpoint(tmp_path / "checkpoint.npz") is None


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path, capsys, keep):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, _checkpoint(1))
    write_checkpoint(path, _checkpoint(2))
    path.write_bytes(path.read_bytes()[:keep])
    assert read_checkpoint(path).meta["step"] == 1
    assert "is damaged" in capsys.readouterr().err


def test_a_flipped_byte_in_an_array_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, _checkpoint(1))
    write_checkpoint(path, _checkpoint(2))
    content = bytearray(path.read_bytes())
    at = content.index(np.full(6, 2, np.float32).tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert read_checkpoint(path).meta["step"] == 1


def test_nothing_readable_is_an_error_not_a_fresh_start(tmp_path):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, _checkpoint(1))
    path.write_bytes(b"")
    with pytest.raises(RunError, match="no readable checkpoint"):
        read_checkpoint(path)


def test_a_full_disk_keeps_the_last_good_file(tmp_path):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, _checkpoint(1))

    def fail(temporary):
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match="No space left on device; the last good checkpoint.npz stays"):
        write_atomically(path, fail)
    assert read_checkpoint(path).meta["step"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.npz"]


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
