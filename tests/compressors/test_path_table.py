import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors import pruning_path
from compressors.path_table import PathTable
from compressors.pruning_path import DENSITIES
from compressors.ratios import num_removed
from utils.errors import InputError, RunError

SHAPES = {"conv1/kernel": (3, 3, 2, 4), "layer1.0.conv1/kernel": (1, 1, 8, 5), "fc/kernel": (6, 3)}


class Kernel:
    """Stands for a Keras variable."""

    def __init__(self, path, value):
        self.path, self.value = path, value

    def numpy(self):
        return self.value


@pytest.fixture(scope="module")
def kernels():
    generator = np.random.default_rng(0)
    return [Kernel(path, generator.standard_normal(shape).astype(np.float32)) for path, shape in SHAPES.items()]


@pytest.fixture(scope="module")
def grams():
    generator, grams = np.random.default_rng(1), {}
    for path, shape in SHAPES.items():
        x = generator.standard_normal((100, int(np.prod(shape[:-1])))) * generator.uniform(0.5, 2)
        x += 0.5 * np.roll(x, 1, axis=1)  # correlated neighbours
        grams[path] = (x.T @ x).astype(np.float32)
    return grams


@pytest.fixture(scope="module")
def table(kernels, grams):
    return PathTable.build(kernels, grams)


def relative_error(gram, dense, weights):
    dense, weights = (array.reshape(len(gram), -1).astype(float) for array in (dense, weights))
    return np.sum((dense - weights) * (gram @ (dense - weights))) / np.sum(dense * (gram @ dense))


def test_errors_and_densities_are_those_of_the_paths(table):
    assert list(table.errors()) == list(SHAPES)
    np.testing.assert_array_equal(table.densities, DENSITIES)
    assert all(errors.shape == DENSITIES.shape for errors in table.errors().values())
    assert [layer.shape for layer in table.layers] == list(SHAPES.values())


def test_ratio_0_is_the_dense_kernel_bit_for_bit_and_ratio_1_is_empty(table, kernels):
    for kernel, weights in zip(kernels, table.solve(dict.fromkeys(SHAPES, 0.0)), strict=True):
        np.testing.assert_array_equal(weights, kernel.numpy())
    assert not any(np.any(weights) for weights in table.solve(dict.fromkeys(SHAPES, 1.0)))


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.floats(0, 1)] * 3))
def test_exactly_the_asked_number_of_weights_is_removed(table, ratios):
    for shape, ratio, weights in zip(
        SHAPES.values(), ratios, table.solve(dict(zip(SHAPES, ratios, strict=True))), strict=True
    ):
        assert weights.shape == shape
        assert np.sum(weights.numpy() == 0) == num_removed(ratio, int(np.prod(shape)))


def test_between_two_levels_the_lowest_scored_survivors_of_the_denser_one_go(table, grams):
    path, name = table.paths["conv1/kernel"], "conv1/kernel"
    level = 8
    between = (int(path.removed[level]) + int(path.removed[level + 1])) // 2
    assert path.removed[level] < between < path.removed[level + 1]
    denser = path.weights(level).ravel()
    scores = np.where(denser == 0, -1, np.abs(denser) * np.repeat(np.sqrt(np.diag(grams[name])), 4))
    expected = np.argsort(scores, kind="stable")[:between]
    weights = table.solve(dict.fromkeys(SHAPES, 0.0) | {name: between / denser.size})[0].numpy().ravel()
    np.testing.assert_array_equal(np.flatnonzero(weights == 0), np.sort(expected))


def test_the_rest_is_re_solved(table, kernels, grams):
    ratio, name = 0.6, "conv1/kernel"
    weights = table.solve(dict.fromkeys(SHAPES, 0.0) | {name: ratio})[0].numpy()
    path = table.paths[name]
    level = np.searchsorted(path.removed, num_removed(ratio, weights.size), side="right") - 1
    only_masked = np.where(weights != 0, path.weights(level), 0)
    errors = [relative_error(grams[name], kernels[0].numpy(), w) for w in (weights, only_masked)]
    assert path.errors[level] <= errors[0] < errors[1]
    assert errors[0] <= path.errors[level + 1] * 1.01


def test_sparser_than_the_last_level_goes_on_from_it_by_score(kernels, grams):
    name = "conv1/kernel"
    table = PathTable.build(kernels, grams, densities=(1, 0.7, 0.4))
    last = table.paths[name].weights(2).ravel()
    scores = np.where(last == 0, -1, np.abs(last) * np.repeat(np.sqrt(np.diag(grams[name])), 4))
    weights = table.solve(dict.fromkeys(SHAPES, 0.0) | {name: 0.9})[0].numpy().ravel()
    np.testing.assert_array_equal(np.flatnonzero(weights), np.sort(np.argsort(scores)[num_removed(0.9, 72) :]))


