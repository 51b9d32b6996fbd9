"""Activation layers: ranges, learned clips, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.quantizers.activations import ClippedActivation, LinearActivation, PactActivation

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32) * 3


def linear(ema_decay=0.9, mode="ASYMMETRIC_UNSIGNED", bits=8):
    layer = LinearActivation(bits, mode, ema_decay, name="relu.quantize")
    layer.build((None, 2))
    return layer


class TestLinearActivation:
    def test_range_is_the_bias_corrected_moving_average(self):
        layer, decay = linear(0.9), 0.9
        random = np.random.default_rng(1)
        batches = random.normal(size=(12, 5, 2)).astype(np.float32) * random.uniform(1, 9, size=(12, 1, 1))
        for count, batch in enumerate(batches, start=1):
            layer(batch, training=True)
            weights = (1 - decay) * decay ** np.arange(count - 1, -1, -1) / (1 - decay**count)
            expected = [weights @ batches[:count].min((1, 2)), weights @ batches[:count].max((1, 2))]
            np.testing.assert_allclose([layer.low.numpy(), layer.high.numpy()], expected, rtol=1e-5)

    def test_two_steps_by_hand(self):
        layer = linear(0.5)
        layer(np.array([[0.0, 4.0]]), training=True)
        assert (layer.low.numpy(), layer.high.numpy()) == (0, 4)
        layer(np.array([[-3.0, 1.0]]), training=True)  # weights 1/3 and 2/3
        np.testing.assert_allclose([layer.low.numpy(), layer.high.numpy()], [-2, 2], rtol=1e-6)

    def test_a_step_uses_its_own_range_already(self):
        outputs = linear(bits=2)(np.array([[0.0, 3.0, 0.9, 2.2]]), training=True)
        np.testing.assert_allclose(outputs, [[0, 3, 1, 2]], rtol=1e-6)

    def test_inference_uses_the_range_and_leaves_it(self):
        layer = linear(bits=2)
        layer(np.array([[0.0, 3.0]]), training=True)
        before = layer.get_weights()
        np.testing.assert_allclose(layer(np.array([[1.2, 7.0]]), training=False), [[1, 3]], rtol=1e-6)
        np.testing.assert_allclose(layer(np.array([[1.2, 7.0]])), [[1, 3]], rtol=1e-6)
        np.testing.assert_array_equal(layer.get_weights(), before)

    def test_what_was_observed_counts_until_training_begins(self):
        layer = linear(bits=2)
        layer.observe(tf.constant([[0.5, 3.0]]))
        layer.observe(tf.constant([[-1.0, 2.0]]))
        assert (layer.low.numpy(), layer.high.numpy()) == (-1, 3)
        layer(np.array([[0.0, 30.0]]), training=True)
        assert (layer.low.numpy(), layer.high.numpy()) == (0, 30)

    def test_none_of_its_variables_is_trained_and_inputs_have_a_gradient(self):
        layer, x = linear(), tf.constant(X)
        assert layer.trainable_variables == []
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
        np.testing.assert_array_equal(tape.gradient(outputs, x), np.ones_like(X))


class TestPactActivation:
    def test_the_clip_is_trained(self):
        layer = PactActivation(4, 2.0, name="relu")
        with tf.GradientTape() as tape:
            outputs = layer(np.array([[-1.0, 0.5, 3.0, 4.0]]))
        (clip,) = layer.trainable_variables
        assert (clip.path, clip.shape, clip.numpy()) == ("relu/clip", (), 2)
        np.testing.assert_allclose(outputs, [[0, 4 * 2 / 15, 2, 2]], rtol=1e-6)
        np.testing.assert_allclose(tape.gradient(outputs, clip.value), 2)

    def test_an_optimizer_keeps_the_clip_positive(self):
        layer = PactActivation(4, 2.0)
        layer.build((None, 3))
        keras.optimizers.SGD(1.0).apply_gradients([(tf.constant(9.0), layer.clip)])
        assert layer.clip.numpy() > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda **arguments: ClippedActivation(3, **arguments),
        lambda **arguments: PactActivation(3, 2.0, **arguments),
        lambda **arguments: LinearActivation(3, "SYMMETRIC", 0.9, **arguments),
    ],
    ids=["clipped", "pact", "linear"],
)
class TestAllActivations:
    def test_at_most_the_values_of_the_bits(self, make):
        assert len(np.unique(make()(X, training=True))) <= 2**3

    def test_a_saved_layer_is_the_same(self, make, tmp_path):
        model = keras.Sequential([keras.Input((6,)), make(name="a.relu")])
        expected = model(X, training=True)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert loaded.layers[0].get_config() == model.layers[0].get_config()
        np.testing.assert_array_equal(loaded(X), expected)

    def test_half_precision_is_kept_outside(self, make):
        assert make(dtype="mixed_float16")(X.astype(np.float16)).dtype == tf.float16
