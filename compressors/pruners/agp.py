"""Automated gradual pruning: sparsity that rises fast at first and slower towards its final level."""

from typing import Self

import pydantic

from compressors.components import Fraction, Names, Target, When
from compressors.parameters import Parameters
from compressors.pruners.level import LevelPruner


def agp_level(initial: float, final: float, when: When) -> float:
    """The level of an epoch: `s_f + (s_i - s_f) * (1 - (e - start) / span)**3`; `s_f` where the span is 0.

    The span reaches from the first active epoch to the last, so the last one prunes to exactly `final`. Before and
    after it the level is `initial` and `final`. Source: Zhu & Gupta 2017, "To prune, or not to prune".
    """
    progress = min(max((when.epoch - when.start) / when.span, 0.0), 1.0) if when.span else 1.0
    return final + (initial - final) * (1.0 - progress) ** 3


def check_rising(initial: float, final: float) -> None:
    """Raises ValueError where the final sparsity is not above the initial one."""
    if not final > initial:
        raise ValueError(f"final_sparsity must be above initial_sparsity={initial}. Received: {final}")


class AutomatedGradualPruner(LevelPruner):
    """Prunes to `agp_level`: each time the `floor(level * n)` smallest `|w|` are removed.

    Args:
        initial_sparsity: s_i, in [0, 1].
        final_sparsity: s_f, in [0, 1], above `initial_sparsity`.
        weights: the names of the parameters.
    """

    initial_sparsity: Fraction
    final_sparsity: Fraction
    weights: Names

    @pydantic.model_validator(mode="after")
    def _rises(self) -> Self:
        check_rising(self.initial_sparsity, self.final_sparsity)
        return self

    def targets(self, parameters: Parameters) -> list[Target]:
        return [Target(parameter, None) for parameter in parameters.resolve_all(self.weights).values()]

    def level(self, target: Target, when: When) -> float:
        return agp_level(self.initial_sparsity, self.final_sparsity, when)