def test_a_large_layers_fewer_levels_give_as_good_weights_with_the_same_zeros(table, kernels, grams, monkeypatch):
    monkeypatch.setattr(pruning_path, "LARGE", 1)
    coarse = PathTable.build(kernels, grams)
    for ratio in (0.0, 0.3, 0.55, 0.8, 0.95, 1.0):
        ratios = dict.fromkeys(SHAPES, ratio)
        for name, kernel, few, all_levels in zip(
            SHAPES, kernels, coarse.solve(ratios), table.solve(ratios), strict=True
        ):
            np.testing.assert_array_equal(few.numpy() == 0, all_levels.numpy() == 0)
            few, all_levels = (relative_error(grams[name], kernel.numpy(), one.numpy()) for one in (few, all_levels))
            assert few <= 1.02 * all_levels + 1e-6


def test_other_ratios_do_not_trace_again_also_inside_a_tf_function(kernels, grams):
    table = PathTable.build(kernels, grams, densities=(1, 0.5, 0.1))

    @tf.function
    def kept(counts):
        return tf.stack([tf.math.count_nonzero(kernel) for kernel in table.solve_counts(counts)])

    for ratio in (0.0, 0.3, 0.8, 1.0):
        table.solve(dict.fromkeys(SHAPES, ratio))
        counts = [num_removed(ratio, int(np.prod(shape))) for shape in SHAPES.values()]
        np.testing.assert_array_equal(kept(tf.constant(counts)), [72 - counts[0], 40 - counts[1], 18 - counts[2]])
    assert table.solve_counts.experimental_get_tracing_count() <= 2  # once by itself, at most once within `kept`
    assert kept.experimental_get_tracing_count() == 1


def test_missing_or_wrong_ratios_are_input_errors(table):
    with pytest.raises(InputError, match="fc/kernel"):
        table.solve({"conv1/kernel": 0.5, "layer1.0.conv1/kernel": 0.5})
    with pytest.raises(InputError, match="Received: 1.5"):
        table.solve(dict.fromkeys(SHAPES, 1.5))


def test_a_table_of_keras_variables(grams):
    layer = keras.layers.Dense(3, name="fc")
    layer.build((None, 6))
    table = PathTable.build([layer.kernel], {"fc/kernel": grams["fc/kernel"]} | {layer.kernel.path: grams["fc/kernel"]})
    assert table.is_of([layer.kernel])
    layer.kernel.assign(layer.kernel + 1.0)
    assert not table.is_of([layer.kernel])


def test_a_saved_table_is_loaded_bit_for_bit(table, kernels, tmp_path):
    file = tmp_path / "paths.npz"
    table.save(file)
    loaded = PathTable.load(file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["paths.npz"]
    assert loaded.is_of(kernels)
    assert loaded.layers == table.layers
    np.testing.assert_array_equal(loaded.densities, table.densities)
    ratios = dict(zip(SHAPES, (0.3, 0.77, 0.99), strict=True))
    for one, other in zip(loaded.solve(ratios), table.solve(ratios), strict=True):
        np.testing.assert_array_equal(one, other)
    for path in SHAPES:
        np.testing.assert_array_equal(loaded.errors()[path], table.errors()[path])


def test_only_survivors_are_stored(table):
    for path in table.paths.values():
        size = len(path.removal_order)
        assert len(path.values) == sum(size - removed for removed in path.removed)


def test_a_failed_save_leaves_the_file_that_was_there(table, tmp_path, monkeypatch):
    file = tmp_path / "paths.npz"
    table.save(file)
    before = file.read_bytes()

    def full_disk(stream, **arrays):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(RunError, match="No space left"):
        table.save(file)
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["paths.npz"]


@pytest.mark.parametrize("damage", ["truncated", "not a zip", "empty", "other arrays"])
def test_a_damaged_file_is_an_input_error_naming_it(table, tmp_path, damage):
    file = tmp_path / "paths.npz"
    table.save(file)
    if damage == "other arrays":
        np.savez(file, weights=np.ones(3))
    else:
        content = file.read_bytes()
        file.write_bytes({"truncated": content[: len(content) // 2], "not a zip": b"hello", "empty": b""}[damage])
    with pytest.raises(InputError, match="paths.npz"):
        PathTable.load(file)
