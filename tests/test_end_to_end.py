"""Whole runs of the program, as a user starts it, on a small part of the embedded data set."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from utils.checkpoints import read_checkpoint

pytestmark = pytest.mark.usefixtures("without_pages")

ROOT = Path(__file__).resolve().parent.parent
TINY = "tests/nets_for_tests/tiny_at_cifar10_run.py"
LENET = "nets/lenet_at_cifar10_run.py"
RESNET = "nets/resnet_at_cifar10_run.py"
# Not even a path.conf of this machine changes where data and model come from.
FLAGS = """--data_disk embedded --model_http_url= --nb_smpls_train 320 --nb_smpls_val 100 --nb_smpls_eval 100
    --export_formats none
    --batch_size 32 --nb_epochs_rat 0.25 --summ_step 2 --save_step 2 --ws_nb_rlouts 40 --ws_nb_rlouts_min 15
    --ws_nb_iters_ft 4 --ws_nb_finalists 2 --ws_prune_ratio 0.75"""
SPARSE = ("--learner", "weight-sparse")


def _arguments(run_dir, *flags, net=TINY):
    return ["main.py", net, "--run_dir", str(run_dir), *FLAGS.split(), *flags]


def _run_as_process(run_dir, *flags, net=TINY):
    """Its standard output."""
    command = [sys.executable, *_arguments(run_dir, *flags, net=net)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture
def run(run_program):
    """Runs the program in this process, which saves TensorFlow's start; returns what it printed."""

    def run_here(run_dir, *flags, net=TINY, code=0):
        return run_program(_arguments(run_dir, "--save_step", "100", *flags, net=net), code)

    return run_here


def _report(run_dir):
    return json.loads((run_dir / "report.json").read_text())


def _weights(run_dir):
    return keras.models.load_model(run_dir / "model.keras").get_weights()


@pytest.fixture(scope="module")
def optimal(tmp_path_factory):
    """An undisturbed search, and what it printed."""
    run_dir = tmp_path_factory.mktemp("optimal") / "run"
    return run_dir, _run_as_process(run_dir, *SPARSE)


def test_a_run_says_on_its_first_line_that_the_data_is_embedded(optimal):
    _, printed = optimal
    assert "digits32" in printed.splitlines()[0]
    assert "not CIFAR-10" in printed.splitlines()[0]


def test_the_report_has_the_agreed_keys_and_reaches_the_target(optimal):
    run_dir, _ = optimal
    report = _report(run_dir)
    assert (report["model"], report["dataset"], report["learner"]) == ("tiny", "digits32", "weight-sparse")
    assert sorted(row["parameters"] for row in report["layers"]) == sorted(
        [27 * 8, 72 * 8, 8 * 16, 72 * 16, 144 * 16, 16 * 10]
    )
    kept = sum(row["parameters"] - round(row["parameters"] * row["sparsity"]) for row in report["layers"])
    total = 216 + 576 + 128 + 1152 + 2304 + 160
    assert kept <= 0.25 * total == 1134
    assert report["compressed"]["sparsity"] == pytest.approx(1 - kept / total)
    assert report["layers"][0]["sparsity"] == report["layers"][-1]["sparsity"] == 0
    assert [stage["name"] for stage in report["stages"]] == [
        "dense", "paths", "search", "finalists", "training", "report",
    ]  # fmt: skip


def test_the_saved_model_has_the_reported_zeros(optimal):
    run_dir, _ = optimal
    model = keras.models.load_model(run_dir / "model.keras")
    kernels = {v.path: np.asarray(v) for v in model.variables if v.path.endswith("/kernel")}
    for row in _report(run_dir)["layers"]:
        zeros = int(np.sum(kernels[row["path"]] == 0))
        assert zeros / row["parameters"] == pytest.approx(row["sparsity"])


def test_the_search_begins_with_the_other_protocols_and_stays_within_the_budget(optimal):
    run_dir, _ = optimal
    records = [json.loads(line) for line in (run_dir / "search.jsonl").read_text().splitlines()]
    assert [record["index"] for record in records] == list(range(40))
    assert [record["source"] for record in records[:6]] == ["uniform", "heurist", "erk", "lamp", "global", "dp"]
    assert {record["source"] for record in records[6:]} == {"agent"}
    assert all(record["overall_ratio"] >= 0.75 for record in records)
    assert all(record["reward"] == record["accuracy"] for record in records)


def test_the_finalist_of_most_merit_is_the_one_that_is_trained(optimal):
    run_dir, _ = optimal
    finalists = [read_checkpoint(run_dir / "finalists" / f"finalist_{place}.npz").meta for place in range(2)]
    assert finalists[0]["index"] < 6  # a given allocation
    chosen = max(finalists, key=lambda finalist: finalist["merit"])
    report = _report(run_dir)
    assert report["search"]["best_reward"] == chosen["reward"]
    assert {row["path"]: row["target_ratio"] for row in report["layers"]} == chosen["ratios"]


