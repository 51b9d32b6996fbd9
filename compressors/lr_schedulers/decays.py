"""Learning rates that change in one direction: by steps, powers, lines and half a cosine."""

import math
from bisect import bisect_right
from typing import Annotated, Any, ClassVar, Self

import pydantic

from compressors.components import Count, Fraction, NonNegative, Positive, PositiveCount
from compressors.lr_schedulers.base import LRScheduler, TorchScheduler


def _check_ascending(milestones: list[int]) -> list[int]:
    if milestones != sorted(milestones):
        raise ValueError(f"must be in ascending order. Received: {milestones}")
    return milestones


Milestones = Annotated[list[Count], pydantic.AfterValidator(_check_ascending)]


class StepLR(TorchScheduler):
    """`base * gamma ** (epoch // step_size)`."""

    step_size: PositiveCount
    gamma: NonNegative = 0.1

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        return base * self.gamma ** (epoch // self.step_size)


class MultiStepLR(TorchScheduler):
    """`base * gamma ** n`, n the number of milestones (epochs, ascending) up to and with this epoch."""

    milestones: Milestones
    gamma: NonNegative = 0.1

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        return base * self.gamma ** bisect_right(self.milestones, epoch)


class MultiStepMultiGammaLR(TorchScheduler):
    """`base` times the gammas of all milestones (epochs, ascending) up to and with this epoch; one gamma for each."""

    milestones: Milestones
    gammas: list[NonNegative]

    @pydantic.model_validator(mode="after")
    def _have_equal_lengths(self) -> Self:
        if len(self.gammas) != len(self.milestones):
            raise ValueError(
                f"gammas must be {len(self.milestones)} numbers, one for each milestone. Received: {len(self.gammas)}"
            )
        return self

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        return base * math.prod(self.gammas[: bisect_right(self.milestones, epoch)])


class ExponentialLR(TorchScheduler):
    """`base * gamma ** epoch`."""

    gamma: NonNegative

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        return base * self.gamma**epoch


class LinearLR(TorchScheduler):
    """`base` times a factor on the line from `start_factor` to `end_factor`, reached after `total_iters` epochs.

    Args:
        start_factor: in (0, 1].
        end_factor: in [0, 1].
    """

    start_factor: Annotated[Fraction, pydantic.Field(gt=0)] = 1 / 3
    end_factor: Fraction = 1.0
    total_iters: PositiveCount = 5

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        progress = min(epoch / self.total_iters, 1.0)
        return base * (self.start_factor + (self.end_factor - self.start_factor) * progress)


class ConstantLR(TorchScheduler):
    """`base * factor` in the first `total_iters` epochs, then `base`; the factor is in [0, 1]."""

    factor: Fraction = 1 / 3
    total_iters: Count = 5

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        return base * self.factor if epoch < self.total_iters else base


class PolynomialLR(TorchScheduler):
    """`base * (1 - epoch / total_iters) ** power`, 0 from epoch `total_iters` on.

    Args:
        total_iters: epochs to the end of the decay.
        power: above 0.
        T_max: Distiller's name of `total_iters`.
    """

    total_iters: PositiveCount = 5
    power: Positive = 1.0
    T_max: PositiveCount | None = None

    @pydantic.model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if self.T_max is not None and "total_iters" in self.model_fields_set:
            raise ValueError("T_max and total_iters are two names of one argument: must have only one of them")
        return self

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        return base * max(1.0 - epoch / (self.T_max or self.total_iters), 0.0) ** self.power


class CosineAnnealingLR(TorchScheduler):
    """`eta_min + (base - eta_min) * (1 + cos(pi * epoch / T_max)) / 2`; rises again after epoch `T_max`."""

    T_max: PositiveCount
    eta_min: NonNegative = 0.0

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class LambdaLR(LRScheduler):
    """Refused: its argument is a function."""

    is_usable: ClassVar[bool] = False

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse(cls, arguments: Any) -> Any:
        raise ValueError(
            "LambdaLR takes a function, which a schedule cannot hold; MultiStepMultiGammaLR (any factor at any epoch), "
            "PolynomialLR, CosineAnnealingLR or PiecewiseConstantDecay may say the same"
        )

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        raise AssertionError("there is no LambdaLR: its construction is refused")
