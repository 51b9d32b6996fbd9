"""--ws_paths: pruning paths that several runs share in a file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from compressors.graph import prunable_kernels
from compressors.layer_sizes import kept_inputs, network_sizes
from compressors.path_table import PathTable, read_paths
from compressors.regression import collect_grams
from compressors.second_moments import KeptInputs
from learners.config import RunConfig, RunOptions
from learners.weight_sparsification.config import WeightSparseConfig
from learners.weight_sparsification.learner import WeightSparseLearner
from learners.weight_sparsification.rollout_eval import CALIBRATION_IMAGES
from learners.weight_sparsification.shared_paths import check_paths_file, paths_origin, shared_table
from nets.config import DataConfig, NetConfig
from tests.fake_workers import run_in_threads
from tests.small_helper import SmallHelper
from tests.small_training import conv_net
from utils.errors import InputError
from utils.run_dir import RunDir
from utils.workers import ALONE

ROOT = Path(__file__).resolve().parents[3]
IMAGES = np.random.default_rng(0).normal(size=(7, 6, 6, 2)).astype(np.float32)


class Builder:
    """Counts how often the table of a network is built."""

    def __init__(self, model):
        self.model, self.kernels, self.built = model, prunable_kernels(model), 0

    def __call__(self):
        self.built += 1
        return PathTable.build(self.kernels, collect_grams(self.model, [IMAGES]), iterations=1)

    def shared(self, file, score="input_norm"):
        return shared_table(file, self.kernels, paths_origin(self.model, IMAGES, {}, score), self, ALONE)


@pytest.fixture
def builder():
    keras.utils.set_random_seed(0)
    return Builder(conv_net())


def test_paths_are_built_once_and_then_taken_bit_for_bit(builder, tmp_path):
    file = tmp_path / "deep" / "paths.npz"
    first, second = builder.shared(file), builder.shared(file)
    assert (builder.built, first.was_there, second.was_there) == (1, False, True)
    assert list(first.table.paths) == list(second.table.paths)
    for name, path in first.table.paths.items():
        np.testing.assert_array_equal(path.values, second.table.paths[name].values)
        np.testing.assert_array_equal(path.removal_order, second.table.paths[name].removal_order)


def test_the_file_is_one_that_every_reader_of_paths_reads(builder, tmp_path):
    table = builder.shared(tmp_path / "paths.npz").table
    paths, grams, densities = read_paths(tmp_path / "paths.npz")
    assert list(paths) == list(grams) == list(table.paths)
    np.testing.assert_array_equal(densities, table.densities)


def test_paths_of_another_network_are_replaced(builder, tmp_path):
    file = tmp_path / "paths.npz"
    builder.shared(file)
    keras.utils.set_random_seed(1)
    other = Builder(conv_net())
    assert not other.shared(file).was_there
    assert other.built == 1
    assert other.shared(file).was_there


def test_a_network_that_differs_in_a_batch_norm_alone_is_another_one(builder, tmp_path):
    """Its kernels are the same, but not the inputs of its layers."""
    builder.shared(tmp_path / "paths.npz")
    builder.model.get_layer("bn1").moving_mean.assign([1.0, 0, 0, 0])
    assert not builder.shared(tmp_path / "paths.npz").was_there
    assert builder.built == 2


def test_the_origin_tells_network_images_score_and_kept_inputs_apart(builder):
    origins = [
        paths_origin(builder.model, IMAGES, {}, "input_norm"),
        paths_origin(builder.model, IMAGES, {}, "magnitude"),
        paths_origin(builder.model, IMAGES[1:], {}, "input_norm"),
        paths_origin(builder.model, IMAGES, {"fc/kernel": KeptInputs(np.arange(7), 7, (1,))}, "input_norm"),
        paths_origin(builder.model, IMAGES, {"fc/kernel": KeptInputs(np.arange(6), 7, (1,))}, "input_norm"),
    ]
    builder.kernels[0].assign_add(np.full(builder.kernels[0].shape, 1e-3))
    origins.append(paths_origin(builder.model, IMAGES, {}, "input_norm"))
    assert len(set(origins)) == len(origins)


def test_a_table_of_a_run_of_its_own_does_not_say_what_it_was_made_from_and_is_not_trusted(builder, tmp_path):
    builder().save(tmp_path / "paths.npz")
    check_paths_file(tmp_path / "paths.npz")
    assert not builder.shared(tmp_path / "paths.npz").was_there
    assert builder.shared(tmp_path / "paths.npz").was_there


@pytest.mark.parametrize("content", [b"", b"no archive", "archive of something else"])
def test_a_file_of_another_kind_is_refused_and_stays(builder, tmp_path, content):
    file = tmp_path / "mine.npz"
    np.savez(file, weights=np.zeros(3)) if isinstance(content, str) else file.write_bytes(content)
    before = file.read_bytes()
    for attempt in (lambda: check_paths_file(file), lambda: builder.shared(file)):
        with pytest.raises(InputError, match=r"--ws_paths must be a table of pruning paths.*mine\.npz"):
            attempt()
    assert (file.read_bytes(), builder.built) == (before, 0)


def test_the_name_must_end_in_npz(tmp_path):
    with pytest.raises(InputError, match=r"--ws_paths must end in \.npz\. Received: 'paths'"):
        check_paths_file(Path("paths"))
    check_paths_file(tmp_path / "not_there_yet.npz")


def test_several_workers_build_together_and_the_first_writes(builder, tmp_path):
    file, built = tmp_path / "paths.npz", []

    def of(workers):
        origin = paths_origin(builder.model, IMAGES, {}, "input_norm")
        return shared_table(file, builder.kernels, origin, lambda: built.append(workers.rank) or builder(), workers)

    assert [found.was_there for found in run_in_threads(2, of)] == [False, False]
    assert [found.was_there for found in run_in_threads(2, of)] == [True, True]
    assert sorted(built) == [0, 1]


WORKER = """
import sys, time
from pathlib import Path
import numpy as np
from learners.weight_sparsification import shared_paths
from utils.workers import ALONE

