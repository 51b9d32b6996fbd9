"""Whole runs of the lottery-ticket learner, as a user starts them, on a small part of the embedded data set."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TINY = "tests/nets_for_tests/tiny_at_cifar10_run.py"
# Not even a path.conf of this machine changes where data and model come from. Four epochs of ten steps.
FLAGS = """--learner lottery-ticket --lt_prune_iterations 2 --data_disk embedded --model_http_url= --nb_smpls_train 320
    --export_formats none --nb_smpls_val 100 --nb_smpls_eval 100 --batch_size 32 --nb_epochs_rat 0.5 --summ_step 5"""
LATE = ("--lt_rewind_epoch", "1")


def arguments(run_dir, *flags):
    return ["main.py", TINY, "--run_dir", str(run_dir), *FLAGS.split(), *flags]


@pytest.fixture
def run(run_program):
    return lambda run_dir, *flags, code=0: run_program(arguments(run_dir, *flags), code)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An undisturbed run in a process of its own, and what it printed."""
    run_dir = tmp_path_factory.mktemp("lottery") / "run"
    done = subprocess.run([sys.executable, *arguments(run_dir, *LATE)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return run_dir, done.stdout


def report(run_dir):
    return json.loads((run_dir / "report.json").read_text())


def test_a_run_tells_its_rounds_and_reaches_the_target(finished):
    run_dir, printed = finished
    assert "round 1 of 2: 55.2% removed, training from epoch 1 to 4" in printed
    assert "round 2 of 2: 79.9% removed, training from epoch 1 to 4" in printed
    assert "0 (dense)" in printed
    found = report(run_dir)
    sizes = [row["parameters"] for row in found["layers"]]
    assert sorted(sizes) == [128, 160, 216, 576, 1152, 2304]
    removed = [round(row["sparsity"] * row["parameters"]) for row in found["layers"]]
    assert removed == [size * 4 // 5 for size in sizes]
    assert [row["round"] for row in found["rounds"]] == [0, 1, 2]
    model = keras.models.load_model(run_dir / "model.keras")
    kernels = {v.path: np.asarray(v.value) for v in model.weights}
    assert [int(np.sum(kernels[row["path"]] == 0)) for row in found["layers"]] == removed


def test_the_plots_are_pictures_and_each_training_has_its_curves(finished):
    run_dir, _ = finished
    for name in ("lottery_ticket", "training_dense", "training_round_1", "training_round_2"):
        with Image.open(run_dir / "plots" / f"{name}.png") as picture:
            assert min(picture.size) > 300
    curves = ["dense", "round_1", "round_2"]
    pictures = ["report", "weights_after", "weights_before"]
    assert sorted(path.name for path in (run_dir / "tensorboard").iterdir()) == sorted(curves + pictures)


def test_the_network_of_any_round_can_be_evaluated(finished, run):
    run_dir, _ = finished
    ticket = str(run_dir / "round_1" / "model.keras")
    printed = run(run_dir, *LATE, "--exec_mode", "eval", "--save_path_eval", ticket)
    assert f"test accuracy {report(run_dir)['rounds'][1]['accuracy']:.4f}" in printed


def test_the_same_command_again_repeats_nothing_and_another_is_refused(finished, run):
    run_dir, _ = finished
    before = report(run_dir)
    assert "round 1 of 2" not in run(run_dir, *LATE)
    assert report(run_dir) == before
    message = run(run_dir, *LATE, "--lt_prune_ratio", "0.9", code=2)
    assert "--lt_prune_ratio: 0.8 there, 0.9 now" in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--lt_prune_ratio 0", "--lt_prune_ratio must be above 0 and below 1. Received: 0.0"),
        ("--lt_prune_ratio 1", "--lt_prune_ratio must be above 0 and below 1. Received: 1.0"),
        ("--lt_prune_iterations 0", "--lt_prune_iterations must be at least 1. Received: 0"),
        ("--lt_rewind_epoch=-1", "--lt_rewind_epoch must be at least 0. Received: -1"),
        ("--lt_rewind_epoch 4", "--lt_rewind_epoch must be below the number of epochs of a training, 4. Received: 4"),
        ("--noenbl_warm_start", "--enbl_warm_start must be true with --learner lottery-ticket. Received: false"),
        ("--model_http_url https://example.org/", "--model_http_url must be empty: --learner lottery-ticket goes back"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(run, tmp_path, flags, message):
    assert message in run(tmp_path / "run", *flags.split(), code=2)
    assert not (tmp_path / "run").exists()


def test_a_dense_model_from_elsewhere_is_refused(finished, run, tmp_path):
    given = finished[0] / "dense" / "model.keras"
    message = run(tmp_path / "run", "--save_path", str(given), code=2)
    assert "--save_path must not exist yet: --learner lottery-ticket goes back to the weights" in message
    assert not (tmp_path / "run").exists()
