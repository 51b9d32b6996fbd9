import itertools
import json
import math

import numpy as np
import pytest

from compressors.ratios import LayerSpec, heurist, kept_weights, overall_ratio, parameter_budget, uniform
from learners.weight_sparsification.ratio_search import Score, SearchLog, best_distinct, best_of, search
from learners.weight_sparsification.rollout_env import RatioConfig, RolloutEnv
from rl_agents.ddpg.agent import DdpgAgent
from rl_agents.ddpg.config import DdpgConfig
from utils.errors import RunError

# 108 + 80 + 200 + 50 = 438 weights; half of them, 219, must go, all of the two in the middle.
LAYERS = [
    LayerSpec("first", (3, 3, 3, 4)),
    LayerSpec("small", (4, 20)),
    LayerSpec("large", (20, 10)),
    LayerSpec("last", (10, 5)),
]
CONFIG = RatioConfig(0.5)
GIVEN = {
    "uniform": uniform(LAYERS, 0.5, ("first", "last")),
    "lean": {"first": 0.0, "small": 68 / 80, "large": 151 / 200, "last": 0.0},
    "heurist": heurist(LAYERS, 0.5, ("first", "last")),
}
NUM_ROLLOUTS = 9
TIMES = ("seconds", "agent_seconds")


def score(ratios):
    """Best where the small layer loses nine tenths; of the given allocations the second is nearest."""
    return Score(1 - abs(ratios["small"] - 0.9))


class NeutralAgent:
    """Always answers with the action that stands for the reference, and remembers what it is told."""

    def __init__(self):
        self.transitions, self.rewards, self.lessons = [], [], 0

    def begin_rollout(self, noise=None):
        pass

    def act(self, state, explore):
        assert explore
        return np.array([0.5], np.float32)

    def observe(self, transition):
        self.transitions.append(transition)

    def end_rollout(self, reward):
        self.rewards.append(reward)

    def learn(self):
        self.lessons += 1

    def get_state(self):
        return {}


def agent():
    options = DdpgConfig(actor_width=8, critic_width=8, batch_size=8)
    size = RolloutEnv(LAYERS, CONFIG).state_size
    return DdpgAgent(size, 1, options, num_rollouts=NUM_ROLLOUTS, replay_capacity=20, seed=3)


def best_given(records):
    """Once re-solved, the same ones are best."""
    return sorted(records, key=lambda record: -record["reward"])


def run(directory, actor, scorer=score, num_rollouts=NUM_ROLLOUTS, config=CONFIG, resume=True, best_given=best_given):
    log = SearchLog(directory / "search.jsonl", directory / "agent.npz")
    if resume:
        log.resume(actor)
    return search(LAYERS, config, actor, GIVEN, scorer, log, num_rollouts, best_given=best_given, quiet=True)


def timeless(records):
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


