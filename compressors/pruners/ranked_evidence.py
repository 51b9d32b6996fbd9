"""Filter pruning to a level by what is seen in training: activations and gradients; and at random, to compare with."""

from typing import Literal

import numpy as np
import tensorflow as tf

from compressors.components import Target
from compressors.groups import group_values
from compressors.pruners.base import Evidence
from compressors.pruners.group_pruner import FixedLevel, GradualLevel
from compressors.pruners.ranked import RankedPruner


class FilterRankedPruner(RankedPruner):
    """Ranks the filters of convolutions: unless it is overridden, `ranking` is their importance."""

    group_type: Literal["3D", "Filters"]

    def importance(self, target: Target, weights: tf.Tensor, ranking: tf.Tensor) -> tf.Tensor:
        return ranking


class ApozRanking(FilterRankedPruner):
    """Removes the filters whose activations are most often zero.

    Source: Hu et al. 2016, "Network trimming".
    """

    def ranking(self, target: Target, evidence: Evidence) -> np.ndarray:
        return -evidence.zero_shares(target.path)


class MeanActivationRanking(FilterRankedPruner):
    """Removes the filters of the lowest mean activation.

    Distiller removes the highest; the criterion's source has it as here: Molchanov et al. 2017, "Pruning convolutional
    neural networks for resource efficient inference".
    """

    def ranking(self, target: Target, evidence: Evidence) -> np.ndarray:
        return evidence.mean_activations(target.path)


class GradientRanking(FilterRankedPruner):
    """Removes the filters with the lowest `|sum w * dL/dw|`: to first order how much the loss changes without them.

    Distiller ranks by the sum with its sign, which takes first what the loss needs most; the criterion's source has it
    as here: Molchanov et al. 2017, "Pruning convolutional neural networks for resource efficient inference".
    """

    def ranking(self, target: Target, evidence: Evidence) -> np.ndarray:
        return evidence.gradient(target.path).ravel()

    def importance(self, target: Target, weights: tf.Tensor, ranking: tf.Tensor) -> tf.Tensor:
        products = weights * tf.reshape(ranking, weights.shape)
        return tf.abs(group_values(products, target.setting.group, "sum"))


class RandomRanking(FilterRankedPruner):
    """Removes filters at random, drawn anew in each active epoch."""

    def ranking(self, target: Target, evidence: Evidence) -> np.ndarray:
        return evidence.generator(target.path).permutation(target.setting.num_groups)


class ActivationAPoZRankedFilterPruner(ApozRanking, FixedLevel):
    """Removes `desired_sparsity` of the filters, those of most zeros."""


class ActivationMeanRankedFilterPruner(MeanActivationRanking, FixedLevel):
    """Removes `desired_sparsity` of the filters, those of the lowest mean activation."""


class GradientRankedFilterPruner(GradientRanking, FixedLevel):
    """Removes `desired_sparsity` of the filters, those that change the loss least."""


class RandomRankedFilterPruner(RandomRanking, FixedLevel):
    """Removes `desired_sparsity` of the filters, at random."""


class ActivationAPoZRankedFilterPruner_AGP(ApozRanking, GradualLevel):
    """Removes more and more of the filters, those of most zeros."""


class ActivationMeanRankedFilterPruner_AGP(MeanActivationRanking, GradualLevel):
    """Removes more and more of the filters, those of the lowest mean activation."""


class GradientRankedFilterPruner_AGP(GradientRanking, GradualLevel):
    """Removes more and more of the filters, those that change the loss least."""


class RandomRankedFilterPruner_AGP(RandomRanking, GradualLevel):
    """Removes more and more of the filters, at random."""
