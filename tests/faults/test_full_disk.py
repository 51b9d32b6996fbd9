"""A run on a disk that is full, or must not be written: one error, nothing lost, and it goes on once there is room."""

import json
import subprocess

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from export.figures import figure_png, save_figure
from export.formats import FORMATS
from export.keras_model import save_plain_model
from export.tensorboard import ScalarLog, log_pictures
from tests.export.small_network import small_network, small_source
from tests.faults.in_process import run
from tests.full_disk import no_file_above
from utils.errors import RunError

FULL_PRECISION = ("--learner", "full-prec")


@pytest.fixture
def small_disk(tmp_path):
    """A directory that is a disk of its own, and `remount(options)`."""
    directory = tmp_path / "a small disk"
    directory.mkdir()

    def mount(options):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], capture_output=True)

    if mount("size=48k").returncode:
        pytest.skip("only who may mount a file system has a small disk")
    yield directory, lambda options: mount(f"remount,{options}").check_returncode()
    subprocess.run(["umount", "-l", directory], check=True)


def test_a_run_on_a_full_disk_stops_and_goes_on_once_there_is_room(small_disk, tmp_path):
    disk, remount = small_disk
    run_dir, finished = disk / "run", []
    for size in ("48k", "120k", "280k"):
        remount(f"size={size}")
        said = run(run_dir, *FULL_PRECISION, code=1)
        assert "error: cannot write " in said
        assert "No space left on device" in said
        assert (run_dir / "config.json").stat().st_size > 0
        stages = json.loads((run_dir / "stages.json").read_text()) if (run_dir / "stages.json").exists() else {}
        assert set(finished) <= set(stages)
        finished = list(stages)
        assert not list(run_dir.rglob(".*partial*"))
    remount("size=64m")
    run(run_dir, *FULL_PRECISION)
    run(tmp_path / "whole", *FULL_PRECISION)
    found, expected = (
        keras.models.load_model(path / "model.keras").get_weights() for path in (run_dir, tmp_path / "whole")
    )
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)
    remount("ro")
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    for directory in (run_dir, disk / "new"):
        said = run(directory, *FULL_PRECISION, code=1)
        assert f"cannot write {directory}" in said
        assert "Read-only file system; nothing was overwritten" in said
    run(run_dir, *FULL_PRECISION, "--exec_mode", "eval")  # only reads
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


def _scalars(directory):
    with ScalarLog(directory) as log:
        for step in range(20):
            log.log(step, {"loss": 0.5})


PICTURE = figure_png(Figure())
WRITERS = {
    "model.keras": lambda directory: save_plain_model(small_network(), directory / "model.keras"),
    "plot": lambda directory: save_figure(Figure(), directory / "plots" / "ratios.png"),
    "scalars": _scalars,
    "pictures": lambda directory: log_pictures(directory, {"ratios": PICTURE}, {}),
    **{
        name: lambda directory, form=FORMATS[name]: form.write(small_source(), directory / form.file)
        for name in ("saved-model", "litert", "onnx", "trim")
    },
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_every_kind_of_file_that_does_not_fit_is_one_error_and_leaves_nothing(tmp_path, write):
    with no_file_above(300), pytest.raises((RunError, OSError)) as error:
        write(tmp_path)
    assert "cannot write" in str(error.value) or error.value.strerror
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "tfevents" not in path.name]
    assert files == []
