import pytest
import tensorflow as tf

from rl_agents.ddpg.losses import actor_loss, critic_loss, q_target, weight_decay_loss


def test_target_looks_ahead_unless_done():
    reward, done, next_q = (tf.constant([[a], [b]]) for a, b in ((1.0, 2.0), (0.0, 1.0), (10.0, 10.0)))
    assert q_target(reward, done, next_q, 0.9).numpy().ravel() == pytest.approx([10.0, 2.0])


def test_critic_loss_is_the_mean_square_error():
    q, target = tf.constant([[1.0], [4.0]]), tf.constant([[3.0], [5.0]])
    assert float(critic_loss(q, target)) == pytest.approx((4 + 1) / 2)


def test_no_gradient_flows_into_the_target():
    q, target = tf.constant([[1.0], [4.0]]), tf.constant([[3.0], [5.0]])
    with tf.GradientTape() as tape:
        tape.watch([q, target])
        loss = critic_loss(q, target)
    to_q, to_target = tape.gradient(loss, [q, target])
    assert to_q.numpy().ravel() == pytest.approx([-2.0, -1.0])
    assert to_target is None


def test_actor_loss_falls_as_the_values_rise():
    assert float(actor_loss(tf.constant([[1.0], [4.0]]))) == pytest.approx(-2.5)


def test_weight_decay_is_half_the_sum_of_squares():
    assert float(weight_decay_loss(tf.constant([3.0, 4.0]))) == pytest.approx(12.5)
