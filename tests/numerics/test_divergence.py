"""What diverges is stopped or undone, and told: a training, fine-tuning, the agent, a roll-out."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.policies import Policy
from compressors.ratios import LayerSpec
from learners.train_step import TrainStep
from learners.training import Monitor, train
from learners.weight_sparsification.finalists import ResolvedNetworks, judge_finalists
from learners.weight_sparsification.ratio_search import Score, SearchLog, search
from learners.weight_sparsification.rollout_env import RatioConfig, RolloutEnv
from learners.weight_sparsification.rollout_eval import FineTuner, Measure, ProgressivePruner
from rl_agents.ddpg.agent import DdpgAgent
from rl_agents.ddpg.config import DdpgConfig
from rl_agents.replay import Transition
from tests.small_training import conv_net, cross_entropy, image_batches
from utils.checkpoints import read_checkpoint
from utils.errors import RunError

RATE = 0.5


def one_weight(weight: float = 1.0) -> keras.Model:
    """`output = weight * input`."""
    inputs = keras.Input((1,), name="inputs")
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="fc")(inputs))
    model.set_weights([np.float32([[weight]])])
    return model


def numbers(values) -> tf.data.Dataset:
    """Batches of one input each, then zeros for ever; the labels mean nothing."""
    given = tf.data.Dataset.from_tensor_slices(np.float32(values)[:, None, None])
    zeros = tf.data.Dataset.from_tensors(np.zeros((1, 1), np.float32)).repeat()
    return given.concatenate(zeros).map(lambda inputs: (inputs, tf.zeros([1], tf.int32)))


def root_loss(labels, outputs):
    """2 + sqrt|output|: at output 0 it is 2, but its gradient is not finite."""
    return 2.0 + tf.reduce_mean(tf.sqrt(tf.abs(outputs)))


def train_one_weight(checkpoint, inputs, steps, *, save_interval=100, summary_interval=100):
    step = TrainStep(one_weight(), keras.optimizers.SGD(0.0), root_loss, Policy(), quality=lambda y, z: z[:, 0])
    return train(
        step,
        Policy(),
        lambda start: numbers(inputs).skip(start),
        np.full(steps, RATE),
        checkpoint,
        Monitor(summary_interval, save_interval, quiet=True),
        title="final training",
        steps_per_epoch=100,
    )


def test_a_last_update_that_leaves_no_numbers_is_no_finished_training(tmp_path):
    # Both losses are finite, 3 and 2; the second one's gradient is not, and no third step would tell.
    with pytest.raises(RunError) as error:
        train_one_weight(tmp_path / "c.npz", [1.0, 0.0], 2)
    message = str(error.value)
    assert message.startswith(
        "final training: there is nan in fc/kernel (1 of its 1 numbers) after the update at step 1"
    )
    assert f"with learning rate {RATE}; no checkpoint was written yet" in message
    assert "The last finite loss was 2." in message
    assert "--lrn_rate_init" in message
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_not_written_over_by_weights_that_are_no_numbers(tmp_path):
    with pytest.raises(RunError, match=r"after the update at step 5 .*; the last good checkpoint is .*c\.npz"):
        train_one_weight(tmp_path / "c.npz", [1.0] * 5 + [0.0], 20, save_interval=3)
    kept = read_checkpoint(tmp_path / "c.npz")
    assert kept.meta["step"] == 3
    assert all(np.isfinite(array).all() for array in kept.arrays.values())


def test_the_last_finite_loss_may_lie_before_the_steps_that_were_taken_together(tmp_path):
    # Steps 0 and 1 are one call, 2 and 3 the next: an infinite input makes the very first loss of it infinite.
    with pytest.raises(RunError, match=r"the loss is inf at step 2 .* The last finite loss was 2\.\d+\. "):
        train_one_weight(tmp_path / "c.npz", [1.0, 0.25, np.inf], 4, summary_interval=2)


@pytest.mark.parametrize("make_optimizer", [lambda: keras.optimizers.SGD(0.0, momentum=0.9), keras.optimizers.Adam])
def test_at_learning_rate_0_only_the_statistics_change(tmp_path, make_optimizer):
    model, optimizer = conv_net(), make_optimizer()
    before = {variable.path: variable.numpy() for variable in model.variables}
    step = TrainStep(model, optimizer, cross_entropy, Policy(), weight_decay=0.1)
    options = dict(title="t", steps_per_epoch=3)
    result = train(step, Policy(), image_batches, np.zeros(5), tmp_path / "c.npz", Monitor(2, 5, quiet=True), **options)
    assert result.iterations == 5
    assert all(np.isfinite(row["loss"]) for row in result.history)
    for variable in model.variables:
        is_same = np.array_equal(variable.numpy(), before[variable.path])
        assert is_same == ("moving" not in variable.path), variable.path


# Fine-tuning.


def test_fine_tuning_that_diverges_is_undone_and_told(capsys):
    model = conv_net()
    before = model.get_weights()
    FineTuner(model, image_batches, cross_entropy, 1e30, 0.0).run(4)
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    warned = capsys.readouterr().err
    assert warned.count("warning:") == 1
    assert "--ws_lrn_rate_ft lower than 1e+30" in warned


def test_after_fine_tuning_that_diverged_another_is_what_it_would_have_been(capsys):
    weights = []
    for rates in ([1e-2], [1e30, 1e-2]):
        model = conv_net()
        if not weights:
            initial = model.get_weights()
        model.set_weights(initial)
        for rate in rates:
            FineTuner(model, image_batches, cross_entropy, rate, 0.0).run(3)
        weights.append(model.get_weights())
    for found, expected in zip(*weights, strict=True):
        np.testing.assert_array_equal(found, expected)


# Roll-outs and finalists of a regression, whose quality has no worst value. A classifier's is 0: see test_tasks.py.

LAYERS = [LayerSpec("first", (2, 20)), LayerSpec("second", (20, 10)), LayerSpec("last", (10, 2))]
CONFIG = RatioConfig(0.5)
HALF = {"half": {"first": 0.0, "second": 0.65, "last": 0.0}}
SMALL = DdpgConfig(actor_width=8, critic_width=8, batch_size=8)


@pytest.mark.parametrize("quality", [np.nan, -np.inf])
def test_a_roll_out_whose_quality_is_no_number_is_named_before_anything_learns_from_it(tmp_path, quality):
    agent = DdpgAgent(RolloutEnv(LAYERS, CONFIG).state_size, 1, SMALL, num_rollouts=9, replay_capacity=6, seed=0)
    asked = []

    def score(ratios):
        asked.append(ratios)
        return Score(quality if len(asked) == 4 else -0.5)

    log = SearchLog(tmp_path / "search.jsonl", tmp_path / "agent.npz")
    with pytest.raises(RunError, match=rf"^roll-out 3 \(agent\): the quality .* is {quality}.*--ws_prune_ratio"):
        search(LAYERS, CONFIG, agent, HALF, score, log, 9, best_given=list, quiet=True)
    assert [json.loads(line)["index"] for line in (tmp_path / "search.jsonl").read_text().splitlines()] == [0, 1, 2]
    kept = read_checkpoint(tmp_path / "agent.npz")
    assert kept.meta["rollouts"] == 3
    assert all(np.isfinite(array).all() for array in kept.arrays.values() if array.dtype.kind == "f")


class Evaluator:
    """Its network is one weight; fine-tuning it is not asked for."""

    def __init__(self, measures=()):
        self.model, self._measures = one_weight(), iter(measures)

    def prune(self, ratios):
        self.model.set_weights([np.float32([[0.25]])])

    def measure(self):
        return next(self._measures)


def test_a_finalist_whose_quality_is_no_number_is_named():
    evaluator = Evaluator()
    resolved = ResolvedNetworks(evaluator, lambda ratios: Measure(-np.inf, 0.0), quiet=True)
    candidate = {"index": 7, "source": "uniform", "ratios": {"fc/kernel": 0.5}}
    with pytest.raises(RunError, match=r"roll-out 7 \(uniform\) has the quality -inf"):
        judge_finalists([candidate], evaluator, resolved, lambda quality, ratios: quality, 0, quiet=True)


def test_a_network_of_numbers_is_preferred_to_one_solved_front_to_back_that_gives_none():
    # Both are so bad that their likelihoods are 0 in floats.
    evaluator = Evaluator([Measure(-800.0, 0.0), Measure(-np.inf, 0.0)])
    images = np.random.default_rng(0).standard_normal((40, 1)).astype(np.float32)
    found = ProgressivePruner(evaluator, one_weight(), images)({"fc/kernel": 0.0})
    assert found == Measure(-800.0, 0.0)
    assert evaluator.model.get_weights()[0].item() == 0.25


# The agent.


def play(agent, *rewards):
    """A roll-out of one step for each reward."""
    for reward in rewards:
        agent.begin_rollout()
        state = np.zeros(2, np.float32)
        agent.observe(Transition(state, agent.act(state, explore=True), reward, 1.0, state))
        agent.end_rollout(reward)
        agent.learn()


@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf])
def test_an_agent_refuses_a_reward_that_is_no_number_and_stays_as_it_was(reward):
    agent = DdpgAgent(2, 1, SMALL, num_rollouts=10, replay_capacity=2, seed=0)
    play(agent, 0.5)
    before, state = agent.get_state(), np.zeros(2, np.float32)
    with pytest.raises(RunError, match="a reward must be a finite number"):
        agent.observe(Transition(state, np.float32([0.5]), reward, 1.0, state))
    with pytest.raises(RunError, match=f"a reward must be a finite number. Received: {reward}"):
        agent.end_rollout(reward)
    for name, value in agent.get_state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_an_agent_whose_learning_rate_is_too_large_says_so():
    config = DdpgConfig(actor_width=8, critic_width=8, batch_size=8, learning_rate=1e38)
    agent = DdpgAgent(2, 1, config, num_rollouts=10, replay_capacity=2, seed=0)
    with pytest.raises(RunError, match=r"the agent's (actor|critic) has .* no numbers .* --ddpg_lrn_rate 1e\+38"):
        play(agent, 0.1, 0.2, 0.3, 0.4, 0.5)
