import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.input_patches import as_matrix, input_patches, linear_outputs
from compressors.layer_sizes import network_sizes
from compressors.regression import collect_grams, masked_least_squares, regress_by_adam, relative_error
from compressors.second_moments import DAMPING, KeptInputs, as_tensors, product
from utils.errors import InputError

layers = keras.layers

GEOMETRIES = [
    # height, width, kernel, strides, padding, dilation
    (8, 8, 3, 1, "same", 1),
    (8, 8, 3, 2, "same", 1),
    (7, 9, 3, 2, "same", 1),
    (7, 9, (3, 2), (2, 3), "valid", 1),
    (9, 8, 3, 1, "same", 2),
    (9, 8, (2, 3), 1, "valid", 2),
    (8, 7, 1, 2, "same", 1),
    (8, 7, 1, 1, "valid", 1),
    (8, 8, 5, 4, "same", 1),
    (6, 6, 2, 3, "same", 1),
    (2, 40, 3, 1, "same", 1),
    (40, 1, 1, 1, "same", 1),
]


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv_layer(channels, kernel, strides, padding, dilation, name="conv"):
    layer = layers.Conv2D(4, kernel, strides, padding, dilation_rate=dilation, use_bias=False, name=name)
    layer.build((None, None, None, channels))
    return layer


def brute_force_patches(x, kernel_size, strides, padding, dilation):
    """One patch after the other, with TensorFlow's rule that SAME pads less before than after."""
    pads = [(0, 0)]
    for size, kernel, stride in zip(x.shape[1:3], kernel_size, strides, strict=True):
        extent = (kernel - 1) * dilation + 1
        total = max((int(np.ceil(size / stride)) - 1) * stride + extent - size, 0) if padding == "same" else 0
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, [*pads, (0, 0)])
    rows = []
    for image in x:
        for i in range(0, image.shape[0] - (kernel_size[0] - 1) * dilation, strides[0]):
            for j in range(0, image.shape[1] - (kernel_size[1] - 1) * dilation, strides[1]):
                window = [
                    image[i + a * dilation, j + b * dilation]
                    for a in range(kernel_size[0])
                    for b in range(kernel_size[1])
                ]
                rows.append(np.concatenate(window))
    return np.array(rows)


@pytest.mark.parametrize(("height", "width", "kernel", "strides", "padding", "dilation"), GEOMETRIES)
def test_patches_are_the_windows_of_the_convolution(height, width, kernel, strides, padding, dilation):
    layer, x = conv_layer(3, kernel, strides, padding, dilation), random(2, height, width, 3)
    patches = input_patches(layer, tf.constant(x)).numpy()
    np.testing.assert_array_equal(patches, brute_force_patches(x, layer.kernel_size, layer.strides, padding, dilation))
    outputs = layer(x).numpy()
    np.testing.assert_allclose(patches @ as_matrix(layer.kernel.numpy()), outputs.reshape(-1, 4), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "kernel", "strides", "padding", "dilation"), GEOMETRIES)
def test_sampled_positions_are_on_a_grid_and_their_outputs_match(height, width, kernel, strides, padding, dilation):
    layer, x = conv_layer(3, kernel, strides, padding, dilation), random(2, height, width, 3)
    sample = input_patches(layer, tf.constant(x), max_positions=6).numpy()
    everything = {row.tobytes() for row in brute_force_patches(x, layer.kernel_size, layer.strides, padding, dilation)}
    assert 1 <= len(sample) // 2 <= 6
    assert all(row.tobytes() in everything for row in sample)
    outputs = linear_outputs(layer, tf.constant(x), layer.kernel.value, max_positions=6)
    np.testing.assert_allclose(outputs, sample @ as_matrix(layer.kernel.numpy()), rtol=1e-4, atol=1e-5)


def test_the_sample_is_the_centred_grid():
    layer, x = conv_layer(1, 1, 1, "same", 1), np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1)
    sample = input_patches(layer, tf.constant(x), max_positions=4)  # every third of 6 positions, the second first
    np.testing.assert_array_equal(sample[:, 0], [7, 10, 25, 28])


