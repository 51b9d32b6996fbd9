"""L1: single weights are driven to zero."""

from typing import Annotated, Any

import pydantic
import tensorflow as tf

from compressors.components import NonNegative, Target
from compressors.regularizers.group_lasso import GroupLassoRegularizer, GroupRegime


def _branch(value: Any) -> str:
    return "group" if isinstance(value, list | tuple) else "weights"


StrengthOrRegime = Annotated[
    Annotated[NonNegative, pydantic.Tag("weights")] | Annotated[GroupRegime, pydantic.Tag("group")],
    pydantic.Discriminator(_branch),
]


class L1Regularizer(GroupLassoRegularizer):
    """`loss += strength * sum of |w|`, with gradient 0 at `w = 0`.

    A parameter with the regime `[strength, group]` gets the group lasso instead. With `threshold_criteria`, whichever,
    weights with `|w| <= strength` are set to zero.

    Args:
        reg_regims: {name or '*': strength}, strength at least 0; '*' is every prunable kernel that no other key names.
    """

    # Wider than the group lasso's, which is safe where nobody writes into the mapping.
    reg_regims: Annotated[dict[str, StrengthOrRegime], pydantic.Field(min_length=1)]  # type: ignore[assignment]

    def loss(self, target: Target, weights: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        if target.setting.groups:
            return super().loss(target, weights, strength)
        return strength * tf.reduce_sum(tf.abs(weights))

    def mask(self, target: Target, weights: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        if target.setting.groups:
            return super().mask(target, weights, strength)
        return tf.cast(tf.abs(weights) > strength, tf.float32)
