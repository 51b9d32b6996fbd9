"""Whole runs of the scheduled learner, as a user starts it: each recipe on a few images, and what they leave."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from compressors.scheduled_policies import Training
from compressors.scheduler import CompressionScheduler
from learners.train_step import TrainStep
from nets.architectures import build_architecture
from nets.resnet import build_resnet
from tests.small_training import cross_entropy

pytestmark = pytest.mark.usefixtures("without_pages")

ROOT = Path(__file__).resolve().parent.parent
RESNET = "nets/resnet_at_cifar10_run.py"
TINY = "tests/nets_for_tests/tiny_at_cifar10_run.py"
FEW = "--data_disk embedded --model_http_url= --nb_smpls_train 48 --nb_smpls_val 30 --nb_smpls_eval 30 --batch_size 16"
FEW += " --export_formats none"
SCHEDULED = ("--learner", "scheduled")
RECIPES = sorted(path.name for path in (ROOT / "recipes").glob("resnet20.*.yaml"))


@pytest.fixture
def run(run_program):
    """Runs the scheduled learner in this process; returns what it printed."""

    def run_here(run_dir, *flags, net=TINY, code=0):
        return run_program(["main.py", net, "--run_dir", str(run_dir), *FEW.split(), *SCHEDULED, *flags], code)

    return run_here


@pytest.fixture(scope="module")
def dense_resnet(tmp_path_factory):
    """An untrained ResNet-20 in place of the dense network: its training is other tests' business."""
    path = tmp_path_factory.mktemp("dense") / "dense.keras"
    keras.utils.set_random_seed(0)
    build_resnet(20, 10).save(path)
    return path


def report_of(run_dir):
    return json.loads((run_dir / "report.json").read_text())


def distinct_values(model, layer):
    return len(np.unique(model.get_layer(layer).kernel))


