import io
from dataclasses import replace

import numpy as np
import pytest

from rl_agents.ddpg.agent import DdpgAgent
from rl_agents.ddpg.config import DdpgConfig
from rl_agents.replay import Transition

SMALL = DdpgConfig(actor_width=8, critic_width=8, batch_size=8)
NO_STATE = np.zeros(2, np.float32)


def make_agent(config: DdpgConfig = SMALL, *, rollouts: int = 100, capacity: int = 12, seed: int = 0) -> DdpgAgent:
    return DdpgAgent(2, 1, config, num_rollouts=rollouts, replay_capacity=capacity, seed=seed)


def play(agent: DdpgAgent, reward_of, steps: int = 2) -> np.ndarray:
    """One roll-out; a state holds the step and the last action. Returns the actions."""
    agent.begin_rollout()
    states, actions = [np.zeros(2, np.float32)], []
    for step in range(steps):
        actions.append(agent.act(states[-1], explore=True))
        states.append(np.array([(step + 1) / steps, actions[-1][0]], np.float32))
    reward = reward_of(np.concatenate(actions))
    for step in range(steps):
        done = float(step == steps - 1)
        agent.observe(Transition(states[step], actions[step], reward, done, NO_STATE if done else states[step + 1]))
    agent.end_rollout(reward)
    agent.learn()
    return np.concatenate(actions)


def best_actions(agent: DdpgAgent, steps: int) -> list[float]:
    """What the agent does without exploring."""
    state, actions = np.zeros(2, np.float32), []
    for step in range(steps):
        actions.append(float(agent.act(state, explore=False)[0]))
        state = np.array([(step + 1) / steps, actions[-1]], np.float32)
    return actions


def learning_config(noise_type: str) -> DdpgConfig:
    return DdpgConfig(
        noise_type=noise_type,
        noise_initial=0.5,
        noise_final=0.05,
        learning_rate=5e-3,
        actor_width=32,
        critic_width=32,
    )


@pytest.mark.parametrize("noise_type", ["param", "action"])
@pytest.mark.parametrize("seed", range(3))
def test_learns_the_best_action_of_one_step(noise_type, seed):
    agent = make_agent(learning_config(noise_type), rollouts=300, capacity=40, seed=seed)
    for _ in range(300):
        play(agent, lambda actions: 1 - (actions[0] - 0.7) ** 2, steps=1)
    assert best_actions(agent, 1) == pytest.approx([0.7], abs=0.08)


@pytest.mark.parametrize("noise_type", ["param", "action"])
@pytest.mark.parametrize("seed", range(2))
def test_learns_two_steps_of_which_the_second_depends_on_the_first(noise_type, seed):
    agent = make_agent(learning_config(noise_type), rollouts=600, capacity=80, seed=seed)
    for _ in range(600):
        play(agent, lambda actions: 1 - (actions[0] - 0.3) ** 2 - (actions[1] - 1 + actions[0]) ** 2)
    assert best_actions(agent, 2) == pytest.approx([0.3, 0.7], abs=0.12)


def test_learns_from_actions_that_it_never_took():
    agent, generator = make_agent(learning_config("action"), capacity=200), np.random.default_rng(5)
    for _ in range(120):
        actions = generator.uniform(size=(10, 1))
        rewards = 1 - (actions[:, 0] - 0.7) ** 2
        for action, reward in zip(actions, rewards, strict=True):
            agent.observe(Transition(NO_STATE, action, reward, 1.0, NO_STATE))
        agent.end_rollout(rewards.mean())
        agent.learn()
    assert best_actions(agent, 1) == pytest.approx([0.7], abs=0.08)


