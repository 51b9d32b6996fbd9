"""Group lasso: whole groups of weights are driven to zero."""

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
import tensorflow as tf

from compressors.components import NonNegative, Target, targets_of
from compressors.groups import Criterion, check_group, group_values, threshold_mask
from compressors.parameters import Parameter, Parameters
from compressors.regularizers.base import Regularizer


def _check_pair(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be [strength, group]")
    return value


IS_PAIR = pydantic.BeforeValidator(_check_pair)
LassoGroup = Literal[
    "2D", "3D", "4D", "Filters", "Channels", "Rows", "Cols", "Rows+Cols", "Cols+Rows", "Channels+4D", "4D+Channels"
]
GroupRegime = Annotated[tuple[NonNegative, LassoGroup], IS_PAIR]


class Regime(NamedTuple):
    """How one parameter is penalised: its groups of each of these types, or its single weights where there is none."""

    strength: float
    groups: tuple[str, ...] = ()


class GroupLassoRegularizer(Regularizer):
    """`loss += strength * sum over groups of sqrt(sum of w**2)`; the gradient at a group of zeros is 0.

    `Rows+Cols` and `Channels+4D` add the penalties of both. With `threshold_criteria` a group is set to zero where its
    mean |w| ("Mean_Abs") or max |w| ("Max") is at most the strength; of both types where two are named. Source: Yuan &
    Lin 2006, "Model selection and estimation in regression with grouped variables".

    Args:
        reg_regims: {name or '*': [strength, group]}, strength at least 0; '*' is every prunable kernel that no other
            key names and that has such groups.
    """

    reg_regims: Annotated[dict[str, GroupRegime], pydantic.Field(min_length=1)]

    def targets(self, parameters: Parameters) -> list[Target]:
        return regime_targets(self.reg_regims, parameters)

    def strength(self, target: Target) -> float:
        return target.setting.strength

    def loss(self, target: Target, weights: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        return strength * group_norms(weights, target.setting.groups)

    def mask(self, target: Target, weights: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        assert self.threshold_criteria is not None, "without it there is no mask"
        return group_mask(weights, target.setting.groups, strength, self.threshold_criteria)


def group_norms(weights: tf.Tensor, groups: tuple[str, ...]) -> tf.Tensor:
    """The sum of the L2 norms of all groups of these types (traced)."""
    return tf.add_n([tf.reduce_sum(group_values(weights, group, "l2")) for group in groups])


def group_mask(weights: tf.Tensor, groups: tuple[str, ...], threshold: tf.Tensor, criterion: Criterion) -> tf.Tensor:
    """The mask without the groups of these types whose magnitude is at most the threshold (traced)."""
    return functools.reduce(tf.multiply, [threshold_mask(weights, group, threshold, criterion) for group in groups])


def regime_targets(
    regimes: Mapping[str, Any], parameters: Parameters, check: Callable[[Parameter, str], str] = check_group
) -> list[Target]:
    """The targets of {name or '*': strength or (strength, group)}, each with its Regime.

    Args:
        check: (parameter, group) -> the group's name; raises InputError where the parameter has no such groups.

    Raises:
        InputError: the model has no such parameter, or a named parameter (for '*': each kernel) no such groups.
    """
    return targets_of(regimes, parameters, lambda parameter, setting: _regime(parameter, setting, check))


def _regime(parameter: Parameter, setting: Any, check: Callable[[Parameter, str], str]) -> Regime:
    if not isinstance(setting, tuple):
        return Regime(setting)
    strength, groups = setting
    return Regime(strength, tuple(check(parameter, group) for group in groups.split("+")))
