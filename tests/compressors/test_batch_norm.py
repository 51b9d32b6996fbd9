import keras
import numpy as np
import tensorflow as tf

from compressors.batch_norm import normalise as infer_by_moving
from compressors.batch_norm import normalise_by_batch, reestimate

layers = keras.layers


def build(model_inputs, outputs):
    model = keras.Model(model_inputs, outputs)
    generator = np.random.default_rng(1)
    for variable in model.variables:  # statistics and scales away from 0 and 1, so that a mix-up shows
        variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    return model


def conv_model():
    inputs = layers.Input((6, 5, 2))
    x = layers.Conv2D(3, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = layers.BatchNormalization(epsilon=1e-3, name="bn1")(x)
    x = layers.Conv2D(4, 1, use_bias=False, name="conv2")(layers.ReLU()(x))
    return build(inputs, layers.BatchNormalization(epsilon=1e-3, name="bn2")(x))


def images(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 6, 5, 2)).astype(np.float32)


def convolve(x, kernel):
    return tf.nn.conv2d(x, kernel, 1, "SAME").numpy().astype(np.float64)


def normalise(x, layer):
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)  # NumPy's variance is the population's
    return (x - mean) / np.sqrt(variance + 1e-3) * layer.gamma.numpy() + layer.beta.numpy(), mean, variance


def test_each_layer_gets_the_moments_of_its_input_given_the_new_statistics_before_it():
    model, x = conv_model(), images(7)
    first, second = model.get_layer("bn1"), model.get_layer("bn2")
    hidden, mean1, variance1 = normalise(convolve(x, model.get_layer("conv1").kernel), first)
    expected, mean2, variance2 = normalise(
        convolve(np.maximum(hidden, 0).astype(np.float32), model.get_layer("conv2").kernel), second
    )
    outputs = reestimate(model, tf.constant(x))
    np.testing.assert_allclose(first.moving_mean, mean1, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first.moving_variance, variance1, rtol=1e-4)
    np.testing.assert_allclose(second.moving_mean, mean2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(second.moving_variance, variance2, rtol=1e-4)
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)


def test_inference_on_the_same_images_then_gives_the_same_outputs():
    model, x = conv_model(), tf.constant(images(5))
    np.testing.assert_allclose(reestimate(model, x), model(x, training=False), rtol=1e-4, atol=1e-4)


def test_scale_offset_and_kernels_stay():
    model = conv_model()
    before = {v.path: v.numpy() for v in model.trainable_variables}
    reestimate(model, tf.constant(images(3)))
    assert all(np.array_equal(before[v.path], v.numpy()) for v in model.trainable_variables)


def test_dropout_is_off():
    inputs = layers.Input((6, 5, 2))
    model = build(inputs, layers.BatchNormalization(name="bn")(layers.Dropout(0.9)(inputs)))
    x = images(4)
    reestimate(model, tf.constant(x))
    np.testing.assert_allclose(model.get_layer("bn").moving_variance, x.var((0, 1, 2)), rtol=1e-4)


def test_a_batch_norm_of_vectors_without_scale_and_offset():
    inputs = layers.Input((3,))
    model = build(inputs, layers.BatchNormalization(center=False, scale=False, name="bn")(inputs))
    x = np.array([[1, 0, 5], [3, 0, 5], [5, 3, 5]], np.float32)
    outputs = reestimate(model, tf.constant(x)).numpy()
    np.testing.assert_allclose(model.get_layer("bn").moving_mean, [3, 1, 5], rtol=1e-6)
    np.testing.assert_allclose(model.get_layer("bn").moving_variance, [8 / 3, 2, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs[:, 0], np.array([-2, 0, 2]) / np.sqrt(8 / 3 + 1e-3), rtol=1e-5, atol=1e-6)


def test_maps_without_scale_and_offset_and_a_dead_channel_are_finite():
    layer = layers.BatchNormalization(center=False, scale=False)
    x = tf.constant(images(3)) * [1.0, 0.0]
    layer.build(x.shape)
    outputs, statistics = normalise_by_batch(layer, x)
    np.testing.assert_allclose(statistics.variance, x.numpy().var((0, 1, 2)), rtol=1e-4)
    assert not np.any(outputs[..., 1])
    assert np.all(np.isfinite(outputs))


def test_one_value_has_variance_zero():
    layer = layers.BatchNormalization()
    layer.build((1, 1, 1, 2))
    outputs, statistics = normalise_by_batch(layer, tf.constant([[[[3.0, -2.0]]]]))
    np.testing.assert_allclose(statistics.mean, [3, -2])
    np.testing.assert_allclose(statistics.variance, [0, 0])
    assert np.all(np.isfinite(outputs))


def test_it_is_traced_once_whatever_the_weights():
    model = conv_model()
    compiled = tf.function(lambda x: reestimate(model, x))
    for seed in range(3):
        kernel = model.get_layer("conv1").kernel
        kernel.assign(np.random.default_rng(seed).standard_normal(kernel.shape))
        x = images(4, seed)
        compiled(tf.constant(x))
        expected = convolve(x, kernel).var((0, 1, 2))
        np.testing.assert_allclose(model.get_layer("bn1").moving_variance, expected, rtol=1e-4)
    assert compiled.experimental_get_tracing_count() == 1


def test_channels_need_not_come_last():
    layer = layers.BatchNormalization(axis=1, epsilon=1e-3)
    layer.build((None, 3, 4, 5))
    generator = np.random.default_rng(0)
    for variable in layer.variables:
        variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    x = generator.normal(size=(6, 3, 4, 5)).astype(np.float32)
    expected, mean, variance = normalise(np.moveaxis(x, 1, -1).astype(np.float64), layer)
    outputs, statistics = normalise_by_batch(layer, tf.constant(x))
    np.testing.assert_allclose(np.moveaxis(outputs, 1, -1), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics.mean, mean, atol=1e-6)
    np.testing.assert_allclose(statistics.variance, variance, rtol=1e-5)


def test_a_layer_that_is_used_twice_gets_the_mean_of_its_uses():
    inputs = layers.Input((4,))
    shared = layers.BatchNormalization(name="shared", epsilon=1e-3)
    model = build(inputs, shared(shared(inputs) * 2.0))
    x = np.random.default_rng(0).normal(3, 2, size=(50, 4)).astype(np.float32)
    first, mean1, variance1 = normalise(x.astype(np.float64), shared)
    _, mean2, variance2 = normalise(2 * first, shared)
    reestimate(model, tf.constant(x))
    np.testing.assert_allclose(shared.moving_mean, (mean1 + mean2) / 2, rtol=1e-4)
    np.testing.assert_allclose(shared.moving_variance, (variance1 + variance2) / 2, rtol=1e-4)


def test_inference_is_that_of_the_layer():
    for options, shape in (
        ({}, (5, 6, 7, 3)),
        ({"scale": False}, (5, 6, 7, 3)),
        ({}, (9, 3)),
        ({"axis": 1}, (5, 3, 6, 7)),
    ):
        layer = layers.BatchNormalization(**options)
        layer.build((None, *shape[1:]))
        generator = np.random.default_rng(0)
        for variable in layer.variables:
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        x = tf.constant(generator.normal(size=shape), tf.float32)
        np.testing.assert_allclose(infer_by_moving(layer, x), layer(x, training=False), rtol=1e-5, atol=1e-6)
