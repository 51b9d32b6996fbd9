import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors import progressive
from compressors.batch_norm import reestimate
from compressors.graph import prunable_kernels
from compressors.path_table import PathTable
from compressors.progressive import resolve_by_adam, resolve_progressively
from compressors.pruning_path import build_path
from compressors.ratios import num_removed
from compressors.regression import collect_grams
from compressors.second_moments import shrunk
from utils.errors import InputError

layers = keras.layers


def deep_net(depth=6, seed=0, channels=12):
    """A random residual network with statistics that fit its inputs, so that signals keep their scale."""
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(channels, 3, padding="same", name="conv1")(inputs)
    for index in range(depth):
        y = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"layer1.{index}.conv1")(x)
        y = layers.ReLU()(layers.BatchNormalization(name=f"layer1.{index}.bn1")(y))
        x = layers.Add()([x, y]) if index % 2 else y
    model = keras.Model(inputs, layers.Dense(10, name="fc")(layers.GlobalAveragePooling2D()(x)))
    reestimate(model, images(200, seed=seed + 1))
    return model


def images(count=200, seed=1):
    """Smooth images: neighbouring pixels are alike, as in photographs."""
    x = np.random.default_rng(seed).standard_normal((count, 10, 10, 3))
    x = x[:, :-2, :-2] + x[:, 1:-1, :-2] + x[:, :-2, 1:-1] + x[:, 2:, 2:]
    return tf.constant(x, tf.float32)


@pytest.fixture(scope="module")
def model():
    return deep_net()


def uniform(model, ratio):
    return {kernel.path: ratio for kernel in prunable_kernels(model)}


@pytest.mark.parametrize(("size", "levels"), [(2**17, 22), (2**17 + 1, 11)])
def test_a_large_layer_takes_larger_steps_to_the_same_number(size, levels):
    counts = progressive._removed_on_the_way(0.9, size)  # 0.9^21 is above 0.1, 0.9^22 is not
    assert counts[0] == 0
    assert counts[-1] == num_removed(0.9, size)
    assert len(counts) == levels + 1
    assert all(low < high for low, high in itertools.pairwise(counts))


def output_error(model, dense_outputs, x):
    """The share of the dense outputs' variance that the model misses."""
    difference = model(x, training=False) - dense_outputs
    variances = [tf.reduce_sum(tf.math.reduce_variance(value, 0)) for value in (difference, dense_outputs)]
    return float(variances[0] / variances[1])


def restoring(model):
    """A function that gives the model its present weights again."""
    weights = model.get_weights()
    return lambda: model.set_weights(weights)


@pytest.mark.parametrize("ratio", [0.6, 0.8])
def test_it_is_nearer_to_the_dense_outputs_than_the_plain_path(ratio):
    for seed in (0, 1):
        model = deep_net(seed=seed)
        x, unseen, ratios = images(seed=2), images(seed=3), uniform(model, ratio) | {"fc/kernel": 0.0}
        restore, dense_outputs = restoring(model), model(unseen, training=False)
        kernels = prunable_kernels(model)
        table = PathTable.build(kernels, collect_grams(model, [x]))
        progressive = resolve_progressively(model, ratios, x)
        for kernel, weights in zip(kernels, table.solve(ratios), strict=True):
            kernel.assign(weights)
        reestimate(model, x)
        plain_error = output_error(model, dense_outputs, unseen)
        restore()
        progressive.assign_to(model)
        assert output_error(model, dense_outputs, unseen) < 0.85 * plain_error


def test_the_dense_model_is_not_changed(model):
    before = [variable.numpy() for variable in model.variables]
    resolve_progressively(model, uniform(model, 0.5), images(40))
    resolve_by_adam(model, uniform(model, 0.5), images(40), num_iterations=2, learning_rate=0.01)
    assert all(np.array_equal(old, variable.numpy()) for old, variable in zip(before, model.variables, strict=True))


@pytest.mark.parametrize("solver", ["closed form", "adam"])
def test_exactly_the_asked_number_of_weights_is_removed(model, solver):
    ratios = {kernel.path: ratio for kernel, ratio in zip(prunable_kernels(model), np.linspace(0, 1, 8), strict=True)}
    if solver == "adam":
        pruned = resolve_by_adam(model, ratios, images(40), num_iterations=3, learning_rate=0.01)
    else:
        pruned = resolve_progressively(model, ratios, images(40))
    for kernel in prunable_kernels(model):
        weights = pruned.variables[kernel.path].numpy()
        assert weights.shape == kernel.shape
        assert np.sum(weights == 0) == num_removed(ratios[kernel.path], weights.size)
    np.testing.assert_array_equal(pruned.variables["conv1/kernel"], model.get_layer("conv1").kernel)


def test_with_nothing_removed_the_network_is_the_dense_one(model):
    x, restore = images(), restoring(model)
    dense_outputs = model(x, training=False)
    pruned = resolve_progressively(model, uniform(model, 0.0), x)
    assert set(pruned.errors) == set(uniform(model, 0.0))
    assert max(pruned.errors.values()) < 1e-4  # the statistics were made on other images of the same kind
    pruned.assign_to(model)
    assert output_error(model, dense_outputs, x) < 1e-3
    restore()


