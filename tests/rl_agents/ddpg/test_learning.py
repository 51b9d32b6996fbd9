from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from rl_agents.ddpg.config import DdpgConfig
from rl_agents.ddpg.learning import Network, adam, gradient_step, initial_state, make_learn, soft_update
from rl_agents.ddpg.networks import NetworkShape, actor, critic
from rl_agents.replay import Transition

CONFIG = DdpgConfig(actor_width=8, critic_width=8, batch_size=16)
ACTOR = NetworkShape(inputs=3, outputs=1, depth=2, width=8)
CRITIC = NetworkShape(inputs=4, outputs=1, depth=2, width=8)


def fresh_state():
    return initial_state(ACTOR, CRITIC, np.random.default_rng(0))


def random_batches(count: int) -> Transition:
    generator = np.random.default_rng(1)
    return Transition(
        *(tf.constant(generator.uniform(size=(count, 16, width)), tf.float32) for width in (3, 1, 1)),
        tf.constant(generator.integers(2, size=(count, 16, 1)), tf.float32),
        tf.constant(generator.uniform(size=(count, 16, 3)), tf.float32),
    )


def one_batch(batches: Transition, index: int = 0) -> Transition:
    return Transition(*(field[index] for field in batches))


def test_soft_update_by_hand():
    updated = soft_update(tf.constant([1.0, 0.0]), tf.constant([3.0, -4.0]), 0.25)
    assert updated.numpy() == pytest.approx([1.5, -1.0])


def test_adam_is_keras_adam_and_its_target_follows():
    start, gradients = np.array([1.0, -2.0, 3.0], np.float32), np.random.default_rng(0).normal(size=(5, 3))
    config = replace(CONFIG, learning_rate=0.1, target_update_rate=0.5)
    network = Network(*(tf.constant(value) for value in (start, start, 0 * start, 0 * start)))
    oracle, optimizer, target = keras.Variable(start), keras.optimizers.Adam(0.1, epsilon=1e-8), start
    for step, gradient in enumerate(gradients.astype(np.float32), start=1):
        network = adam(network, tf.constant(gradient), tf.constant(float(step)), config)
        optimizer.apply([tf.constant(gradient)], [oracle])
        target = 0.5 * target + 0.5 * oracle.numpy()
    np.testing.assert_allclose(network.parameters, oracle.numpy(), rtol=1e-5)
    np.testing.assert_allclose(network.target, target, rtol=1e-5)


def test_losses_of_a_step_are_those_of_the_networks_before_it():
    state, batch = fresh_state(), one_batch(random_batches(1))
    _, error, climb = gradient_step(state, batch, ACTOR, CRITIC, CONFIG)
    next_actions = actor(ACTOR, state.actor.target, batch.next_state)
    next_q = critic(CRITIC, state.critic.target, batch.next_state, next_actions).numpy()
    target = batch.reward.numpy() + 0.9 * (1 - batch.done.numpy()) * next_q
    q = critic(CRITIC, state.critic.parameters, batch.state, batch.action).numpy()
    assert float(error) == pytest.approx(np.mean((q - target) ** 2), rel=1e-5)
    own_actions = actor(ACTOR, state.actor.parameters, batch.state)
    own_q = critic(CRITIC, state.critic.parameters, batch.state, own_actions).numpy()
    assert float(climb) == pytest.approx(-np.mean(own_q), rel=1e-4, abs=1e-7)


def test_steps_fit_the_critic_and_raise_the_actor_s_value():
    # One batch, every transition the last: the critic has fixed targets, so its error must fall.
    state, batch = fresh_state(), one_batch(random_batches(1))
    batch = batch._replace(done=tf.ones_like(batch.done), reward=batch.action)  # the more, the better
    config = replace(CONFIG, learning_rate=1e-2)
    before = actor(ACTOR, state.actor.parameters, batch.state).numpy().mean()
    errors = []
    for _ in range(60):
        state, error, _ = gradient_step(state, batch, ACTOR, CRITIC, config)
        errors.append(float(error))
    assert errors[-1] < 0.1 * errors[0]
    assert actor(ACTOR, state.actor.parameters, batch.state).numpy().mean() > before + 0.1


def test_steps_taken_together_are_steps_taken_one_by_one():
    learn, batches, together, single = (
        make_learn(ACTOR, CRITIC, CONFIG),
        random_batches(3),
        fresh_state(),
        fresh_state(),
    )
    together, critic_mean, _ = learn(together, batches)
    errors = []
    for index in range(3):
        single, error, _ = learn(single, Transition(*(field[index : index + 1] for field in batches)))
        errors.append(float(error))
    for one, other in zip(tf.nest.flatten(together), tf.nest.flatten(single), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert float(critic_mean) == pytest.approx(np.mean(errors), rel=1e-4)
    assert float(together.step) == 3


def test_any_number_of_steps_is_traced_once():
    learn, state = make_learn(ACTOR, CRITIC, CONFIG), fresh_state()
    for count in (1, 4, 2):
        state, _, _ = learn(state, random_batches(count))
    assert learn.experimental_get_tracing_count() == 1


def test_weight_decay_pulls_both_networks_to_zero():
    batches = random_batches(100)
    plain, _, _ = make_learn(ACTOR, CRITIC, CONFIG)(fresh_state(), batches)
    decayed, _, _ = make_learn(ACTOR, CRITIC, replace(CONFIG, weight_decay=1.0))(fresh_state(), batches)
    for name in ("actor", "critic"):
        norms = [np.linalg.norm(getattr(state, name).parameters) for state in (plain, decayed)]
        assert norms[1] < 0.9 * norms[0]
