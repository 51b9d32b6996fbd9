"""Learning rates that rise and fall."""

import itertools
import math
from typing import Literal, Self

import pydantic

from compressors.components import Fraction, NonNegative, Positive, PositiveCount
from compressors.lr_schedulers.base import TorchScheduler


class CosineAnnealingWarmRestarts(TorchScheduler):
    """`eta_min + (base - eta_min) * (1 + cos(pi * t / T_i)) / 2`, t epochs after the last restart.

    The i-th period has `T_i = T_0 * T_mult ** i` epochs. Source: Loshchilov & Hutter 2017, "SGDR".
    """

    T_0: PositiveCount
    T_mult: PositiveCount = 1
    eta_min: NonNegative = 0.0

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        since, period = epoch, self.T_0
        while since >= period:
            since, period = since - period, period * self.T_mult
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * since / period)) / 2


class _RateCycle(TorchScheduler):
    """A cycle of the rate alone: unlike in PyTorch `cycle_momentum` is off by default, and cannot be switched on.

    With `cycle_momentum: false` the momentum's bounds mean nothing, as in PyTorch.
    """

    cycle_momentum: bool = False
    base_momentum: Fraction | None = None
    max_momentum: Fraction | None = None

    @pydantic.model_validator(mode="after")
    def _leaves_the_momentum(self) -> Self:
        given = {name: getattr(self, name) for name in sorted(self.model_fields_set) if "momentum" in name}
        if given and given.get("cycle_momentum", True):
            raise ValueError(f"cycle_momentum must be false: only the learning rate is cycled. Received: {given}")
        return self


class CyclicLR(_RateCycle):
    """Up from `base_lr` to `max_lr` in `step_size_up` epochs, down in `step_size_down`, and again.

    The height above `base_lr` is scaled by 1 ("triangular"), `0.5 ** c` in cycle c = 0, 1, ... ("triangular2") or
    `gamma ** epoch` ("exp_range"). Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks".

    Args:
        step_size_down: None for `step_size_up`.
    """

    base_lr: NonNegative
    max_lr: NonNegative
    step_size_up: PositiveCount = 2000
    step_size_down: PositiveCount | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: NonNegative = 1.0

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        up, down = self.step_size_up, self.step_size_down or self.step_size_up
        cycle, at = divmod(epoch, up + down)
        height = at / up if at <= up else (up + down - at) / down
        scale = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": self.gamma**epoch}[self.mode]
        return self.base_lr + (self.max_lr - self.base_lr) * height * scale


class OneCycleLR(_RateCycle):
    """One rise to `max_lr` in the first `pct_start` of the cycle, and one fall; then the last rate stays.

    The rise begins at `max_lr / div_factor`, the fall ends at `max_lr / div_factor / final_div_factor`. With
    `three_phase` the fall is the mirror of the rise, followed by a third phase to the final rate. Source: Smith &
    Topin 2019, "Super-Convergence".

    Args:
        total_steps: the cycle's length in epochs; where it is not given, `epochs * steps_per_epoch`.
    """

    max_lr: NonNegative
    total_steps: PositiveCount | None = None
    epochs: PositiveCount | None = None
    steps_per_epoch: PositiveCount | None = None
    pct_start: Fraction = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    three_phase: bool = False

    @pydantic.model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.total_steps is None and None in (self.epochs, self.steps_per_epoch):
            raise ValueError("total_steps must be given, or both epochs and steps_per_epoch")
        return self

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        total = self.total_steps or (self.epochs or 1) * (self.steps_per_epoch or 1)  # `_has_a_length`: one of the two
        first, last = self.max_lr / self.div_factor, self.max_lr / self.div_factor / self.final_div_factor
        top, at = self.pct_start * total - 1, min(epoch, total - 1)
        corners = [(0.0, first), (top, self.max_lr), (total - 1, last)]
        if self.three_phase:
            corners.insert(2, (2 * top, first))
        phases = list(itertools.pairwise(corners))
        (begin, start), (end, stop) = next((phase for phase in phases if at <= phase[1][0]), phases[-1])
        progress = (at - begin) / (end - begin) if end != begin else 1.0
        if self.anneal_strategy == "cos":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return start + (stop - start) * progress
