"""Where to clip activations before they are quantized: the range [low, high] from their statistics."""

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic
import tensorflow as tf

from compressors.quantizers.linear import Mode, is_symmetric
from compressors.quantizers.statistics import Statistics

# Published schedules also write `None`, which is text in YAML.
ClipMode = Annotated[
    Literal["NONE", "AVG", "N_STD", "GAUSS", "LAPLACE"],
    pydantic.BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]

# What each mode needs beside the extremes.
NEEDED: dict[ClipMode, tuple[str, ...]] = {
    "NONE": (),
    "AVG": ("avg_min", "avg_max"),
    "N_STD": ("mean", "std"),
    "GAUSS": ("mean", "std"),
    "LAPLACE": ("mean", "b"),
}


@functools.cache
def optimal_clipping(clip: Literal["GAUSS", "LAPLACE"], bits: int) -> float:
    """The distance from the mean at which to clip, in standard deviations (GAUSS) or in b (LAPLACE): ACIQ's alpha.

    It minimises the mean squared error of a symmetric density f quantized over [-alpha, alpha]: with M bits
    `E = 2 * integral from alpha of (x - alpha)**2 f(x) dx + alpha**2 / (3 * 4**M)` (Banner et al. 2019, equation 5), so
    that `2 * integral from alpha of (x - alpha) f(x) dx = alpha / (3 * 4**M)`. 4 bits: 2.56 and 5.03.
    """
    overshoot: dict[str, Callable[[float], float]] = {
        "GAUSS": lambda alpha: (
            math.sqrt(2 / math.pi) * math.exp(-(alpha**2) / 2) - alpha * math.erfc(alpha / math.sqrt(2))
        ),
        "LAPLACE": lambda alpha: math.exp(-alpha),
    }
    from scipy.optimize import brentq  # half a second, which a program without such clipping need not wait

    return brentq(lambda alpha: overshoot[clip](alpha) - alpha / (3 * 4**bits), 0.0, 50.0)


def clipped_range(
    statistics: Statistics,
    bits: int,
    mode: Mode,
    clip: ClipMode = "NONE",
    n_stds: float | None = None,
    is_rectified: bool = False,
) -> tuple[Any, Any]:
    """The range [low, high] that is quantized; it never exceeds the extremes.

    NONE: the extremes. AVG: the mean extremes of a sample. N_STD: mean -+ n_stds * std. GAUSS and LAPLACE: mean -+
    alpha times std or b (see `optimal_clipping`). `is_rectified` says that a ReLU follows (or that the upper half is
    wanted anyway): low is 0, and `mean`, `std` and `b` are those before the ReLU. All levels of an asymmetric mode then
    lie on one side, so alpha is that of one bit more, and high is `alpha * spread + max(mean, 0)`. What a ReLU leaves
    of a Gaussian with a negative mean has shorter tails than half a Gaussian (of a Laplace distribution it is always
    the same): there max(mean / 2, -std) is added.

    (Distiller adds no mean for a rectified range, and so cuts most of an activation whose mean is well above zero.)
    Works on numbers, eagerly, and on tensors in traced code.
    """
    low, high = tf.cast(statistics.min, tf.float32), tf.cast(statistics.max, tf.float32)
    if is_rectified:
        low, high = tf.maximum(low, 0.0), tf.maximum(high, 0.0)
    if clip == "NONE":
        wanted = low, high
    elif clip == "AVG":
        wanted = statistics.avg_min, statistics.avg_max
    else:
        wanted = _around_mean(statistics, bits, mode, clip, n_stds, is_rectified)
    if is_rectified:
        return tf.zeros_like(low), tf.clip_by_value(wanted[1], 0.0, high)
    return tf.maximum(wanted[0], low), tf.minimum(wanted[1], high)


def _around_mean(
    statistics: Statistics, bits: int, mode: Mode, clip: ClipMode, n_stds: float | None, is_rectified: bool
) -> tuple[Any, Any]:
    mean, spread = statistics.mean, statistics.b if clip == "LAPLACE" else statistics.std
    if clip == "N_STD":
        return mean - n_stds * spread, mean + n_stds * spread
    is_one_sided = is_rectified and not is_symmetric(mode)
    reach = optimal_clipping(clip, bits + is_one_sided) * spread
    if is_rectified:
        mean = tf.maximum(mean, tf.maximum(0.5 * mean, -spread) if clip == "GAUSS" else 0.0)
    return mean - reach, mean + reach
