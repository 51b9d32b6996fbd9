"""Pieces of our networks: functions of tensors that name the layers they add."""

from collections.abc import Callable, Iterable

import keras
from keras import layers

CIFAR_STAGES = ((16, 1), (32, 2), (64, 2))  # (channels, stride of the first block): He et al. 2016, section 4.2


def he_fan_out() -> keras.Initializer:
    """Normal of variance `2 / (kernel area * output channels)` (He et al. 2015); each layer needs one of its own."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def convolution(x: keras.KerasTensor, channels: int, kernel_size: int, strides: int, name: str) -> keras.KerasTensor:
    """A convolution with `padding="same"` and no bias: `[B, H, W, C]` -> `[B, ceil(H / strides), ..., channels]`."""
    return layers.Conv2D(
        channels, kernel_size, strides, padding="same", use_bias=False, kernel_initializer=he_fan_out(), name=name
    )(x)


def centred_convolution(
    x: keras.KerasTensor, channels: int, kernel_size: int, strides: int, name: str
) -> keras.KerasTensor:
    """The same with `kernel_size // 2` zeros on all four sides, as published ImageNet weights were trained.

    With strides, `padding="same"` puts fewer zeros at the top and left of an even-sized map, so that every output is
    that of a shifted image.
    """
    if strides > 1:
        x = margin(x, kernel_size // 2, name)
    return layers.Conv2D(
        channels,
        kernel_size,
        strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,
        kernel_initializer=he_fan_out(),
        name=name,
    )(x)


def margin(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """`width` zeros on all four sides, for the layer `name`; no layer where there are none."""
    return layers.ZeroPadding2D(width, name=f"{name}.pad")(x) if width else x


def divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least one, not below nine tenths of `channels` (Sandler et al. 2018)."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


def numbered(x: keras.KerasTensor, prefix: str, makers: Iterable[Callable[..., keras.Layer]]) -> keras.KerasTensor:
    """One layer after the other, called `prefix.0`, `prefix.1` and so on; each maker takes `name`."""
    for index, make in enumerate(makers):
        x = make(name=f"{prefix}.{index}")(x)
    return x


def small_uniform() -> keras.initializers.Initializer:
    """Weights uniform in +-1 / sqrt(inputs): a variance of 1 / (3 * inputs), a sixth of He's.

    For dense layers of thousands of inputs in networks without batch norm: with He's weights there, AlexNet's recipe
    diverges in its first steps. At 4,096 inputs it is about the N(0, 0.01) of Krizhevsky et al. 2012.
    """
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