def test_dense_inputs_are_their_own_patches():
    layer = layers.Dense(2, use_bias=False)
    layer.build((None, 3, 5))
    x = random(4, 3, 5)
    patches = input_patches(layer, tf.constant(x), max_positions=1)
    np.testing.assert_array_equal(patches, x.reshape(12, 5))
    np.testing.assert_allclose(patches @ layer.kernel.numpy(), layer(x).numpy().reshape(12, 2), rtol=1e-5, atol=1e-6)


def test_layers_without_patches_are_input_errors():
    x = tf.ones([1, 6, 6, 4])
    with pytest.raises(InputError, match="ungrouped Conv2D.*'grouped'"):
        input_patches(layers.Conv2D(4, 3, groups=2, name="grouped"), x)
    with pytest.raises(InputError, match="DepthwiseConv2D"):
        input_patches(layers.DepthwiseConv2D(3), x)
    with pytest.raises(InputError, match="channels_last.*'first'"):
        input_patches(layers.Conv2D(4, 3, data_format="channels_first", name="first"), x)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = layers.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, padding="same", name="conv1")(inputs)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv2")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(5, name="fc")(layers.GlobalAveragePooling2D(name="pool")(x)))
    for variable in model.get_layer("bn1").variables:
        variable.assign(np.random.default_rng(1).uniform(0.5, 2.0, variable.shape))
    return model


def test_grams_are_those_of_each_layers_inputs_in_inference_mode(model):
    x = random(50, 6, 6, 2)
    inputs = {
        "conv1": x,
        "conv2": keras.Model(model.input, model.get_layer("conv2").input)(x).numpy(),
        "fc": keras.Model(model.input, model.get_layer("pool").output)(x).numpy(),
    }
    grams = collect_grams(model, [x])
    assert list(grams) == ["conv1/kernel", "conv2/kernel", "fc/kernel"]
    for name, value in inputs.items():
        rows = value
        if name != "fc":
            rows = brute_force_patches(value, (3, 3), model.get_layer(name).strides, "same", 1)
        rows = rows.astype(np.float64)
        np.testing.assert_allclose(grams[f"{name}/kernel"], rows.T @ rows, rtol=1e-4, atol=1e-4 * len(rows))
        assert grams[f"{name}/kernel"].dtype == np.float32


def test_grams_do_not_depend_on_the_batches(model):
    x = random(50, 6, 6, 2)
    whole, parts = collect_grams(model, [x]), collect_grams(model, (x[i : i + 7] for i in range(0, 50, 7)))
    for path in whole:
        np.testing.assert_allclose(whole[path], parts[path], rtol=1e-4, atol=1e-2)


def test_the_gram_of_a_layer_used_twice_sums_over_its_uses():
    inputs = layers.Input((3,))
    shared = layers.Dense(3, use_bias=False, name="shared")
    model = keras.Model(inputs, shared(shared(inputs)))
    x = random(10, 3)
    hidden = x @ shared.kernel.numpy()
    np.testing.assert_allclose(
        collect_grams(model, [x])["shared/kernel"], x.T @ x + hidden.T @ hidden, rtol=1e-4, atol=1e-4
    )


def test_no_image_is_an_input_error(model):
    with pytest.raises(InputError, match="at least one image"):
        collect_grams(model, [])


def problem(rows=200, d=20, c=6, kept=0.4, seed=0):
    generator = np.random.default_rng(seed)
    mixing = np.eye(d) + 0.3 * generator.standard_normal((d, d)) / np.sqrt(d)
    x = generator.standard_normal((rows, d)) @ mixing
    return x, generator.standard_normal((d, c)), (generator.random((d, c)) < kept).astype(float)


