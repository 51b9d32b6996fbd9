"""MobileNetV2 (Sandler et al. 2018), in the form of TF-Slim and keras.applications with torchvision's layer names."""

import keras
from keras import layers

from nets.blocks import divisible, he_fan_out
from nets.layers import FusedBatchNormalization
from utils.errors import InputError

_FIRST_CHANNELS, _LAST_CHANNELS = 32, 1280
_STAGES = (  # (expansion, output channels, blocks, stride of the first block): table 2 of the paper
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def build_mobilenet_v2(
    num_classes: int,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    width: float = 1.0,
    batch_norm: type[keras.layers.BatchNormalization] = FusedBatchNormalization,
) -> keras.Model:
    """Seventeen inverted residual blocks `features.N.conv`; outputs logits `[B, num_classes]`.

    A block widens its input `expansion` times by a pointwise convolution `.0.0`, filters each channel by a depthwise
    one (`.1.0`, or `.0.0` in the first block, which widens nothing) and narrows it by a linear pointwise one (`.2`, or
    `.1`); a block that keeps the shape adds its input. Channels are multiples of 8; the 1,280 of the last convolution
    grow with `width` but do not shrink. For 1,000 classes and width 1 there are 3,504,872 parameters.

    Raises:
        InputError: `width` is not above 0.
    """
    if not width > 0:
        raise InputError(f"the width of MobileNet must be above 0. Received: {width}")

    def norm(x, name):
        # Momentum 0.9 as in all our networks, see nets/mobilenet.py.
        return batch_norm(momentum=0.9, epsilon=1e-3, name=name)(x)

    def convolution(x, name, channels, kernel_size=1, strides=1):
        """With batch norm and a rectifier that stops at 6."""
        x = layers.Conv2D(
            channels,
            kernel_size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer=he_fan_out(),
            name=f"{name}.0",
        )(x)
        return layers.ReLU(6.0, name=f"{name}.2")(norm(x, f"{name}.1"))

    def block(x, name, expansion, channels, strides):
        shortcut, index = x, 0
        if expansion > 1:
            x, index = convolution(x, f"{name}.0", expansion * x.shape[-1]), 1
        x = layers.DepthwiseConv2D(
            3, strides, padding="same", use_bias=False, depthwise_initializer=he_fan_out(), name=f"{name}.{index}.0"
        )(x)
        x = layers.ReLU(6.0, name=f"{name}.{index}.2")(norm(x, f"{name}.{index}.1"))
        x = layers.Conv2D(channels, 1, use_bias=False, kernel_initializer=he_fan_out(), name=f"{name}.{index + 1}")(x)
        x = norm(x, f"{name}.{index + 2}")
        is_residual = strides == 1 and shortcut.shape[-1] == channels
        return layers.Add(name=f"{name}.add")([shortcut, x]) if is_residual else x

    images = layers.Input(input_shape, name="images")
    x = convolution(images, "features.0", divisible(_FIRST_CHANNELS * width), 3, 2)
    index = 0
    for expansion, channels, blocks, first_strides in _STAGES:
        for number in range(blocks):
            index += 1
            strides = first_strides if number == 0 else 1
            x = block(x, f"features.{index}.conv", expansion, divisible(channels * width), strides)
    x = convolution(x, f"features.{index + 1}", divisible(_LAST_CHANNELS * max(1.0, width)))
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dropout(0.2, name="classifier.0")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="classifier.1")(x)
    return keras.Model(images, logits, name="mobilenet_v2")
