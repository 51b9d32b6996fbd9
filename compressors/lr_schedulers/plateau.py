"""The learning rate that falls when a metric has stopped getting better."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic

from compressors.components import Count, NonNegative
from compressors.lr_schedulers.base import LRScheduler


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rate by `factor` after more than `patience` epochs in a row without a better metric.

    The metric is the validation loss with mode "min", the validation accuracy (a fraction) with "max". It is better
    than the best so far by more than `threshold`, a share of the best ("rel") or a difference ("abs"). For `cooldown`
    epochs after a reduction no bad epoch is counted.

    Args:
        factor: in [0, 1).
        min_lr: the rate never falls below it.
        eps: a reduction by no more than this is left out.
        verbose: without effect.
    """

    mode: Literal["min", "max"] = "min"
    factor: Annotated[NonNegative, pydantic.Field(lt=1)] = 0.1
    patience: Count = 10
    threshold: NonNegative = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: Count = 0
    min_lr: NonNegative = 0.0
    eps: NonNegative = 1e-8
    verbose: bool | Literal["deprecated"] = False

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        return base

    def next_rate(
        self, base: float, epoch: int, steps_per_epoch: int, memory: Mapping[str, float], logs: Mapping[str, float]
    ) -> tuple[float, dict[str, float]]:
        metric = logs["validation_loss" if self.mode == "min" else "validation_accuracy"]
        rate, best = memory.get("rate", base), memory.get("best", math.inf if self.mode == "min" else -math.inf)
        num_bad, cooldown = memory.get("num_bad", 0), memory.get("cooldown", 0)
        if self._is_better(metric, best):
            best, num_bad = metric, 0
        else:
            num_bad += 1
        if cooldown > 0:
            cooldown, num_bad = cooldown - 1, 0
        if num_bad > self.patience:
            lower = max(rate * self.factor, self.min_lr)
            rate = lower if rate - lower > self.eps else rate
            cooldown, num_bad = self.cooldown, 0
        return rate, {"rate": rate, "best": best, "num_bad": num_bad, "cooldown": cooldown}

    def _is_better(self, metric: float, best: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        bound = best * (1 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return sign * metric > sign * bound