def column_by_column(x, kernel, mask):
    """NumPy's least squares on the kept inputs of each column, with the damping as extra rows."""
    damping = DAMPING * np.mean(np.sum(x**2, 0))
    x = np.concatenate([x, np.sqrt(damping) * np.eye(x.shape[1])])
    solution = np.zeros_like(kernel)
    for column in range(kernel.shape[1]):
        kept = mask[:, column] > 0
        solution[kept, column] = np.linalg.lstsq(x[:, kept], x @ kernel[:, column], rcond=None)[0]
    return solution


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_masked_least_squares_is_lstsq_of_each_column(dtype, tolerance):
    # The systems' condition number is below 100, so float32's 6e-8 grows to some 1e-5 of the largest weight.
    x, kernel, mask = problem()
    expected = column_by_column(x, kernel, mask)
    tensors = [tf.constant(array, dtype) for array in (x.T @ x, kernel, mask)]
    for start in (tensors[1], tf.zeros_like(tensors[1])):
        solution = masked_least_squares(*tensors, start, tf.constant(60))
        np.testing.assert_allclose(solution, expected, atol=tolerance * np.abs(expected).max(), rtol=0)
        assert not np.any(solution.numpy()[mask == 0])


def test_each_iteration_lowers_the_error():
    x, kernel, mask = problem(kept=0.6)
    gram, kernel, mask = (tf.constant(array) for array in (x.T @ x, kernel, mask))
    solutions = [masked_least_squares(gram, kernel, mask, kernel, tf.constant(n)) for n in range(8)]
    errors = [float(relative_error(gram, kernel, solution)) for solution in solutions]
    np.testing.assert_array_equal(solutions[0], kernel * mask)
    assert all(later < earlier for earlier, later in zip(errors, errors[1:], strict=False))


def test_a_full_mask_returns_the_dense_kernel_and_an_empty_one_zeros():
    x, kernel, _ = problem()
    gram, kernel = tf.constant(x.T @ x, tf.float32), tf.constant(kernel, tf.float32)
    full = masked_least_squares(gram, kernel, tf.ones_like(kernel), kernel, tf.constant(5))
    np.testing.assert_array_equal(full, kernel)
    assert not np.any(masked_least_squares(gram, kernel, tf.zeros_like(kernel), kernel, tf.constant(5)))


@pytest.mark.parametrize("dead", [[0], list(range(20))])
def test_dead_inputs_give_finite_weights(dead):
    x, kernel, mask = problem()
    x[:, dead] = 0
    tensors = [tf.constant(array, tf.float32) for array in (x.T @ x, kernel, mask)]
    solution = masked_least_squares(*tensors, tensors[1], tf.constant(100))
    assert np.all(np.isfinite(solution))
    assert np.isfinite(relative_error(tensors[0], tensors[1], solution))


def test_relative_error_by_hand():
    x = np.array([[1.0, 2.0], [0.0, 1.0]])
    kernel, weights = np.array([[1.0], [1.0]]), np.array([[1.0], [0.0]])
    # outputs (3, 1) against (1, 0): (4 + 1) / (9 + 1)
    assert float(relative_error(*map(tf.constant, (x.T @ x, kernel, weights)))) == pytest.approx(0.5)
    zero = tf.zeros([2, 1], tf.float64)
    assert float(relative_error(tf.constant(x.T @ x), zero, zero)) == 0


def adam(x, y, kernel, mask, iterations=20, learning_rate=3e-2, rows=10_000):
    tensors = [tf.constant(array, tf.float32) for array in (x, y, kernel, mask)]
    return regress_by_adam(*tensors, iterations, learning_rate, rows).numpy()


def test_the_first_adam_step_is_the_learning_rate_against_the_gradients_sign():
    x, kernel, mask = problem()
    start = kernel * mask
    gradient = mask * (x.T @ (x @ start - x @ kernel))
    np.testing.assert_allclose(
        adam(x, x @ kernel, kernel, mask, iterations=1, learning_rate=0.01), start - 0.01 * np.sign(gradient), atol=1e-5
    )


def test_adam_approaches_the_least_squares_solution():
    x, kernel, mask = problem()
    expected = column_by_column(x, kernel, mask)
    solution = adam(x, x @ kernel, kernel, mask, iterations=2000, learning_rate=5e-3)
    np.testing.assert_allclose(solution, expected, atol=2e-2 * np.abs(expected).max())
    assert not np.any(solution[mask == 0])


