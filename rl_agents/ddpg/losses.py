"""The losses of deep deterministic policy gradient (Lillicrap et al., 2016) as pure functions of tensors [B, 1]."""

import tensorflow as tf


def q_target(reward: tf.Tensor, done: tf.Tensor, next_q: tf.Tensor, discount: float) -> tf.Tensor:
    """y = r + discount * (1 - done) * Q'(s', mu'(s')), [B, 1]."""
    return reward + discount * (1.0 - done) * next_q


def critic_loss(q: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """The mean of (Q(s, a) - y)^2; no gradient flows into y."""
    return tf.reduce_mean(tf.square(q - tf.stop_gradient(target)))


def actor_loss(q: tf.Tensor) -> tf.Tensor:
    """-mean of Q(s, mu(s)): the actor climbs the critic."""
    return -tf.reduce_mean(q)


def weight_decay_loss(parameters: tf.Tensor) -> tf.Tensor:
    """Half the sum of squares."""
    return tf.nn.l2_loss(parameters)
