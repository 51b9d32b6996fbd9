"""Whole runs of the program, as a user starts it, on a small part of the embedded data set."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TINY = """--nb_smpls_train 320 --nb_smpls_val 100 --nb_smpls_eval 100 --batch_size 32 --nb_epochs_rat 0.25
    --summ_step 2 --save_step 2 --ws_nb_rlouts 12 --ws_nb_rlouts_min 7 --ws_nb_iters_ft 4 --ws_nb_finalists 2
    --ws_prune_ratio 0.75""".split()


def _command(run_dir, *flags, net="lenet"):
    script = f"nets/{net}_at_cifar10_run.py"
    return [sys.executable, "main.py", script, "--run_dir", str(run_dir), *TINY, *flags]


def _run(run_dir, *flags, net="lenet"):
    result = subprocess.run(_command(run_dir, *flags, net=net), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def _report(run_dir):
    return json.loads((run_dir / "report.json").read_text())


def _results(report):
    """The report without what is a time."""
    return {
        "dense": report["dense"],
        "compressed": report["compressed"],
        "layers": report["layers"],
        "sizes": report["sizes"],
        "rollouts": report["search"]["rollouts"],
        "best_reward": report["search"]["best_reward"],
    }


def _weights(run_dir):
    return keras.models.load_model(run_dir / "model.keras").get_weights()


@pytest.fixture(scope="module")
def optimal(tmp_path_factory):
    """An undisturbed search, and what it printed."""
    run_dir = tmp_path_factory.mktemp("optimal") / "run"
    return run_dir, _run(run_dir, "--learner", "weight-sparse")


def test_a_run_says_on_its_first_line_that_the_data_is_embedded(optimal):
    _, printed = optimal
    assert "digits32" in printed.splitlines()[0]
    assert "not CIFAR-10" in printed.splitlines()[0]


def test_the_report_has_the_agreed_keys_and_reaches_the_target(optimal):
    run_dir, _ = optimal
    report = _report(run_dir)
    assert (report["model"], report["dataset"], report["learner"]) == ("lenet", "digits32", "weight-sparse")
    kept = sum(row["parameters"] - round(row["parameters"] * row["sparsity"]) for row in report["layers"])
    total = sum(row["parameters"] for row in report["layers"])
    assert total == 32 * 75 + 64 * 800 + 4096 * 256 + 256 * 84 + 84 * 10
    assert kept <= 0.25 * total
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
    assert [record["index"] for record in records] == list(range(12))
    assert [record["source"] for record in records[:6]] == ["uniform", "heurist", "erk", "lamp", "global", "dp"]
    assert {record["source"] for record in records[6:]} == {"agent"}
    assert all(record["overall_ratio"] >= 0.75 for record in records)
    assert all(record["reward"] == record["accuracy"] for record in records)


def test_plots_are_pictures(optimal):
    run_dir, _ = optimal
    for name in ("search", "ratios", "training_dense", "training_training"):
        with Image.open(run_dir / "plots" / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_the_same_command_again_repeats_nothing(optimal):
    run_dir, _ = optimal
    before, lines = _report(run_dir), (run_dir / "search.jsonl").read_text()
    _run(run_dir, "--learner", "weight-sparse")
    assert _report(run_dir) == before
    assert (run_dir / "search.jsonl").read_text() == lines


def test_another_configuration_is_refused_and_nothing_is_touched(optimal):
    run_dir, _ = optimal
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    command = _command(run_dir, "--learner", "weight-sparse", "--seed", "3")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert "--seed: 0 there, 3 now" in result.stderr
    assert "Traceback" not in result.stderr
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


def test_evaluation_of_the_saved_model_gives_the_reported_accuracy(optimal):
    run_dir, _ = optimal
    printed = _run(run_dir, "--learner", "weight-sparse", "--exec_mode", "eval")
    assert f"test accuracy {_report(run_dir)['compressed']['accuracy']:.4f}" in printed


def test_the_dense_model_of_one_run_starts_another(optimal, tmp_path):
    run_dir, _ = optimal
    dense = run_dir / "dense" / "model.keras"
    _run(tmp_path / "run", "--learner", "weight-sparse", "--ws_prune_ratio_prtl", "erk", "--save_path", str(dense))
    report = _report(tmp_path / "run")
    assert report["dense"]["accuracy"] == _report(run_dir)["dense"]["accuracy"]
    assert report["dense"]["source"] == str(dense)
    assert not (tmp_path / "run" / "dense" / "checkpoint.npz").exists()


def test_dense_model_of_another_network_is_refused(optimal, tmp_path):
    run_dir, _ = optimal
    command = _command(tmp_path / "run", "--save_path", str(run_dir / "dense" / "model.keras"), net="resnet")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert "holds another network" in result.stderr
    assert "conv1/kernel: (5, 5, 3, 32) there, (3, 3, 3, 16) here" in result.stderr


def test_full_precision_run(tmp_path):
    printed = _run(tmp_path / "run", "--learner", "full-prec")
    report = _report(tmp_path / "run")
    assert report["compressed"] is None
    assert report["search"] is None
    assert f"{report['dense']['accuracy'] * 100:.1f}" in printed


@pytest.mark.parametrize(
    "flags",
    [
        ("--ws_rg_solver", "sgd", "--ws_rlout_ft", "every", "--ws_nb_rlouts", "8"),
        ("--ws_reward_type", "multi-obj", "--ws_rlout_ft", "none", "--ws_nb_rlouts", "8", "--ws_train_init", "dense"),
    ],
    ids=["classical", "multi-objective"],
)
def test_other_ways_of_searching(tmp_path, flags):
    _run(tmp_path / "run", "--learner", "weight-sparse", *flags)
    records = [json.loads(line) for line in (tmp_path / "run" / "search.jsonl").read_text().splitlines()]
    assert len(records) == 8
    for record in records:
        expected = record["accuracy"] if record["accuracy_after"] is None else record["accuracy_after"]
        if "multi-obj" in flags:
            expected *= np.log1p(record["overall_ratio"])
        assert record["reward"] == pytest.approx(expected, rel=1e-12)
        assert (record["accuracy_after"] is not None) == ("every" in flags)


def _kill_when(run_dir, is_time):
    """Starts the program and kills it without warning as soon as `is_time()`; False where it ended before that."""
    environment = dict(os.environ)
    process = subprocess.Popen(
        _command(run_dir, "--learner", "weight-sparse"),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if is_time():
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.005)
    process.kill()
    process.wait()
    return False


def _has_lines(path, count):
    return path.exists() and len(path.read_text().splitlines()) >= count


def test_a_run_killed_in_every_stage_ends_like_one_that_was_not(optimal, tmp_path):
    undisturbed, _ = optimal
    run_dir = tmp_path / "run"
    moments = {
        "dense training": lambda: (run_dir / "dense" / "checkpoint.previous.npz").exists(),
        "pruning paths": lambda: (run_dir / "stages.json").exists(),
        "search before the agent learns": lambda: _has_lines(run_dir / "search.jsonl", 3),
        "search while it learns": lambda: _has_lines(run_dir / "search.jsonl", 10),
        "finalists": lambda: (run_dir / "finalists" / "finalist_0.npz").exists(),
        "final training": lambda: (run_dir / "training" / "checkpoint.previous.npz").exists(),
    }
    killed = [name for name, is_time in moments.items() if _kill_when(run_dir, is_time)]
    assert killed == list(moments)
    _run(run_dir, "--learner", "weight-sparse")
    assert _results(_report(run_dir)) == _results(_report(undisturbed))
    for found, expected in zip(_weights(run_dir), _weights(undisturbed), strict=True):
        np.testing.assert_array_equal(found, expected)
    lines = [json.loads(line) for line in (run_dir / "search.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (undisturbed / "search.jsonl").read_text().splitlines()]
    times = ("seconds", "agent_seconds")
    for found, wanted in zip(lines, expected, strict=True):
        assert {k: v for k, v in found.items() if k not in times} == {k: v for k, v in wanted.items() if k not in times}
