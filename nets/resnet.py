"""Residual networks for 32x32 images (He et al. 2016, section 4.2), with the layer names of the published schedules."""

import keras
from keras import layers

from nets.layers import FusedBatchNormalization
from utils.errors import InputError

RESNET_SIZES = (20, 32, 44, 56, 110)
_STAGES = ((16, 1), (32, 2), (64, 2))  # (channels, stride of the first block)


def build_resnet(
    size: int,
    num_classes: int,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    batch_norm: type[keras.layers.BatchNormalization] = FusedBatchNormalization,
) -> keras.Model:
    """ResNet of `size` = 6 n + 2 layers with n basic blocks a stage; outputs logits `[B, num_classes]`.

    A shortcut that changes shape is a 1x1 convolution with batch norm, `layerS.0.downsample.{0,1}`.

    Raises:
        InputError: `size` is not one of `RESNET_SIZES`.
    """
    if size not in RESNET_SIZES:
        raise InputError(f"--resnet_size must be one of {', '.join(map(str, RESNET_SIZES))}. Received: {size}")

    def conv(x, channels, kernel_size, strides, name):
        return layers.Conv2D(
            channels,
            kernel_size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            name=name,
        )(x)

    def norm(x, name):
        return batch_norm(momentum=0.9, epsilon=1e-5, name=name)(x)

    images = layers.Input(input_shape, name="images")
    x = layers.ReLU(name="relu")(norm(conv(images, 16, 3, 1, "conv1"), "bn1"))
    for stage, (channels, first_stride) in enumerate(_STAGES, start=1):
        for block in range((size - 2) // 6):
            name = f"layer{stage}.{block}"
            strides = first_stride if block == 0 else 1
            shortcut = x
            if strides != 1:
                shortcut = norm(conv(x, channels, 1, strides, f"{name}.downsample.0"), f"{name}.downsample.1")
            x = norm(conv(x, channels, 3, strides, f"{name}.conv1"), f"{name}.bn1")
            x = layers.ReLU(name=f"{name}.relu1")(x)
            x = norm(conv(x, channels, 3, 1, f"{name}.conv2"), f"{name}.bn2")
            x = layers.ReLU(name=f"{name}.relu2")(layers.Add(name=f"{name}.add")([x, shortcut]))
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(images, logits, name=f"resnet_{size}")
