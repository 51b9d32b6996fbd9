"""Whole runs of the program on a network and data of the user's own."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from commands import command_line
from tests.own_network_files import OWN_CODE, make_folder
from utils.checkpoints import read_checkpoint

pytestmark = pytest.mark.usefixtures("without_pages")

ROOT = Path(__file__).resolve().parent.parent
OWN = "nets/own_model_run.py"
QUICK = (
    *("--own_epochs", "1", "--ws_nb_rlouts", "8", "--ws_nb_rlouts_min", "7"),
    *("--ws_nb_iters_ft", "4", "--ws_nb_finalists", "2", "--export_formats", "none"),
)
SPARSE = ("--learner", "weight-sparse", "--ws_prune_ratio", "0.8")
STRANGER = """
import sys
import keras, numpy as np
data = np.load(sys.argv[2])
outputs = keras.models.load_model(sys.argv[1]).predict(data["x_test"].astype("float32"), verbose=0)
print(np.mean(outputs.argmax(axis=1) == data["y_test"]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the user stands."""
    return make_folder(tmp_path_factory.mktemp("user"))


@pytest.fixture
def run(run_program, folder, monkeypatch):
    """Runs the program in this process for a user who stands in the folder; returns what it printed."""
    monkeypatch.setenv("TRIMFLOW_CALLER_DIRECTORY", str(folder))

    def run_here(run_dir, *flags, code=0, model="my.keras", data="photos"):
        own = ("--own_model", model, "--own_data", data)
        return run_program(["main.py", OWN, "--run_dir", str(run_dir), *own, *QUICK, *flags], code)

    return run_here


def _command(folder, run_dir, *flags):
    own = ("--own_model", str(folder / "my.keras"), "--own_data", str(folder / "photos"))
    return [sys.executable, "main.py", OWN, "--run_dir", str(run_dir), *own, *QUICK, *flags]


def _report(run_dir):
    return json.loads((run_dir / "report.json").read_text())


def _stages(run_dir):
    path = run_dir / "stages.json"
    return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture(scope="module")
def searched(folder, tmp_path_factory):
    """A search on the folder of pictures, and what it printed."""
    run_dir = tmp_path_factory.mktemp("searched") / "run"
    command = _command(folder, run_dir, *SPARSE, "--save_step", "2")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir, result.stdout


def test_the_dense_accuracy_is_told_before_anything_else_is_done(searched, folder):
    run_dir, printed = searched
    lines = printed.splitlines()
    assert lines[0] == "my on photos, learner weight-sparse"
    accuracy = _report(run_dir)["dense"]["accuracy"]
    assert lines[1] == f"dense network ({folder / 'my.keras'}): test accuracy {accuracy:.4f}"
    assert accuracy > 0.8
    assert "warning" not in printed
    assert not (run_dir / "dense" / "checkpoint.npz").exists()


def test_the_report_names_network_and_data_and_the_target_is_reached(searched, folder):
    run_dir, _ = searched
    report = _report(run_dir)
    assert (report["model"], report["dataset"], report["data_title"]) == ("my", "photos", "photos")
    assert report["dense"]["source"] == str(folder / "my.keras")
    assert "metric" not in report
    assert report["compressed"]["sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert [row["parameters"] for row in report["layers"]] == [72, 1152, 144 * 32, 320]
    assert report["layers"][0]["flops_dense"] == 2 * 72 * 64


def test_the_result_is_for_any_keras_program_with_the_zeros_reported(searched, folder):
    run_dir, _ = searched
    command = [sys.executable, "-I", "-c", STRANGER, str(run_dir / "model.keras"), str(folder / "digits.npz")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(result.stdout.split()[-1]) > 0.5
    model = keras.models.load_model(run_dir / "model.keras")
    kernels = {v.path: np.asarray(v) for v in model.weights if v.path.endswith("/kernel")}
    for row in _report(run_dir)["layers"]:
        assert np.mean(kernels[row["path"]] == 0) == pytest.approx(row["sparsity"])


def test_evaluation_gives_the_reported_accuracy(searched, run):
    run_dir, _ = searched
    printed = run(run_dir, *SPARSE, "--exec_mode", "eval")
    assert f"test accuracy {_report(run_dir)['compressed']['accuracy']:.4f}" in printed


def test_plots_are_pictures(searched):
    run_dir, _ = searched
    for name in ("search", "ratios", "training_training"):
        with Image.open(run_dir / "plots" / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_the_same_content_elsewhere_goes_on_and_another_content_does_not(searched, run, tmp_path, folder):
    run_dir, _ = searched
    before = _report(run_dir)
    shutil.copyfile(folder / "my.keras", tmp_path / "my.keras")
    run(run_dir, *SPARSE, model=str(tmp_path / "my.keras"))
    assert _report(run_dir) == before
    model = keras.models.load_model(folder / "my.keras")
    model.layers[-1].bias.assign(model.layers[-1].bias + 0.1)
    model.save(tmp_path / "my.keras")
    message = run(run_dir, *SPARSE, model=str(tmp_path / "my.keras"), code=2)
    assert "holds a run of another configuration" in message
    assert "--own_model: 'content " in message
    assert "--own_data" not in message
    shutil.copytree(folder / "photos", tmp_path / "photos")
    next((tmp_path / "photos" / "digit_3").iterdir()).unlink()
    message = run(run_dir, *SPARSE, data=str(tmp_path / "photos"), code=2)
    assert "--own_data: 'content " in message
    assert "--own_model" not in message


def test_a_run_killed_in_training_ends_like_one_that_was_not(searched, folder, tmp_path):
    undisturbed, _ = searched
    run_dir = tmp_path / "run"
    has_begun = (run_dir / "training" / "checkpoint.previous.npz").exists
    command = _command(folder, run_dir, *SPARSE, "--save_step", "2")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline and not has_begun():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert has_begun()
    assert "training" not in _stages(run_dir)
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=True)
    for key in ("dense", "compressed", "layers", "sizes"):
        assert _report(run_dir)[key] == _report(undisturbed)[key]
    weights = [keras.models.load_model(path / "model.keras").get_weights() for path in (run_dir, undisturbed)]
    for found, expected in zip(*weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    # The training goes on with the noise of its dropout layer.
    last = [read_checkpoint(path / "training" / "checkpoint.npz").arrays for path in (run_dir, undisturbed)]
    seeds = [key for key in last[0] if "seed_generator" in key]
    assert seeds
    for key in seeds:
        np.testing.assert_array_equal(last[0][key], last[1][key])


# Other data, tasks, learners.


def test_labels_as_numbers_and_as_one_hot_rows_and_softmax_and_logits_are_the_same(run, tmp_path):
    reports = []
    for model in ("my.keras", "logits.keras"):
        for data in ("digits.npz", "one_hot.npz"):
            run_dir = tmp_path / f"{model}_{data}"
            run(run_dir, model=model, data=data)
            reports.append(_report(run_dir))
    assert {report["model"] for report in reports} == {"my", "logits"}
    assert {report["dataset"] for report in reports} == {"digits", "one_hot"}
    assert len({report["dense"]["accuracy"] for report in reports}) == 1
    assert reports[0]["dense"]["accuracy"] > 0.8
    assert all(report["compressed"] is None and report["training"] is None for report in reports)


def test_wrong_preprocessing_is_told_at_once(run, tmp_path):
    printed = run(tmp_path / "run", "--own_rescale", "1/255", "--own_mean", "-1000")
    warning = printed.splitlines()[2]
    assert warning.startswith("warning: the dense network is hardly better than guessing among 10 classes")
    assert "--own_rescale, --own_mean, --own_std" in warning


def test_an_array_of_pictures_is_pruned_by_a_protocol_that_needs_no_search(run, tmp_path):
    run(tmp_path / "run", *SPARSE, "--ws_prune_ratio_prtl", "dp", model="logits.keras", data="digits.npz")
    report = _report(tmp_path / "run")
    assert report["compressed"]["sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert report["compressed"]["accuracy"] > 0.5


@pytest.fixture
def module(folder):
    """A module of the user's: a network with a layer and a function of its own, and one for numbers."""
    (folder / "my_nets.py").write_text(
        "import keras\n"
        "from keras import layers\n" + OWN_CODE + "def digits():\n"
        "    images = keras.Input((8, 8, 1))\n"
        "    block = keras.Sequential([layers.Conv2D(8, 3, activation=bent), Scale()], name='block')\n"
        "    x = layers.SeparableConv2D(8, 3, name='separable')(block(layers.Rescaling(1 / 255)(images)))\n"
        "    shared = layers.Dense(128, activation='relu', name='shared')\n"
        "    x = shared(shared(layers.Flatten()(x)))\n"
        "    return keras.Model([images], [keras.ops.softmax(layers.Dense(10)(x))])\n"
        "def numbers():\n"
        "    return keras.Sequential([keras.Input((6,)), layers.Dense(32, 'relu'), layers.Dense(2)])\n"
    )
    yield "my_nets"
    sys.modules.pop("my_nets", None)


def test_a_regression_shows_its_error_as_a_plain_number(run, tmp_path, module):
    flags = ["--own_task", "regression", "--own_train_dense", "--own_optimizer", "sgd", "--own_epochs", "10"]
    own = {"model": f"{module}:numbers", "data": "numbers.npz"}
    printed = run(tmp_path / "run", *SPARSE, *flags, **own)
    report = _report(tmp_path / "run")
    assert report["metric"] == "minus normalised error"
    before, after = report["dense"]["accuracy"], report["compressed"]["accuracy"]
    assert -1 < before < 0
    row = next(line.split() for line in printed.splitlines() if line.startswith("Test minus normalised error"))
    assert row[4:] == [f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"]
    assert f"test minus normalised error {before:.4f} before and {after:.4f} after" in printed
    assert f"dense network (trained): test minus normalised error {before:.4f}" in printed
    evaluated = run(tmp_path / "run", *SPARSE, *flags, "--exec_mode", "eval", **own)
    assert f"test minus normalised error {after:.4f}, loss {-after:.4f}" in evaluated
    records = [json.loads(line) for line in (tmp_path / "run" / "search.jsonl").read_text().splitlines()]
    assert all(record["reward"] == record["accuracy"] < 0 for record in records)


def test_layers_of_the_users_own_nested_and_shared_ones_are_compressed(run, tmp_path, module):
    own = {"model": f"{module}:digits", "data": "digits.npz"}
    flags = (*SPARSE, "--ws_prune_ratio_prtl", "dp", "--own_train_dense")
    printed = run(tmp_path / "run", *flags, **own)
    assert "stay dense: separable (SeparableConv2D)" in printed
    rows = {row["path"]: row for row in _report(tmp_path / "run")["layers"]}
    assert list(rows) == ["block/conv2d/kernel", "shared/kernel", "dense/kernel"]
    assert rows["shared/kernel"]["flops_dense"] == 2 * 2 * 128 * 128  # it is called twice
    evaluated = run(tmp_path / "run", *flags, "--exec_mode", "eval", **own)
    assert f"test accuracy {_report(tmp_path / 'run')['compressed']['accuracy']:.4f}" in evaluated


@pytest.mark.parametrize("kind", ["pruner", "quantizer"])
def test_schedules_act_on_own_networks(run, tmp_path, module, kind):
    schedule = {
        "pruner": "{class: SparsityLevelParameterPruner, levels: {shared.weight: 0.5}}",
        "quantizer": "{class: QuantAwareTrainRangeLinearQuantizer, bits_activations: 8, bits_weights: 8}",
    }[kind]
    path = tmp_path / "schedule.yaml"
    path.write_text(
        f"version: 1\n{kind}s:\n  it: {schedule}\npolicies:\n  - {kind}: {{instance_name: it}}\n"
        "    starting_epoch: 0\n    ending_epoch: 1\n    frequency: 1\n"
    )
    flags = ("--learner", "scheduled", "--compress", str(path))
    run(tmp_path / "run", *flags, model=f"{module}:digits", data="digits.npz")
    report = _report(tmp_path / "run")
    assert len(report["layers"]) == 3
    if kind == "pruner":
        assert report["layers"][1]["sparsity"] == 0.5


def test_lottery_tickets_of_an_own_network(run, tmp_path):
    run(tmp_path / "run", "--learner", "lottery-ticket", "--lt_prune_iterations", "1", data="digits.npz")
    assert _report(tmp_path / "run")["compressed"]["sparsity"] == pytest.approx(0.8, abs=1e-2)


def test_defaults_of_own_networks_give_way_to_the_command_line(run, tmp_path):
    run(tmp_path / "adam", "--loss_w_dcy", "0.001")
    run(tmp_path / "sgd", "--own_optimizer", "sgd", "--batch_size", "16")
    adam, sgd = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("adam", "sgd"))
    names = ("lrn_rate_init", "batch_size", "batch_size_norm", "loss_w_dcy")
    assert [adam[name] for name in names] == [0.001, 32, 32, 0.001]
    assert [sgd[name] for name in names] == [0.01, 16, 32, 0.0]


def test_paths_are_looked_up_from_the_user_and_then_from_the_root(run_program, folder, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copyfile(folder / "my.keras", elsewhere / "my.keras")
    monkeypatch.setattr(command_line, "ROOT", folder)
    monkeypatch.setenv("TRIMFLOW_CALLER_DIRECTORY", str(elsewhere))
    own = ["--own_model", "my.keras", "--own_data", "digits.npz", "--run_dir", str(tmp_path / "run"), *QUICK]
    printed = run_program(["main.py", str(ROOT / OWN), *own])
    assert f"dense network ({elsewhere / 'my.keras'})" in printed
    own[3] = "nowhere"
    message = run_program(["main.py", str(ROOT / OWN), *own], 2)
    assert (
        f"--own_data must be there. Received: 'nowhere', but there is no {elsewhere}/nowhere nor {folder}/now"
        in message
    )


def test_a_dense_model_that_path_conf_names_is_not_that_of_an_own_network(run, tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    (root / "path.conf").write_text("model_http_url = http://127.0.0.1:9/models\n")
    monkeypatch.setattr(command_line, "ROOT", root)
    flags = ("--own_train_dense", "--quiet")
    arguments = dict(model="my.keras", data="digits.npz")
    monkeypatch.setattr(sys.modules[__name__], "OWN", str(ROOT / OWN))
    run(tmp_path / "run", *flags, **arguments)
    assert _report(tmp_path / "run")["dense"]["source"] == "trained"


# Bad input: code 2, one line, and nothing is written.


@pytest.fixture
def refused(run, tmp_path):
    def refuse(*flags, **own):
        *progress, message = run(tmp_path / "run", *flags, code=2, **own).splitlines()
        assert message.startswith("error: ")
        assert all(line.startswith("Decoding: ") for line in progress)  # the pictures are read before what is in them
        assert not (tmp_path / "run").exists()
        return message

    return refuse


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--own_task magic", "--own_task must be one of classification, regression"),
        ("--own_epochs 0", "--own_epochs must be above 0"),
        ("--own_task regression", "--own_task regression must have an .npz file"),
        ("--resnet_size 20", "--resnet_size must be left out with nets/own_model_run.py, which has --own_model"),
        ("--data_dir_local x", "--data_dir_local must be left out with nets/own_model_run.py, which has --own_data"),
        ("--momentum 0.5", "--momentum needs --own_optimizer sgd. Received: --own_optimizer adam"),
        ("--noenbl_warm_start", "--noenbl_warm_start must be left out: the dense network is "),
        ("--model_http_url http://host/m.keras", "--model_http_url must be left out: the dense network is "),
        ("--save_path a.keras", "--save_path must be left out: the dense network is "),
        ("--own_image_size 9,9", "--own_image_size must fit the network's input [8, 8, 1]. Received: '9,9'"),
        ("--batch_size 1000", "--batch_size must be at most 320"),
        ("--learner weight-sparse --ws_prune_ratio 0.9999", "the overall pruning ratio must be at most 0.9"),
        (
            "--learner scheduled --kd_teacher resnet_20 --kd_resume x.keras",
            "--kd_teacher needs a network that gives logits of classes. Received: my, which does not",
        ),
    ],
)
def test_a_wrong_flag_is_refused(refused, flags, words):
    assert words in refused(*flags.split())


def test_a_reward_that_would_punish_sparsity_is_refused(refused, module):
    flags = (*SPARSE, "--own_task", "regression", "--ws_reward_type", "multi-obj")
    message = refused(*flags, model=f"{module}:numbers", data="numbers.npz")
    assert "--ws_reward_type must be single-obj where the quality is no accuracy" in message


@pytest.mark.parametrize("missing", ["own_model", "own_data"])
def test_both_network_and_data_must_be_given(refused, missing):
    message = refused(**{missing.removeprefix("own_"): ""})
    assert f"--{missing} must be given with nets/own_model_run.py. Received: none" in message


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nowhere.keras", "--own_model must be there. Received: 'nowhere.keras'"),
        ("photos", "a directory; a SavedModel must be loaded"),
        ("digits.npz", "must be a .keras file, or module:function"),
        ("cut.keras", "it is no zip archive, or not a whole one"),
        ("lambda.keras", "Lambda layer, that is Python code"),
        ("nine.keras", "an output for each class of the data, 10 (digit_0, digit_1, digit_2,"),
        ("my_nets:nothing", "there is no function nothing"),
        ("my_nets:numbers", "the network's input must be [height, width, channels]"),
    ],
)
def test_a_network_that_is_none_is_refused(refused, folder, module, model, words):
    whole = (folder / "my.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    inputs = keras.Input((8, 8, 1))
    layer = keras.layers.Lambda(lambda x: x * 2.0)
    keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(layer(inputs)))).save(folder / "lambda.keras")
    keras.Model(inputs, keras.layers.Dense(9)(keras.layers.Flatten()(inputs))).save(folder / "nine.keras")
    assert words in refused(model=model)