def test_adam_fits_targets_that_come_from_other_inputs():
    x, kernel, mask = problem()
    pruned_x = x + 0.3 * np.random.default_rng(5).standard_normal(x.shape)
    target = x @ kernel
    best = np.zeros_like(kernel)
    for column in range(kernel.shape[1]):
        kept = mask[:, column] > 0
        best[kept, column] = np.linalg.lstsq(pruned_x[:, kept], target[:, column], rcond=None)[0]
    solution = adam(pruned_x, target, kernel, mask, iterations=2000, learning_rate=5e-3)
    assert np.sum((target - pruned_x @ solution) ** 2) < 1.001 * np.sum((target - pruned_x @ best) ** 2)


def test_adam_goes_through_the_mini_batches_in_turn():
    # Two mini-batches that want the weight to go up and down: step one goes up only.
    x, y = np.ones((4, 1)), np.array([[2.0], [2.0], [0.0], [0.0]])
    one, mask = np.ones((1, 1)), np.ones((1, 1))
    up = adam(x, y, one, mask, iterations=1, learning_rate=0.1, rows=2)
    assert up[0, 0] == pytest.approx(1.1, abs=1e-5)
    # The second batch's targets are zero: no relative error to lower, so the step is the momentum of the first.
    first_gradient = 2 * (1 - 2) * 2 / 8
    mean, square = 0.9 * 0.1 * first_gradient, 0.999 * 0.001 * first_gradient**2
    step = 0.1 * (mean / (1 - 0.9**2)) / np.sqrt(square / (1 - 0.999**2))
    assert adam(x, y, one, mask, 2, 0.1, rows=2)[0, 0] == pytest.approx(1.1 - step, abs=1e-5)
    assert np.isfinite(adam(x, y, one, mask, 3, 0.1, rows=100)).all()


def test_adam_is_traced_once_for_all_shapes_and_rates():
    for d, c, iterations, rate in ((20, 6, 3, 0.1), (10, 2, 5, 0.01), (5, 1, 2, 0.5)):
        x, kernel, mask = problem(d=d, c=c)
        adam(x, x @ kernel, kernel, mask, iterations, rate)
    assert regress_by_adam.experimental_get_tracing_count() == 1


def test_grams_that_are_not_wanted_are_left_out(model):
    x = random(10, 6, 6, 2)
    grams, fewer = collect_grams(model, [x]), collect_grams(model, [x], without=["conv2/kernel"])
    assert list(fewer) == ["conv1/kernel", "fc/kernel"]
    for path, gram in fewer.items():
        np.testing.assert_allclose(gram, grams[path], rtol=1e-6)


