"""Files of arrays: checkpoints, pruning paths, masks, indices of records and the user's own data."""

import functools
import io

import numpy as np
import pytest

from compressors.model_pruner import _read_masks
from compressors.path_table import PathTable, read_paths
from compressors.pruning_path import PruningPath
from compressors.second_moments import InputSample
from datasets.ilsvrc12.index import _read_cache
from datasets.ilsvrc12.shards import Shard
from datasets.own_arrays import read_npz
from learners.weight_sparsification.shared_paths import check_paths_file
from tests.fuzz.archives import damaged_npz, npz
from tests.fuzz.driver import fuzz, put
from utils.errors import InputError
from utils.npz_files import ArrayFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fuzzed.npz"


def own_arrays(labels, **more):
    generator = np.random.default_rng(0)
    x = generator.random((6, 3)).astype(np.float32)
    return {"x_train": x, "y_train": labels, "x_test": x[:4].astype(np.float64), "y_test": labels[:4], **more}


def own_data():
    numbers = np.array([0, 1, 2, 0, 1, 2])
    rows = {"x_val": np.zeros((2, 3), np.uint8), "y_val": np.eye(3)[:2]}
    return [
        npz(own_arrays(numbers)),
        npz(own_arrays(np.array(["a", "b", "é", "a", "b", "c"])), compressed=True),
        npz(own_arrays(np.eye(3)[numbers], **rows), compressed=True),
        npz(own_arrays(numbers + 0.5)),
    ]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_own_arrays_are_read_or_refused(path, task):
    def read(content):
        put(path, content)
        source = read_npz(str(path), task, (3,))
        for part in ("train", "test"):
            samples, labels = source.samples[part], source.labels[part]
            assert samples.shape[1:] == (3,)
            assert len(samples) == len(labels) > 0
            assert np.isfinite(samples).all()
            assert np.isfinite(labels).all()
            assert task == "regression" or 0 <= labels.min() <= labels.max() < len(source.class_names)

    fuzz(functools.partial(damaged_npz, samples=own_data()), read, inputs=1000, names=path.name)


def test_a_table_of_pruning_paths_is_read_whole_or_refused(path):
    sound = []
    for inputs in (np.random.default_rng(1).random((5, 4)).astype(np.float32), None):
        gram = np.eye(4, dtype=np.float32) if inputs is None else InputSample(inputs)
        kernel = np.linspace(0.1, 0.6, 12, dtype=np.float32).reshape(2, 2, 3)
        PathTable({"conv/kernel": layer_path(kernel)}, {"conv/kernel": gram}, (1.0, 0.5, 0.25)).save(path)
        sound.append(path.read_bytes())

    def read(content):
        put(path, content)
        check_paths_file(path)
        paths, moments, densities = read_paths(path)
        for name, found in paths.items():
            assert found.weights(0).shape == found.shape
            assert len(found.errors) == len(densities)
            rows = moments[name].rows if isinstance(moments[name], InputSample) else moments[name]
            assert rows.shape[1] == np.prod(found.shape[:-1])

    fuzz(functools.partial(damaged_npz, samples=sound), read, inputs=500, names=path.name)


def layer_path(kernel):
    """The path of a kernel whose weights go in their order."""
    order, removed, flat = np.arange(kernel.size, dtype=np.int32), np.array([0, 6, 9]), kernel.reshape(-1)
    values = np.concatenate([flat[count:] for count in removed])
    return PruningPath(order, removed, np.arange(3), values, np.float32([0, 0.1, 0.3]), kernel.shape)


def test_masks_are_read_or_refused(path):
    shapes = {"conv/kernel": (3, 2), "fc/kernel": (4,)}
    sound = npz({name: np.ones(shape, bool) for name, shape in shapes.items()}, compressed=True)

    def read(content):
        put(path, content)
        masks = _read_masks(path, shapes)
        assert {name: mask.shape for name, mask in masks.items()} == shapes

    fuzz(functools.partial(damaged_npz, samples=[sound]), read, inputs=500, names=path.name)


def test_a_cache_of_record_lengths_is_taken_only_where_it_is_of_the_very_files(path):
    lengths = [np.array([100, 50]), np.array([7])]
    shards = [Shard(f"file {number}", int(some.sum()) + 16 * len(some), 0) for number, some in enumerate(lengths)]
    sound = npz({"counts": np.array([2, 1]), "lengths": np.concatenate(lengths)})

    def read(content):
        put(path, content)
        found = _read_cache(path, shards)
        if found is None:
            raise InputError("made anew")
        for some, shard in zip(found, shards, strict=True):
            assert min(some, default=0) >= 0
            assert some.sum() + 16 * len(some) == shard.size

    fuzz(functools.partial(damaged_npz, samples=[sound]), read, inputs=500)


def test_any_file_of_arrays_is_read_as_numpy_reads_it_or_refused(path):
    """What is read is compared with NumPy's own reader, which knows more types and less of bounds."""
    generator = np.random.default_rng(2)
    arrays = {
        "matrix": np.asfortranarray(generator.normal(size=(4, 3))),
        "text": np.array(["one", "three"]),
        "flags": np.array([True, False]),
        "nothing": np.zeros((0, 3)),
        "other/number": np.array(3, ">i4"),
    }
    samples = [npz(arrays), npz(arrays, compressed=True)]

    def read(content):
        put(path, content)
        with ArrayFile(path, deflated=True) as file:
            found = {name: file[name] for name in file}
        with np.load(io.BytesIO(content), allow_pickle=False) as theirs:
            for name, array in found.items():
                assert array.dtype == theirs[name].dtype
                assert array.shape == theirs[name].shape
                assert array.tobytes() == theirs[name].tobytes()

    fuzz(functools.partial(damaged_npz, samples=samples), read, errors=(ValueError, OSError))
