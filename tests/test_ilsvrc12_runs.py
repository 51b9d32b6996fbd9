"""Whole runs on record files like ILSVRC-12's, as a user starts them."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from datasets.ilsvrc12.dataset import load_ilsvrc12
from tests.ilsvrc12_files import corrupt, example, examples, write_ilsvrc12

TINY = "tests/nets_for_tests/tiny_at_ilsvrc12_run.py"
CLASSES = 24  # enough for the search to go by the five largest outputs
FLAGS = f"""--model_http_url= --image_size 16 --nb_classes {CLASSES} --batch_size 16 --batch_size_eval 8
    --export_formats none --nb_smpls_val 8 --nb_epochs_rat 0.5 --summ_step 2 --save_step 100"""
BAD = "bad.JPEG"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """64 training records, of which one cannot be decoded, and 19 of test, of which one cannot either."""
    train, test = (examples(count, first, CLASSES) for count, first in ((64, 0), (19, 100)))
    train[3] = test[4] = example(corrupt(0), 1, BAD)
    return write_ilsvrc12(tmp_path_factory.mktemp("data"), train, test)


@pytest.fixture
def run(run_program):
    def run_here(data: Path, run_dir: Path, *flags: str, code: int = 0) -> str:
        words = [TINY, "--data_disk", "local", "--data_dir_local", str(data), "--run_dir", str(run_dir)]
        return run_program(["main.py", *words, *FLAGS.split(), *flags], code)

    return run_here


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run with a teacher, and what it printed."""
    import contextlib
    import io

    import main

    run_dir = tmp_path_factory.mktemp("run") / "run"
    words = [TINY, "--data_disk", "local", "--data_dir_local", str(data), "--run_dir", str(run_dir), *FLAGS.split()]
    words += ["--learner", "weight-sparse", "--ws_prune_ratio_prtl", "dp", "--skip_bad_images", "--enbl_dst"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stop:
        main.run(["main.py", *words])
    assert stop.value.code == 0
    return run_dir, printed.getvalue()


def _report(run_dir):
    return json.loads((run_dir / "report.json").read_text())


def test_a_run_says_that_the_data_is_imagenet_s(finished):
    assert finished[1].splitlines()[0] == "tiny on ImageNet ILSVRC-12, learner weight-sparse"


def test_the_report_has_top_1_and_top_5_and_names_what_the_search_goes_by(finished):
    report = _report(finished[0])
    assert report["dataset"] == "ilsvrc12"
    assert report["search"]["reward_metric"] == "acc_top5"
    for part in (report["dense"], report["compressed"]):
        assert part["accuracy"] == part["acc_top1"] <= part["acc_top5"] <= 1
    assert "acc_top5" in finished[1]
    assert report["distillation"]["teacher"] == "the run's own dense network"


def test_pointwise_kernels_and_the_classifier_are_pruned_and_depthwise_ones_are_not(finished):
    layers = {row["path"]: row for row in _report(finished[0])["layers"]}
    assert list(layers) == ["conv1/kernel", "pointwise/kernel", "fc/kernel"]
    model = keras.models.load_model(finished[0] / "model.keras")
    assert np.all(model.get_layer("depthwise").kernel.numpy() != 0)
    zeros = sum(int(np.sum(model.get_layer(name).kernel.numpy() == 0)) for name in ("conv1", "pointwise", "fc"))
    assert zeros / sum(row["parameters"] for row in layers.values()) == pytest.approx(0.75, abs=0.01)


def test_images_that_cannot_be_decoded_are_named_in_the_report(finished):
    names = _report(finished[0])["skipped_images"]
    assert len(names) == 2
    assert all(BAD in name for name in names)
    assert "2 images (skipped_images in report.json)" in finished[1]


def test_evaluation_counts_every_image_once_to_the_last_odd_batch(finished, data, run):
    run_dir, _ = finished
    dataset = load_ilsvrc12(str(data), image_size=16, num_classes=CLASSES, skip_bad=True, quiet=True, **_mean_and_std())
    model = keras.models.load_model(run_dir / "model.keras")
    logits, labels = zip(*[(model(x, training=False), y) for x, y in dataset.test_batches(batch_size=3)], strict=True)
    logits, labels = np.concatenate(logits), np.concatenate(labels)
    assert len(labels) == 18
    better = np.sum(logits > logits[np.arange(18), labels][:, None], axis=1)
    loss = float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)))
    flags = ("--learner", "weight-sparse", "--exec_mode", "eval", "--skip_bad_images")
    for batch_size in ("8", "7"):
        printed = run(data, run_dir, *flags, "--batch_size_eval", batch_size)
        figures = f"acc_top1 {np.mean(better < 1):.4f}, acc_top5 {np.mean(better < 5):.4f}, loss {loss:.4f}"
        assert f"{figures} on ImageNet ILSVRC-12" in printed


def _mean_and_std():
    from nets.at_ilsvrc12 import Ilsvrc12ModelHelper

    return {"mean": np.float32(Ilsvrc12ModelHelper.mean), "std": np.float32(Ilsvrc12ModelHelper.std)}


def test_a_run_ends_at_an_image_that_cannot_be_decoded_and_goes_on_without_it(data, tmp_path, run):
    message = run(data, tmp_path / "run", code=2)
    assert BAD in message
    assert "--skip_bad_images goes on without such images" in message
    assert message.count("error:") == 1
    run(data, tmp_path / "run", "--skip_bad_images", "--quiet")
    assert len(_report(tmp_path / "run")["skipped_images"]) == 2


def test_a_label_above_the_number_of_classes_is_told_before_any_work(data, tmp_path, run):
    message = run(data, tmp_path / "run", "--nb_classes", "10", "--skip_bad_images", code=2)
    assert "--nb_classes" in message
    assert not (tmp_path / "run").exists()


def test_the_embedded_set_takes_the_place_of_imagenet_at_any_size(tmp_path, run_program):
    few = "--nb_smpls_train 64 --nb_smpls_val 100 --nb_smpls_eval 50 --batch_size 32 --nb_epochs_rat 0.25"
    few += " --export_formats none"
    words = ["--data_disk", "embedded", "--image_size", "40", "--model_http_url=", "--run_dir", str(tmp_path / "run")]
    printed = run_program(["main.py", TINY, *words, *few.split()])
    assert "digits32 (embedded, not ImageNet)" in printed.splitlines()[0]
    assert keras.models.load_model(tmp_path / "run" / "model.keras").input_shape == (None, 40, 40, 3)
