import numpy as np
import pydantic
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from compressors.components import Target, When
from compressors.parameters import CONV, Parameter
from compressors.pruners.level import SparsityLevelParameterPruner
from utils.errors import InputError

NOW = When(0, 0, 10)


def target_of(weights, level):
    return Target(Parameter("conv/kernel", weights.shape, CONV, "conv", True), level)


def prune(weights, level):
    pruner, target = SparsityLevelParameterPruner(levels={"*": level}), target_of(weights, level)
    numbers = pruner.numbers(target, NOW, pruner.first_look(target, weights), evidence=None)
    assert numbers.dtype == np.float32
    tensor = tf.constant(weights, tf.float32)
    return pruner.mask(target, tensor, tf.ones_like(tensor), tf.constant(numbers), tf.constant(0, tf.int64)).numpy()


def settings(targets):
    return {target.path: target.setting for target in targets}


def test_the_smallest_magnitudes_go_whatever_their_sign():
    weights = np.array([[0.5, -0.1, 3.0], [-2.0, 0.2, -0.3]])
    np.testing.assert_array_equal(prune(weights, 0.5), [[1, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize(("size", "level", "removed"), [(10, 0.75, 7), (10, 0.9, 9), (100, 0.29, 29), (3, 1.0, 3)])
def test_the_count_is_the_floor_of_level_times_size(size, level, removed):
    assert (prune(np.arange(1.0, size + 1), level) == 0).sum() == removed


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(0, 40))
def test_of_equal_magnitudes_the_first_go_first(values, removed):
    removed = min(removed, len(values))
    weights = np.array(values, np.float32)
    expected = np.ones(len(values))
    expected[np.argsort(np.abs(weights), kind="stable")[:removed]] = 0
    np.testing.assert_array_equal(prune(weights, removed / len(values)), expected)


def test_the_count_is_exact_beyond_what_float32_counts():
    weights = np.arange(4097 * 4097, dtype=np.float32).reshape(4097, 4097)
    assert (prune(weights, 1 - 2 / weights.size) == 1).sum() == 2


def test_the_planned_sparsity_is_the_level():
    assert SparsityLevelParameterPruner(levels={"*": 0.3}).planned_sparsity(target_of(np.ones(4), 0.3), NOW) == 0.3


def test_names_that_are_missing_fall_to_the_star(parameters):
    pruner = SparsityLevelParameterPruner(levels={"module.fc.weight": 0.2, "*": 0.5})
    expected = {"conv1/kernel": 0.5, "conv2/kernel": 0.5, "wide/kernel": 0.5, "fc/kernel": 0.2}
    assert settings(pruner.targets(parameters)) == expected


def test_without_a_star_only_the_named_parameters_are_pruned(parameters):
    pruner = SparsityLevelParameterPruner(levels={"conv1/kernel": 0.5})
    assert settings(pruner.targets(parameters)) == {"conv1/kernel": 0.5}


def test_a_parameter_of_level_0_is_left_alone(parameters):
    pruner = SparsityLevelParameterPruner(levels={"*": 0.5, "conv1.weight": 0})
    assert "conv1/kernel" not in settings(pruner.targets(parameters))


def test_a_name_that_the_model_lacks_is_told(parameters):
    with pytest.raises(InputError, match=r"conv9.weight.*conv1.weight"):
        SparsityLevelParameterPruner(levels={"conv9.weight": 0.5}).targets(parameters)


@pytest.mark.parametrize("level", [-0.1, 1.1, True, "half", None, float("nan")])
def test_levels_are_in_0_to_1(level):
    with pytest.raises(pydantic.ValidationError):
        SparsityLevelParameterPruner(levels={"*": level})


def test_no_levels_and_unknown_arguments_are_errors():
    with pytest.raises(pydantic.ValidationError, match="at least 1 item"):
        SparsityLevelParameterPruner(levels={})
    with pytest.raises(pydantic.ValidationError, match="level\n"):
        SparsityLevelParameterPruner(levels={"*": 0.5}, level=0.5)


def test_a_number_that_yaml_reads_as_text_is_a_number():
    assert SparsityLevelParameterPruner(levels={"*": "5e-1"}).levels == {"*": 0.5}
