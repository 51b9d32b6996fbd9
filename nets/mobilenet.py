"""MobileNet (Howard et al. 2017), with the layer names and paddings of the published weights."""

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
    batch_norm: type[keras.layers.BatchNormalization] = FusedBatchNormalization,
    width: float = 1.0,
) -> keras.Model:
    """A convolution and 13 depthwise separable ones, `model.N.M`; outputs logits `[B, num_classes]`.

    Block N has the depthwise convolution `model.N.0` and the pointwise one `model.N.3`, with batch norm and rectifier
    behind each, and `max(8, floor(width * channels))` channels. For 1,000 classes and width 1 there are 4,231,976
    parameters.

    Raises:
        InputError: `width` is not above 0.
    """
    if not width > 0:
        raise InputError(f"the width of MobileNet must be above 0. Received: {width}")

    def with_norm(conv, *args, **options):
        norm = partial(batch_norm, momentum=0.9, epsilon=1e-5)
        return [partial(conv, *args, use_bias=False, **options), norm, layers.ReLU]

    def conv(channels, *args):
        channels = max(8, int(width * channels))
        return with_norm(layers.Conv2D, channels, *args, kernel_initializer=he_fan_out())

    def depthwise(strides):
        padding = "same" if strides == 1 else "valid"
        return with_norm(layers.DepthwiseConv2D, 3, strides, padding, depthwise_initializer=he_fan_out())

    images = layers.Input(input_shape, name="images")
    x = numbered(margin(images, 1, "model.0.0"), "model.0", conv(_FIRST_CHANNELS, 3, 2))
    for index, (channels, strides) in enumerate(_BLOCKS, start=1):
        name = f"model.{index}"
        if strides > 1:
            x = margin(x, 1, f"{name}.0")
        x = numbered(x, name, [*depthwise(strides), *conv(channels, 1)])
    x = layers.GlobalAveragePooling2D(name="model.14")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(images, logits, name="mobilenet")
