"""Values and gradients of the quantization functions against NumPy."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from compressors.quantizers.functions import (
    clipped_activations,
    dorefa_weights,
    linear_activations,
    pact_activations,
    quantize_k,
    wrpn_weights,
)

MODES = ("SYMMETRIC", "SYMMETRIC_RESTRICTED", "ASYMMETRIC_UNSIGNED", "ASYMMETRIC_SIGNED")


def arrays(low, high):
    return hnp.arrays(np.float32, 30, elements=st.floats(low, high, width=32, allow_subnormal=False))


def value_and_gradients(function, *tensors, seed=0):
    """Of the sum of the outputs weighted by normal numbers: the outputs, the weights, the gradients."""
    tensors = [tf.constant(tensor, tf.float32) for tensor in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = function(*tensors)
    weights = np.random.default_rng(seed).normal(size=outputs.shape).astype(np.float32)
    gradients = tape.gradient(outputs, tensors, output_gradients=weights)
    return outputs.numpy(), weights, [gradient.numpy() for gradient in gradients]


def is_halfway(steps):
    """Where rounding has no one answer: halves, up to float32's precision."""
    return np.abs(np.abs(steps % 1) - 0.5) < 1e-2


class TestQuantizeK:
    def test_hand_worked(self):
        x = [0.0, 0.1, 0.2, 0.49, 0.51, 0.9, 1.0]
        np.testing.assert_allclose(quantize_k(tf.constant(x), 1), [0, 0, 0, 0, 1, 1, 1])
        np.testing.assert_allclose(quantize_k(tf.constant(x), 2), np.array([0, 0, 1, 1, 2, 3, 3]) / 3)

    def test_gradient_is_one(self):
        _, weights, (gradient,) = value_and_gradients(lambda x: quantize_k(x, 3), np.linspace(0, 1, 9))
        np.testing.assert_allclose(gradient, weights, rtol=1e-6)


class TestDorefaWeights:
    def test_hand_worked(self):
        # tanh is 0, .5, -.5, 1/4 of its largest, 1: f = .5, .75, .25, .625, 1; times 3: 1.5, 2.25, .75, 1.875, 3
        weights = np.arctanh(np.array([0, 0.5, -0.5, 0.25, 1]) * 0.9)
        expected = [1 / 3, 1 / 3, -1 / 3, 1 / 3, 1]
        np.testing.assert_allclose(dorefa_weights(tf.constant(weights, tf.float32), 2), expected, rtol=1e-6)

    @hypothesis.given(arrays(-3, 3), st.integers(2, 8))
    def test_values_and_gradients(self, weights, bits):
        squashed = np.tanh(weights.astype(np.float64))
        largest = np.abs(squashed).max()
        hypothesis.assume(largest > 1e-3 and np.sum(np.abs(squashed) == largest) == 1)
        levels = 2**bits - 1
        steps = (squashed / (2 * largest) + 0.5) * levels
        outputs, upstream, (gradient,) = value_and_gradients(lambda w: dorefa_weights(w, bits), weights)
        certain = ~is_halfway(steps)
        np.testing.assert_allclose(outputs[certain], (2 * np.round(steps) / levels - 1)[certain], atol=1e-6)
        # As if nothing were rounded: d/dw of tanh(w) / max|tanh(w)|, the largest weight included.
        expected = upstream * (1 - squashed**2) / largest
        top = np.abs(squashed).argmax()
        slope = np.sign(squashed[top]) * (1 - squashed[top] ** 2)
        expected[top] -= slope * np.sum(upstream * squashed) / largest**2
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())

    @hypothesis.given(arrays(-3, 3), st.integers(1, 8))
    def test_values_are_at_most_those_of_the_bits_and_in_range(self, weights, bits):
        outputs = dorefa_weights(tf.constant(weights), bits).numpy()
        assert len(np.unique(outputs)) <= 2**bits
        if bits > 1:
            steps = (outputs.astype(np.float64) + 1) / 2 * (2**bits - 1)
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
            assert np.abs(outputs).max() <= 1

    def test_one_bit_is_the_sign_times_the_mean_with_gradient_one(self):
        outputs, upstream, (gradient,) = value_and_gradients(lambda w: dorefa_weights(w, 1), [1.0, -2.0, 0.0, 5.0])
        np.testing.assert_allclose(outputs, [2, -2, 2, 2])
        np.testing.assert_allclose(gradient, upstream)

    def test_zeros_alone_have_no_largest_and_finite_gradients(self):
        outputs, _, (gradient,) = value_and_gradients(lambda w: dorefa_weights(w, 2), np.zeros(3))
        np.testing.assert_allclose(outputs, [1 / 3] * 3, rtol=1e-6)
        assert np.isfinite(gradient).all()


class TestWrpnWeights:
    def test_hand_worked(self):
        weights = tf.constant([-2.0, -1.0, -0.4, 0.1, 0.2, 0.6, 1.5])
        np.testing.assert_allclose(wrpn_weights(weights, 2), [-1, -1, 0, 0, 0, 1, 1], atol=0)
        np.testing.assert_allclose(wrpn_weights(weights, 3), np.array([-3, -3, -1, 0, 1, 2, 3]) / 3, rtol=1e-6)

    @hypothesis.given(arrays(-2, 2), st.integers(2, 8))
    def test_values_and_gradients(self, weights, bits):
        levels = 2 ** (bits - 1) - 1
        outputs, upstream, (gradient,) = value_and_gradients(lambda w: wrpn_weights(w, bits), weights)
        steps = np.clip(weights.astype(np.float64), -1, 1) * levels
        certain = ~is_halfway(steps)
        np.testing.assert_allclose(outputs[certain], (np.round(steps) / levels)[certain], atol=1e-6)
        np.testing.assert_allclose(gradient, upstream * (np.abs(weights) <= 1), rtol=1e-5)
        assert len(np.unique(outputs)) <= 2**bits


