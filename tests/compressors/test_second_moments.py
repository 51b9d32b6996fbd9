"""A layer's second moment by its inputs in place of the matrix."""

import numpy as np
import pytest
import tensorflow as tf

from compressors.path_table import PathTable
from compressors.pruning_path import build_path
from compressors.second_moments import (
    DAMPING,
    InputSample,
    KeptInputs,
    as_tensors,
    damped,
    diagonal,
    is_finite,
    output_energy,
    product,
    shrunk,
)


def inputs(rows=12, width=40, seed=0):
    x = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return x * np.linspace(0.5, 2, width, dtype=np.float32)


def test_inputs_do_what_their_matrix_does():
    x, ridge = inputs(), np.random.default_rng(1).uniform(0, 2, (40, 1)).astype(np.float32)
    weights = tf.constant(np.random.default_rng(2).standard_normal((40, 3)), tf.float32)
    matrix = tf.constant(x.T @ x + np.diag(ridge[:, 0]))
    sample = as_tensors(InputSample(x, ridge))
    np.testing.assert_allclose(product(sample, weights), matrix @ weights, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(diagonal(sample), tf.linalg.diag_part(matrix), rtol=1e-5)
    np.testing.assert_allclose(output_energy(sample, weights), output_energy(matrix, weights), rtol=1e-4)
    np.testing.assert_allclose(product(damped(sample), weights), product(damped(matrix), weights), rtol=1e-4, atol=1e-3)


def test_damping_is_a_share_of_the_mean_diagonal():
    added = damped(tf.constant([[1.0, 5.0], [5.0, 3.0]])) - [[1.0, 5.0], [5.0, 3.0]]
    np.testing.assert_allclose(added, 2 * DAMPING * np.eye(2), atol=1e-6)


def test_a_path_by_all_inputs_is_the_path_by_the_matrix_to_rounding():
    x, kernel = inputs(), np.random.default_rng(3).standard_normal((40, 5)).astype(np.float32)
    densities = (1, 0.8, 0.6, 0.4)
    by_matrix = build_path(x.T @ x, kernel, densities)
    by_inputs = build_path(InputSample(x), kernel, densities)
    np.testing.assert_array_equal(by_inputs.removal_order[:80], by_matrix.removal_order[:80])
    np.testing.assert_allclose(by_inputs.errors, by_matrix.errors, rtol=1e-3, atol=1e-6)
    for level in range(4):
        np.testing.assert_allclose(by_inputs.weights(level), by_matrix.weights(level), atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_found(value):
    assert is_finite(InputSample(inputs()))
    assert is_finite(np.eye(2))
    assert not is_finite(InputSample(np.full((1, 2), value)))


def test_kept_inputs_are_found_among_the_rows_of_any_images():
    # Two uses with 3 and 2 positions: input 7 is position 2 of image 1, 9 is position 4 of it: the second use's last.
    kept = KeptInputs(np.array([0, 7, 9, 13]), available=20, uses=(3, 2))
    for rows, expected in zip(kept.among(0, 4), ([0, 5], [3, 4]), strict=True):
        np.testing.assert_array_equal(rows, expected)
    for rows, expected in zip(kept.among(1, 1), ([2], [1]), strict=True):
        np.testing.assert_array_equal(rows, expected)
    assert [len(rows) for rows in kept.among(4, 10)] == [0, 0]


def test_few_inputs_shrunk_are_fitted_worse_and_do_better_on_others():
    generator = np.random.default_rng(0)
    basis = generator.normal(size=(30, 256)) / 5.5

    def rectified(count):
        x = generator.normal(size=(count, 30)) @ basis + 0.5 * generator.normal(size=(count, 256))
        return np.maximum(x, 0).astype(np.float32)

    few, others = rectified(120), rectified(2000)
    kernel = generator.normal(size=(256, 20)).astype(np.float32)
    errors = {}
    for name, moment in (("plain", InputSample(few)), ("shrunk", shrunk(few))):
        path = build_path(moment, kernel, (1, 0.8, 0.6, 0.4, 0.3))
        missed = others @ (kernel - path.weights(4))
        errors[name] = path.errors[4], np.sum(missed**2) / np.sum((others @ kernel) ** 2)
    assert errors["plain"][0] < 0.5 * errors["plain"][1]  # promises far more than it keeps
    assert errors["shrunk"][0] > errors["shrunk"][1]
    assert errors["shrunk"][1] < 0.95 * errors["plain"][1]


def test_inputs_are_shrunk_towards_their_diagonal():
    rows = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32)
    # 2 of 10 inputs: S = 5 X'X = [[50, 10], [10, 20]]; a = 2 / (2 + 2).
    sample = as_tensors(KeptInputs(np.array([3, 8]), 10, (5,)).sample(rows))
    np.testing.assert_allclose(product(sample, tf.eye(2)), [[50, 5], [5, 20]], rtol=1e-6)
    np.testing.assert_allclose(diagonal(sample), [50, 20], rtol=1e-6)


def test_a_small_sample_solves_better_for_being_shrunk():
    """What is found from 20 of 4,000 inputs of width 40, judged by all of them."""
    generator = np.random.default_rng(0)
    mixing = np.eye(40) + generator.standard_normal((40, 40)) / np.sqrt(40)
    x = (generator.standard_normal((4000, 40)) @ mixing).astype(np.float32)
    gram, kernel = x.T @ x, generator.standard_normal((40, 8)).astype(np.float32)

    def error(moment):
        change = kernel - build_path(moment, kernel, (1, 0.7, 0.4)).weights(2)
        return np.sum(change * (gram @ change))

    plain = InputSample(x[:20] * np.float32(np.sqrt(200)))
    shrunk = KeptInputs(np.arange(20), 4000, (1,)).sample(x[:20])
    assert error(shrunk) < 0.8 * error(plain)
    assert error(gram) < error(shrunk)


def test_a_table_with_inputs_is_saved_and_loaded_bit_for_bit(tmp_path):
    class Kernel:
        path, shape = "fc/kernel", (40, 5)

        def numpy(self):
            return np.random.default_rng(3).standard_normal(self.shape).astype(np.float32)

    sample = KeptInputs(np.arange(12), 30, (1,)).sample(inputs())
    table = PathTable.build([Kernel()], {"fc/kernel": sample}, (1, 0.7, 0.4))
    table.save(tmp_path / "paths.npz")
    loaded = PathTable.load(tmp_path / "paths.npz")
    for ratio in (0.2, 0.5):
        weights = table.solve({"fc/kernel": ratio})[0]
        assert np.count_nonzero(weights) == round(200 * (1 - ratio))
        np.testing.assert_array_equal(loaded.solve({"fc/kernel": ratio})[0], weights)
