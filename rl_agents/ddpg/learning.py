"""Gradient steps of the agent: all that one roll-out allows, in one compiled call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rl_agents.ddpg.config import DdpgConfig
from rl_agents.ddpg.losses import actor_loss, critic_loss, q_target, weight_decay_loss
from rl_agents.ddpg.networks import NetworkShape, actor, critic, initial_parameters
from rl_agents.replay import Transition

_MEAN_DECAY, _SQUARE_DECAY, _ADAM_EPSILON = 0.9, 0.999, 1e-8


class Network(NamedTuple):
    """One network being learned: flat vectors [P] of its parameters, its target's, and Adam's two moments."""

    parameters: tf.Tensor
    target: tf.Tensor
    mean: tf.Tensor
    square: tf.Tensor


class LearnerState(NamedTuple):
    """All that a gradient step changes; `step` counts them."""

    actor: Network
    critic: Network
    step: tf.Tensor


def initial_state(
    actor_shape: NetworkShape, critic_shape: NetworkShape, generator: np.random.Generator
) -> LearnerState:
    """Fresh networks, their targets equal to them."""

    def network(shape: NetworkShape) -> Network:
        parameters = tf.constant(initial_parameters(shape, generator))
        return Network(parameters, parameters, tf.zeros_like(parameters), tf.zeros_like(parameters))

    return LearnerState(network(actor_shape), network(critic_shape), tf.constant(0.0))


def soft_update(target: tf.Tensor, parameters: tf.Tensor, rate: float) -> tf.Tensor:
    """(1 - rate) * target + rate * parameters."""
    return target + rate * (parameters - target)


def adam(network: Network, gradient: tf.Tensor, step: tf.Tensor, config: DdpgConfig) -> Network:
    """One step of Adam (Kingma & Ba, 2015), then the target's soft update; `step` counts from 1."""
    mean = _MEAN_DECAY * network.mean + (1.0 - _MEAN_DECAY) * gradient
    square = _SQUARE_DECAY * network.square + (1.0 - _SQUARE_DECAY) * tf.square(gradient)
    corrected_mean = mean / (1.0 - _MEAN_DECAY**step)
    corrected_square = square / (1.0 - _SQUARE_DECAY**step)
    parameters = network.parameters - config.learning_rate * corrected_mean / (
        tf.sqrt(corrected_square) + _ADAM_EPSILON
    )
    return Network(parameters, soft_update(network.target, parameters, config.target_update_rate), mean, square)


def gradient_step(
    state: LearnerState, batch: Transition, actor_shape: NetworkShape, critic_shape: NetworkShape, config: DdpgConfig
) -> tuple[LearnerState, tf.Tensor, tf.Tensor]:
    """One step of actor and critic on a batch (Lillicrap et al., 2016): the new state, the critic's loss, the actor's.

    Both gradients are taken at the parameters before the step.
    """
    next_actions = actor(actor_shape, state.actor.target, batch.next_state)
    next_q = critic(critic_shape, state.critic.target, batch.next_state, next_actions)
    target = q_target(batch.reward, batch.done, next_q, config.discount)
    with tf.GradientTape() as tape:
        parameters = state.critic.parameters
        tape.watch(parameters)
        error = critic_loss(critic(critic_shape, parameters, batch.state, batch.action), target)
        total = error + config.weight_decay * weight_decay_loss(parameters)
    critic_gradient = tape.gradient(total, parameters)
    with tf.GradientTape() as tape:
        parameters = state.actor.parameters
        tape.watch(parameters)
        actions = actor(actor_shape, parameters, batch.state)
        climb = actor_loss(critic(critic_shape, state.critic.parameters, batch.state, actions))
        total = climb + config.weight_decay * weight_decay_loss(parameters)
    actor_gradient = tape.gradient(total, parameters)
    step = state.step + 1.0
    updated = LearnerState(
        adam(state.actor, actor_gradient, step, config), adam(state.critic, critic_gradient, step, config), step
    )
    return updated, error, climb


def make_learn(actor_shape: NetworkShape, critic_shape: NetworkShape, config: DdpgConfig) -> Callable:
    """A compiled function (state, batches with fields [N, B, ...]) -> (state, mean critic loss, mean actor loss).

    It takes N gradient steps in the graph and is traced once, whatever N is.
    """
    states, actions = actor_shape.inputs, actor_shape.outputs

    def vector(shape: NetworkShape) -> Network:
        return Network(*[tf.TensorSpec([shape.num_parameters])] * 4)

    batch = Transition(*(tf.TensorSpec([None, config.batch_size, width]) for width in (states, actions, 1, 1, states)))
    signature = [LearnerState(vector(actor_shape), vector(critic_shape), tf.TensorSpec([])), batch]

    @tf.function(input_signature=signature)
    def learn(state: LearnerState, batches: Transition) -> Any:
        count = tf.shape(batches.state)[0]
        critic_total = actor_total = tf.constant(0.0)
        for index in tf.range(count):
            batch = Transition(*(field[index] for field in batches))
            state, error, climb = gradient_step(state, batch, actor_shape, critic_shape, config)
            critic_total += error
            actor_total += climb
        steps = tf.cast(count, tf.float32)
        return state, critic_total / steps, actor_total / steps

    return learn