def lines(directory):
    return [json.loads(line) for line in (directory / "search.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("undisturbed"), agent())


def test_the_given_allocations_come_first_with_their_own_scores(undisturbed):
    assert [record["index"] for record in undisturbed] == list(range(NUM_ROLLOUTS))
    assert [record["source"] for record in undisturbed] == [*GIVEN, *["agent"] * (NUM_ROLLOUTS - len(GIVEN))]
    for record, ratios in zip(undisturbed, GIVEN.values(), strict=False):
        assert record["ratios"] == dict(ratios)
        assert record["reward"] == record["accuracy"] == score(ratios).accuracy


def test_every_roll_out_keeps_the_budget_and_is_scored_as_it_is_written(undisturbed):
    for record in undisturbed:
        assert kept_weights(LAYERS, record["ratios"]) <= parameter_budget(LAYERS, 0.5)
        assert record["overall_ratio"] == overall_ratio(LAYERS, record["ratios"])
        assert record["accuracy"] == score(record["ratios"]).accuracy
        assert record["agent_seconds"] <= record["seconds"]


def test_the_best_is_never_below_a_given_one(undisturbed):
    assert best_of(undisturbed)["reward"] >= max(score(ratios).accuracy for ratios in GIVEN.values())


@pytest.mark.parametrize("name", GIVEN)
def test_the_reference_is_the_given_one_that_is_best_once_re_solved(tmp_path, name):
    def best_given(records):
        assert [record["source"] for record in records] == list(GIVEN)
        return [record for record in records if record["source"] == name]

    records = run(tmp_path, NeutralAgent(), resume=False, best_given=best_given)
    for record in records[len(GIVEN) :]:
        assert record["ratios"] == pytest.approx(dict(GIVEN[name]))


def test_the_given_are_the_first_that_the_agent_learns_from(tmp_path):
    pupil = NeutralAgent()
    run(tmp_path, pupil, num_rollouts=len(GIVEN) + 1, resume=False)
    assert len(pupil.transitions) == (len(GIVEN) + 1) * len(LAYERS)
    rewards = [score(ratios).accuracy for ratios in GIVEN.values()]
    assert pupil.rewards == pytest.approx([*rewards, rewards[1]])
    told = [pupil.transitions[start : start + len(LAYERS)] for start in range(0, len(pupil.transitions), len(LAYERS))]
    env = RolloutEnv(LAYERS, CONFIG, GIVEN["lean"])
    for transitions, ratios, reward in zip(told, GIVEN.values(), rewards, strict=False):
        assert [transition.reward for transition in transitions] == pytest.approx([reward] * 4)
        assert [transition.done for transition in transitions] == [0, 0, 0, 1]
        for one, other in itertools.pairwise(transitions):
            np.testing.assert_array_equal(one.next_state, other.state)
        env.reset()
        for transition in transitions:
            env.step(float(transition.action[0]))
        assert env.ratios() == pytest.approx(dict(ratios), abs=1e-6)


def test_fine_tuned_roll_outs_are_rewarded_for_what_they_became(tmp_path):
    records = run(tmp_path, NeutralAgent(), lambda ratios: Score(0.2, 0.7), resume=False)
    assert {(record["accuracy"], record["accuracy_after"], record["reward"]) for record in records} == {(0.2, 0.7, 0.7)}


def test_the_multi_objective_reward_counts_the_sparsity(tmp_path):
    records = run(tmp_path, NeutralAgent(), config=RatioConfig(0.5, "multi-obj"), resume=False)
    for record in records:
        assert record["reward"] == pytest.approx(record["accuracy"] * math.log(1 + record["overall_ratio"]))


class Killed(Exception):
    pass


def killed_after(directory, count):
    """A search that dies in the roll-out of index `count`."""
    calls = itertools.count()

    def dying(ratios):
        if next(calls) == count:
            raise Killed
        return score(ratios)

    with pytest.raises(Killed):
        run(directory, agent(), dying)
    assert len(lines(directory)) == count


# One before, at and after the last of the given; 8 is while the agent learns (20 transitions are 5 roll-outs).
@pytest.mark.parametrize("count", [0, 2, 3, 4, 8])
def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path, undisturbed, count):
    killed_after(tmp_path, count)
    asked = []

    def counted(ratios):
        asked.append(ratios)
        return score(ratios)

    assert timeless(run(tmp_path, agent(), counted)) == timeless(undisturbed)
    assert timeless(lines(tmp_path)) == timeless(undisturbed)
    assert len(asked) == NUM_ROLLOUTS - count


@pytest.mark.parametrize("rest", ['{"index": 5, "reward": 99.0}\n', '{"index": 5, "rew'], ids=["whole", "torn"])
def test_a_line_without_its_checkpoint_is_done_again(tmp_path, undisturbed, rest):
    killed_after(tmp_path, 5)
    with open(tmp_path / "search.jsonl", "a") as file:
        file.write(rest)
    assert timeless(run(tmp_path, agent())) == timeless(undisturbed)
    assert timeless(lines(tmp_path)) == timeless(undisturbed)


def test_a_log_shorter_than_its_checkpoint_is_an_error(tmp_path):
    killed_after(tmp_path, 4)
    path = tmp_path / "search.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(
        RunError, match=r"search\.jsonl has 3 of 4 roll-outs: put a whole copy back.*--overwrite starts"
    ):
        run(tmp_path, agent())


