import numpy as np
import pydantic
import pytest
import tensorflow as tf

from compressors.components import Target, When
from compressors.parameters import CONV, Parameter
from compressors.pruners.threshold import BaiduRNNPruner, MagnitudeParameterPruner, SensitivityPruner

FIRST = When(0, 0, 10)


def target_of(weights, setting=None):
    return Target(Parameter("conv/kernel", weights.shape, CONV, "conv", True), setting)


def prune(pruner, weights, setting=None, when=FIRST, first_weights=None):
    """The mask, made as a policy makes it: numbers in Python, the mask traced."""
    target = target_of(weights, setting)
    remembered = pruner.first_look(target, weights if first_weights is None else first_weights)
    assert remembered.dtype == np.float32
    numbers = pruner.numbers(target, when, remembered, evidence=None)
    traced = tf.function(lambda w, n: pruner.mask(target, w, tf.ones_like(w), n, tf.constant(0, tf.int64)))
    return traced(tf.constant(weights, tf.float32), tf.constant(numbers)).numpy()


def settings(targets):
    return {target.path: target.setting for target in targets}


def test_magnitudes_up_to_and_with_the_threshold_go():
    weights = np.array([0.1, -0.1, 0.100001, -0.09, 0.0, 5.0], np.float32)
    np.testing.assert_array_equal(
        prune(MagnitudeParameterPruner(thresholds={"*": 0.1}), weights, 0.1), [0, 0, 1, 0, 0, 1]
    )


def test_a_threshold_of_0_removes_zeros_only():
    np.testing.assert_array_equal(
        prune(MagnitudeParameterPruner(thresholds={"*": 0}), np.array([0.0, 1e-30, -1.0]), 0.0), [0, 1, 1]
    )


@pytest.mark.parametrize(
    ("pruner", "argument"), [(MagnitudeParameterPruner, "thresholds"), (SensitivityPruner, "sensitivities")]
)
def test_names_that_are_missing_fall_to_the_star_only_where_there_is_one(pruner, argument, parameters):
    with_star = pruner(**{argument: {"fc.weight": 0.3, "*": 0.5}})
    expected = {"conv1/kernel": 0.5, "conv2/kernel": 0.5, "wide/kernel": 0.5, "fc/kernel": 0.3}
    assert settings(with_star.targets(parameters)) == expected
    assert settings(pruner(**{argument: {"fc/kernel": 0.3}}).targets(parameters)) == {"fc/kernel": 0.3}


def test_sensitivity_1_removes_what_lies_within_one_standard_deviation_of_a_normal():
    weights = np.random.default_rng(0).standard_normal(1_000_000, np.float32)
    mask = prune(SensitivityPruner(sensitivities={"*": 1}), weights, 1.0)
    assert 1 - mask.mean() == pytest.approx(0.6827, abs=2e-3)


def test_the_sensitivity_scales_the_standard_deviation_of_the_sample():
    # Mean 0, squares 4 * 9 = 36, divisor 3: std = sqrt(12) = 3.46; half of it is 1.73.
    weights = np.array([3.0, -3.0, 3.0, -3.0])
    pruner = SensitivityPruner(sensitivities={"*": 0.5})
    target = target_of(weights, 0.5)
    numbers = pruner.numbers(target, FIRST, pruner.first_look(target, weights), evidence=None)
    assert numbers == pytest.approx([0.5 * 12**0.5])


def test_the_standard_deviation_is_the_one_of_the_first_look():
    now = np.array([0.5, -2.0, 4.0, 0.1])
    pruner = SensitivityPruner(sensitivities={"*": 1})
    np.testing.assert_array_equal(prune(pruner, now, 1.0, first_weights=np.array([3.0, -3.0, 3.0, -3.0])), [0, 0, 1, 0])
    assert prune(pruner, now, 1.0, When(7, 0, 10), np.array([3.0, -3.0, 3.0, -3.0])).sum() == 1


def test_a_single_weight_has_no_deviation():
    assert prune(SensitivityPruner(sensitivities={"*": 1}), np.array([0.3]), 1.0) == [1]


def baidu(**change):
    arguments = {"q": 0.14, "ramp_epoch_offset": 4, "ramp_slope_mult": 2, "weights": ["conv/kernel"]}
    return BaiduRNNPruner(**arguments | change)


def baidu_thresholds(pruner, start, end, frequency=1):
    target = target_of(np.ones(3))
    return [
        pruner.numbers(target, When(epoch, start, end, frequency), np.zeros(0), None)[0]
        for epoch in range(start, end, frequency)
    ]


def test_the_threshold_grows_by_a_slope_and_then_by_a_multiple_of_it():
    # slope = 2 * 0.14 / (2 * 4 + 3 * (10 - 4)) = 0.28 / 26; the ramp begins at epoch 104.
    slope = 0.28 / 26
    expected = [1, 2, 3, 4, 5 + 2, 5 + 4, 5 + 6, 5 + 8, 5 + 10, 5 + 12]
    assert baidu_thresholds(baidu(), 100, 110) == pytest.approx([n * slope for n in expected], rel=1e-6)


def test_the_frequency_cancels_out():
    assert baidu_thresholds(baidu(), 3, 13, 2) == baidu_thresholds(baidu(), 3, 13)[::2]


def test_without_a_ramp_the_threshold_reaches_q_in_the_last_epoch():
    assert baidu_thresholds(baidu(ramp_epoch_offset=10), 0, 10)[-1] == pytest.approx(0.14)
    assert baidu_thresholds(baidu(ramp_epoch_offset=1000), 0, 10)[-1] == pytest.approx(0.14)


def test_a_ramp_from_the_start():
    # slope = 2 * q / (3 * 10); threshold = slope * (1 + 1.5 * (i + 1)).
    first, second, *_ = baidu_thresholds(baidu(q=0.3, ramp_epoch_offset=0, ramp_slope_mult=1.5), 0, 10)
    assert (first, second) == pytest.approx((0.02 * 2.5, 0.02 * 4))


def test_the_growing_threshold_prunes():
    weights = np.array([0.01, -0.02, 0.03, 0.2])  # thresholds in epochs 0 and 1: 0.0108 and 0.0215
    np.testing.assert_array_equal(prune(baidu(), weights, when=When(0, 0, 10)), [0, 1, 1, 1])
    np.testing.assert_array_equal(prune(baidu(), weights, when=When(1, 0, 10)), [0, 0, 1, 1])


def test_the_named_parameters_are_its_targets(parameters):
    assert list(settings(baidu(weights=["fc.weight"]).targets(parameters))) == ["fc/kernel"]


@pytest.mark.parametrize(
    "change",
    [{"q": -0.1}, {"ramp_epoch_offset": 1.5}, {"ramp_epoch_offset": -1}, {"ramp_slope_mult": -1}, {"weights": []}],
)
def test_wrong_arguments_of_the_growing_threshold_are_errors(change):
    with pytest.raises(pydantic.ValidationError, match=next(iter(change))):
        baidu(**change)


@pytest.mark.parametrize("value", [-0.1, True, "low", float("inf")])
def test_thresholds_and_sensitivities_are_at_least_0(value):
    with pytest.raises(pydantic.ValidationError, match="thresholds"):
        MagnitudeParameterPruner(thresholds={"*": value})
    with pytest.raises(pydantic.ValidationError, match="sensitivities"):
        SensitivityPruner(sensitivities={"*": value})
