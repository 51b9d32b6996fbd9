"""Structure pruning to a level: the groups of lowest importance go, here by their norms."""

import abc
import math
from collections.abc import Callable
from typing import ClassVar, Literal, Self

import numpy as np
import pydantic
import tensorflow as tf

from compressors.components import Fraction, PositiveCount, Target, When
from compressors.groups import BlockShape, Reduction, group_values
from compressors.masks import lowest_mask
from compressors.pruners.base import Evidence
from compressors.pruners.group_pruner import FixedLevel, GradualLevel, GroupPruner, LevelGroupPruner

Rounding = Literal["floor", "ceil", "round"]
_BlockShape = tuple[PositiveCount, PositiveCount, PositiveCount, PositiveCount]
_ROUNDINGS: dict[str, Callable[[float], int]] = {"floor": math.floor, "ceil": math.ceil, "round": round}


def num_removed_groups(level: float, num_groups: int, group_size: int = 1, rounding: Rounding = "floor") -> int:
    """How many groups a level removes: `level * num_groups` rounded, and that rounded to a multiple of `group_size`.

    Below level 1 at least one group stays, at level 1 none does. A product within 1e-9 of an integer counts as that
    integer: in floats 0.29 * 100 is 28.999999999999996, but 29 is meant.
    """
    if level == 1:
        return num_groups
    rounded = _ROUNDINGS[rounding]
    count = rounded(rounded(round(level * num_groups, 9)) / group_size) * group_size
    return min(count, (num_groups - 1) // group_size * group_size)


class RankedPruner(LevelGroupPruner):
    """Removes the groups of lowest importance, and before all others those whose weights are all zero.

    Of equally important groups those of lowest index go first.
    """

    def ranking(self, target: Target, evidence: Evidence) -> np.ndarray:
        """What the importance depends on beside the weights: `[k]`."""
        return np.zeros(0)

    @abc.abstractmethod
    def importance(self, target: Target, weights: tf.Tensor, ranking: tf.Tensor) -> tf.Tensor:
        """The importance of each group, `[G]` (traced)."""

    def num_removed(self, target: Target, when: When) -> int:
        """How many groups go in that epoch."""
        return num_removed_groups(self.level(when), target.setting.num_groups)

    def decision(self, target: Target, when: When, evidence: Evidence) -> np.ndarray:
        return np.concatenate([[self.num_removed(target, when)], self.ranking(target, evidence)])

    def kept(self, target: Target, weights: tf.Tensor, numbers: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        importance = self.importance(target, weights, numbers[1:])
        is_zero = tf.equal(group_values(weights, target.setting.group, "max", self.block_shape), 0)
        return lowest_mask(tf.where(is_zero, -np.inf, importance), tf.cast(numbers[0], tf.int32))

    def planned_sparsity(self, target: Target, when: When) -> float:
        return self.num_removed(target, when) / target.setting.num_groups


class BlockPruner(GroupPruner):
    """A group pruner that takes `Blocks` too, whose shape is in `kwargs`."""

    group_type: Literal["2D", "3D", "Filters", "Channels", "Rows", "Cols", "Blocks"]
    kwargs: dict[Literal["block_shape"], _BlockShape] | None = None

    @pydantic.model_validator(mode="after")
    def _has_block_shape(self) -> Self:
        if (self.group_type == "Blocks") != bool(self.kwargs):
            raise ValueError(
                "must have kwargs {block_shape: [repetitions, depth, height, width]} if, and only if, its group_type "
                f"is Blocks. Received: group_type {self.group_type}, kwargs {self.kwargs}"
            )
        return self

    @property
    def block_shape(self) -> BlockShape | None:
        return self.kwargs["block_shape"] if self.kwargs else None


class NormRankedPruner(BlockPruner, RankedPruner):
    """Ranks groups by a norm of their weights.

    Args:
        kwargs: {block_shape: [repetitions, depth, height, width]} of `Blocks`.
        noise: the probability that, in an epoch, the norms of a kernel are multiplied by standard normal numbers.
        group_size: the number of groups removed is a multiple of it.
        rounding_fn: how that number is rounded: `floor`, `ceil`, or `round` (a half to the even one).
    """

    noise: Fraction = 0.0
    group_size: PositiveCount = 1
    rounding_fn: Rounding = "floor"

    norm: ClassVar[Reduction]

    def num_removed(self, target: Target, when: When) -> int:
        return num_removed_groups(self.level(when), target.setting.num_groups, self.group_size, self.rounding_fn)

    def ranking(self, target: Target, evidence: Evidence) -> np.ndarray:
        if not self.noise:
            return np.zeros(0)
        generator = evidence.generator(target.path)
        is_noisy = generator.random() < self.noise
        factors = generator.standard_normal(target.setting.num_groups)
        return factors if is_noisy else np.ones_like(factors)

    def importance(self, target: Target, weights: tf.Tensor, ranking: tf.Tensor) -> tf.Tensor:
        norms = group_values(weights, target.setting.group, self.norm, self.block_shape)
        return norms * ranking if self.noise else norms


class L1RankedStructureParameterPruner(NormRankedPruner, FixedLevel):
    """Removes the groups of the lowest `sum |w|`. Source: Li et al. 2017, "Pruning filters for efficient ConvNets"."""

    norm = "l1"


class L2RankedStructureParameterPruner(NormRankedPruner, FixedLevel):
    """Removes the groups of the lowest `sqrt(sum w^2)`."""

    norm = "l2"


class L1RankedStructureParameterPruner_AGP(NormRankedPruner, GradualLevel):
    """Removes the groups of the lowest `sum |w|`, more and more of them."""

    norm = "l1"


class L2RankedStructureParameterPruner_AGP(NormRankedPruner, GradualLevel):
    """Removes the groups of the lowest `sqrt(sum w^2)`, more and more of them."""

    norm = "l2"
