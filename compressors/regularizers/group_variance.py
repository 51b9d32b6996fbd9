"""Group variance: the groups of a layer are driven apart, some to large norms and the others to small ones."""

from typing import Annotated, Literal

import pydantic
import tensorflow as tf

from compressors.components import NonNegative, Target
from compressors.groups import check_group, group_values, num_groups
from compressors.parameters import Parameter, Parameters
from compressors.regularizers.base import Regularizer
from compressors.regularizers.group_lasso import IS_PAIR, regime_targets
from utils.errors import InputError

VarianceRegime = Annotated[tuple[NonNegative, Literal["Channels", "Filters", "3D"]], IS_PAIR]
SMALLEST_VARIANCE = 1e-8


class GroupVarianceRegularizer(Regularizer):
    """`loss += strength / var`, var the variance of the groups' L2 norms (divisor G - 1, as in Distiller).

    A variance below 1e-8 counts as 1e-8, with gradient 0: equal norms give no direction to move apart. Source: Torfi et
    al. 2018, "Attention-Based Guided Structured Sparsity of Deep Neural Networks".

    Args:
        reg_regims: {name or '*': [strength, group]}, strength at least 0, group Channels or Filters = 3D; '*' is every
            prunable kernel that no other key names and that has at least two such groups.
    """

    reg_regims: Annotated[dict[str, VarianceRegime], pydantic.Field(min_length=1)]
    threshold_criteria: None = None

    def targets(self, parameters: Parameters) -> list[Target]:
        return regime_targets(self.reg_regims, parameters, _check_groups)

    def strength(self, target: Target) -> float:
        return target.setting.strength

    def loss(self, target: Target, weights: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        norms = group_values(weights, target.setting.groups[0], "l2")
        squares = tf.reduce_sum(tf.square(norms - tf.reduce_mean(norms)))
        return strength / tf.maximum(squares / (norms.shape[0] - 1), SMALLEST_VARIANCE)


def _check_groups(parameter: Parameter, group: str) -> str:
    group = check_group(parameter, group)
    if num_groups(parameter.shape, group) < 2:
        raise InputError(f"{parameter.path} must have at least two groups {group!r}. Received: shape {parameter.shape}")
    return group
