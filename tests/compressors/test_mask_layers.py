import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.mask_layers import MaskedWeights

W = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
GRADIENT = np.array([0.1, 0.2, 0.3, 0.4], np.float32)


class OneStep:
    """A step of gradient descent at rate 1 on a linear loss: its gradient is the same whatever the weights."""

    def __init__(self):
        self.variable = keras.Variable(W, name="w")
        self.weights = MaskedWeights({self.variable.path: self.variable})

    def layer(self, owner, mask, soft=False, copies=False, gradients=False):
        layer = self.weights.layer(owner, [self.variable.path])
        layer.masks[self.variable.path].assign(mask)
        layer.may_be_soft = soft
        layer.is_soft.assign(soft)
        layer.keeps_copies.assign(copies)
        layer.masks_gradients.assign(gradients)
        return layer

    @tf.function
    def run(self):
        self.weights.before_forward()
        seen = tf.identity(self.variable.value)
        (gradient,) = self.weights.transform_gradients([tf.constant(GRADIENT)], [self.variable])
        self.variable.assign(self.variable.value - gradient)
        self.weights.after_update()
        return seen


def test_a_hard_mask_holds_its_weights_at_zero():
    step = OneStep()
    step.layer("a", [1, 0, 1, 0])
    step.weights.apply()
    np.testing.assert_allclose(step.run(), [1, 0, 3, 0])
    np.testing.assert_allclose(step.variable, [0.9, 0, 2.7, 0], rtol=1e-6)


def test_a_soft_mask_lets_masked_weights_start_from_zero():
    step = OneStep()
    step.layer("a", [1, 0, 1, 0], soft=True)
    np.testing.assert_allclose(step.run(), [1, 0, 3, 0])
    np.testing.assert_allclose(step.variable, [0.9, -0.2, 2.7, -0.4], rtol=1e-6)
    np.testing.assert_allclose(step.run(), [0.9, 0, 2.7, 0], rtol=1e-6)


def test_masked_gradients_leave_soft_masked_weights_where_the_forward_pass_left_them():
    step = OneStep()
    step.layer("a", [1, 0, 1, 0], soft=True, gradients=True)
    step.run()
    np.testing.assert_allclose(step.variable, [0.9, 0, 2.7, 0], rtol=1e-6)


def test_double_copies_update_the_unmasked_weights_by_the_gradient_of_the_masked_ones():
    step = OneStep()
    step.layer("a", [1, 0, 1, 0], soft=True, copies=True)
    np.testing.assert_allclose(step.run(), [1, 0, 3, 0])
    np.testing.assert_allclose(step.variable, W - GRADIENT, rtol=1e-6)
    with step.weights.applied():
        np.testing.assert_allclose(step.variable, [0.9, 0, 2.7, 0], rtol=1e-6)
    np.testing.assert_allclose(step.variable, W - GRADIENT, rtol=1e-6)


def test_of_two_layers_each_acts_in_its_own_way():
    step = OneStep()
    step.layer("hard", [1, 1, 0, 0])
    step.layer("soft", [1, 0, 1, 0], soft=True, copies=True)
    np.testing.assert_allclose(step.run(), [1, 0, 0, 0])
    np.testing.assert_allclose(step.variable, [0.9, 1.8, 0, 0], rtol=1e-6)
    assert step.weights.masked_counts() == {step.variable.path: 3}


def test_a_change_of_how_masks_act_traces_nothing_anew():
    step = OneStep()
    layer = step.layer("a", [1, 0, 1, 0], soft=True, copies=True)
    step.run()
    layer.is_soft.assign(False)
    layer.keeps_copies.assign(False)
    layer.masks[step.variable.path].assign([0, 1, 1, 1])
    step.run()
    assert step.run.experimental_get_tracing_count() == 1
    assert step.variable.numpy()[0] == 0


def test_state_comes_back_sliced_as_the_network_is():
    step = OneStep()
    layer = step.layer("a", [1, 0, 1, 0], soft=True)
    layer.remembered["w"] = np.float32([0.5])
    state = step.weights.state({step.variable.path: (np.array([1, 2]),)})
    other = MaskedWeights({step.variable.path: keras.Variable(W[1:3], name="w")})
    found = other.layer("a", [step.variable.path])
    other.restore(state)
    np.testing.assert_array_equal(found.masks[step.variable.path], [0, 1])
    assert found.is_soft.numpy()
    assert not found.keeps_copies.numpy()
    assert found.remembered["w"] == pytest.approx([0.5])
