import numpy as np
import pydantic
import pytest
import tensorflow as tf

from compressors.components import Target, When
from compressors.parameters import DENSE, Parameter
from compressors.pruners.splicing import SplicingPruner

# |w| has the mean 4 and, with divisor 3, the standard deviation sqrt((9 + 1 + 1 + 9) / 3) = 2.582.
FIRST = np.array([1.0, -3.0, 5.0, -7.0], np.float32)
MEAN, STD = 4.0, (20 / 3) ** 0.5
START = When(0, 0, 10)


def splicing(**change):
    return SplicingPruner(**{"sensitivities": {"*": 0.5}, "low_thresh_mult": 0.9, "hi_thresh_mult": 1.1} | change)


def numbers(pruner, when=START):
    target = Target(Parameter("fc/kernel", FIRST.shape, DENSE, "fc", True), 0.5)
    return pruner.numbers(target, when, pruner.first_look(target, FIRST), evidence=None)


def mask(pruner, weights, previous, low_and_high):
    target = Target(Parameter("fc/kernel", np.shape(weights), DENSE, "fc", True), 0.5)
    traced = tf.function(lambda w, p, n: pruner.mask(target, w, p, n, tf.constant(0, tf.int64)))
    tensors = [tf.constant(value, tf.float32) for value in (weights, previous, low_and_high)]
    return traced(*tensors).numpy()


def test_below_low_is_removed_from_high_on_restored_and_between_left_as_it_was():
    weights = [0.99, -0.99, 1.0, -1.5, 1.5, 1.99, 2.0, -2.0, -9.0]
    previous = [1, 0, 0, 1, 0, 1, 0, 1, 0]
    expected = [0, 0, 0, 1, 0, 1, 1, 1, 1]
    np.testing.assert_array_equal(mask(splicing(), weights, previous, [1.0, 2.0]), expected)


def test_the_thresholds_are_multiples_of_mean_plus_sensitive_deviation():
    threshold = MEAN + 0.5 * STD
    assert numbers(splicing()) == pytest.approx([0.9 * threshold, 1.1 * threshold])


def test_the_statistics_are_those_of_the_first_look():
    pruner, target = splicing(), Target(Parameter("fc/kernel", (4,), DENSE, "fc", True), 0.5)
    assert pruner.first_look(target, FIRST) == pytest.approx([MEAN, STD])
    assert pruner.first_look(target, FIRST).dtype == np.float32


def test_the_sensitivity_grows_with_the_epochs_of_the_policy():
    # In the 5th epoch after the start: 0.5 * (1 + 5 * 0.02) = 0.55.
    grown = numbers(splicing(sensitivity_multiplier=0.02), when=When(185, 180, 280))
    assert grown == pytest.approx([0.9 * (MEAN + 0.55 * STD), 1.1 * (MEAN + 0.55 * STD)])
    assert numbers(splicing(), when=When(185, 180, 280)) == pytest.approx(numbers(splicing()))


def test_a_weight_that_grows_comes_back():
    pruner = splicing()
    first = mask(pruner, FIRST, np.ones(4), numbers(pruner))  # thresholds 4.76 and 5.82
    np.testing.assert_array_equal(first, [0, 0, 1, 1])
    later = mask(pruner, [5.0, -6.0, 5.0, -4.0], first, numbers(pruner))
    np.testing.assert_array_equal(later, [0, 1, 1, 0])


def test_names_that_are_missing_fall_to_the_star_only_where_there_is_one(parameters):
    def settings(sensitivities):
        targets = splicing(sensitivities=sensitivities).targets(parameters)
        return {target.path: target.setting for target in targets}

    expected = {"conv1/kernel": 0.5, "conv2/kernel": 0.5, "wide/kernel": 0.5, "fc/kernel": 0.3}
    assert settings({"fc.weight": 0.3, "*": 0.5}) == expected
    assert settings({"fc.weight": 0.3}) == {"fc/kernel": 0.3}


def test_the_high_threshold_is_not_below_the_low_one():
    with pytest.raises(pydantic.ValidationError, match="at least low_thresh_mult=0.9. Received: 0.8"):
        splicing(hi_thresh_mult=0.8)
    assert splicing(hi_thresh_mult=0.9).hi_thresh_mult == 0.9


@pytest.mark.parametrize(
    "change",
    [{"sensitivities": {}}, {"sensitivities": {"*": -1}}, {"low_thresh_mult": -1}, {"sensitivity_multiplier": -1}],
)
def test_wrong_arguments_are_errors(change):
    with pytest.raises(pydantic.ValidationError, match=next(iter(change))):
        splicing(**change)
