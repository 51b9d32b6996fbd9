from fractions import Fraction

import numpy as np
import pydantic
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from compressors.components import Target, When
from compressors.parameters import CONV, Parameter
from compressors.pruners.agp import AutomatedGradualPruner, agp_level
from utils.errors import InputError


def levels(initial, final, start, end, frequency):
    epochs = range(start, end, frequency)
    return [agp_level(initial, final, When(epoch, start, end, frequency)) for epoch in epochs]


def test_the_known_values():
    ten_epochs = levels(0.05, 0.75, 0, 10, 1)
    assert ten_epochs[:5] == pytest.approx([0.05, 0.258368, 0.420645, 0.542593, 0.629973], abs=5e-7)
    assert ten_epochs[-1] == 0.75


def test_every_second_epoch_of_38_by_hand():
    # The last active epoch is 36, so the span is 36: in epoch 2k the share (1 - k/18)**3 of the way is left.
    expected = [Fraction(8, 10) - Fraction(75, 100) * (1 - Fraction(k, 18)) ** 3 for k in range(19)]
    assert levels(0.05, 0.8, 0, 38, 2) == pytest.approx([float(level) for level in expected], abs=1e-15)
    assert expected[6] == Fraction(8, 10) - Fraction(75, 100) * Fraction(8, 27)  # epoch 12, a third of the way
    assert expected[9] == Fraction(70625, 100000)  # epoch 18, half of the way


def test_a_policy_that_starts_late_and_whose_frequency_does_not_divide_its_length():
    # Active in 100, 103, 106 of [100, 108): span 6.
    assert levels(0.2, 0.8, 100, 108, 3) == pytest.approx([0.2, 0.8 - 0.6 / 8, 0.8])


def test_a_single_active_epoch_prunes_to_the_final_level():
    assert levels(0.2, 0.8, 5, 6, 1) == [0.8]
    assert levels(0.2, 0.8, 5, 9, 4) == [0.8]


def test_outside_of_the_active_epochs_the_level_is_the_nearest_end():
    assert agp_level(0.2, 0.8, When(3, 5, 11, 5)) == pytest.approx(0.2)
    assert agp_level(0.2, 0.8, When(40, 5, 11, 5)) == 0.8


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 300), st.integers(1, 100), st.integers(1, 20))
def test_levels_rise_from_the_initial_to_exactly_the_final(one, other, start, length, frequency):
    initial, final = sorted((one, other))
    rising = levels(initial, final, start, start + length, min(frequency, length))
    assert all(low <= high for low, high in zip(rising, rising[1:], strict=False))
    assert all(0 <= level <= 1 for level in rising)
    assert rising[-1] == final
    if len(rising) > 1:
        assert rising[0] == pytest.approx(initial, abs=1e-12)


def test_each_epoch_removes_the_floor_of_its_level():
    weights = np.arange(1, 101, dtype=np.float32).reshape(1, 1, 10, 10)
    pruner = AutomatedGradualPruner(initial_sparsity=0.05, final_sparsity=0.75, weights=["conv/kernel"])
    target = Target(Parameter("conv/kernel", weights.shape, CONV, "conv", True), None)

    @tf.function
    def mask(numbers):
        return pruner.mask(target, tf.constant(weights), tf.ones(weights.shape), numbers, tf.constant(0, tf.int64))

    removed = []
    for epoch in range(10):
        when = When(epoch, 0, 10)
        kept = mask(tf.constant(pruner.numbers(target, when, np.zeros(0, np.float32), evidence=None))).numpy()
        np.testing.assert_array_equal(np.sort(kept, axis=None), kept.ravel())  # the smallest go: they come first here
        removed.append(int((kept == 0).sum()))
        assert int(pruner.planned_sparsity(target, when) * 100 + 1e-9) == removed[-1]
    assert removed == [5, 25, 42, 54, 62, 68, 72, 74, 74, 75]
    assert mask.experimental_get_tracing_count() == 1


def test_the_named_parameters_are_its_targets(parameters):
    pruner = AutomatedGradualPruner(initial_sparsity=0, final_sparsity=0.5, weights=["module.fc.weight", "conv1/bias"])
    assert [target.path for target in pruner.targets(parameters)] == ["fc/kernel", "conv1/bias"]
    with pytest.raises(InputError, match="conv9.weight"):
        pruner.model_copy(update={"weights": ["conv9.weight"]}).targets(parameters)


@pytest.mark.parametrize(("initial", "final"), [(0.5, 0.4), (0.5, 0.5)])
def test_the_final_sparsity_is_above_the_initial(initial, final):
    with pytest.raises(pydantic.ValidationError, match=f"above initial_sparsity=0.5. Received: {final}"):
        AutomatedGradualPruner(initial_sparsity=initial, final_sparsity=final, weights=["a"])


@pytest.mark.parametrize(
    "change", [{"initial_sparsity": -0.1}, {"final_sparsity": 1.1}, {"weights": []}, {"weights": None}, {"levels": {}}]
)
def test_wrong_arguments_are_errors(change):
    right = {"initial_sparsity": 0.1, "final_sparsity": 0.5, "weights": ["a"]}
    with pytest.raises(pydantic.ValidationError, match=next(iter(change))):
        AutomatedGradualPruner(**right | change)
