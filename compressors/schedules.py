"""Sparsity over time: when the masks change, and to which ratio.

A schedule is a pure function of the step. Steps are training iterations counted from 0 (a schedule of epochs works the
same way); `final` is the ratio removed in the end, in [0, 1].
"""

from dataclasses import dataclass
from typing import Protocol

from utils.errors import InputError


class SparsitySchedule(Protocol):
    """When the masks of a layer change, and to which ratio."""

    def is_update_step(self, step: int) -> bool:
        """True where the masks are selected anew at `step`."""
        ...

    def ratio_at(self, step: int, final: float) -> float:
        """The ratio in force at `step`, in [0, 1], of a layer whose ratio is `final` in the end."""
        ...


@dataclass(frozen=True)
class ConstantSchedule:
    """The final ratio from the first step on, `s_t = s_f`; the masks are selected anew every `update_every` steps."""

    update_every: int = 1

    def __post_init__(self):
        _check_positive("update_every", self.update_every)

    def is_update_step(self, step: int) -> bool:
        return step % self.update_every == 0

    def ratio_at(self, step: int, final: float) -> float:
        return final


@dataclass(frozen=True)
class OneShotSchedule:
    """Dense before `step`, the final ratio from it on: `s_t = s_f if t >= step else 0`; the masks are selected once."""

    step: int

    def is_update_step(self, step: int) -> bool:
        return step == self.step

    def ratio_at(self, step: int, final: float) -> float:
        return final if step >= self.step else 0.0


@dataclass(frozen=True)
class PolynomialSchedule:
    """The gradual schedule of Zhu & Gupta 2017, "To prune, or not to prune".

    `s_t = s_f + (s_i - s_f) * (1 - p)**exponent` with progress `p = clip((t - t_b) / (t_e - t_b), 0, 1)`.

    The masks change at the multiples of `update_every` in [begin_step, end_step], and once more at the first multiple
    at or after `end_step`: there the progress is 1, so the last ratio is exactly the final one whatever the step size.
    A training that is to reach it has to go beyond `last_update_step`.

    Args:
        begin_step: t_b, the first step of the ramp.
        end_step: t_e, above `begin_step`, where the ramp reaches the final ratio.
        update_every: steps from one change of the masks to the next.
        exponent: above 0; the larger, the more is removed early.
        initial: s_i, the ratio up to `begin_step`, in [0, 1].
    """

    begin_step: int
    end_step: int
    update_every: int
    exponent: float = 3.0
    initial: float = 0.0

    def __post_init__(self):
        _check_positive("update_every", self.update_every)
        _check_positive("exponent", self.exponent)
        if not self.begin_step < self.end_step:
            raise InputError(f"end_step must be above begin_step={self.begin_step}. Received: {self.end_step}")
        if not 0 <= self.initial <= 1:
            raise InputError(f"initial must be in [0, 1]. Received: {self.initial}")

    @property
    def last_update_step(self) -> int:
        """The first multiple of `update_every` at or after `end_step`."""
        return -(-self.end_step // self.update_every) * self.update_every

    def is_update_step(self, step: int) -> bool:
        return step % self.update_every == 0 and self.begin_step <= step <= self.last_update_step

    def ratio_at(self, step: int, final: float) -> float:
        progress = min(max((step - self.begin_step) / (self.end_step - self.begin_step), 0.0), 1.0)
        return final + (self.initial - final) * (1.0 - progress) ** self.exponent


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} must be above 0. Received: {value}")
