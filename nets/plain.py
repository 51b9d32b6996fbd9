"""The plain network of 20 layers for 32x32 images (He et al. 2016, section 4.2): ResNet-20 without its shortcuts."""

import keras
from keras import layers

from nets.blocks import CIFAR_STAGES, convolution
from nets.layers import FusedBatchNormalization

_BLOCKS = 3


def build_plain_20(
    num_classes: int,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    batch_norm: type[keras.layers.BatchNormalization] | None = FusedBatchNormalization,
) -> keras.Model:
    """Three stages of three blocks `layerS.B` of two 3x3 convolutions; outputs logits `[B, num_classes]`.

    Args:
        batch_norm: None for a network without.
    """

    def conv_relu(x, channels, strides, conv_name, norm_name, relu_name):
        x = convolution(x, channels, 3, strides, conv_name)
        if batch_norm is not None:
            x = batch_norm(momentum=0.9, epsilon=1e-5, name=norm_name)(x)
        return layers.ReLU(name=relu_name)(x)

    images = layers.Input(input_shape, name="images")
    x = conv_relu(images, 16, 1, "conv1", "bn1", "relu")
    for stage, (channels, first_stride) in enumerate(CIFAR_STAGES, start=1):
        for block in range(_BLOCKS):
            name = f"layer{stage}.{block}"
            strides = first_stride if block == 0 else 1
            x = conv_relu(x, channels, strides, f"{name}.conv1", f"{name}.bn1", f"{name}.relu1")
            x = conv_relu(x, channels, 1, f"{name}.conv2", f"{name}.bn2", f"{name}.relu2")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(images, logits, name="plain_20")