def test_a_changed_digit_in_the_log_is_an_error(tmp_path):
    killed_after(tmp_path, 4)
    path = tmp_path / "search.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"index": 2', '"index": 3'))
    with pytest.raises(RunError, match=r"search\.jsonl is damaged"):
        run(tmp_path, agent())


def test_a_log_without_a_checkpoint_is_an_error_and_stays(tmp_path):
    killed_after(tmp_path, 4)
    before = (tmp_path / "search.jsonl").read_text()
    for path in tmp_path.glob("agent*.npz"):
        path.unlink()
    with pytest.raises(
        RunError, match=r"search\.jsonl has 4 roll-outs, .*agent\.npz is missing: put a whole copy back"
    ):
        run(tmp_path, agent())
    assert (tmp_path / "search.jsonl").read_text() == before


@pytest.mark.parametrize("count", [1, 3, 4, 8])
def test_a_damaged_checkpoint_costs_one_roll_out_and_changes_nothing(tmp_path, undisturbed, count):
    killed_after(tmp_path, count)
    (tmp_path / "agent.npz").write_bytes((tmp_path / "agent.npz").read_bytes()[:-20])
    asked = []

    def counted(ratios):
        asked.append(ratios)
        return score(ratios)

    assert timeless(run(tmp_path, agent(), counted)) == timeless(undisturbed)
    assert timeless(lines(tmp_path)) == timeless(undisturbed)
    assert len(asked) == NUM_ROLLOUTS - count + 1


def test_a_finished_search_asks_nothing(tmp_path, undisturbed):
    run(tmp_path, agent())

    def refuse(ratios):  # neither score nor re-solve
        raise AssertionError("asked again")

    assert timeless(run(tmp_path, agent(), refuse, best_given=refuse)) == timeless(undisturbed)


def test_a_search_that_dies_between_the_given_and_the_agent_s_goes_on_as_if_it_had_not(tmp_path, undisturbed):
    def dying(records):
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, agent(), best_given=dying)
    assert len(lines(tmp_path)) == len(GIVEN)
    assert timeless(run(tmp_path, agent())) == timeless(undisturbed)


def test_no_more_roll_outs_than_asked_for_where_there_are_more_given(tmp_path):
    records = run(tmp_path, NeutralAgent(), num_rollouts=2, resume=False, best_given=None)
    assert [record["source"] for record in records] == list(GIVEN)[:2]


def test_candidates_are_best_given_and_best_by_reward_in_turn():
    layers = [LayerSpec("a", (100,))]
    rewards = enumerate([0.5, 0.4, 0.95, 0.3, 0.9, 0.2])
    records = [{"index": index, "ratios": {"a": index / 10}, "reward": reward} for index, reward in rewards]
    given = [records[1], records[2]]
    assert [record["index"] for record in best_distinct(records, given, layers, 3)] == [1, 2, 4]  # 2 is in both
    assert [record["index"] for record in best_distinct(records, given, layers, 9)] == [1, 2, 4, 0, 3, 5]


def test_candidates_that_remove_as_many_weights_are_one():
    layers = [LayerSpec("a", (10,)), LayerSpec("b", (100,))]
    records = [
        {"index": 0, "reward": 0.5, "ratios": {"a": 0.5, "b": 0.2}},
        {"index": 1, "reward": 0.9, "ratios": {"a": 0.51, "b": 0.3}},  # 5 and 30
        {"index": 2, "reward": 0.8, "ratios": {"a": 0.59, "b": 0.301}},  # 5 and 30 again
        {"index": 3, "reward": 0.7, "ratios": {"a": 0.5, "b": 0.31}},
        {"index": 4, "reward": 0.9, "ratios": {"a": 0.55, "b": 0.305}},  # 5 and 30, as good as the first
    ]
    assert [record["index"] for record in best_distinct(records, records[:1], layers, 2)] == [0, 1]
    assert [record["index"] for record in best_distinct(records, records[:1], layers, 9)] == [0, 1, 3]


def test_of_equally_good_records_the_first_is_the_best():
    assert best_of([{"reward": 0.1}, {"reward": 0.7, "index": 1}, {"reward": 0.7, "index": 2}])["index"] == 1
