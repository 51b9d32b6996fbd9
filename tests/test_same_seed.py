"""The same command with the same seed gives the same result bit for bit, whatever else differs between two runs.

Two processes do the same runs at the same time, so that each is disturbed by the other. They differ in all that must
not matter: the seed of Python's hashes, the order of the runs, where the run directories lie, how often checkpoints are
written. Both have two threads, as users have.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from export.formats import FORMATS
from tests.run_results import results_of

ROOT = Path(__file__).resolve().parent.parent
NETWORK = "tests/nets_for_tests/dropout_at_cifar10_run.py"
COMMON = """--data_disk embedded --model_http_url= --quiet --nb_smpls_train 320 --nb_smpls_val 100 --nb_smpls_eval 100
    --batch_size 32 --nb_epochs_rat 0.25 --summ_step 5 --export_formats none"""
SCHEDULE = {
    "pruners": {
        "filters": {
            "class": "BernoulliFilterPruner",
            "desired_sparsity": 0.3,
            "group_type": "Filters",
            "weights": ["conv2d/kernel"],
        },
        "gradual": {
            "class": "AutomatedGradualPruner",
            "initial_sparsity": 0.1,
            "final_sparsity": 0.5,
            "weights": ["conv2d_1/kernel"],
        },
    },
    "quantizers": {"four_bits": {"class": "DorefaQuantizer", "bits_activations": 8, "bits_weights": 4}},
    "policies": [
        {"pruner": {"instance_name": "filters"}, "starting_epoch": 0, "ending_epoch": 2, "frequency": 1},
        {"pruner": {"instance_name": "gradual"}, "starting_epoch": 0, "ending_epoch": 2, "frequency": 1},
        {"quantizer": {"instance_name": "four_bits"}, "starting_epoch": 0, "ending_epoch": 2, "frequency": 1},
    ],
}
# The full-precision training is the first stage of each.
LEARNERS = {
    "weight-sparse": """--ws_nb_rlouts 20 --ws_nb_rlouts_min 10 --ws_nb_iters_ft 4 --ws_nb_finalists 2
        --ws_prune_ratio 0.7 --enbl_dst""",
    "scheduled": "--nb_epochs 2",
    "lottery-ticket": "--lt_prune_iterations 2 --lt_rewind_epoch 1",
}


def command(learner, run_dir, schedule, *more):
    words = [NETWORK, "--run_dir", str(run_dir), *COMMON.split(), "--learner", learner, *LEARNERS[learner].split()]
    return [*words, *(["--compress", str(schedule)] if learner == "scheduled" else []), *more]


def started(runs, folder, hash_seed):
    """A process that does these runs one after the other, and makes files of one's network in `folder`/exports."""
    work = {"runs": runs, "exports": [str(folder / "weight-sparse" / "model.keras"), str(folder / "exports")]}
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "2")
    return subprocess.Popen(
        [sys.executable, "tests/runs_in_one_process.py", json.dumps(work)],
        cwd=ROOT,
        env=os.environ | threads | {"PYTHONHASHSEED": hash_seed},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two folders of run directories by learner, both of seed 0, and one run directory of seed 1."""
    base = tmp_path_factory.mktemp("runs")
    schedule = base / "schedule.yaml"
    schedule.write_text(yaml.safe_dump(SCHEDULE))
    one, again, other = base / "one", base / "some where" / "else", base / "other"
    first = [command(learner, one / learner, schedule) for learner in LEARNERS]
    first.append(command("weight-sparse", other, schedule, "--seed", "1"))
    second = [command(learner, again / learner, schedule, "--save_step", "3") for learner in reversed(LEARNERS)]
    processes = [started(first, one, "1"), started(second, again, "2")]
    try:
        for process in processes:
            _, said = process.communicate()
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in processes:
            process.kill()
    return one, again, other


NETWORKS = {
    "weight-sparse": {"dense/model.keras", "model.keras"},
    "scheduled": {"dense/model.keras", "model.keras"},
    "lottery-ticket": {"dense/model.keras", "round_1/model.keras", "round_2/model.keras", "model.keras"},
}


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_same_command_gives_the_same_report_and_networks(runs, learner):
    one, again, _ = (folder / learner for folder in runs)
    found, expected = results_of(again), results_of(one)
    for name in expected:
        assert found[name] == expected[name], name
    assert len(expected["rollouts"]) == (20 if learner == "weight-sparse" else 0)
    assert {path.relative_to(one).as_posix() for path in one.rglob("*.keras")} == NETWORKS[learner]
    different = [name for name in NETWORKS[learner] if (one / name).read_bytes() != (again / name).read_bytes()]
    assert different == []


def test_another_seed_gives_another_network_and_another_search(runs):
    one, other = runs[0] / "weight-sparse", runs[2]
    ours, theirs = (keras.models.load_model(run / "dense/model.keras").get_weights() for run in (one, other))
    kernels = [(mine, yours) for mine, yours in zip(ours, theirs, strict=True) if mine.ndim == 4]
    assert len(kernels) == 2
    assert not any(np.array_equal(mine, yours) for mine, yours in kernels)
    ours, theirs = (
        [record["ratios"] for record in results_of(run)["rollouts"] if record["source"] == "agent"]
        for run in (one, other)
    )
    assert len(ours) == 14
    assert not any(mine == yours for mine, yours in zip(ours, theirs, strict=True))


# Of a SavedModel: functions are numbered as the process made them, and TensorFlow draws a number for each.
NEVER_THE_SAME = ("saved_model.pb", "fingerprint.pb")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "onnx"])
def test_the_same_network_gives_the_same_file_in_each_format(runs, name):
    ours, theirs = (folder / "exports" / FORMATS[name].file for folder in runs[:2])
    paths = sorted(path for path in (ours, *ours.rglob("*")) if path.is_file() and path.name not in NEVER_THE_SAME)
    assert paths != []
    for path in paths:
        assert path.read_bytes() == (theirs / path.relative_to(ours)).read_bytes(), path


def test_onnx_files_of_the_same_network_differ_in_names_of_constants_only(runs):
    """tf2onnx numbers constants in the order of sets."""

    def content(folder):
        graph = onnx.load(folder / "exports" / FORMATS["onnx"].file).graph
        constants = sorted(numpy_helper.to_array(constant).tobytes() for constant in graph.initializer)
        return [(node.op_type, len(node.input), len(node.output)) for node in graph.node], constants

    assert content(runs[0]) == content(runs[1])
