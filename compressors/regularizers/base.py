"""Regularizer: a term of the loss that drives weights to zero, and the threshold below which they are set to it."""

import abc
from typing import Any, ClassVar, Literal

import tensorflow as tf

from compressors.components import Component, Target
from compressors.parameters import Parameters


class Regularizer(Component, abc.ABC):
    """A penalty on weights. Strengths are variables of the policy, so a change traces nothing anew."""

    section: ClassVar[str] = "regularizers"

    reg_regims: dict[str, Any]
    threshold_criteria: Literal["Mean_Abs", "Max"] | None = None

    @abc.abstractmethod
    def targets(self, parameters: Parameters) -> list[Target]:
        """The parameters it acts on.

        Raises:
            InputError: a name that the model lacks, or a regime that does not suit the parameter.
        """

    @abc.abstractmethod
    def strength(self, target: Target) -> float:
        """The target's strength, at least 0."""

    @abc.abstractmethod
    def loss(self, target: Target, weights: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        """The penalty of one parameter, a scalar whose gradient is finite everywhere (traced)."""

    def mask(self, target: Target, weights: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        """1 where weights stay after an optimizer step, by `threshold_criteria`; all where there is none (traced)."""
        return tf.ones_like(weights)
