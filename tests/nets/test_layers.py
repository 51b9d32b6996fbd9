import keras
import numpy as np
import pytest
import tensorflow as tf

from nets.layers import FusedBatchNormalization


def _pair(**options):
    """The stock layer and ours with equal random variables."""
    inputs = np.random.default_rng(0).normal(2.0, 3.0, (4, 5, 5, 3)).astype("float32")
    pair = [make(name="bn", **options) for make in (keras.layers.BatchNormalization, FusedBatchNormalization)]
    values = [[1.5, 0.5, -2.0], [0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [4.0, 1.0, 0.25]]
    for layer in pair:
        layer.build(inputs.shape)
        layer.set_weights([np.array(value, "float32") for value in values])
    return pair, inputs


@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_and_moving_statistics_are_those_of_the_stock_layer(training):
    pair, inputs = _pair(momentum=0.9, epsilon=1e-3)
    results = []
    for layer in pair:
        x = tf.Variable(inputs)
        with tf.GradientTape() as tape:
            outputs = layer(x, training=training)
            loss = tf.reduce_sum(tf.reshape(tf.sin(tf.range(300.0)), outputs.shape) * outputs**2)
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        results.append([outputs, *gradients, layer.moving_mean.value, layer.moving_variance.value])
    for stock, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, stock, rtol=2e-4, atol=2e-4 * float(np.abs(stock).max()))


def test_frozen_layer_keeps_its_statistics_in_training():
    (_, ours), inputs = _pair()
    ours.trainable = False
    before = ours.get_weights()
    ours(inputs, training=True)
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("shape", [(8, 3), (2, 5, 5, 5, 3)])
def test_other_ranks_take_the_stock_way(shape):
    inputs = np.random.default_rng(1).normal(size=shape).astype("float32")
    stock, ours = keras.layers.BatchNormalization(), FusedBatchNormalization()
    np.testing.assert_allclose(ours(inputs, training=True), stock(inputs, training=True), atol=1e-6)


def test_a_model_with_it_saves_and_loads(tmp_path):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, FusedBatchNormalization(name="bn")(inputs))
    model.layers[1].moving_mean.assign([1.0, 2.0, 3.0])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[1], FusedBatchNormalization)
    x = np.random.default_rng(2).normal(size=(2, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_half_precision_keeps_float32_statistics():
    layer = FusedBatchNormalization(dtype="mixed_bfloat16")
    x = np.random.default_rng(3).normal(5.0, 1.0, (16, 4, 4, 2)).astype("float32")
    outputs = layer(x, training=True)
    assert outputs.dtype == tf.bfloat16
    np.testing.assert_allclose(layer.moving_mean.value, 0.01 * x.mean((0, 1, 2)), rtol=1e-2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_is_that_of_the_stock_layer(dtype, training):
    pair, inputs = _pair(momentum=0.9, epsilon=1e-3, dtype=f"mixed_{dtype}")
    results = []
    for layer in pair:
        x = tf.Variable(tf.cast(inputs, dtype))
        with tf.GradientTape() as tape:
            outputs = layer(x, training=training)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * tf.reshape(tf.sin(tf.range(300.0)), outputs.shape))
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        assert outputs.dtype == x.dtype == gradients[0].dtype == dtype
        assert {value.dtype for value in gradients[1:]} == {tf.float32}
        results.append([outputs, *gradients, layer.moving_mean.value, layer.moving_variance.value])
    for stock, ours in zip(*(map(np.float32, result) for result in results), strict=True):
        # Of eight bits bfloat16 keeps a 256th, and the stock layer rounds between its operations too.
        np.testing.assert_allclose(ours, stock, atol=0.03 * float(np.abs(stock).max()))
