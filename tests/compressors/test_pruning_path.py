import numpy as np
import pytest

from compressors import pruning_path
from compressors.pruning_path import DENSITIES, build_path
from compressors.ratios import num_removed
from compressors.second_moments import InputSample
from utils.errors import InputError


def layer(d=27, c=16, rows=1000, seed=0, mixing=0.3):
    """A Gram matrix of moderately correlated inputs of different scales, and a kernel."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, d)) @ (np.eye(d) + mixing * generator.standard_normal((d, d)) / np.sqrt(d))
    x *= generator.uniform(0.2, 2.0, d)
    return (x.T @ x).astype(np.float32), generator.standard_normal((d, c)).astype(np.float32)


def oracle_solve(gram, dense, mask, start, iterations):
    """Masked least squares by conjugate gradients, in float64."""
    hessian = gram + 1e-4 * np.mean(np.diag(gram)) * np.eye(len(gram))
    weights = start * mask
    residual = mask * (hessian @ (dense - weights))
    direction, square = residual, (residual**2).sum(0)
    for _ in range(iterations):
        product = mask * (hessian @ direction)
        step = square / np.maximum((direction * product).sum(0), 1e-300)
        weights, residual = weights + step * direction, residual - step * product
        new_square = (residual**2).sum(0)
        direction = residual + new_square / np.maximum(square, 1e-300) * direction
        square = new_square
    return weights


def oracle_level(gram, dense, previous, alive, count, scale, iterations=6):
    """The next level's weights and survivors from the level before."""
    scores = np.where(alive, np.abs(previous) * scale, -1.0)
    mask = np.ones(dense.size)
    mask[np.argsort(scores, axis=None, kind="stable")[:count]] = 0
    mask = mask.reshape(dense.shape)
    return oracle_solve(gram, dense, mask, previous, iterations), mask > 0


def oracle_error(gram, dense, weights):
    change = dense - weights
    return np.sum(change * (gram @ change)) / np.sum(dense * (gram @ dense))


def survivors(path, level):
    alive = np.ones(len(path.removal_order), bool)
    alive[path.removal_order[: path.removed[level]]] = False
    return alive.reshape(path.shape)


@pytest.mark.parametrize("score", ["input_norm", "magnitude"])
def test_each_level_is_the_oracles_step_from_the_level_before(score):
    # Step by step: over 55 levels float32 and float64 may part at a near tie, and both are right.
    gram, dense = layer()
    path = build_path(gram, dense, score=score)
    wide, scale = gram.astype(float), np.sqrt(np.diag(gram))[:, None] if score == "input_norm" else 1.0
    for level in range(1, len(DENSITIES)):
        weights, alive = oracle_level(
            wide, dense.astype(float), path.weights(level - 1), survivors(path, level - 1), path.removed[level], scale
        )
        np.testing.assert_array_equal(survivors(path, level), alive)
        np.testing.assert_allclose(path.weights(level), weights, atol=2e-4)


def test_the_errors_are_the_oracles_along_the_whole_path():
    gram, dense = layer(mixing=0.1)
    wide, wide_dense = gram.astype(float), dense.astype(float)
    weights, alive, errors = wide_dense, np.ones(dense.shape, bool), [0.0]
    for density in DENSITIES[1:]:
        count = int(dense.size * (1 - density))
        weights, alive = oracle_level(wide, wide_dense, weights, alive, count, np.sqrt(np.diag(wide))[:, None])
        errors.append(oracle_error(wide, wide_dense, weights))
    np.testing.assert_allclose(build_path(gram, dense).errors, errors, rtol=2e-3, atol=1e-7)


def test_each_error_is_that_of_the_levels_weights():
    gram, dense = layer(d=64, c=8, mixing=1.0)
    path = build_path(gram, dense)
    for level in range(len(DENSITIES)):
        expected = oracle_error(gram.astype(float), dense.astype(float), path.weights(level))
        # The damping's share is taken off again; what float32 leaves is some 1e-6 of the output's energy.
        assert path.errors[level] == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_errors_never_fall_and_the_solutions_errors_hardly_do(seed):
    gram, dense = layer(d=48, c=12, seed=seed, mixing=2.0, rows=100)
    path = build_path(gram, dense)
    assert np.all(np.diff(path.errors) >= 0)
    own = [oracle_error(gram.astype(float), dense.astype(float), path.weights(k)) for k in range(len(DENSITIES))]
    assert np.min(np.diff(own)) > -2e-3
    assert path.errors[0] == 0
    assert path.errors[-1] <= 1.001


def test_exactly_the_count_is_removed_at_each_level_and_masks_are_nested():
    gram, dense = layer()
    path = build_path(gram, dense)
    previous = np.ones(dense.shape, bool)
    for level, density in enumerate(DENSITIES):
        alive = path.weights(level) != 0
        assert dense.size - alive.sum() == path.removed[level] == num_removed(1 - density, dense.size)
        np.testing.assert_array_equal(alive, survivors(path, level))
        assert not np.any(alive & ~previous)
        previous = alive