# What of each recipe must be seen in its result, whatever the data.
EXPECTED = {
    "agp": lambda report, model: report["compressed"]["sparsity"] == pytest.approx(0.7968, abs=1e-4),
    "level": lambda report, model: report["compressed"]["sparsity"] == pytest.approx(0.757, abs=0.01),
    "sensitivity": lambda report, model: (
        0.3 < report["compressed"]["sparsity"] < 0.95 and report["layers"][0]["target_ratio"] is None
    ),
    "splicing": lambda report, model: 0.3 < report["compressed"]["sparsity"] < 0.95,
    "filters": lambda report, model: (
        report["compressed"]["flops"] < 0.6 * report["dense"]["flops"]
        and model.get_layer("layer3.0.conv1").kernel.shape == (3, 3, 16, 32)
    ),
    "filter_ranking": lambda report, model: model.get_layer("layer3.0.conv1").kernel.shape[-1] == 32,
    "dorefa": lambda report, model: distinct_values(model, "layer3.2.conv2") <= 16,
    "pact": lambda report, model: distinct_values(model, "layer3.2.conv2") <= 16,
    "wrpn": lambda report, model: distinct_values(model, "layer3.2.conv2") <= 255,
    "qat": lambda report, model: distinct_values(model, "fc") <= 10 * 256,
    "post_training": lambda report, model: distinct_values(model, "conv1") <= 16 * 256,
    "prune_then_quantize": lambda report, model: 0.7 < report["compressed"]["sparsity"] < 0.85,
    "hybrid": lambda report, model: 0.75 < report["compressed"]["sparsity"] < 0.85,
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_recipe_runs(recipe, run, dense_resnet, tmp_path):
    flags = ("--compress", f"recipes/{recipe}", "--nb_epochs", "8", "--save_path", str(dense_resnet))
    printed = run(tmp_path / "run", *flags, net=RESNET)
    report = report_of(tmp_path / "run")
    model = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert report["learner"] == "scheduled"
    assert "test accuracy" in printed
    assert (tmp_path / "run" / "plots" / "ratios.png").exists() == any(row["sparsity"] for row in report["layers"])
    expected = EXPECTED.get(recipe.split(".")[1], lambda report, model: True)
    assert expected(report, model), report["compressed"]


def test_a_dry_run_does_not_wait_for_what_it_does_not_need():
    flags = ["main.py", RESNET, *SCHEDULED, "--compress", f"recipes/{RECIPES[0]}", "--dry_run"]
    program = f"""
import gc, sys, main
try:
    main.run({flags})
finally:
    print("loaded:", {{"matplotlib", "rl_agents.ddpg.agent"}} & set(sys.modules))
    print("garbage collection:", gc.isenabled(), gc.get_freeze_count() > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: set()\ngarbage collection: True True\n"), done.stdout[-300:]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_plan_of_each_recipe_is_printed_without_data(recipe, run, tmp_path):
    printed = run(
        tmp_path / "run", "--compress", f"recipes/{recipe}", "--dry_run", "--data_dir_local", str(tmp_path / "nowhere"),
        "--data_disk", "local", net=RESNET,
    )  # fmt: skip
    document = yaml.safe_load((ROOT / "recipes" / recipe).read_text())
    for section in ("pruners", "regularizers", "quantizers", "lr_schedulers", "extensions"):
        for name, item in document.get(section, {}).items():
            assert name in printed
            assert item["class"] in printed
    assert not (tmp_path / "run").exists()


def test_the_plan_counts_the_steps_of_keras_own_learning_rates(run, tmp_path):
    path = tmp_path / "cosine.yaml"
    rates = {"class": "CosineDecay", "initial_learning_rate": 0.5, "decay_steps": 12}
    policy = {"lr_scheduler": {"instance_name": "r"}, "starting_epoch": 0, "ending_epoch": 4, "frequency": 1}
    path.write_text(yaml.safe_dump({"lr_schedulers": {"r": rates}, "policies": [policy]}))
    printed = run(tmp_path / "run", "--compress", str(path), "--nb_epochs", "4", "--dry_run")
    # 48 images in batches of 16: three steps an epoch; .5 (1 + cos(pi t / 12)) / 2 at t = 0, 3, 6 and 9.
    assert re.search(r"0: 0\.5\s+1: 0\.4268\s+2: 0\.25\s+3: 0\.07322", printed), printed


def test_each_recipe_says_its_command_and_result():
    assert len(RECIPES) >= 12
    for recipe in RECIPES:
        text = (ROOT / "recipes" / recipe).read_text()
        assert f"./scripts/run_local.sh {RESNET} --learner scheduled --compress recipes/{recipe}" in text
        assert re.search(r"^# Result \((seed 0|mean of \d seeds)\): test accuracy 0\.\d+; 0\.\d+ before", text, re.M)


NETWORKS = {
    "alexnet.sensitivity": ("alexnet", (64, 64, 3)),
    "alexnet.mixed": ("alexnet", (64, 64, 3)),
    "resnet50.l1": ("resnet50", (32, 32, 3)),
    "resnet50.groups": ("resnet50", (32, 32, 3)),
    "dorefa.overrides": None,
    "dorefa.regular_expression": None,
}


def blocks_net():
    """The layers that the documentation's DoReFa examples name."""
    x = images = keras.Input((8, 8, 3))
    x = keras.layers.ReLU(name="relu1")(keras.layers.Conv2D(4, 3, name="conv1")(x))
    for index in (1, 2):
        x = keras.layers.ReLU(name=f"relu{index + 1}")(keras.layers.Conv2D(4, 3, name=f"block1.conv{index}")(x))
    x = keras.layers.ReLU(name="final_relu")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, keras.layers.Dense(10, name="fc")(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_documentation_s_examples_train_a_step(name):
    network = NETWORKS[name]
    model = build_architecture(network[0], 10, network[1]) if network else blocks_net()
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    scheduler = CompressionScheduler.from_yaml(model, ROOT / "recipes" / "documentation" / f"{name}.yaml")
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
    batches = tf.data.Dataset.from_tensors((images, np.array([1, 2], np.int32))).repeat()
    model = scheduler.prepare(lambda: batches.take(1))
    optimizer = keras.optimizers.SGD(0.0)
    optimizer.build(model.trainable_variables)
    scheduler.attach(optimizer, Training(2, 0.01, lambda: batches.take(1), cross_entropy))
    step = TrainStep(model, optimizer, cross_entropy, scheduler)
    scheduler.on_epoch_begin(0)
    losses, *_ = step.run(iter(batches), scheduler.learning_rates(np.full(1, 0.01)))
    assert np.isfinite(losses).all()
    changed = [v.path for v in model.trainable_variables if v.path in before and (v.numpy() != before[v.path]).any()]
    assert set(changed) == set(before)
    if "regular_expression" in name:
        finished = scheduler.finish()
        assert distinct_values(finished, "block1.conv1") <= 4
        assert 4 < distinct_values(finished, "conv1") <= 16


def test_distillation_is_added_by_flags(run, tmp_path):
    teacher = tmp_path / "teacher.keras"
    build_resnet(20, 10).save(teacher)
    flags = ("--kd_teacher", "resnet_20", "--kd_resume", str(teacher), "--kd_temperature", "4", "--nb_epochs", "2")
    run(tmp_path / "run", *flags, "--nb_epochs_rat", "0.1")
    assert report_of(tmp_path / "run")["compressed"]["sparsity"] == 0


def test_a_pretrained_teacher_is_that_of_its_own_full_prec_run(run, tmp_path):
    runs = tmp_path / "runs"
    flags = ("--kd_teacher", "resnet20_cifar", "--kd_pretrained", "--nb_epochs", "1", "--nb_epochs_rat", "0.1")
    printed = run(runs / "tiny_at_digits32" / "scheduled", *flags, code=2)
    teacher = runs / "resnet_20_at_digits32" / "full-prec" / "model.keras"
    assert printed.startswith(f"error: --kd_pretrained needs {teacher}")
    assert not runs.exists()
    teacher.parent.mkdir(parents=True)
    build_resnet(20, 10).save(teacher)
    run(runs / "tiny_at_digits32" / "scheduled", *flags)
    assert report_of(runs / "tiny_at_digits32" / "scheduled")["training"]["iterations"] == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--kd_teacher resnet_21 --kd_resume t.keras", "resnet_20"),
        ("--kd_teacher resnet_20 --kd_resume nowhere.keras", f"there is no model at {ROOT / 'nowhere.keras'}"),
        ("--kd_teacher resnet_20", "--kd_teacher needs its weights by --kd_resume or --kd_pretrained"),
        ("--compress nowhere.yaml", f"{ROOT / 'nowhere.yaml'} cannot be read: No such file or directory"),
        ("", "--learner scheduled needs --compress FILE, or a --kd_teacher"),
    ],
)
def test_wrong_flags_are_one_error_before_any_work(flags, message, run, tmp_path):
    printed = run(tmp_path / "run", *flags.split(), code=2)
    assert printed.startswith("error: ")
    assert message in printed
    assert not (tmp_path / "run").exists()


