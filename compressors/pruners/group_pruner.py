"""What the pruners of whole groups share: whose groups, on whose lead, and how many."""

import abc
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
import pydantic
import tensorflow as tf

from compressors.components import Fraction, Names, Target, When
from compressors.groups import BlockShape, Group, check_group, num_groups, spread
from compressors.parameters import Parameters
from compressors.pruners.agp import agp_level, check_rising
from compressors.pruners.base import Evidence, Pruner
from utils.errors import InputError


class Grouping(NamedTuple):
    """The setting of a target: its groups, and the path of the parameter that decides which of them stay."""

    group: str
    num_groups: int
    leader: str


class GroupPruner(Pruner):
    """Removes groups of kernels, each kernel judged by itself or all as the first one is.

    Args:
        group_type: the groups, see `compressors.groups`.
        weights: the names of the kernels.
        group_dependency: with `Leader` the groups that go in the first kernel go in all.
    """

    group_type: Group
    weights: Names
    group_dependency: Literal["Leader"] | None = None

    @property
    def block_shape(self) -> BlockShape | None:
        """[repetitions, depth, height, width] of `Blocks`."""
        return None

    @abc.abstractmethod
    def decision(self, target: Target, when: When, evidence: Evidence) -> np.ndarray:
        """The `numbers` of a kernel that decides for itself."""

    @abc.abstractmethod
    def kept(self, target: Target, weights: tf.Tensor, numbers: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """1 for each group that stays, 0 for the others: float32 `[G]` (traced)."""

    def targets(self, parameters: Parameters) -> list[Target]:
        found = list(parameters.resolve_all(self.weights).values())
        groups = [check_group(parameter, self.group_type, self.block_shape) for parameter in found]
        counts = [
            num_groups(parameter.shape, group, self.block_shape) for parameter, group in zip(found, groups, strict=True)
        ]
        if self.group_dependency and len(set(counts)) > 1:
            received = ", ".join(f"{parameter.path}: {count}" for parameter, count in zip(found, counts, strict=True))
            raise InputError(f"with a Leader all weights must have the same number of groups. Received: {received}")
        return [
            Target(parameter, Grouping(group, count, (found[0] if self.group_dependency else parameter).path))
            for parameter, group, count in zip(found, groups, counts, strict=True)
        ]

    def numbers(self, target: Target, when: When, remembered: np.ndarray, evidence: Evidence) -> np.ndarray:
        if target.setting.leader != target.path:
            return np.zeros(0, np.float32)
        return np.asarray(self.decision(target, when, evidence), np.float32)

    def masks(
        self,
        targets: Sequence[Target],
        weights: Mapping[str, tf.Tensor],
        previous: Mapping[str, tf.Tensor],
        numbers: Mapping[str, tf.Tensor],
        step: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        kept = {
            target.path: self.kept(target, weights[target.path], numbers[target.path], step)
            for target in targets
            if target.setting.leader == target.path
        }
        return {
            parameter.path: spread(kept[grouping.leader], parameter.shape, grouping.group, self.block_shape)
            for parameter, grouping in targets
        }


class LevelGroupPruner(GroupPruner):
    """Removes a share of the groups that the epoch decides.

    A pruner is a rule and a level, `class P(Rule, FixedLevel)` in this order: where both have a field, pydantic takes
    that of the first base.
    """

    @abc.abstractmethod
    def level(self, when: When) -> float:
        """The share of the groups that is to go in that epoch, in [0, 1]."""


class FixedLevel(LevelGroupPruner):
    """The same level in all epochs: `desired_sparsity`."""

    desired_sparsity: Fraction

    def level(self, when: When) -> float:
        return self.desired_sparsity


class GradualLevel(LevelGroupPruner):
    """The level of `agp_level`, which rises from `initial_sparsity` to `final_sparsity`."""

    initial_sparsity: Fraction
    final_sparsity: Fraction

    @pydantic.model_validator(mode="after")
    def _rises(self) -> Self:
        check_rising(self.initial_sparsity, self.final_sparsity)
        return self

    def level(self, when: When) -> float:
        return agp_level(self.initial_sparsity, self.final_sparsity, when)