def test_the_first_level_is_the_dense_kernel_bit_for_bit():
    gram, dense = layer()
    np.testing.assert_array_equal(build_path(gram, dense).weights(0), dense)


def test_equal_scores_go_by_flat_index_lowest_first():
    gram, dense = np.eye(5, dtype=np.float32), np.ones((5, 2), np.float32)
    path = build_path(gram, dense, densities=(1, 0.7, 0.4))
    np.testing.assert_array_equal(path.removal_order, range(10))
    np.testing.assert_allclose(path.errors, [0, 0.3, 0.6], atol=1e-6)  # uncorrelated inputs: the energy removed


def test_the_survivors_of_the_last_level_are_ordered_by_score():
    gram, dense = np.eye(4, dtype=np.float32), np.array([[3], [1], [4], [2]], np.float32)
    np.testing.assert_array_equal(build_path(gram, dense, densities=(1, 0.75)).removal_order, [1, 3, 0, 2])


def test_the_input_norm_decides_between_equal_magnitudes():
    gram, dense = np.diag([9.0, 1.0, 4.0]).astype(np.float32), np.array([[1], [1], [-1]], np.float32)
    np.testing.assert_array_equal(build_path(gram, dense, densities=(1, 0.5)).removal_order, [1, 2, 0])
    by_magnitude = build_path(gram, dense, densities=(1, 0.5), score="magnitude")
    np.testing.assert_array_equal(by_magnitude.removal_order, [0, 1, 2])


def test_a_convolution_is_pruned_in_its_own_shape():
    gram, dense = layer(d=18, c=5)
    path = build_path(gram, dense.reshape(3, 3, 2, 5))
    assert path.shape == (3, 3, 2, 5)
    np.testing.assert_array_equal(path.weights(20).reshape(18, 5), build_path(gram, dense).weights(20))


def test_re_solving_beats_masking():
    gram, dense = layer(d=64, c=8, mixing=1.0)
    path, level = build_path(gram, dense), 15
    masked = np.where(path.weights(level) != 0, dense, 0)
    assert path.errors[level] < 0.8 * oracle_error(gram, dense, masked)


@pytest.mark.parametrize(
    ("gram", "dense"),
    [
        (np.ones((1, 1)), np.ones((1, 1))),  # one weight
        (np.zeros((3, 3)), np.ones((3, 2))),  # no input ever
        (np.diag([1.0, 0.0, 2.0]), np.ones((3, 2))),  # a dead input
        (np.ones((3, 3)), np.ones((3, 2))),  # inputs that are all the same
        (np.eye(3), np.zeros((3, 2))),  # nothing to keep
        (1e8 * np.eye(3), 1e-6 * np.ones((3, 2))),
        (1e-12 * np.eye(3), np.ones((3, 2))),
    ],
)
def test_degenerate_layers_have_finite_paths(gram, dense):
    path = build_path(gram.astype(np.float32), dense.astype(np.float32))
    assert np.all(np.isfinite(path.values))
    assert np.all(np.isfinite(path.errors))
    assert np.all(np.diff(path.errors) >= 0)
    assert sorted(path.removal_order) == list(range(dense.size))


def test_paths_of_any_shape_are_compiled_once():
    for d, c in ((27, 16), (10, 3), (5, 1)):
        gram, dense = layer(d, c)
        build_path(gram, dense)
        build_path(gram, dense, densities=(1, 0.5, 0.1), score="magnitude")
        build_path(InputSample(np.ones((4, d), np.float32)), dense, densities=(1, 0.5, 0.1))
    for of_inputs in (False, True):
        assert pruning_path._compiled_walk(6, of_inputs).experimental_get_tracing_count() == 1


def test_a_large_layer_keeps_the_weights_of_every_eighth_level_only(monkeypatch):
    gram, dense = layer(d=9, c=4)
    full = build_path(gram, dense)
    monkeypatch.setattr(pruning_path, "LARGE", dense.size - 1)
    path = build_path(gram, dense)
    np.testing.assert_array_equal(path.levels, [0, 8, 16, 24, 32, 40, 48])
    for field in ("removal_order", "removed", "errors"):
        np.testing.assert_array_equal(getattr(path, field), getattr(full, field))
    for level in path.levels:
        np.testing.assert_array_equal(path.weights(level), full.weights(level))
    assert len(path.values) == sum(dense.size - removed for removed in path.removed[path.levels])
    monkeypatch.setattr(pruning_path, "LARGE", dense.size)
    np.testing.assert_array_equal(build_path(gram, dense).levels, range(56))


def test_bad_input_is_named():
    gram, dense = layer(d=3, c=2)
    with pytest.raises(InputError, match="finite"):
        build_path(gram, np.full_like(dense, np.nan))
    with pytest.raises(InputError, match="finite"):
        build_path(np.full_like(gram, np.inf), dense)
    with pytest.raises(InputError, match="one of input_norm, magnitude. Received: 'l1'"):
        build_path(gram, dense, score="l1")
    for densities in ((0.9, 0.5), (1, 0.5, 0.5), (1, -0.1)):
        with pytest.raises(InputError, match="fall from 1"):
            build_path(gram, dense, densities)
