"""Layers that compute with quantized weights, and how these are quantized."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.quantizers.layers import (
    QUANTIZED_CLASSES,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    to_plain,
    to_quantized,
)
from compressors.quantizers.weights import DorefaWeights, LinearWeights, WrpnWeights

IMAGES = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype(np.float32)


LAYERS = {
    "conv": lambda: keras.layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="conv"),
    "grouped": lambda: keras.layers.Conv2D(6, 2, groups=3, use_bias=False, dilation_rate=2, name="grouped"),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"),
    "dense": lambda: keras.layers.Dense(7, activation="relu", kernel_regularizer="l2", name="dense"),
}


def with_random_weights(layer, seed=1):
    layer.build(IMAGES.shape)
    random = np.random.default_rng(seed)
    layer.set_weights([random.normal(size=value.shape) for value in layer.get_weights()])
    return layer


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
class TestQuantizedLayers:
    def quantized(self, make):
        plain = with_random_weights(make())
        quantized = to_quantized(plain, WrpnWeights(3), WrpnWeights(5))
        quantized.build(IMAGES.shape)
        quantized.set_weights(plain.get_weights())
        return plain, quantized

    def test_outputs_are_those_of_a_plain_layer_with_quantized_weights(self, make):
        plain, quantized = self.quantized(make)
        float_weights = plain.get_weights()
        plain.set_weights([np.round(np.clip(w, -1, 1) * n) / n for w, n in zip(float_weights, (3, 15), strict=False)])
        np.testing.assert_allclose(quantized(IMAGES), plain(IMAGES), rtol=1e-5, atol=1e-5)
        for variable, weights in zip(quantized.weights, float_weights, strict=True):
            np.testing.assert_array_equal(variable.numpy(), weights.astype(np.float32))

    def test_the_float_weights_are_trained_straight_through(self, make):
        plain, quantized = self.quantized(make)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(quantized(IMAGES) ** 2)
        gradients = tape.gradient(loss, quantized.trainable_weights)
        float_weights = [tf.constant(value) for value in plain.get_weights()]
        plain.set_weights([value for _, value in quantized.quantized_variables()])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(plain(IMAGES) ** 2)
        at_quantized = tape.gradient(loss, plain.trainable_weights)
        for gradient, weights, expected in zip(gradients, float_weights, at_quantized, strict=True):
            np.testing.assert_allclose(gradient, expected * tf.cast(tf.abs(weights) <= 1, tf.float32), rtol=1e-4)

    def test_names_and_paths_and_configuration_are_unchanged(self, make):
        plain, quantized = self.quantized(make)
        assert [variable.path for variable in quantized.variables] == [variable.path for variable in plain.variables]
        assert to_plain(quantized).get_config() == plain.get_config()
        assert type(to_plain(quantized)) is type(plain)
        assert isinstance(quantized, type(plain))

    def test_a_saved_layer_is_the_same(self, make, tmp_path):
        _, quantized = self.quantized(make)
        model = keras.Sequential([keras.Input(IMAGES.shape[1:]), quantized])
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert loaded.layers[0].kernel_quantizer == WrpnWeights(3)
        np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))

    def test_without_quantizers_the_class_stays(self, make):
        layer = make()
        assert type(to_quantized(layer, None, None)) is type(layer)
        assert type(to_quantized(layer, WrpnWeights(2), None)) is QUANTIZED_CLASSES[type(layer)]


class TestOneOfKernelAndBias:
    def test_bias_stays_float(self):
        layer = with_random_weights(QuantizedDense(4, kernel_quantizer=DorefaWeights(2)))
        (_, kernel), (_, bias) = layer.quantized_variables()
        assert len(np.unique(kernel)) <= 4
        np.testing.assert_array_equal(bias, layer.bias.numpy())

    def test_kernel_stays_float(self):
        layer = with_random_weights(QuantizedConv2D(4, 3, bias_quantizer=DorefaWeights(1)))
        (_, kernel), (_, bias) = layer.quantized_variables()
        np.testing.assert_array_equal(kernel, layer.kernel.numpy())
        assert len(np.unique(bias)) <= 2

    def test_fewer_filters_by_configuration(self):
        layer = QuantizedConv2D(8, 3, kernel_quantizer=DorefaWeights(3))
        thinned = with_random_weights(QuantizedConv2D.from_config(layer.get_config() | {"filters": 5}))
        assert thinned(IMAGES).shape == (2, 3, 3, 5)
        assert to_plain(thinned).filters == 5


class TestLinearWeights:
    def test_symmetric_steps_by_hand(self):
        # the largest is 1.5, so a step is 3 / 15 with 4 bits; 1.5 is 7.5 steps, of which there are 7
        outputs = LinearWeights(4, "SYMMETRIC")(tf.constant([[-1.5, 0.29], [0.31, 1.5]]))
        np.testing.assert_allclose(outputs, [[-1.6, 0.2], [0.4, 1.4]], rtol=1e-6)

    def test_asymmetric_steps_by_hand(self):
        # from -0.5 to 1 in 3 steps of 0.5
        outputs = LinearWeights(2, "ASYMMETRIC_UNSIGNED")(tf.constant([[-0.5, 0.2], [0.3, 1.0]]))
        np.testing.assert_allclose(outputs, [[-0.5, 0], [0.5, 1]], rtol=1e-6)

    @pytest.mark.parametrize(
        ("layer", "num_channel_axes", "slices"),
        [
            (QuantizedConv2D(4, 3), 1, (4,)),
            (QuantizedDense(4), 1, (4,)),
            (QuantizedDepthwiseConv2D(3, depth_multiplier=2), 2, (3, 2)),
        ],
    )
    def test_each_channel_has_its_own_range(self, layer, num_channel_axes, slices):
        kernel = with_random_weights(layer).kernel.numpy() * np.geomspace(0.01, 100, np.prod(slices)).reshape(slices)
        outputs = LinearWeights(3, "SYMMETRIC_RESTRICTED", num_channel_axes)(tf.constant(kernel, tf.float32)).numpy()
        for index in np.ndindex(slices):
            largest = np.abs(kernel[..., *index]).max()
            steps = outputs[..., *index] / (largest / 3)
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
            assert np.abs(steps).max() == pytest.approx(3, rel=1e-5)

    def test_gradient_is_one_over_the_whole_range(self):
        weights = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 4, 5)), tf.float32)
        for mode in ("SYMMETRIC", "ASYMMETRIC_SIGNED"):
            with tf.GradientTape() as tape:
                tape.watch(weights)
                outputs = LinearWeights(2, mode, 1)(weights)
            np.testing.assert_allclose(tape.gradient(outputs, weights), tf.ones_like(weights), rtol=1e-5)