def test_the_first_layers_error_is_that_of_its_own_regression_and_an_empty_layers_is_1(model):
    x, name = images(), "conv1/kernel"
    kernel = model.get_layer("conv1").kernel.numpy()
    ratios = uniform(model, 0.0) | {name: 0.7, "fc/kernel": 1.0}
    pruned = resolve_progressively(model, ratios, x, max_positions=None)
    dense, sparse = (tf.nn.conv2d(x, k, 1, "SAME") for k in (kernel, pruned.variables[name]))
    expected = float(tf.reduce_sum((dense - sparse) ** 2) / tf.reduce_sum(dense**2))
    assert pruned.errors[name] == pytest.approx(expected, rel=1e-3)
    assert pruned.errors["fc/kernel"] == pytest.approx(1.0)


def test_batch_norms_get_the_moments_of_the_pruned_branch(model):
    x, restore = images(), restoring(model)
    pruned = resolve_progressively(model, uniform(model, 0.8), x)
    pruned.assign_to(model)
    before = {variable.path: variable.numpy() for variable in model.variables}
    reestimate(model, x)
    for variable in model.variables:
        np.testing.assert_allclose(variable, before[variable.path], rtol=1e-3, atol=1e-4)
    restore()


def test_later_layers_make_up_for_the_pruned_front():
    # Two linear layers: with half of the first gone, the second's best answer is another matrix than its own.
    inputs = layers.Input((8,))
    model = keras.Model(inputs, layers.Dense(4, name="second")(layers.Dense(16, name="first")(inputs)))
    x = tf.constant(np.random.default_rng(0).standard_normal((500, 8)), tf.float32)
    ratios = {"first/kernel": 0.5, "second/kernel": 0.1}
    outputs, restore = model(x), restoring(model)
    resolve_progressively(model, ratios, x, iterations=50).assign_to(model)
    progressive = float(tf.reduce_sum((model(x) - outputs) ** 2))
    restore()
    for kernel, weights in zip(
        prunable_kernels(model),
        PathTable.build(prunable_kernels(model), collect_grams(model, [x]), iterations=50).solve(ratios),
        strict=True,
    ):
        kernel.assign(weights)
    assert progressive < 0.7 * float(tf.reduce_sum((model(x) - outputs) ** 2))


def test_adam_lowers_the_error_that_masking_leaves(model):
    x, ratios = images(), uniform(model, 0.6)
    masked = resolve_by_adam(model, ratios, x, num_iterations=0, learning_rate=0.01)
    fitted = resolve_by_adam(model, ratios, x, num_iterations=40, learning_rate=0.01, batch_size=50)
    assert fitted.errors["fc/kernel"] < 0.6 * masked.errors["fc/kernel"]
    for kernel in prunable_kernels(model):  # the classical mask: magnitude of the dense kernel
        size = num_removed(0.6, int(np.prod(kernel.shape)))
        removed = np.argsort(np.abs(kernel.numpy()), axis=None, kind="stable")[:size]
        assert not np.any(fitted.variables[kernel.path].numpy().ravel()[removed])


def test_a_layer_with_few_inputs_is_solved_with_its_moment_shrunk():
    inputs = layers.Input((40,))
    model = keras.Model(inputs, layers.Dense(6, name="fc")(inputs))
    x = np.random.default_rng(0).standard_normal((10, 40)).astype(np.float32)
    ratios = {"fc/kernel": 1 - 0.9**3}  # that of a path's fourth level
    found = resolve_progressively(model, ratios, tf.constant(x))
    path = build_path(shrunk(x), model.get_layer("fc").kernel.numpy())
    np.testing.assert_allclose(found.variables["fc/kernel"], path.weights(3), atol=1e-4)


def test_a_layer_used_twice_has_one_kernel():
    inputs = layers.Input((6,))
    shared = layers.Dense(6, activation="relu", name="shared")
    model = keras.Model(inputs, layers.Dense(2, name="fc")(shared(shared(inputs))))
    x = tf.constant(np.random.default_rng(0).standard_normal((100, 6)), tf.float32)
    pruned = resolve_progressively(model, {"shared/kernel": 0.5, "fc/kernel": 0.0}, x)
    assert set(pruned.variables) == {"shared/kernel", "fc/kernel"}
    assert np.sum(pruned.variables["shared/kernel"].numpy() == 0) == 18


def test_wrong_ratios_are_input_errors(model):
    with pytest.raises(InputError, match="fc/kernel"):
        resolve_progressively(model, {k: 0.5 for k in uniform(model, 0) if k != "fc/kernel"}, images(2))
    with pytest.raises(InputError, match="Received: -0.5"):
        resolve_by_adam(model, uniform(model, -0.5), images(2), num_iterations=1, learning_rate=0.1)
