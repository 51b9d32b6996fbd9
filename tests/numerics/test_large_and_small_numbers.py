"""Inputs of any size have pruning paths; what float32 cannot hold is an error that names the layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.graph import prunable_kernels
from compressors.path_table import PathTable
from compressors.progressive import resolve_by_adam, resolve_progressively
from compressors.pruning_path import build_path
from compressors.regression import collect_grams
from compressors.second_moments import InputSample, normalised, normalising_factor, product
from utils.errors import InputError

DENSITIES = (1, 0.7, 0.4, 0.2)
SMALL_LAYER = np.random.default_rng(2).standard_normal((6, 3)).astype(np.float32)
INPUTS = np.random.default_rng(3).standard_normal((50, 6)).astype(np.float32)


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    images = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(images)
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv2")(keras.layers.ReLU()(x))
    return keras.Model(images, keras.layers.Dense(3, use_bias=False, name="fc")(keras.layers.Flatten()(x)))


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).standard_normal((16, 6, 6, 3)).astype(np.float32)


def half(model):
    return {kernel.path: 0.5 for kernel in prunable_kernels(model)}


@pytest.mark.parametrize("of_inputs", [False, True], ids=["matrix", "inputs"])
@pytest.mark.parametrize("power", [-40, -1, 1, 40])
def test_a_path_does_not_depend_on_the_unit_of_the_inputs(power, of_inputs):
    def path(unit):
        rows = INPUTS * np.float32(unit)
        return build_path(InputSample(rows) if of_inputs else rows.T @ rows, SMALL_LAYER, DENSITIES)

    # Two to the power of 40: the squares that conjugate gradients form were beyond float32, or 0.
    for found, expected in zip(path(2.0**power), path(1.0), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("power", [-20, 20])
def test_progressive_solving_and_allocations_do_not_depend_on_the_unit_either(model, images, power):
    def solved(unit):
        grams = collect_grams(model, [images * unit])
        table = PathTable.build(prunable_kernels(model), grams, densities=DENSITIES).solve(half(model))
        progressive = resolve_progressively(model, half(model), images * unit)
        return [*table, *progressive.variables.values()], progressive.errors

    (found, errors), (expected, expected_errors) = solved(np.float32(2.0**power)), solved(np.float32(1))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert errors == expected_errors
    assert all(0 < error < 0.5 for error in errors.values())


def test_a_second_moment_is_normalised_by_a_power_of_4():
    gram = np.diag(np.float32([4e10, 2e10]))
    factor = normalising_factor(gram)
    assert 0.5 <= factor * 3e10 <= 2
    assert np.log2(factor) % 2 == 0
    sample = InputSample(tf.constant([[3e5, 0.0], [0.0, 2e5]]), tf.constant([[1e10], [1e10]]))
    weights = tf.constant([[1.0], [2.0]])
    expected = normalising_factor(sample) * np.float32([[10e10], [10e10]])
    np.testing.assert_allclose(product(normalised(sample), weights), expected, rtol=1e-6)
    for nothing in (np.zeros((2, 2), np.float32), np.full((2, 2), np.nan, np.float32)):
        assert normalising_factor(nothing) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e25])
def test_inputs_that_float32_cannot_square_name_the_layer(model, images, value):
    bad = images.copy()
    bad[3, 2, 1, 0] = value
    grams = collect_grams(model, [bad])
    with pytest.raises(InputError, match=r"the pruning path of conv/kernel needs finite inputs.*is the data norm"):
        PathTable.build(prunable_kernels(model), grams, densities=DENSITIES)
    with pytest.raises(InputError, match="conv/kernel cannot be fitted to the dense network's outputs"):
        resolve_progressively(model, half(model), bad)


def test_a_kernel_that_is_not_finite_names_the_layer(model):
    with pytest.raises(InputError, match="the pruning path of fc/kernel needs finite weights"):
        build_path(INPUTS.T @ INPUTS, np.full_like(SMALL_LAYER, np.inf), DENSITIES, name="fc/kernel")


def test_outputs_that_float32_cannot_square_name_the_layer():
    with pytest.raises(InputError, match="fc/kernel cannot be fitted to the dense network's outputs"):
        build_path(INPUTS.T @ INPUTS, 1e25 * SMALL_LAYER, DENSITIES, name="fc/kernel")


def test_relative_errors_are_at_least_0_on_a_single_image(model, images):
    # One image has fewer inputs than the layers have weights: their moment is shrunk and only estimates the error.
    errors = resolve_progressively(model, half(model), images[:1]).errors
    assert all(error >= 0 for error in errors.values()), errors


def test_regression_by_adam_that_diverges_leaves_the_masked_weights_and_is_told(model, images, capsys):
    solved = resolve_by_adam(model, half(model), images, num_iterations=5, learning_rate=1e30)
    for kernel in prunable_kernels(model):
        dense, found = kernel.numpy(), solved.variables[kernel.path].numpy()
        np.testing.assert_array_equal(found, np.where(found != 0, dense, 0))
        assert np.count_nonzero(found == 0) == dense.size // 2
    assert capsys.readouterr().err.count("gave NaN or infinity") == len(half(model))


def test_regression_by_adam_leaves_a_layer_alone_that_loses_no_weight(model, images):
    # The gradient is nothing but rounding there, of which Adam makes steps of its rate.
    ratios = {kernel.path: 0.9 / kernel.numpy().size for kernel in prunable_kernels(model)}
    solved = resolve_by_adam(model, ratios, images, num_iterations=20, learning_rate=3e-2)
    for kernel in prunable_kernels(model):
        np.testing.assert_array_equal(solved.variables[kernel.path], kernel.numpy())