directory, name = Path(sys.argv[1]), sys.argv[2]

class Table:
    @staticmethod
    def save(file):
        with open(file, "wb") as stream:
            np.savez(stream, densities=np.ones(1))

def build():
    (directory / f"{name}.builds").touch()
    while not (directory / "go").exists():
        time.sleep(0.01)
    return Table()

shared_paths.PathTable = lambda *found: type("Table", (), {"is_of": lambda self, kernels: True})()
shared_paths.read_paths = lambda file: ()
say = lambda line: print(line, flush=True)
found = shared_paths.shared_table(directory / "paths.npz", (), "origin", build, ALONE, say)
print("taken" if found.was_there else "built", flush=True)
"""


def _worker(directory, name):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, str(directory), name]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def _wait_for(is_so):
    deadline = time.monotonic() + 100
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_of_processes_that_begin_together_one_builds_and_after_its_death_the_next(tmp_path):
    """Real processes; what they build is a stand-in, as the lock is what is looked at."""
    processes = {name: _worker(tmp_path, name) for name in ("a", "b")}
    try:
        _wait_for(lambda: any(tmp_path.glob("*.builds")))
        (first,) = (path.stem for path in tmp_path.glob("*.builds"))
        (second,) = set(processes) - {first}
        waits = processes[second].stdout.readline()
        assert "another run is building the pruning paths" in waits
        assert not (tmp_path / f"{second}.builds").exists()
        processes[first].send_signal(signal.SIGKILL)
        _wait_for((tmp_path / f"{second}.builds").exists)
        processes["c"] = _worker(tmp_path, "c")
        assert "another run is building" in processes["c"].stdout.readline()
        (tmp_path / "go").touch()
        assert processes[second].stdout.readline() == "built\n"
        assert processes["c"].stdout.readline() == "taken\n"
        assert not (tmp_path / "c.builds").exists()
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def _learner(directory, file=""):
    config = RunConfig(
        RunOptions(learner="weight-sparse", quiet=True),
        NetConfig(DataConfig(batch_size=8)),
        weight_sparse=WeightSparseConfig(paths=str(file)),
    )
    return WeightSparseLearner(config, SmallHelper(config.net), RunDir(directory))


def test_a_learner_takes_the_paths_that_another_one_built(tmp_path):
    file = tmp_path / "paths.npz"
    tables = []
    for name in ("first", "second"):
        learner = _learner(tmp_path / name, file)
        tables.append(learner.path_table(learner.new_model()))
        assert not (tmp_path / name / "paths.npz").exists()
    sources = [RunDir(tmp_path / name).stages()["paths"].get("source") for name in ("first", "second")]
    assert sources == [None, str(file)]
    for name, path in tables[0].paths.items():
        np.testing.assert_array_equal(path.values, tables[1].paths[name].values)


def test_a_run_whose_paths_are_finished_goes_on_with_the_flag_and_without_it(tmp_path):
    """They are found again wherever they are now, else built again, and the stage stays as it was."""
    file = tmp_path / "paths.npz"
    learner = _learner(tmp_path / "run", file)
    dense = learner.new_model()
    expected = learner.path_table(dense).errors()
    stages = RunDir(tmp_path / "run").stages()
    for other in ("", file, tmp_path / "other.npz"):
        found = _learner(tmp_path / "run", other).path_table(dense).errors()
        assert {name: list(errors) for name, errors in found.items()} == {
            name: list(errors) for name, errors in expected.items()
        }
    assert RunDir(tmp_path / "run").stages() == stages


def test_a_file_of_another_kind_is_an_error_before_any_work(tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"precious")
    with pytest.raises(InputError, match="--ws_paths must be a table"):
        _learner(tmp_path / "run", tmp_path / "mine.npz").check()


def test_the_origin_is_that_of_the_calibration_images_of_the_run(tmp_path):
    """A run with another seed draws other images: it does not take these paths."""
    file = tmp_path / "paths.npz"
    learner = _learner(tmp_path / "run", file)
    dense = learner.new_model()
    learner.path_table(dense)
    images = learner.helper.calibration_images(CALIBRATION_IMAGES)
    kept = kept_inputs(network_sizes(dense, images[0]), len(images))
    with np.load(file) as arrays:
        assert str(arrays["origin"]) == paths_origin(dense, images, kept, "input_norm")
