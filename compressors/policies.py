"""Policies: what happens to a network while it is trained, and when. The training loop calls the hooks."""

import bisect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.masks import MaskSet
from compressors.ratios import Ratios
from compressors.schedules import SparsitySchedule


class Batch(NamedTuple):
    """What a step's loss was computed from; tensors in traced code."""

    images: tf.Tensor
    labels: tf.Tensor
    logits: tf.Tensor


class Replacement(NamedTuple):
    """A network that takes the place of the one in training, and the optimizer that goes with it."""

    model: keras.Model
    optimizer: keras.Optimizer


class Policy:
    """The hooks of the training loop; all do nothing by default.

    The loop runs many steps in one compiled call and comes back to Python at the ends of epochs and where
    `next_update` asks for it. Methods marked (traced) are part of the compiled step.
    """

    def on_epoch_begin(self, epoch: int) -> None:
        """Called before the first step of an epoch."""

    def next_update(self, step: int) -> int | None:
        """The first step at or after `step` that `on_batch_begin` must be called before; None for never."""

    def on_batch_begin(self, step: int) -> None:
        """Called before a step that `next_update` named."""

    def learning_rates(self, recipe: np.ndarray) -> np.ndarray:
        """The rates of the next steps `[n]`, where the recipe has `recipe`; called again in each epoch."""
        return recipe

    def before_forward(self, step: tf.Tensor) -> None:
        """Called before the forward pass; `step` is an int64 scalar (traced)."""

    def transform_loss(self, loss: tf.Tensor, batch: Batch) -> tf.Tensor:
        """The loss that is differentiated (traced)."""
        return loss

    def weight_decay(self, variable: keras.Variable, default: float) -> float:
        """The L2 decay of a variable; asked for while the step is traced."""
        return default

    def transform_gradients(
        self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]
    ) -> Sequence[tf.Tensor]:
        """Gradients as the optimizer gets them (traced)."""
        return gradients

    def after_update(self) -> None:
        """Called after the optimizer's update (traced)."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Called after the last step of an epoch.

        Args:
            logs: "loss", and where the training is validated "validation_loss" and "validation_accuracy".
        """

    def replacement(self) -> Replacement | None:
        """What must be trained instead from here on, asked for after each epoch's end; None: no change."""

    def compressed(self) -> AbstractContextManager:
        """Within it the network's weights are those that the compressed network has: for evaluation and export."""
        return nullcontext()

    def sparsity(self) -> float:
        """Share of the prunable weights that are masked, in [0, 1]."""
        return 0.0

    def state(self) -> dict[str, np.ndarray]:
        """All that a resumed training needs."""
        return {}

    def restructure(self, state: Mapping[str, np.ndarray]) -> Replacement | None:
        """The network whose variables belong to `state`, where a policy had replaced it; called before `restore`."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes back what `state` gave."""


class FixedMasks(Policy):
    """Trains a pruned network: the masks stay as they are."""

    def __init__(self, masks: MaskSet):
        self.masks = masks

    def transform_gradients(
        self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]
    ) -> Sequence[tf.Tensor]:
        return self.masks.mask_gradients(gradients, variables)

    def after_update(self) -> None:
        self.masks.apply()

    def sparsity(self) -> float:
        return self.masks.sparsity()

    def state(self) -> dict[str, np.ndarray]:
        return self.masks.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.masks.restore(state)


class DynamicPruning(FixedMasks):
    """Prunes by magnitude along a schedule, each layer to its own final ratio (Zhu & Gupta 2017)."""

    def __init__(
        self,
        masks: MaskSet,
        schedule: SparsitySchedule,
        ratios: Ratios,
        optimizer: keras.Optimizer,
        num_iterations: int,
    ):
        super().__init__(masks)
        self._schedule, self._ratios, self._optimizer = schedule, ratios, optimizer
        self._updates = [step for step in range(num_iterations) if schedule.is_update_step(step)]

    def next_update(self, step: int) -> int | None:
        at = bisect.bisect_left(self._updates, step)
        return self._updates[at] if at < len(self._updates) else None

    def on_batch_begin(self, step: int) -> None:
        now = {path: self._schedule.ratio_at(step, final) for path, final in self._ratios.items()}
        self.masks.update(now, optimizer=self._optimizer)
