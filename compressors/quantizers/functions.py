"""Quantization functions for training: few values forward, straight-through gradients backward (Bengio et al. 2013)."""

import tensorflow as tf

from compressors.quantizers.linear import Mode, fake_quantize, integer_range, is_symmetric, linear_parameters

_KERNEL_BITS = range(2, 17)  # of TensorFlow's fake-quantization kernels, which clip and round in one pass


@tf.custom_gradient
def round_straight_through(x: tf.Tensor) -> tf.Tensor:
    """`round(x)`, halves to the even number, with gradient 1."""
    return tf.round(x), lambda gradient: gradient


def quantize_k(x: tf.Tensor, bits: int) -> tf.Tensor:
    """`round(x * (2**bits - 1)) / (2**bits - 1)` for x in [0, 1], with gradient 1 (Zhou et al. 2016, equation 5)."""
    levels = 2.0**bits - 1
    return round_straight_through(x * levels) / levels


def dorefa_weights(weights: tf.Tensor, bits: int) -> tf.Tensor:
    """`2 * quantize_k(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1`, and with 1 bit `sign(w) * mean|w|` (Zhou et al. 2016).

    All gradients but that of rounding are the true ones; with 1 bit the gradient is 1. None of the values is zero:
    sign(0) is 1, and with more bits 0 becomes `1 / (2**bits - 1)`.
    """
    if bits == 1:
        return _binary(weights)
    squashed = tf.tanh(weights)
    # A kernel of zeros (a bias at the start) has no largest value to divide by.
    scaled = tf.math.divide_no_nan(squashed, 2 * tf.reduce_max(tf.abs(squashed)))
    return 2 * quantize_k(scaled + 0.5, bits) - 1


@tf.custom_gradient
def _binary(weights: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(tf.abs(weights))
    return tf.where(weights >= 0, mean, -mean), lambda gradient: gradient


def wrpn_weights(weights: tf.Tensor, bits: int) -> tf.Tensor:
    """`round(n * clip(w, -1, 1)) / n` with `n = 2**(bits - 1) - 1`, one bit being the sign's; at least 2 bits.

    The gradient is 1 in [-1, 1] and 0 outside (Mishra et al. 2017).
    """
    levels = 2.0 ** (bits - 1) - 1
    return round_straight_through(tf.clip_by_value(weights, -1.0, 1.0) * levels) / levels


def clipped_activations(x: tf.Tensor, bits: int) -> tf.Tensor:
    """`quantize_k(clip(x, 0, 1))`, with gradient 1 in [0, 1] and 0 outside (Zhou et al. 2016, Mishra et al. 2017).

    Halves may be rounded up: with 2 to 16 bits one kernel does it all. Five elementwise operations in its place made a
    training step of ResNet-20 1.4 times as long as without quantization; so it is 1.03.
    """
    if bits in _KERNEL_BITS:
        return tf.quantization.fake_quant_with_min_max_args(x, 0.0, 1.0, bits)
    return quantize_k(tf.clip_by_value(x, 0.0, 1.0), bits)


def pact_activations(x: tf.Tensor, clip: tf.Tensor, bits: int) -> tf.Tensor:
    """`clip * quantize_k(min(max(x, 0), clip) / clip)` with `clip` a learned positive scalar (Choi et al. 2018).

    The gradient by x is 1 in [0, clip] and 0 outside; that by `clip` is 1 for each x above it and 0 for the others.
    """
    if bits in _KERNEL_BITS:
        return tf.quantization.fake_quant_with_min_max_vars(x, 0.0, clip, bits)
    scale = tf.stop_gradient(clip) / (2.0**bits - 1)
    return round_straight_through(tf.minimum(tf.nn.relu(x), clip) / scale) * scale


def linear_activations(x: tf.Tensor, low: tf.Tensor, high: tf.Tensor, bits: int, mode: Mode) -> tf.Tensor:
    """`fake_quantize` of `x` for the range [low, high], scalars that have no gradient; fast for 2 to 16 bits.

    The gradient by x is 1 within the range (symmetric: within `max(|low|, |high|)` of zero) and 0 outside.
    """
    low, high = tf.stop_gradient(low), tf.stop_gradient(high)
    scale, zero_point = linear_parameters(low, high, bits, mode)
    if bits not in _KERNEL_BITS:
        return fake_quantize(x, scale, zero_point, bits, mode)
    if is_symmetric(mode):
        high = tf.maximum(tf.abs(low), tf.abs(high))
        low = -high
    return _linear_in_range(x, low, high, scale, zero_point, bits, mode)


def _linear_in_range(x, low, high, scale, zero_point, bits, mode):
    smallest, largest = ((end - zero_point) * scale for end in integer_range(bits, mode))

    @tf.custom_gradient
    def quantized(x):
        outputs = tf.quantization.fake_quant_with_min_max_vars(
            x, smallest, largest, bits, narrow_range=mode == "SYMMETRIC_RESTRICTED"
        )
        return outputs, lambda gradient: tf.where((x >= low) & (x <= high), gradient, 0.0)

    return quantized(x)