def test_distillation_does_not_start_after_the_training(run, tmp_path):
    build_resnet(20, 10).save(tmp_path / "t.keras")
    flags = ("--kd_teacher", "resnet_20", "--kd_resume", str(tmp_path / "t.keras"), "--kd_start_epoch", "2")
    message = run(tmp_path / "run", *flags, "--nb_epochs", "2", code=2)
    assert "--kd_start_epoch must be below the number of epochs, 2. Received: 2" in message


def test_a_finished_run_s_model_is_evaluated_as_it_is(run, tmp_path):
    flags = ("--compress", "tests/faults/filters.yaml", "--nb_epochs", "4", "--nb_epochs_rat", "0.25")
    run(tmp_path / "run", *flags)
    report = report_of(tmp_path / "run")
    printed = run(tmp_path / "run", *flags, "--exec_mode", "eval")
    assert f"test accuracy {report['compressed']['accuracy']:.4f}" in printed
    again = run(tmp_path / "run", *flags)
    assert report_of(tmp_path / "run") == report
    assert "training under the schedule" not in again


AGP = {"class": "AutomatedGradualPruner", "initial_sparsity": 0.1, "final_sparsity": 0.5, "weights": ["conv2d/kernel"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["pruners"]["p"].update(weights=["conv2/kernel"]), "no parameter 'conv2/kernel'; the nearest are"),
        (lambda d: d["pruners"]["p"].update(final_sparsity=0.05), "final_sparsity"),
        (lambda d: d["policies"][0].update(frequency=9), "frequency"),
        (lambda d: d.update(version=2), "version"),
    ],
)
def test_a_wrong_schedule_is_one_error_before_any_work(change, message, run, tmp_path):
    policy = {"pruner": {"instance_name": "p"}, "starting_epoch": 0, "ending_epoch": 5, "frequency": 1}
    document = {"version": 1, "pruners": {"p": dict(AGP)}, "policies": [policy]}
    change(document)
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(document))
    for flags in ((), ("--dry_run",)):
        printed = run(tmp_path / "run", "--compress", str(path), *flags, code=2)
        assert printed.startswith(f"error: {path}: 1 error")
        assert "line " in printed
        assert message in printed
        assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_on_under_another_schedule(run, tmp_path):
    path = tmp_path / "schedule.yaml"
    document = {"pruners": {"p": dict(AGP)}, "policies": [{"pruner": {"instance_name": "p"}, "epochs": [0]}]}
    path.write_text(yaml.safe_dump(document))
    flags = ("--compress", str(path), "--nb_epochs", "1", "--nb_epochs_rat", "0.1")
    run(tmp_path / "run", *flags)
    document["pruners"]["p"]["final_sparsity"] = 0.75
    path.write_text(yaml.safe_dump(document))
    assert "--compress: 'content" in run(tmp_path / "run", *flags, code=2)
    path.write_text("# a comment changes nothing\n" + yaml.safe_dump(document | {"pruners": {"p": dict(AGP)}}))
    run(tmp_path / "run", *flags)