class TestClippedActivations:
    @hypothesis.given(arrays(-1, 2), st.integers(1, 20))
    def test_values_and_gradients(self, x, bits):
        levels = 2**bits - 1
        outputs, upstream, (gradient,) = value_and_gradients(lambda x: clipped_activations(x, bits), x)
        steps = np.clip(x.astype(np.float64), 0, 1) * levels
        certain = ~is_halfway(steps)
        np.testing.assert_allclose(outputs[certain], (np.round(steps) / levels)[certain], atol=1e-6)
        np.testing.assert_allclose(gradient, upstream * ((x >= 0) & (x <= 1)), rtol=1e-5)

    def test_one_bit_is_zero_or_one(self):
        x = tf.constant([-1.0, 0.2, 0.4, 0.6, 3.0])
        np.testing.assert_array_equal(clipped_activations(x, 1), [0, 0, 0, 1, 1])

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_all_values_of_the_bits_occur_and_no_other(self, bits):
        outputs = clipped_activations(tf.linspace(-0.5, 1.5, 5001), bits).numpy()
        np.testing.assert_allclose(np.unique(outputs), np.arange(2**bits) / (2**bits - 1), atol=1e-6)


class TestPactActivations:
    @hypothesis.given(arrays(-4, 12), st.floats(0.5, 10, width=32), st.integers(1, 18))
    def test_values_and_gradients(self, x, clip, bits):
        hypothesis.assume((np.abs(x - clip) > 1e-3).all())
        scale = clip / (2**bits - 1)
        outputs, upstream, (by_x, by_clip) = value_and_gradients(
            lambda x, clip: pact_activations(x, clip, bits), x, clip
        )
        steps = np.clip(x.astype(np.float64), 0, clip) / scale
        certain = ~is_halfway(steps)
        np.testing.assert_allclose(outputs[certain], (np.round(steps) * scale)[certain], rtol=1e-5, atol=1e-5)
        inside = (x > 0) & (x < clip)
        np.testing.assert_allclose(by_x[x != 0], (upstream * inside)[x != 0], rtol=1e-5)
        np.testing.assert_allclose(by_clip, np.sum(upstream[x > clip]), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("bits", [1, 3, 17])
    def test_hand_worked_gradients(self, bits):
        x, clip = tf.constant([-1.0, 0.3, 1.0, 2.0, 3.0]), tf.constant(1.9)
        with tf.GradientTape() as tape:
            tape.watch((x, clip))
            outputs = pact_activations(x, clip, bits)
        by_x, by_clip = tape.gradient(outputs, (x, clip), output_gradients=tf.constant([1.0, 2.0, 4.0, 8.0, 16.0]))
        np.testing.assert_allclose(by_x, [0, 2, 4, 0, 0], rtol=1e-6)
        np.testing.assert_allclose(by_clip, 24)


class TestLinearActivations:
    @hypothesis.given(
        arrays(-8, 8),
        st.floats(-5, 0, width=32),
        st.floats(0.125, 5, width=32),
        st.integers(2, 18),
        st.sampled_from(MODES),
    )
    def test_values_and_gradients(self, x, low, high, bits, mode):
        end = max(-low, high)
        smallest, largest = {
            "SYMMETRIC": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1),
            "SYMMETRIC_RESTRICTED": (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1),
        }.get(mode, (0, 2**bits - 1))
        if mode.startswith("SYMMETRIC"):
            low, high, zero = -end, end, 0
            scale = 2 * end / (largest - smallest)
        else:
            scale = (high - low) / largest
            zero = -np.round(low / scale)
            hypothesis.assume(not is_halfway(np.array(low / scale)))
        steps = x.astype(np.float64) / scale
        certain = ~is_halfway(steps)
        expected = (np.clip(np.round(steps) + zero, smallest, largest) - zero) * scale
        outputs, upstream, (gradient,) = value_and_gradients(
            lambda x: linear_activations(x, tf.constant(low, tf.float32), tf.constant(high, tf.float32), bits, mode), x
        )
        np.testing.assert_allclose(outputs[certain], expected[certain], rtol=1e-4, atol=1e-4)
        clearly_inside = (x > low + scale) & (x < high - scale)
        clearly_outside = (x < low - scale) | (x > high + scale)
        np.testing.assert_allclose(gradient[clearly_inside], upstream[clearly_inside], rtol=1e-5)
        assert not gradient[clearly_outside].any()
        assert outputs[x == 0].tolist() == [0.0] * int((x == 0).sum())

    def test_the_end_of_a_symmetric_range_keeps_its_gradient(self):
        # 2 bits: -2, -1, 0, 1 in steps of 2/3, so that 0.9 is beyond the last value but within the range.
        outputs, upstream, (gradient,) = value_and_gradients(
            lambda x: linear_activations(x, tf.constant(0.0), tf.constant(1.0), 2, "SYMMETRIC"), [0.2, 0.9, 1.0, 1.1]
        )
        np.testing.assert_allclose(outputs, [0, 2 / 3, 2 / 3, 2 / 3], rtol=1e-6)
        np.testing.assert_allclose(gradient, upstream * [1, 1, 1, 0])

    def test_an_empty_range_gives_zeros_or_whole_numbers_but_nothing_worse(self):
        outputs = linear_activations(tf.constant([0.0, 0.0]), tf.constant(0.0), tf.constant(0.0), 8, "SYMMETRIC")
        np.testing.assert_array_equal(outputs, [0, 0])
