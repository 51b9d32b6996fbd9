"""Linear (uniform) quantization: real numbers as small integers, a scale and a zero point (Jacob et al. 2018).

The convention is that of LiteRT, ONNX and PyTorch, in which the scale is the step between neighbouring values:

    q = clip(round(x / scale) + zero_point, q_min, q_max)        x' = (q - zero_point) * scale

Rounding is to the nearest integer, halves to the even one. Zero is always one of the values: it maps to exactly zero.
(Distiller's scale is the reciprocal of this one, and its zero point has the opposite sign; the values x' are the same.)
"""

from typing import Any, Literal

import numpy as np
import tensorflow as tf

Mode = Literal["SYMMETRIC", "SYMMETRIC_RESTRICTED", "ASYMMETRIC_UNSIGNED", "ASYMMETRIC_SIGNED"]

# A value at the very edge of the range belongs to it, although x / scale is rounded: in steps.
_EDGE = 0.5 + 1e-3
_SMALLEST_SCALE = 1e-37  # below this float32 rounds to 0


def is_symmetric(mode: Mode) -> bool:
    """Whether the zero point is 0, so that the range is the same on both sides of zero."""
    return mode in ("SYMMETRIC", "SYMMETRIC_RESTRICTED")


def integer_range(bits: int, mode: Mode) -> tuple[int, int]:
    """The smallest and largest integer: (-128, 127) for 8 bits, (-127, 127) restricted, (0, 255) unsigned.

    Raises:
        ValueError: fewer than 2 bits, which leave nothing beside zero and one sign, or more than 24, which float32
            cannot count exactly.
    """
    if not 2 <= bits <= 24:
        raise ValueError(f"the number of bits must be between 2 and 24. Received: {bits}")
    if mode == "ASYMMETRIC_UNSIGNED":
        return 0, 2**bits - 1
    half = 2 ** (bits - 1)
    return (1 - half if mode == "SYMMETRIC_RESTRICTED" else -half), half - 1


def linear_parameters(low: Any, high: Any, bits: int, mode: Mode) -> tuple[tf.Tensor, tf.Tensor]:
    """The scale and zero point, float32, that cover the range [low, high]; both of any shape, elementwise.

    Symmetric: `scale = 2 m / (2**bits - 1)`, restricted `m / (2**(bits - 1) - 1)`, where `m = max(|low|, |high|)`.
    Asymmetric: the range is first widened to contain zero; `scale = (high - low) / (2**bits - 1)` and
    `zero_point = q_min - round(low / scale)`. A range that is only zero has scale 1.
    """
    low, high = tf.cast(low, tf.float32), tf.cast(high, tf.float32)
    smallest, largest = integer_range(bits, mode)
    if is_symmetric(mode):
        low = -tf.maximum(tf.abs(low), tf.abs(high))
        high = -low
    else:
        low, high = tf.minimum(low, 0.0), tf.maximum(high, 0.0)
    scale = (high - low) / (largest - smallest)
    scale = tf.where(high > low, tf.maximum(scale, _SMALLEST_SCALE), tf.ones_like(scale))
    if is_symmetric(mode):
        return scale, tf.zeros_like(scale)
    return scale, smallest - tf.round(low / scale)


def fake_quantize(x: Any, scale: Any, zero_point: Any, bits: int, mode: Mode) -> tf.Tensor:
    """The values x' that stand for `x` when it is quantized; at most half a scale from `x` within the range.

    The gradient by `x` is 1 within the range (the straight-through estimator of Bengio et al. 2013) and 0 outside, that
    is more than half a scale beyond the outermost values; there is none by scale and zero point.
    """
    scale, zero_point = tf.stop_gradient(scale), tf.stop_gradient(zero_point)
    smallest, largest = (end - zero_point for end in integer_range(bits, mode))
    steps = tf.clip_by_value(x / scale, smallest - _EDGE, largest + _EDGE)
    rounded = tf.clip_by_value(tf.round(steps), smallest, largest)
    return (steps + tf.stop_gradient(rounded - steps)) * scale


def multiply_and_shift(factor: Any, bits: int) -> np.ndarray:
    """The largest `m / 2**k` that is not above a positive `factor`, m an integer of at most `bits` bits; elementwise.

    It is how integer hardware multiplies by a real number: `k = floor(log2((2**bits - 1) / factor))`,
    `m = floor(factor * 2**k)`; the result is above `(1 - 2**(1 - bits)) * factor`.
    """
    factor = np.asarray(factor, np.float64)
    power = 2.0 ** np.floor(np.log2((2.0**bits - 1) / factor))
    return np.floor(factor * power) / power
