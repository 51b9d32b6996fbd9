"""Learning rates over a training, as pure functions of the step."""

from collections.abc import Sequence

import numpy as np


def piecewise(step: np.ndarray, peak: float, boundaries: Sequence[float], decay: float = 0.1) -> np.ndarray:
    """`peak * decay**k` after the k-th of the `boundaries` (in steps)."""
    return peak * decay ** np.searchsorted(np.asarray(boundaries), step, side="right").astype(float)


def warm_up_piecewise(
    step: np.ndarray, peak: float, warm_up: float, boundaries: Sequence[float], decay: float = 0.1
) -> np.ndarray:
    """`piecewise`, times what rises linearly to 1 over the first `warm_up` steps. Source: Goyal et al. 2017."""
    return piecewise(step, peak, boundaries, decay) * np.minimum(1.0, (np.asarray(step) + 1) / max(1.0, warm_up))


def warm_up_cosine(step: np.ndarray, peak: float, num_steps: int, warm_up_share: float = 0.1) -> np.ndarray:
    """Linear from 0 to `peak` over the first `warm_up_share` of `num_steps`, then half a cosine to 0.

    Source: Loshchilov & Hutter 2017.
    """
    warm_up = max(1.0, warm_up_share * num_steps)
    rising = (np.asarray(step) + 1) / warm_up
    falling = np.clip((step - warm_up) / max(1.0, num_steps - warm_up), 0.0, 1.0)
    return peak * np.minimum(rising, 0.5 * (1 + np.cos(np.pi * falling)))