def test_a_network_without_layers_to_prune_is_refused(refused, folder):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.SeparableConv2D(10, 3)(inputs))
    keras.Model(inputs, x).save(folder / "separable.keras")
    message = refused(*SPARSE, model="separable.keras")
    assert "the network must have a Conv2D or Dense layer to prune" in message


@pytest.mark.parametrize("flag", ["own_model", "own_data", "own_task", "own_epochs", "own_rescale"])
def test_own_flags_need_the_own_script(run_program, tmp_path, folder, flag):
    value = {"own_model": folder / "my.keras", "own_data": folder / "photos", "own_task": "regression"}.get(flag, "1")
    run_dir = tmp_path / "run"
    arguments = ["main.py", "nets/lenet_at_cifar10_run.py", "--run_dir", str(run_dir), f"--{flag}", str(value)]
    message = run_program(arguments, 2)
    assert f"--{flag} needs nets/own_model_run.py. Received: another net script" in message
    assert not run_dir.exists()


# The Python way: a ModelHelper in the user's own folder.


@pytest.fixture
def script(tmp_path, run_program):
    """`script(text, *flags, code)`: runs a script of this text outside the repository."""

    def run_script(text, *flags, code=0):
        path = tmp_path / "mine_run.py"
        path.write_text(text)
        return run_program(["main.py", str(path), "--run_dir", str(tmp_path / "run"), *flags], code)

    return run_script


HELPER = """
from nets.model_helper import ModelHelper as Base
class ModelHelper(Base):
    model_name = "mine"
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "import a_package_that_is_not_there",
            "cannot be loaded: ModuleNotFoundError: No module named 'a_package_that",
        ),
        ("def f(:", "cannot be loaded: SyntaxError"),
        ("", "must define ModelHelper"),
        ("class ModelHelper: pass", "must be a subclass of nets.model_helper.ModelHelper"),
        (HELPER, "must define build_model, learning_rate_at, load_data, num_epochs"),
    ],
)
def test_a_script_that_is_no_network_is_refused(script, tmp_path, text, words):
    message = script(text, code=2)
    assert words in message
    assert str(tmp_path / "mine_run.py") in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()