def test_a_formula_solved_by_adam_needs_no_paths(optimal, run, tmp_path):
    dense = optimal[0] / "dense" / "model.keras"
    flags = "--ws_prune_ratio_prtl erk --ws_rg_solver sgd --ws_nb_iters_rg 2 --save_path"
    run(tmp_path / "run", *SPARSE, *flags.split(), str(dense))
    assert [stage["name"] for stage in _report(tmp_path / "run")["stages"]] == [
        "dense", "finalists", "training", "report",
    ]  # fmt: skip
    assert not (tmp_path / "run" / "paths.npz").exists()


def test_plots_are_pictures(optimal):
    run_dir, _ = optimal
    for name in ("search", "ratios", "training_dense", "training_training"):
        with Image.open(run_dir / "plots" / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_the_same_command_again_repeats_nothing(optimal, run):
    run_dir, _ = optimal
    before, lines = _report(run_dir), (run_dir / "search.jsonl").read_text()
    run(run_dir, *SPARSE)
    assert _report(run_dir) == before
    assert (run_dir / "search.jsonl").read_text() == lines


def test_another_configuration_is_refused_and_nothing_is_touched(optimal, run):
    run_dir, _ = optimal
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    message = run(run_dir, *SPARSE, "--seed", "3", code=2)
    assert "--seed: 0 there, 3 now" in message
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


def test_evaluation_of_the_saved_model_gives_the_reported_accuracy(optimal, run):
    run_dir, _ = optimal
    printed = run(run_dir, *SPARSE, "--exec_mode", "eval")
    assert f"test accuracy {_report(run_dir)['compressed']['accuracy']:.4f}" in printed


def test_the_dense_model_of_one_run_starts_another(optimal, run, tmp_path):
    run_dir, _ = optimal
    dense = run_dir / "dense" / "model.keras"
    run(tmp_path / "run", *SPARSE, "--ws_prune_ratio_prtl", "erk", "--save_path", str(dense))
    report = _report(tmp_path / "run")
    assert report["dense"]["accuracy"] == _report(run_dir)["dense"]["accuracy"]
    assert report["dense"]["source"] == str(dense)
    assert not (tmp_path / "run" / "dense" / "checkpoint.npz").exists()


def test_dense_model_of_another_network_is_refused(optimal, tmp_path):
    run_dir, _ = optimal
    flags = ("--save_path", str(run_dir / "dense" / "model.keras"))
    command = [sys.executable, *_arguments(tmp_path / "run", *flags, net=RESNET)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "holds another network" in result.stderr
    assert "conv1/kernel: missing there, (3, 3, 3, 16) here" in result.stderr
    assert not (tmp_path / "run").exists()


def test_full_precision_run(run, tmp_path):
    printed = run(tmp_path / "run", "--learner", "full-prec")
    report = _report(tmp_path / "run")
    assert report["compressed"] is None
    assert report["search"] is None
    assert f"{report['dense']['accuracy'] * 100:.1f}" in printed


def test_our_lenet_under_the_dynamic_schedule(tmp_path):
    flags = "--ws_prune_ratio_prtl uniform --ws_train_init dense --save_step 100"
    _run_as_process(tmp_path / "run", *SPARSE, *flags.split(), net=LENET)
    report = _report(tmp_path / "run")
    assert [row["parameters"] for row in report["layers"]] == [32 * 75, 64 * 800, 4096 * 256, 256 * 84, 84 * 10]
    total = 2400 + 51200 + 1048576 + 21504 + 840
    assert report["compressed"]["sparsity"] == (total - total // 4) / total
    uniform = report["compressed"]["sparsity"] * total / (51200 + 1048576 + 21504)
    for row, expected in zip(report["layers"], (0, uniform, uniform, uniform, 0), strict=True):
        assert row["sparsity"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "flags",
    [
        "--ws_rg_solver sgd --ws_nb_iters_rg 2 --ws_rlout_ft every",
        "--ws_reward_type multi-obj --ws_rlout_ft none --ws_train_init dense",
    ],
    ids=["classical", "multi-objective"],
)
def test_other_ways_of_searching(run, tmp_path, flags):
    run(tmp_path / "run", *SPARSE, *flags.split(), "--ws_nb_rlouts", "8", "--ws_nb_rlouts_min", "7")
    records = [json.loads(line) for line in (tmp_path / "run" / "search.jsonl").read_text().splitlines()]
    assert len(records) == 8
    for record in records:
        expected = record["accuracy"] if record["accuracy_after"] is None else record["accuracy_after"]
        if "multi-obj" in flags:
            expected *= np.log1p(record["overall_ratio"])
        assert record["reward"] == pytest.approx(expected, rel=1e-12)
        assert (record["accuracy_after"] is not None) == ("every" in flags)
