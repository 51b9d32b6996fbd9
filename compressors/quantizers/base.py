"""Quantizer: makes the network that computes with few bits from the one that is trained."""

import abc
from collections.abc import Callable
from typing import ClassVar

import keras
import tensorflow as tf

from compressors.components import Component


class Quantizer(Component, abc.ABC):
    """Rebuilds a functional Keras model with quantized layers in place of its own; layer and variable names stay."""

    section: ClassVar[str] = "quantizers"
    is_for_training: ClassVar[bool] = True  # False: applied to a finished network
    keeps_zeros: ClassVar[bool] = True  # False: a pruned weight is computed with as something else than 0

    @abc.abstractmethod
    def check(self, model: keras.Model) -> None:
        """Raises InputError for an override that matches no layer, and what else does not suit the model."""

    @abc.abstractmethod
    def layers(self, model: keras.Model) -> dict[str, str]:
        """What becomes of each layer that is quantized: its name -> such as "weights 4 bits, activations 8 bits"."""

    @abc.abstractmethod
    def prepare(self, model: keras.Model, batches: Callable[[], tf.data.Dataset] | None = None) -> keras.Model:
        """A quantized copy; float weights are carried over, and stay the variables that are trained.

        Args:
            batches: some batches of training images and labels, for what must be calibrated.
        """

    @abc.abstractmethod
    def finish(self, model: keras.Model) -> keras.Model:
        """A copy of the prepared and trained `model` that holds quantized weights in plain layers; same outputs.

        Activation quantizers stay as layers of ours.
        """

    def extra_loss(self, model: keras.Model) -> tf.Tensor | float:
        """A term of the loss (traced)."""
        return 0.0

    def weight_decay(self, variable: keras.Variable, default: float) -> float:
        """The L2 decay of a variable of the prepared model."""
        return default
