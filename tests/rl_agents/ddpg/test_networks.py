import numpy as np
import pytest
import tensorflow as tf

from rl_agents.ddpg.networks import NetworkShape, actor, critic, initial_parameters, multilayer_perceptron, noise_mask

SHAPE = NetworkShape(inputs=3, outputs=1, depth=2, width=5)


def random_parameters(shape: NetworkShape, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0, scale, shape.num_parameters).astype(np.float32)


def test_number_of_parameters_by_hand():
    assert SHAPE.num_parameters == (3 * 5 + 3 * 5) + (5 * 5 + 3 * 5) + (5 + 1)
    assert initial_parameters(SHAPE, np.random.default_rng(0)).shape == (SHAPE.num_parameters,)


def test_one_hidden_layer_worked_by_hand():
    weights, bias = [1.0, 3.0], [1.0, 1.0]  # one input of 2 gives 3 and 7: mean 5, deviation 2, normalised -1 and 1
    gain, shift = [2.0, 4.0], [0.5, 0.5]  # gives -1.5 and 4.5, after relu 0 and 4.5
    output, output_bias = [100.0, 2.0], [-1.0]
    parameters = np.array(weights + bias + gain + shift + output + output_bias, np.float32)
    shape = NetworkShape(inputs=1, outputs=1, depth=1, width=2)
    assert multilayer_perceptron(shape, parameters, np.array([[2.0]], np.float32)) == pytest.approx(8.0, abs=1e-4)


def test_numpy_and_tensorflow_agree_in_single_precision():
    parameters = random_parameters(SHAPE)
    states = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    by_tensorflow = actor(SHAPE, tf.constant(parameters), tf.constant(states))
    by_numpy = actor(SHAPE, parameters, states)
    assert by_tensorflow.dtype == tf.float32
    assert by_numpy.dtype == np.float32
    np.testing.assert_allclose(by_numpy, by_tensorflow, atol=1e-6)


def test_one_state_is_treated_as_in_a_batch():
    parameters = random_parameters(SHAPE)
    states = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(actor(SHAPE, parameters, states[2]), actor(SHAPE, parameters, states)[2], atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_actions_stay_between_0_and_1(scale):
    actions = actor(SHAPE, random_parameters(SHAPE, scale), np.full((2, 3), 1e3, np.float32))
    assert np.all((actions >= 0) & (actions <= 1))


def test_a_fresh_actor_plays_one_half_and_a_fresh_critic_expects_nothing():
    states = np.random.default_rng(1).uniform(size=(9, 3)).astype(np.float32)
    actions = actor(SHAPE, initial_parameters(SHAPE, np.random.default_rng(2)), states)
    assert actions == pytest.approx(0.5, abs=0.01)
    critic_shape = SHAPE._replace(inputs=4)
    values = critic(
        critic_shape, tf.constant(initial_parameters(critic_shape, np.random.default_rng(3))), states, actions
    )
    assert values.numpy() == pytest.approx(0.0, abs=0.05)


def test_the_critic_sees_the_action():
    shape = SHAPE._replace(inputs=4)
    parameters, states = tf.constant(random_parameters(shape)), tf.ones([1, 3])
    low, high = (critic(shape, parameters, states, tf.constant([[action]])).numpy() for action in (0.0, 1.0))
    assert low != pytest.approx(high)


def test_noise_spares_exactly_the_layer_norms():
    spared = {part: noise_mask(SHAPE)[start : start + 5] for part, start in (("gain", 20), ("shift", 25))}
    assert np.count_nonzero(noise_mask(SHAPE) == 0) == 2 * 2 * 5  # gain and shift of two layers
    assert not np.any(spared["gain"])
    assert not np.any(spared["shift"])