@pytest.mark.parametrize("noise_type", ["param", "action"])
@pytest.mark.parametrize("noise_protocol", ["tdecy", "adapt"])
def test_a_restored_agent_continues_bit_for_bit(noise_type, noise_protocol):
    config = replace(SMALL, noise_type=noise_type, noise_protocol=noise_protocol, record_every=3)
    first, second = make_agent(config, seed=1), make_agent(config, seed=2)
    for _ in range(20):  # the replay holds 12, one transition in three: it is full after 18 roll-outs
        play(first, np.sum)
    file = io.BytesIO()
    np.savez(file, **first.get_state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        second.set_state(saved)
    for _ in range(3):
        np.testing.assert_array_equal(play(first, np.sum), play(second, np.sum))
    for name, value in first.get_state().items():
        np.testing.assert_array_equal(value, second.get_state()[name], err_msg=name)


def test_an_agent_restored_between_acting_and_learning_continues_bit_for_bit():
    first, second = make_agent(seed=1), make_agent(seed=2)
    for _ in range(8):
        play(first, np.sum)
    first.begin_rollout()
    action = first.act(NO_STATE, explore=True)
    first.observe(Transition(NO_STATE, action, 0.5, 1.0, NO_STATE))
    second.set_state(first.get_state())
    for agent in (first, second):
        agent.end_rollout(0.5)
    assert first.learn() == second.learn()
    np.testing.assert_array_equal(first.act(NO_STATE, explore=True), second.act(NO_STATE, explore=True))


def test_a_saved_state_does_not_change_as_the_agent_goes_on():
    agent = make_agent()
    for _ in range(8):
        play(agent, np.sum)
    saved = agent.get_state()
    copy = {name: value.copy() for name, value in saved.items()}
    play(agent, np.sum)
    for name, value in copy.items():
        np.testing.assert_array_equal(saved[name], value, err_msg=name)


def test_the_same_seed_gives_the_same_agent_and_another_seed_another():
    runs = [[play(agent, np.sum) for _ in range(8)] for agent in (make_agent(seed=seed) for seed in (3, 3, 4))]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_explores_without_learning_until_the_replay_is_full():
    agent = make_agent(capacity=6)
    before = best_actions(agent, 2)
    for _ in range(2):
        play(agent, np.sum)
        assert not agent.is_learning
    assert best_actions(agent, 2) == before
    assert agent.noise_scale == SMALL.noise_initial
    play(agent, np.sum)
    assert agent.is_learning
    assert best_actions(agent, 2) != before


def test_learns_once_for_each_transition_and_not_again_without_new_ones():
    agent = make_agent(capacity=4)
    for _ in range(5):
        play(agent, np.sum)
    assert agent.get_state()["learning_step"] == 4 * 2  # the first roll-out only fills the replay
    assert "critic_loss" not in agent.learn()
    assert agent.get_state()["learning_step"] == 4 * 2


def test_records_one_transition_in_every_so_many():
    agent = make_agent(replace(SMALL, record_every=3), capacity=10)
    for number in range(7):
        agent.observe(Transition(NO_STATE, np.zeros(1), float(number), 1.0, NO_STATE))
    assert agent.get_state()["replay.reward"][:4].ravel().tolist() == [0, 3, 6, 0]


def test_baseline_starts_at_the_first_reward_and_decays():
    agent = make_agent(replace(SMALL, baseline_decay=0.9))
    for reward, baseline in ((0.5, 0.5), (1.0, 0.55), (0.0, 0.495)):
        agent.end_rollout(reward)
        assert agent.baseline == pytest.approx(baseline)


def critic_losses(config: DdpgConfig, rewards: list[float]) -> float:
    """The loss of the first gradient step on transitions that are each the last of theirs."""
    agent = make_agent(replace(config, batch_size=2000), capacity=len(rewards))
    for reward in rewards:
        agent.observe(Transition(NO_STATE, np.full(1, 0.5), reward, 1.0, NO_STATE))
        agent.end_rollout(reward)
    agent._num_unlearned = 1
    return agent.learn()["critic_loss"]


def test_rewards_are_taken_relative_to_the_baseline_in_units_of_their_spread():
    # A fresh critic expects about 0, so its loss is the mean square of what it is to learn.
    config = replace(SMALL, baseline_decay=0.5)  # rewards 1 and 3: baseline 2, standard deviation 1
    assert critic_losses(config, [1.0, 3.0]) == pytest.approx(1.0, abs=0.1)
    assert critic_losses(config, [100.0, 300.0]) == pytest.approx(1.0, abs=0.1)
    assert critic_losses(replace(config, use_baseline=False), [1.0, 3.0]) == pytest.approx((1 + 9) / 2, rel=0.1)


def test_equal_rewards_leave_nothing_to_learn():
    assert critic_losses(SMALL, [0.1, 0.1]) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("noise_type", ["param", "action"])
def test_time_decay_shrinks_the_noise_once_a_learning_rollout(noise_type):
    config = replace(SMALL, noise_type=noise_type, noise_initial=1.0, noise_final=1e-5)
    agent = make_agent(config, rollouts=200, capacity=4)
    scales = []
    for _ in range(4):
        play(agent, np.sum)
        scales.append(agent.noise_scale)
    assert scales == pytest.approx([1.0, 0.94406, 0.89125, 0.84140], abs=5e-6)


@pytest.mark.parametrize("noise_type", ["param", "action"])
def test_adaptive_noise_settles_at_the_distance_asked(noise_type):
    config = replace(SMALL, noise_type=noise_type, noise_protocol="adapt", noise_target_distance=0.05)
    agent = make_agent(config, capacity=4)
    for _ in range(150):
        play(agent, np.sum)
    plain, distances = best_actions(agent, 1)[0], []
    for _ in range(500):
        agent.begin_rollout()
        distances.append(float(agent.act(NO_STATE, explore=True)[0]) - plain)
    # Networks differ by processor in the last bits, and after 150 roll-outs in more.
    assert 0.02 < np.sqrt(np.mean(np.square(distances))) < 0.15


@pytest.mark.parametrize("noise_type", ["param", "action"])
def test_exploration_stays_between_0_and_1_and_varies(noise_type):
    agent = make_agent(replace(SMALL, noise_type=noise_type, noise_initial=3.0))
    actions = np.concatenate([play(agent, np.sum) for _ in range(30)])
    assert np.all((actions >= 0) & (actions <= 1))
    assert np.ptp(actions) > 0.5


def test_parameter_noise_is_one_policy_a_rollout_and_action_noise_is_not():
    same = {}
    for noise_type in ("param", "action"):
        agent = make_agent(replace(SMALL, noise_type=noise_type))
        agent.begin_rollout()
        same[noise_type] = agent.act(NO_STATE, explore=True) == agent.act(NO_STATE, explore=True)
    assert same == {"param": True, "action": False}


def test_without_exploration_the_agent_repeats_itself():
    agent = make_agent(replace(SMALL, noise_type="action"))
    assert agent.act(NO_STATE, explore=False) == agent.act(NO_STATE, explore=False)
    assert agent.act(NO_STATE, explore=False).shape == (1,)
