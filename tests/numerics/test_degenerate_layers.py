"""Layers with hardly anything in them: one weight, zeros, equal values, inputs that say nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.graph import prunable_kernels
from compressors.masks import MaskSet, lowest_mask
from compressors.path_table import PathTable
from compressors.progressive import resolve_by_adam, resolve_progressively
from compressors.pruner_api import LevelPruner, LotteryTicketPruner
from compressors.pruning_path import DENSITIES, build_path
from compressors.regression import collect_grams
from compressors.second_moments import damped

# Masks.


@pytest.mark.parametrize(("ratio", "kept"), [(0, 1), (0.5, 1), (0.999, 1), (1, 0)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1, 1)], ids=["dense", "convolution"])
def test_a_layer_of_one_weight_loses_it_only_at_ratio_1(shape, ratio, kept):
    masks = MaskSet([keras.Variable(np.full(shape, -3.0, np.float32), name="kernel")], ["kernel"])
    masks.update({"kernel": ratio})
    assert masks.kernels[0].numpy().item() == -3.0 * kept
    masks.update({"kernel": 0})
    assert masks.kernels[0].numpy().item() == -3.0


@pytest.mark.parametrize("value", [0.0, -0.0, 2.5])
def test_of_a_kernel_of_equal_values_the_first_by_flat_index_go(value):
    masks = MaskSet([keras.Variable(np.full((2, 3), value, np.float32), name="kernel")], ["kernel"])
    masks.update({"kernel": 0.7})
    np.testing.assert_array_equal(masks.masks[0], [[0, 0, 0], [0, 1, 1]])
    masks.select({"kernel": 5})
    np.testing.assert_array_equal(masks.masks[0], [[0, 0, 0], [0, 0, 1]])


@given(st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0]), min_size=1, max_size=30), st.data())
@settings(max_examples=60)
def test_compiled_masks_remove_exactly_the_count_and_nan_last(values, data):
    removed = data.draw(st.integers(0, len(values)))
    scores = np.where(np.isnan(values), np.inf, values)
    expected = np.ones(len(values))
    expected[np.argsort(scores, kind="stable")[:removed]] = 0
    np.testing.assert_array_equal(lowest_mask(tf.constant(values, tf.float32), tf.constant(removed)), expected)


def test_the_pruner_api_takes_layers_of_one_weight_and_of_zeros():
    inputs = keras.Input((1,))
    hidden = keras.layers.Dense(1, use_bias=False, name="one")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4, use_bias=False, kernel_initializer="zeros", name="zeros")(hidden))
    pruner = LevelPruner(model, [{"sparsity": 0.5, "op_types": ["default"]}])
    pruner.compress()
    assert [row.removed for row in pruner.get_pruned_weights()] == [0, 2]
    np.testing.assert_array_equal(pruner.masks["zeros/kernel"], [[False, False, True, True]])


# Regression and paths.


def energy(gram, change):
    return np.sum(change * (np.asarray(damped(tf.constant(gram, tf.float32)), np.float64) @ change))


@st.composite
def singular_layers(draw):
    """A kernel of coarse values and inputs of which few are independent: constant, dead or repeated ones."""
    inputs, outputs = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    rows = np.array(draw(st.lists(st.lists(st.integers(-2, 2), min_size=inputs, max_size=inputs), max_size=3)), float)
    kernel = draw(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.5, 2.0]), min_size=inputs * outputs, max_size=inputs * outputs)
    )
    rows = rows.reshape(-1, inputs)
    return (rows.T @ rows).astype(np.float32), np.float32(kernel).reshape(inputs, outputs)


@given(singular_layers())
@settings(max_examples=15)
def test_paths_of_singular_layers_are_finite_and_no_worse_than_masking(layer):
    gram, kernel = layer
    path = build_path(gram, kernel, DENSITIES[::5])
    assert np.isfinite(path.values).all()
    assert np.isfinite(path.errors).all()
    for level in range(len(path.removed)):
        weights = path.weights(level)
        alive = np.zeros(kernel.size, bool)
        alive[path.removal_order[path.removed[level] :]] = True
        assert not weights[~alive.reshape(kernel.shape)].any()
        masked = np.where(alive.reshape(kernel.shape), kernel, 0)
        assert energy(gram, kernel - weights) <= energy(gram, kernel - masked) * (1 + 1e-4) + 1e-4


def small_network(images):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(images.shape[1:])
    x = keras.layers.Conv2D(4, min(3, images.shape[1]), use_bias=False, name="conv")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="bn")(x))
    x = keras.layers.Conv2D(1, 1, name="narrow")(x)
    x = keras.layers.Conv2D(1, 1, use_bias=False, name="one")(x)  # a kernel of one weight
    return keras.Model(inputs, keras.layers.Dense(3, name="fc")(keras.layers.GlobalAveragePooling2D()(x)))


PLAIN = np.random.default_rng(0).standard_normal((20, 6, 6, 3)).astype(np.float32)
IMAGES = {
    "plain": PLAIN,
    "all one colour": np.ones_like(PLAIN) * np.float32([0.5, -1.0, 2.0]),
    "black": np.zeros_like(PLAIN),
    "one pixel": PLAIN[:, :1, :1],
    "one image": PLAIN[:1],
    "one image of one pixel": PLAIN[:1, :1, :1],
}


@pytest.mark.parametrize("kind", IMAGES)
def test_networks_are_solved_on_images_that_say_little(kind):
    images, model = IMAGES[kind], small_network(IMAGES[kind])
    sizes = {kernel.path: kernel.numpy().size for kernel in prunable_kernels(model)}
    ratios = dict.fromkeys(sizes, 0.5)
    table = PathTable.build(prunable_kernels(model), collect_grams(model, [images]), DENSITIES[::5])
    solutions = [
        dict(zip(sizes, table.weights(tf.constant([size // 2 for size in sizes.values()])), strict=True)),
        resolve_progressively(model, ratios, images).variables,
        resolve_by_adam(model, ratios, images, num_iterations=3, learning_rate=3e-2).variables,
    ]
    for solution in solutions:
        assert all(np.isfinite(values).all() for values in solution.values())
        for path, size in sizes.items():
            assert np.count_nonzero(solution[path]) <= size - size // 2
        assert np.count_nonzero(solution["one/kernel"]) == 1  # half of one weight is none


def test_with_a_variance_of_0_a_channel_is_its_offset_and_the_network_finite():
    images = IMAGES["all one colour"]
    model = small_network(images)
    model.get_layer("bn").beta.assign([1.0, 2.0, 3.0, 4.0])
    solved = resolve_progressively(model, {kernel.path: 0.0 for kernel in prunable_kernels(model)}, images)
    solved.assign_to(model)
    np.testing.assert_allclose(model.get_layer("bn").moving_variance, np.zeros(4), atol=1e-9)
    to_norm = keras.Model(model.inputs[0], model.get_layer("bn").output)
    np.testing.assert_allclose(to_norm(images)[0, 0, 0], [1, 2, 3, 4], atol=1e-3)
    assert np.isfinite(model(images)).all()


def test_a_lottery_of_sparsity_0_removes_nothing_in_any_round():
    model = small_network(PLAIN)
    before = model.get_weights()
    entry = {"prune_iterations": 2, "sparsity": 0, "op_types": ["default"]}
    pruner = LotteryTicketPruner(model, [entry], keras.optimizers.SGD(0.1))
    pruner.compress()
    for _ in pruner.get_prune_iterations():
        pruner.prune_iteration_start()
        assert pruner.get_pruned_weights().sparsity == 0
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
