"""Exports of networks of other kinds: dense, with filters removed, quantized, with one output, of numbers."""

import json

import keras
import numpy as np
import pytest
import yaml

pytestmark = pytest.mark.usefixtures("without_pages")

TINY = "tests/nets_for_tests/tiny_at_cifar10_run.py"
FEW = """--data_disk embedded --model_http_url= --nb_smpls_train 64 --nb_smpls_val 30 --nb_smpls_eval 30 --batch_size 16
    --nb_epochs_rat 0.25"""
FORMATS = "litert,litert-int8,onnx,trim"
POLICY = {"starting_epoch": 0, "ending_epoch": 2, "frequency": 1}


@pytest.fixture
def exports_of(run_program, tmp_path):
    """`exports_of(*words)`: the record of a run with these flags, whose directory is `tmp_path / "run"`."""

    def run(*words, net=TINY, few=FEW):
        run_program(
            ["main.py", net, "--run_dir", str(tmp_path / "run"), *few.split(), "--export_formats", FORMATS, *words]
        )
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        exports = report["exports"]
        assert [row["format"] for row in exports["formats"]] == FORMATS.split(",")
        assert [row for row in (exports["dense"], *exports["formats"]) if "refused" in row] == []
        return exports | {"rows": {row["format"]: row for row in exports["formats"]}}

    return run


def schedule_file(tmp_path, **content):
    path = tmp_path / "schedule.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_dense_network_is_compared_with_itself(exports_of):
    exports = exports_of("--learner", "full-prec")
    assert exports["rows"]["litert"]["bytes"] == exports["dense"]["bytes"]
    assert exports["rows"]["litert"]["agreement"] == 1.0


def test_a_network_without_its_removed_filters_is_smaller_in_every_format(exports_of, tmp_path):
    pruner = {
        "class": "L2RankedStructureParameterPruner_AGP",
        "initial_sparsity": 0.1,
        "final_sparsity": 0.5,
        "group_type": "Filters",
        "weights": ["conv2d/kernel", "conv2d_1/kernel", "conv2d_3/kernel"],
    }
    remover = {"class": "FilterRemover", "thinning_func_str": "remove_filters", "arch": "", "dataset": ""}
    schedule = schedule_file(
        tmp_path,
        pruners={"p": pruner},
        extensions={"x": remover},
        policies=[
            {"pruner": {"instance_name": "p"}, **POLICY},
            {"extension": {"instance_name": "x"}, "epochs": [2]},
        ],
    )
    exports = exports_of("--learner", "scheduled", "--compress", schedule, "--nb_epochs", "3")
    kept = keras.models.load_model(tmp_path / "run" / "model.keras").count_params()
    dense = keras.models.load_model(tmp_path / "run" / "dense" / "model.keras").count_params()
    saved = exports["dense"]["bytes"] - exports["rows"]["litert"]["bytes"]
    assert kept < 0.8 * dense
    # Scale and shift of a batch norm are one bias in LiteRT, so a channel saves less than its weights in Keras.
    assert 0.8 * 4 * (dense - kept) < saved <= 4 * (dense - kept)
    assert all(row["agreement"] > 0.9 for row in exports["formats"])


def test_a_quantized_network_keeps_its_accuracy_in_every_format(exports_of, tmp_path):
    quantizer = {"class": "DorefaQuantizer", "bits_activations": 8, "bits_weights": 4}
    schedule = schedule_file(
        tmp_path,
        quantizers={"q": quantizer},
        policies=[{"quantizer": {"instance_name": "q"}, **POLICY}],
    )
    exports = exports_of("--learner", "scheduled", "--compress", schedule, "--nb_epochs", "2")
    assert exports["rows"]["trim"]["agreement"] == 1.0
    assert exports["rows"]["onnx"]["agreement"] >= 0.9  # levels of activations may differ by the last bit of a sum


@pytest.fixture
def own(tmp_path):
    """`own(outputs, activation, labels)`: the words that bring a network with so many outputs and data with labels."""

    def make(outputs, labels, activation=None):
        rng = np.random.default_rng(0)
        inputs = keras.Input((6,))
        x = keras.layers.Dense(48, activation="relu")(inputs)
        x = keras.layers.Dense(48, activation="relu")(x)
        model = keras.Model(inputs, keras.layers.Dense(outputs, activation=activation)(x))
        model.save(tmp_path / "own.keras")
        images = rng.normal(size=(120, 6)).astype("f4")
        split = {"train": slice(0, 60), "val": slice(60, 90), "test": slice(90, 120)}
        arrays = {f"x_{name}": images[part] for name, part in split.items()}
        arrays |= {f"y_{name}": labels(rng)[part] for name, part in split.items()}
        np.savez(tmp_path / "own.npz", **arrays)
        return "--own_model", str(tmp_path / "own.keras"), "--own_data", str(tmp_path / "own.npz"), "--own_epochs", "1"

    return make


SPARSE = ("--learner", "weight-sparse", "--ws_prune_ratio_prtl", "uniform")


def test_a_training_of_one_step_is_enough_unless_it_must_ramp_up(exports_of, own, run_program, tmp_path):
    words = own(2, lambda rng: rng.integers(0, 2, 120))
    arguments = ["main.py", "nets/own_model_run.py", "--run_dir", str(tmp_path / "other"), *words, *SPARSE]
    message = run_program([*arguments, "--ws_train_init", "dense"], 2)
    assert "--ws_train_init dense needs a final training" in message
    assert "Received: one of 1 iterations" in message
    assert exports_of(*words, *SPARSE, net="nets/own_model_run.py", few="")["images"] == 30


def test_one_output_for_two_classes_agrees_by_its_class(exports_of, own):
    words = own(1, lambda rng: rng.integers(0, 2, 120), "sigmoid")
    exports = exports_of(*words, *SPARSE, net="nets/own_model_run.py", few="")
    assert exports["rows"]["litert"]["agreement"] == 1.0
    assert 0.9 < exports["rows"]["litert-int8"]["agreement"] <= 1.0


def test_of_numbers_there_is_no_agreement_but_the_measure_is_kept(exports_of, own):
    words = own(2, lambda rng: rng.normal(size=(120, 2)).astype("f4"))
    exports = exports_of(*words, *SPARSE, "--own_task", "regression", net="nets/own_model_run.py", few="")
    assert {row["agreement"] for row in exports["formats"]} == {None}
    accuracies = [row["accuracy"] for row in exports["formats"]]
    assert max(accuracies) - min(accuracies) < 0.05
    assert max(accuracies) < 0
