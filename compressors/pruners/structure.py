"""Structure pruning below a threshold: the norms of the groups decide how many go."""

from typing import Annotated, Literal

import numpy as np
import pydantic
import tensorflow as tf

from compressors.components import NonNegative, Target, When, targets_of
from compressors.groups import Criterion, check_group, threshold_mask
from compressors.parameters import Parameters
from compressors.pruners.base import Evidence, ParameterPruner

Regime = tuple[NonNegative, Literal["2D", "3D", "4D", "Filters", "Channels", "Rows", "Cols"]]


class StructureParameterPruner(ParameterPruner):
    """Removes the groups whose norm is at most a threshold.

    Args:
        reg_regims: {name or '*': [threshold, group]}, threshold at least 0; '*' is every prunable kernel that no other
            key names and that has such groups.
        threshold_criteria: the norm of a group: `Mean_Abs`, the mean of |w|, or `Max`, the largest |w|.
    """

    reg_regims: Annotated[dict[str, Regime], pydantic.Field(min_length=1)]
    threshold_criteria: Criterion = "Mean_Abs"

    def targets(self, parameters: Parameters) -> list[Target]:
        return targets_of(
            self.reg_regims, parameters, lambda parameter, regime: (regime[0], check_group(parameter, regime[1]))
        )

    def numbers(self, target: Target, when: When, remembered: np.ndarray, evidence: Evidence) -> np.ndarray:
        return np.array(target.setting[:1], np.float32)

    def mask(
        self, target: Target, weights: tf.Tensor, previous: tf.Tensor, numbers: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        return threshold_mask(weights, target.setting[1], numbers[0], self.threshold_criteria)
