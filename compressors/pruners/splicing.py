"""Dynamic network surgery: connections are cut below one threshold and spliced back above another."""

from typing import Self

import numpy as np
import pydantic
import tensorflow as tf

from compressors.components import NonNegative, Target, When, targets_of
from compressors.parameters import Parameters
from compressors.pruners.base import Evidence, ParameterPruner
from compressors.pruners.threshold import Settings, sample_std


class SplicingPruner(ParameterPruner):
    """Removes the weights with `|w| < low`, restores those with `|w| >= high`, and leaves the others as they were.

    `low` and `high` are the two multiples of `mean(|w|) + s * std(|w|)`, mean and std (the sample's) taken when the
    rule is first applied to the parameter; s is its sensitivity times `1 + (e - start) * sensitivity_multiplier`. A
    weight can come back only where it is still updated while it is masked (the policy's `mask_on_forward_only` or
    `use_double_copies`). Source: Guo et al. 2016, "Dynamic Network Surgery for Efficient DNNs", equation 3.

    Args:
        sensitivities: {name or '*': s}, s at least 0.
        low_thresh_mult: at least 0.
        hi_thresh_mult: at least `low_thresh_mult`.
        sensitivity_multiplier: growth of the sensitivities for each epoch, at least 0.
    """

    sensitivities: Settings
    low_thresh_mult: NonNegative
    hi_thresh_mult: NonNegative
    sensitivity_multiplier: NonNegative = 0.0

    @pydantic.model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.hi_thresh_mult < self.low_thresh_mult:
            raise ValueError(
                f"hi_thresh_mult must be at least low_thresh_mult={self.low_thresh_mult}. "
                f"Received: {self.hi_thresh_mult}"
            )
        return self

    def targets(self, parameters: Parameters) -> list[Target]:
        return targets_of(self.sensitivities, parameters)

    def first_look(self, target: Target, weights: np.ndarray) -> np.ndarray:
        magnitudes = np.abs(weights)
        return np.array([magnitudes.mean(dtype=np.float64), sample_std(magnitudes)], np.float32)

    def numbers(self, target: Target, when: When, remembered: np.ndarray, evidence: Evidence) -> np.ndarray:
        mean, std = map(float, remembered)
        sensitivity = target.setting * (1 + (when.epoch - when.start) * self.sensitivity_multiplier)
        threshold = mean + sensitivity * std
        return np.array([threshold * self.low_thresh_mult, threshold * self.hi_thresh_mult], np.float32)

    def mask(
        self, target: Target, weights: tf.Tensor, previous: tf.Tensor, numbers: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        low, high = tf.unstack(numbers)
        magnitudes = tf.abs(weights)
        kept = tf.where(magnitudes < low, 0.0, previous)
        return tf.where(magnitudes >= high, 1.0, kept)
