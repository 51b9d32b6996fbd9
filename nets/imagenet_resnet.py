"""Residual networks for 224x224 images (He et al. 2016), with the layer names and paddings of the published weights."""

import keras
from keras import layers

from nets.blocks import centred_convolution, margin
from nets.layers import FusedBatchNormalization
from utils.errors import InputError

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_CHANNELS = (64, 128, 256, 512)
IMAGENET_RESNET_SIZES = tuple(_BLOCKS)


def build_imagenet_resnet(
    size: int,
    num_classes: int,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    batch_norm: type[keras.layers.BatchNormalization] = FusedBatchNormalization,
    is_keras_variant: bool = False,
) -> keras.Model:
    """ResNet of `size` layers in four stages; outputs logits `[B, num_classes]`.

    From 50 layers on the blocks are bottlenecks, with the stride in the 3x3 convolution (version 1.5). A shortcut that
    changes shape is a 1x1 convolution with batch norm, `layerS.0.downsample.{0,1}`.

    Args:
        is_keras_variant: as the weights of `keras.applications` were trained: the stride in the first convolution of
            a block (version 1), and epsilon 1.001e-5.

    Raises:
        InputError: `size` is not one of `IMAGENET_RESNET_SIZES`.
    """
    if size not in _BLOCKS:
        sizes = ", ".join(map(str, IMAGENET_RESNET_SIZES))
        raise InputError(f"the size of a ResNet for ImageNet must be one of {sizes}. Received: {size}")

    def conv_norm(x, channels, kernel_size, strides, conv_name, norm_name):
        x = centred_convolution(x, channels, kernel_size, strides, conv_name)
        return batch_norm(momentum=0.9, epsilon=1.001e-5 if is_keras_variant else 1e-5, name=norm_name)(x)

    def block(x, convolutions, name):
        shortcut, (channels, _, _) = x, convolutions[-1]
        for number, (width, kernel_size, strides) in enumerate(convolutions, start=1):
            if number > 1:
                x = layers.ReLU(name=f"{name}.relu{number - 1}")(x)
            x = conv_norm(x, width, kernel_size, strides, f"{name}.conv{number}", f"{name}.bn{number}")
        if shortcut.shape[-1] != channels:
            strides = max(strides for _, _, strides in convolutions)
            shortcut = conv_norm(shortcut, channels, 1, strides, f"{name}.downsample.0", f"{name}.downsample.1")
        return layers.ReLU(name=f"{name}.relu{number}")(layers.Add(name=f"{name}.add")([x, shortcut]))

    images = layers.Input(input_shape, name="images")
    x = layers.ReLU(name="relu")(conv_norm(images, 64, 7, 2, "conv1", "bn1"))
    # Behind a rectifier a margin of zeros does not change a maximum.
    x = layers.MaxPooling2D(3, 2, name="maxpool")(margin(x, 1, "maxpool"))
    for stage, (channels, blocks) in enumerate(zip(_CHANNELS, _BLOCKS[size], strict=True), start=1):
        for index in range(blocks):
            strides = 2 if index == 0 and stage > 1 else 1
            convolutions: tuple[tuple[int, int, int], ...]
            if size >= 50:
                first, second = (strides, 1) if is_keras_variant else (1, strides)
                convolutions = ((channels, 1, first), (channels, 3, second), (4 * channels, 1, 1))
            else:
                convolutions = ((channels, 3, strides), (channels, 3, 1))
            x = block(x, convolutions, f"layer{stage}.{index}")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(images, logits, name=f"resnet_{size}")
