"""Pruning below a threshold: the weights decide how many go."""

import abc
from typing import Annotated

import numpy as np
import pydantic
import tensorflow as tf

from compressors.components import Count, Names, NonNegative, Target, When, targets_of
from compressors.parameters import Parameters
from compressors.pruners.base import Evidence, ParameterPruner

Settings = Annotated[dict[str, NonNegative], pydantic.Field(min_length=1)]


class ThresholdPruner(ParameterPruner):
    """Removes the weights with `|w| <= threshold`."""

    @abc.abstractmethod
    def threshold(self, target: Target, when: When, remembered: np.ndarray) -> float:
        """The threshold of that epoch, at least 0."""

    def numbers(self, target: Target, when: When, remembered: np.ndarray, evidence: Evidence) -> np.ndarray:
        return np.array([self.threshold(target, when, remembered)], np.float32)

    def mask(
        self, target: Target, weights: tf.Tensor, previous: tf.Tensor, numbers: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        return tf.cast(tf.abs(weights) > numbers[0], tf.float32)


class MagnitudeParameterPruner(ThresholdPruner):
    """Removes the weights with `|w| <= t`.

    Args:
        thresholds: {name or '*': t}, t at least 0.
    """

    thresholds: Settings

    def targets(self, parameters: Parameters) -> list[Target]:
        return targets_of(self.thresholds, parameters)

    def threshold(self, target: Target, when: When, remembered: np.ndarray) -> float:
        return target.setting


class SensitivityPruner(ThresholdPruner):
    """Removes the weights with `|w| <= s * std(w)`, std taken when the rule is first applied to the parameter.

    std is the sample's (divisor n - 1), as in Distiller. Source: Han et al. 2015, "Learning both Weights and
    Connections".

    Args:
        sensitivities: {name or '*': s}, s at least 0.
    """

    sensitivities: Settings

    def targets(self, parameters: Parameters) -> list[Target]:
        return targets_of(self.sensitivities, parameters)

    def first_look(self, target: Target, weights: np.ndarray) -> np.ndarray:
        return np.array([sample_std(weights)], np.float32)

    def threshold(self, target: Target, when: When, remembered: np.ndarray) -> float:
        return target.setting * float(remembered[0])


class BaiduRNNPruner(ThresholdPruner):
    """Removes the weights below a threshold that grows by `slope` in each epoch, and faster from the ramp's epoch on.

    With `r = min(ramp_epoch_offset, end - start)` and `i = e - start`, counted in epochs,
    `slope = 2 * q / (2 * r + 3 * (end - start - r))` and the threshold is `slope * (i + 1)` where `i < r`, else
    `slope * (r + 1 + ramp_slope_mult * (i - r + 1))`. The policy's frequency cancels out. Source: Narang et al. 2017,
    "Exploring Sparsity in Recurrent Neural Networks", equation 1 and algorithm 1, with epochs for iterations.

    Args:
        q: the magnitude below which 90% of the weights of a dense network lie, at least 0.
        ramp_epoch_offset: epochs from the policy's start to the ramp, at least 0; past its end there is no ramp.
        ramp_slope_mult: how many times as fast the threshold grows then, at least 0; 1.5 or 2 in the paper.
        weights: the names of the parameters.
    """

    q: NonNegative
    ramp_epoch_offset: Count
    ramp_slope_mult: NonNegative
    weights: Names

    def targets(self, parameters: Parameters) -> list[Target]:
        return [Target(parameter, None) for parameter in parameters.resolve_all(self.weights).values()]

    def threshold(self, target: Target, when: When, remembered: np.ndarray) -> float:
        length = when.end - when.start
        ramp, at = min(self.ramp_epoch_offset, length), when.epoch - when.start
        slope = 2 * self.q / (2 * ramp + 3 * (length - ramp))
        return slope * (at + 1 if at < ramp else ramp + 1 + self.ramp_slope_mult * (at - ramp + 1))


def sample_std(values: np.ndarray) -> float:
    """The standard deviation with divisor n - 1 over all entries; 0 of a single one."""
    return float(np.std(values, dtype=np.float64, ddof=1)) if values.size > 1 else 0.0
