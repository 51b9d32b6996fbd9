import numpy as np
import pytest

from learners.weight_sparsification.finalists import judge_finalists
from learners.weight_sparsification.rollout_eval import Measure

RATIOS = [{"fc/kernel": 0.2}, {"fc/kernel": 0.5}, {"fc/kernel": 0.9}]
CANDIDATES = [
    {"index": index, "source": source, "ratios": ratios, "reward": 0.0}
    for index, source, ratios in zip((7, 2, 11), ("agent", "erk", "agent"), RATIOS, strict=True)
]


class Variable:
    path = "fc/kernel"

    def __init__(self):
        self.value = np.zeros(2)


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

    def measure(self):
        ratio, steps = self.variables[0].value
        accuracy = 1 - 0.5 * ratio + steps / 1000
        return Measure(accuracy, accuracy / 2)

    def fine_tune(self, iterations):
        self.variables[0].value = self.variables[0].value + [0, iterations]


def judge(evaluator, directory, fine_tuning=20, candidates=CANDIDATES):
    def reward(accuracy, ratios):
        return accuracy * ratios["fc/kernel"]

    return judge_finalists(candidates, evaluator, evaluator.resolve, reward, fine_tuning, directory, quiet=True)


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


def test_a_finished_finalist_is_not_repeated(tmp_path):
    class Killed(Exception):
        pass

    class DiesAtTheThird(FakeEvaluator):
        def fine_tune(self, iterations):
            if len(self.resolved) == 3:
                raise Killed
            super().fine_tune(iterations)

    whole = judge(FakeEvaluator(), tmp_path / "whole")
    with pytest.raises(Killed):
        judge(DiesAtTheThird(), tmp_path / "killed")
    again = FakeEvaluator()
    resumed = judge(again, tmp_path / "killed")
    assert again.resolved == [0.9]
    for found, expected in zip(resumed, whole, strict=True):
        assert found.meta | {"seconds": 0} == expected.meta | {"seconds": 0}
        np.testing.assert_array_equal(found.arrays["fc/kernel"], expected.arrays["fc/kernel"])
    third = FakeEvaluator()
    judge(third, tmp_path / "killed")
    assert third.resolved == []
