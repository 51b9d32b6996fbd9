"""MobileNet (Howard et al. 2017), with the layer names and paddings of the published weights."""

from collections.abc import Callable
from functools import partial

import keras
from keras import layers

from nets.blocks import he_fan_out, margin, numbered
from nets.layers import FusedBatchNormalization
from utils.errors import InputError

_FIRST_CHANNELS = 32
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def build_mobilenet(
    num_classes: int,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    batch_norm: Callable[..., keras.layers.BatchNormalization] = FusedBatchNormalization,
    width: float = 1.0,
) -> keras.Model:
    """A convolution and 13 depthwise separable ones, `model.N.M`; outputs logits `[B, num_classes]`.

    Block N has the depthwise convolution `model.N.0` and the pointwise one `model.N.3`, with batch norm and rectifier
    behind each, and `max(8, floor(width * channels))` channels. For 1,000 classes and width 1 there are 4,231,976
    parameters. Strided convolutions have a margin of zeros on all four sides, as Distiller's published weights want it.

    Raises:
        InputError: `width` is not above 0.
    """
    images = layers.Input(input_shape, name="images")
    x = _margin_on_all_sides(images, "model.0.0")
    x = _features(x, width, partial(batch_norm, momentum=0.9, epsilon=1e-5), layers.ReLU, _margin_on_all_sides)
    x = layers.GlobalAveragePooling2D(name="model.14")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(images, logits, name="mobilenet")


def build_mobilenet_v1(
    num_classes: int, input_shape: tuple[int, int, int] = (224, 224, 3), width: float = 1.0
) -> keras.Model:
    """The same network, layer names and number of parameters in the form of TF-Slim and `keras.applications`.

    Rectifiers stop at 6, the epsilon of batch norm is 1e-3, and strided convolutions of an even-sized map have zeros at
    the bottom and right alone. Where the published recipe has a share of 0.001 of the features dropped, so has this.

    Raises:
        InputError: `width` is not above 0.
    """

    def margin_behind(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}.pad")(x)

    images = layers.Input(input_shape, name="images")
    # Zeros on all sides where the images have an odd size, as `padding="same"` has them.
    is_odd = input_shape[0] % 2 == 1
    x = (_margin_on_all_sides if is_odd else margin_behind)(images, "model.0.0")
    # Moving statistics with momentum 0.9 like those of all our networks: with the published 0.999 and more, a training
    # of some hundred steps, such as one at the embedded set, would never leave their initial values.
    norm = partial(FusedBatchNormalization, momentum=0.9, epsilon=1e-3)
    x = _features(x, width, norm, partial(layers.ReLU, 6.0), margin_behind)
    x = layers.GlobalAveragePooling2D(name="model.14")(x)
    x = layers.Dropout(0.001, name="dropout")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(images, logits, name="mobilenet_v1")


def _features(x, width, norm, rectifier, add_margin):
    """All up to the pooling; `add_margin(x, name)` adds the zeros before a strided convolution."""
    if not width > 0:
        raise InputError(f"the width of MobileNet must be above 0. Received: {width}")

    def with_norm(conv, *args, **options):
        return [partial(conv, *args, use_bias=False, **options), norm, rectifier]

    def conv(channels, *args):
        channels = max(8, int(width * channels))
        return with_norm(layers.Conv2D, channels, *args, kernel_initializer=he_fan_out())

    def depthwise(strides):
        padding = "same" if strides == 1 else "valid"
        return with_norm(layers.DepthwiseConv2D, 3, strides, padding, depthwise_initializer=he_fan_out())

    x = numbered(x, "model.0", conv(_FIRST_CHANNELS, 3, 2))
    for index, (channels, strides) in enumerate(_BLOCKS, start=1):
        name = f"model.{index}"
        if strides > 1:
            x = add_margin(x, f"{name}.0")
        x = numbered(x, name, [*depthwise(strides), *conv(channels, 1)])
    return x


def _margin_on_all_sides(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return margin(x, 1, name)
