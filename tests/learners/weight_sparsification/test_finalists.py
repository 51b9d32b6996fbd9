import numpy as np
import pytest

from learners.weight_sparsification.finalists import ResolvedNetworks, judge_finalists
from learners.weight_sparsification.rollout_eval import Measure

RATIOS = [{"fc/kernel": 0.2}, {"fc/kernel": 0.5}, {"fc/kernel": 0.9}]
CANDIDATES = [
    {"index": index, "source": source, "ratios": ratios, "reward": 0.0}
    for index, source, ratios in zip((7, 2, 11), ("agent", "erk", "agent"), RATIOS, strict=True)
]


class Variable:
    path = "fc/kernel"
    shape = (2,)

    def __init__(self):
        self.value = np.zeros(2)

    def assign(self, value):
        self.value = value


class FakeEvaluator:
    """Its model's one variable is [ratio, fine-tuning steps]; accuracy falls with the one and grows with the other.

    The likelihood is half the accuracy.
    """

    def __init__(self):
        self.model = self
        self.variables = [Variable()]
        self.resolved = []

    def resolve(self, ratios):
        self.resolved.append(ratios["fc/kernel"])
        self.variables[0].value = np.array([ratios["fc/kernel"], 0.0])
        return self.measure()

    def measure(self):
        ratio, steps = self.variables[0].value
        accuracy = 1 - 0.5 * ratio + steps / 1000
        return Measure(accuracy, accuracy / 2)

    def fine_tune(self, iterations):
        self.variables[0].value = self.variables[0].value + [0, iterations]


def judge(evaluator, directory, fine_tuning=20, candidates=CANDIDATES):
    def reward(accuracy, ratios):
        return accuracy * ratios["fc/kernel"]

    networks = ResolvedNetworks(evaluator, evaluator.resolve, directory, quiet=True)
    return judge_finalists(candidates, evaluator, networks, reward, fine_tuning, directory, quiet=True)


def test_each_finalist_is_resolved_fine_tuned_and_measured(tmp_path):
    judged = judge(FakeEvaluator(), tmp_path)
    for checkpoint, candidate, before in zip(judged, CANDIDATES, (0.9, 0.75, 0.55), strict=True):
        ratio, meta = candidate["ratios"]["fc/kernel"], dict(checkpoint.meta)
        assert meta.pop("seconds") >= 0
        assert meta == {
            "index": candidate["index"],
            "source": candidate["source"],
            "ratios": candidate["ratios"],
            "accuracy": pytest.approx(before),
            "accuracy_after": pytest.approx(before + 0.02),
            "reward": pytest.approx((before + 0.02) * ratio),
            "merit": pytest.approx((before + 0.02) / 2 * ratio),
        }
        np.testing.assert_array_equal(checkpoint.arrays["fc/kernel"], [ratio, 20])


def test_without_fine_tuning_the_reward_is_that_of_the_pruned_network(tmp_path):
    judged = judge(FakeEvaluator(), tmp_path, fine_tuning=0)
    assert [checkpoint.meta["accuracy_after"] for checkpoint in judged] == [None] * 3
    rewards = np.array([0.9 * 0.2, 0.75 * 0.5, 0.55 * 0.9])
    assert [checkpoint.meta["reward"] for checkpoint in judged] == pytest.approx(rewards)
    assert [checkpoint.meta["merit"] for checkpoint in judged] == pytest.approx(rewards / 2)


class Killed(Exception):
    pass


class DiesInFineTuning(FakeEvaluator):
    def __init__(self, at):
        super().__init__()
        self.at, self.fine_tuned = at, 0

    def fine_tune(self, iterations):
        self.fine_tuned += 1
        if self.fine_tuned == self.at:
            raise Killed
        super().fine_tune(iterations)


class DiesInSolving(FakeEvaluator):
    def resolve(self, ratios):
        if len(self.resolved) == 2:
            raise Killed
        return super().resolve(ratios)


@pytest.mark.parametrize(
    ("evaluator", "left"), [(DiesInSolving(), [0.9]), (DiesInFineTuning(1), []), (DiesInFineTuning(3), [])]
)
def test_a_killed_judgement_goes_on_where_it_was(tmp_path, evaluator, left):
    whole = judge(FakeEvaluator(), tmp_path / "whole")
    with pytest.raises(Killed):
        judge(evaluator, tmp_path / "killed")
    again = FakeEvaluator()
    resumed = judge(again, tmp_path / "killed")
    assert again.resolved == left
    for found, expected in zip(resumed, whole, strict=True):
        assert found.meta | {"seconds": 0} == expected.meta | {"seconds": 0}
        np.testing.assert_array_equal(found.arrays["fc/kernel"], expected.arrays["fc/kernel"])


def test_finalists_that_are_there_are_neither_solved_nor_fine_tuned_again(tmp_path):
    judge(FakeEvaluator(), tmp_path)
    for path in tmp_path.glob("resolved_*.npz"):
        path.unlink()
    again = DiesInFineTuning(1)
    judge(again, tmp_path)
    assert again.resolved == []


@pytest.mark.parametrize(("name", "solved"), [("resolved_2", 1), ("finalist_1", 0)])
def test_a_damaged_file_is_told_and_computed_again(tmp_path, capsys, name, solved):
    whole = judge(FakeEvaluator(), tmp_path)
    if name.startswith("resolved"):
        (tmp_path / "finalist_1.npz").unlink()
    damaged = tmp_path / f"{name}.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = FakeEvaluator()
    found = judge(again, tmp_path)
    assert again.resolved == [0.5] * solved
    assert f"{name}.npz is damaged" in capsys.readouterr().err
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one.arrays["fc/kernel"], other.arrays["fc/kernel"])


@pytest.mark.parametrize("directory", [None, "finalists"])
def test_of_the_given_those_of_highest_reward_are_solved_and_the_likeliest_comes_first(tmp_path, directory):
    """Likelihoods fall with the ratio."""
    given = [("uniform", 0.5, 0.3), ("erk", 0.6, 0.1), ("lamp", 0.7, 0.9), ("global", 0.4, 0.0), ("dp", 0.6, 0.4)]
    records = [
        {"index": index, "source": name, "reward": reward, "ratios": {"fc/kernel": ratio}}
        for index, (name, reward, ratio) in enumerate(given)
    ]
    evaluator = FakeEvaluator()
    directory = directory and tmp_path / directory
    networks = ResolvedNetworks(evaluator, evaluator.resolve, directory, quiet=True)
    assert [record["source"] for record in networks.best(records, 3)] == ["erk", "dp", "lamp"]
    assert evaluator.resolved == [0.9, 0.4, 0.1]  # of equal rewards the last first: dp is the last of those given
    assert [record["source"] for record in networks.best(records, 2)] == ["dp", "lamp"]
    assert [record["source"] for record in networks.best(records, 1)] == ["lamp"]
    assert len(evaluator.resolved) == 3
    judge_finalists(records[4:], evaluator, networks, lambda accuracy, ratios: accuracy, 0, quiet=True)
    assert len(evaluator.resolved) == 3
    later = ResolvedNetworks(evaluator, evaluator.resolve, directory, quiet=True)
    assert [record["source"] for record in later.best(records, 3)] == ["erk", "dp", "lamp"]
    assert len(evaluator.resolved) == (3 if directory else 6)