def test_kept_inputs_are_rows_of_the_patches_however_the_images_are_batched(model):
    x = random(50, 6, 6, 2)
    sizes = network_sizes(model, x[0])
    kept = {"conv2/kernel": KeptInputs(np.array([0, 10, 300, 449]), 450, (9,))}
    kept["fc/kernel"] = KeptInputs(np.arange(50), 50, (1,))
    assert [layer.rows(None) for layer in sizes.layers] == [(36,), (9,), (1,)]
    hidden = keras.Model(model.input, model.get_layer("conv2").input)(x).numpy()
    rows = brute_force_patches(hidden, (3, 3), (2, 2), "same", 1)[[0, 10, 300, 449]]
    pooled = keras.Model(model.input, model.get_layer("pool").output)(x).numpy()
    grams = collect_grams(model, [x])
    for batches in ([x], [x[:7], x[7:45], x[45:]]):
        found = collect_grams(model, batches, kept=kept)
        np.testing.assert_allclose(found["conv1/kernel"], grams["conv1/kernel"], rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(found["fc/kernel"].rows, kept["fc/kernel"].sample(pooled).rows, rtol=1e-4, atol=1e-4)
        expected = kept["conv2/kernel"].sample(rows)
        np.testing.assert_allclose(found["conv2/kernel"].rows, expected.rows, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["conv2/kernel"].ridge, expected.ridge, rtol=1e-4)


def test_kept_inputs_of_a_layer_used_twice_are_those_of_both_uses():
    inputs = layers.Input((3,))
    shared = layers.Dense(3, use_bias=False, name="shared")
    model = keras.Model(inputs, shared(shared(inputs)))
    x = random(40, 3)
    kept = {"shared/kernel": KeptInputs(np.arange(80), 80, (1, 1))}
    found = product(as_tensors(collect_grams(model, [x], kept=kept)["shared/kernel"]), tf.eye(3))
    gram, shrinkage = collect_grams(model, [x])["shared/kernel"], 3 / (80 + 3)
    expected = (1 - shrinkage) * gram + shrinkage * np.diag(np.diag(gram))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def smooth_images(count, size):
    """Neighbouring pixels are alike, as in photographs: means of 3 x 3 random pixels, and a little noise."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((count, size + 2, size + 2, 3))
    x = sum(x[:, i : i + size, j : j + size] for i in range(3) for j in range(3)) / 3
    return (x + 0.1 * generator.standard_normal(x.shape)).astype(np.float32)


def full_error_ratio(kernel, full, sampled, ratio):
    """The error on all inputs of the solution from a sample, over that of the solution from all; the same mask."""
    matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])
    scores = np.abs(matrix.numpy()) * np.sqrt(np.diag(full))[:, None]
    mask = tf.constant(scores > np.quantile(scores, ratio), tf.float32)
    errors = [
        relative_error(full, matrix, masked_least_squares(as_tensors(moment), matrix, mask, matrix, tf.constant(20)))
        for moment in (sampled, full)
    ]
    return float(errors[0] / errors[1])


@pytest.mark.parametrize("size", [48, 60])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_sample_of_positions_gives_a_solution_within_2_percent_of_that_of_all(padding, size):
    """Of 48 x 48 positions every third in both directions, of 60 x 60 every fourth."""
    keras.utils.set_random_seed(0)
    images = layers.Input((size, size, 3))
    x = layers.ReLU()(layers.Conv2D(8, 3, padding=padding, name="conv1")(images))
    model = keras.Model(images, layers.Conv2D(12, 3, padding=padding, name="conv2")(x))
    x = smooth_images(32, size)
    full, sampled = collect_grams(model, [x], max_positions=None), collect_grams(model, [x], max_positions=256)
    for layer in (model.get_layer("conv1"), model.get_layer("conv2")):
        for ratio in (0.3, 0.6, 0.9):
            path = layer.kernel.path
            assert full_error_ratio(layer.kernel.value, full[path], sampled[path], ratio) < 1.02, (path, ratio)


def test_positions_at_the_ends_stand_for_themselves_and_others_for_their_neighbours():
    layer = layers.Conv2D(1, 1, use_bias=False, name="conv")
    x = np.arange(100, dtype=np.float32).reshape(1, 10, 10, 1) + 1
    layer.build(x.shape)
    patches = input_patches(layer, tf.constant(x), max_positions=16).numpy().ravel()
    rows = np.array([0, 3, 6, 9])
    weights = np.array([1, 4, 4, 1]) * 4 / 10  # 10 positions by four
    expected = x[0, :, :, 0][np.ix_(rows, rows)] * np.sqrt(np.outer(weights, weights))
    np.testing.assert_allclose(patches, expected.ravel(), rtol=1e-6)


def test_a_sample_of_32_inputs_to_each_of_a_dense_layers_gives_a_solution_within_2_percent():
    """With fewer it is worse, as the document says: no more inputs than the layer is wide leave some 20%."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((100, 64, 24)) @ (np.eye(24) + generator.standard_normal((24, 24)) / 10)
    x, kernel = np.maximum(x, 0).astype(np.float32), tf.constant(generator.standard_normal((24, 32)), tf.float32)
    inputs = layers.Input((64, 24))
    model = keras.Model(inputs, layers.Dense(32, name="wide")(inputs))
    full = collect_grams(model, [x])["wide/kernel"]

    def ratio(count):
        chosen = np.sort(np.random.default_rng(1).choice(6400, count, replace=False))
        sampled = collect_grams(model, [x], kept={"wide/kernel": KeptInputs(chosen, 6400, (64,))})["wide/kernel"]
        return full_error_ratio(kernel, full, sampled, 0.7)

    assert ratio(32 * 24) < 1.02
    assert 1.05 < ratio(24) < 1.5
