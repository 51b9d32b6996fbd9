"""Pruner: the rule that says which weights go. When it acts is its policy's business."""

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
import tensorflow as tf

from compressors.components import Component, Target, When
from compressors.parameters import Parameters


class Evidence(Protocol):
    """What a rule may look at beside its own weights; given by the policy at the beginning of an active epoch.

    All is taken on a few training batches, from the network with its masks in force.
    """

    def generator(self, path: str) -> np.random.Generator:
        """Random numbers of this parameter in this epoch: the same after a resume."""

    def zero_shares(self, path: str) -> np.ndarray:
        """Average percentage of zeros (APoZ) of each output channel's activation, in [0, 1], `[out]`."""

    def mean_activations(self, path: str) -> np.ndarray:
        """Mean activation of each output channel, `[out]`."""

    def gradient(self, path: str) -> np.ndarray:
        """The loss's mean gradient by the parameter, of the parameter's shape."""


class Pruner(Component, abc.ABC):
    """Turns weights into masks.

    At the beginning of each active epoch the policy asks for the `numbers` of each target (Python); `masks` then
    makes the masks from weights and numbers (traced), at once and, with `mini_batch_pruning_frequency`, in between.
    Numbers are held in variables, so nothing is traced twice.
    """

    section: ClassVar[str] = "pruners"

    @abc.abstractmethod
    def targets(self, parameters: Parameters) -> list[Target]:
        """The parameters it acts on, with the setting of each.

        Raises:
            InputError: a name that the model lacks, or a setting that does not suit the parameter.
        """

    def first_look(self, target: Target, weights: np.ndarray) -> np.ndarray:
        """What is taken once, when the rule is first applied to a tensor, and remembered: float32 `[k]`."""
        return np.zeros(0, np.float32)

    @abc.abstractmethod
    def numbers(self, target: Target, when: When, remembered: np.ndarray, evidence: Evidence) -> np.ndarray:
        """All that the rule needs in this epoch beside the weights: float32 `[m]`, m fixed for a target."""

    @abc.abstractmethod
    def masks(
        self,
        targets: Sequence[Target],
        weights: Mapping[str, tf.Tensor],
        previous: Mapping[str, tf.Tensor],
        numbers: Mapping[str, tf.Tensor],
        step: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The float32 masks of all parameters, by path, 1 where a weight stays (traced).

        Args:
            weights: those to be judged, float32 of the parameter's shape.
            previous: the masks so far.
            numbers: float32 `[m]`.
            step: the training step, int64 scalar; seeds what is drawn anew at each application.
        """

    def planned_sparsity(self, target: Target, when: When) -> float | None:
        """The share of the target's weights that will be asked for in that epoch; None where the weights decide."""
        return None


class ParameterPruner(Pruner):
    """A pruner that judges each parameter by itself."""

    @abc.abstractmethod
    def mask(
        self, target: Target, weights: tf.Tensor, previous: tf.Tensor, numbers: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        """The mask of one parameter; arguments as those of `masks` (traced)."""

    def masks(
        self,
        targets: Sequence[Target],
        weights: Mapping[str, tf.Tensor],
        previous: Mapping[str, tf.Tensor],
        numbers: Mapping[str, tf.Tensor],
        step: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        return {
            (path := target.path): self.mask(target, weights[path], previous[path], numbers[path], step)
            for target in targets
        }
