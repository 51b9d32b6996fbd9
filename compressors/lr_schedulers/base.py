"""LRScheduler: a learning rate for each epoch."""

import abc
from collections.abc import Mapping
from typing import ClassVar, Literal

from compressors.components import Component


class LRScheduler(Component, abc.ABC):
    """A learning rate for each epoch: what PyTorch's class of the same name gives after `step(epoch)`."""

    section: ClassVar[str] = "lr_schedulers"

    @abc.abstractmethod
    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        """The rate in `epoch`, counted from the training's first, whose rate without a scheduler is `base`."""

    def next_rate(
        self, base: float, epoch: int, steps_per_epoch: int, memory: Mapping[str, float], logs: Mapping[str, float]
    ) -> tuple[float, dict[str, float]]:
        """The rate of `epoch`, and what to remember; called at the end of the epoch before it.

        Args:
            memory: what the call before gave; empty at first.
            logs: of the epoch that ends: "loss", "validation_loss", "validation_accuracy".
        """
        return self.rate_at(base, epoch, steps_per_epoch), {}


class TorchScheduler(LRScheduler):
    """A scheduler under PyTorch's name, whose rate follows from the epoch.

    What PyTorch counts in calls of `step` is counted in epochs.

    Args:
        last_epoch: -1, without effect; a resumed training knows its epoch.
        verbose: without effect.
    """

    last_epoch: Literal[-1] = -1
    verbose: bool | Literal["deprecated"] = False
