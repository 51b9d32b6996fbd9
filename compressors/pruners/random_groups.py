"""Random structure pruning, drawn anew at each application: made to be applied within epochs, as a regularizer.

At least one group always stays.
"""

from typing import Literal, Self

import numpy as np
import pydantic
import tensorflow as tf

from compressors.components import Fraction, Target, When
from compressors.groups import group_values
from compressors.masks import lowest_mask
from compressors.pruners.base import Evidence
from compressors.pruners.group_pruner import FixedLevel, GradualLevel, LevelGroupPruner
from compressors.pruners.ranked import BlockPruner

_SEEDS = 1 << 24  # integers below it are exact in float32


class RandomLevelStructureParameterPruner(BlockPruner):
    """Removes the `floor(s * G)` groups of the lowest `sum |w|`, with a new uniform s at each application.

    Args:
        sparsity_range: [lowest s, highest s], in [0, 1].
        kwargs: {block_shape: [repetitions, depth, height, width]} of `Blocks`.
    """

    sparsity_range: tuple[Fraction, Fraction]

    @pydantic.model_validator(mode="after")
    def _is_a_range(self) -> Self:
        lowest, highest = self.sparsity_range
        if lowest > highest:
            raise ValueError(f"sparsity_range must be [lowest, highest]. Received: {[lowest, highest]}")
        return self

    def decision(self, target: Target, when: When, evidence: Evidence) -> np.ndarray:
        # Rounded, for in floats 0.29 * 100 is 28.999999999999996, but 29 is meant.
        bounds = np.round(np.multiply(self.sparsity_range, target.setting.num_groups), 9)
        return np.append(bounds, evidence.generator(target.path).integers(_SEEDS))

    def kept(self, target: Target, weights: tf.Tensor, numbers: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        lowest, highest, seed = tf.unstack(numbers)
        removed = tf.cast(lowest + _uniform([], seed, step) * (highest - lowest), tf.int32)
        norms = group_values(weights, target.setting.group, "l1", self.block_shape)
        return lowest_mask(norms, tf.minimum(removed, target.setting.num_groups - 1))


class BernoulliDropping(LevelGroupPruner):
    """Removes each filter with a given probability, drawn anew at each application (DropFilter).

    Distiller divides what stays by the share that stays; here it stays as it is, which a batch norm that follows makes
    the same. Source: Chen et al. 2018, "DropFilter: dropout for convolutions".
    """

    group_type: Literal["3D", "Filters"]

    def decision(self, target: Target, when: When, evidence: Evidence) -> np.ndarray:
        return np.array([self.level(when), evidence.generator(target.path).integers(_SEEDS)])

    def kept(self, target: Target, weights: tf.Tensor, numbers: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        probability, seed = tf.unstack(numbers)
        draws = _uniform([target.setting.num_groups], seed, step)
        # The filter of the largest draw stays even where all were to go: without any the network would be cut.
        return tf.cast((draws >= probability) | tf.equal(draws, tf.reduce_max(draws)), tf.float32)


class BernoulliFilterPruner(BernoulliDropping, FixedLevel):
    """Removes each filter with the probability `desired_sparsity`."""


class BernoulliFilterPruner_AGP(BernoulliDropping, GradualLevel):
    """Removes each filter with a probability that rises."""


def _uniform(shape: list[int], seed: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Numbers in [0, 1), others at each step."""
    return tf.random.stateless_uniform(shape, tf.stack([tf.cast(seed, tf.int64), step]))
