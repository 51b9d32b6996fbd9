"""Pruning to a level: a fixed number of the smallest weights goes, whatever their size."""

import abc
from typing import Annotated

import numpy as np
import pydantic
import tensorflow as tf

from compressors.components import Fraction, Target, When, targets_of
from compressors.masks import lowest_mask, magnitude
from compressors.parameters import Parameters
from compressors.pruners.base import Evidence, ParameterPruner
from compressors.ratios import num_removed

_DIGIT = 1 << 12  # float32 counts one by one up to 2**24 only, and a kernel may be larger: counts travel as two digits


class LevelPruner(ParameterPruner):
    """Removes exactly the `floor(level * n)` weights of the smallest `|w|`; of equal ones the first go first."""

    @abc.abstractmethod
    def level(self, target: Target, when: When) -> float:
        """The share of the target's weights that is removed in that epoch, in [0, 1]."""

    def numbers(self, target: Target, when: When, remembered: np.ndarray, evidence: Evidence) -> np.ndarray:
        count = num_removed(self.level(target, when), target.parameter.size)
        return np.array(divmod(count, _DIGIT), np.float32)

    def mask(
        self, target: Target, weights: tf.Tensor, previous: tf.Tensor, numbers: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        high, low = tf.unstack(tf.cast(numbers, tf.int32))
        return lowest_mask(magnitude(weights), high * _DIGIT + low)

    def planned_sparsity(self, target: Target, when: When) -> float:
        return self.level(target, when)


class SparsityLevelParameterPruner(LevelPruner):
    """Prunes each parameter to a level of its own: the `floor(s * n)` smallest `|w|` are removed.

    Args:
        levels: {name or '*': s}, s in [0, 1]; a parameter of level 0 is left alone.
    """

    levels: Annotated[dict[str, Fraction], pydantic.Field(min_length=1)]

    def targets(self, parameters: Parameters) -> list[Target]:
        return [target for target in targets_of(self.levels, parameters) if target.setting > 0]

    def level(self, target: Target, when: When) -> float:
        return target.setting
