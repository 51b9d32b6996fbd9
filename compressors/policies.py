"""Policies: what happens to a network while it is trained, and when. The training loop calls the hooks."""

import bisect
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from compressors.masks import MaskSet
from compressors.ratios import Ratios
from compressors.schedules import SparsitySchedule


class Policy:
    """The hooks of the training loop; all do nothing by default.

    The loop runs many steps in one compiled call and comes back to Python where `next_update` asks for it. Methods
    marked (traced) are part of the compiled step.
    """

    def next_update(self, step: int) -> int | None:
        """The first step at or after `step` that `on_batch_begin` must be called before; None for never."""

    def on_batch_begin(self, step: int) -> None:
        """Called before a step that `next_update` named."""

    def extra_loss(self) -> tf.Tensor | float:
        """A term added to the loss (traced)."""
        return 0.0

    def transform_gradients(
        self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]
    ) -> Sequence[tf.Tensor]:
        """Gradients as the optimizer gets them (traced)."""
        return gradients

    def after_update(self) -> None:
        """Called after the optimizer's update (traced)."""

    def sparsity(self) -> float:
        """Share of the prunable weights that are masked, in [0, 1]."""
        return 0.0

    def state(self) -> dict[str, np.ndarray]:
        """All that a resumed training needs."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes back what `state` gave."""


class FixedMasks(Policy):
    """Trains a pruned network: the masks stay as they are."""

    def __init__(self, masks: MaskSet):
        self.masks = masks

    def transform_gradients(self, gradients, variables):
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
