"""Scales of the exploration noise over roll-outs."""

import numpy as np


def decay_factor(initial: float, final: float, num_rollouts: int) -> float:
    """The factor f of a geometric decay: initial * f**num_rollouts = final."""
    return (final / initial) ** (1.0 / num_rollouts)


def action_distance(actions: np.ndarray, disturbed: np.ndarray) -> float:
    """Root mean square difference d = sqrt(E[(a - a')^2]) of plain and disturbed actions, [B, A] each."""
    return float(np.sqrt(np.mean(np.square(actions - disturbed))))


def adapted_scale(scale: float, distance: float, target_distance: float, rate: float) -> float:
    """scale * rate where the disturbed actions are nearer to the plain ones than the target, else scale / rate.

    Plappert et al., "Parameter space noise for exploration", 2018, equation 8.
    """
    return scale * rate if distance < target_distance else scale / rate
