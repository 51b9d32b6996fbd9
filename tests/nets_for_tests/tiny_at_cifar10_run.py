"""A network of 4,536 prunable weights in 6 kernels, as a user would write one: outside nets/, layers without names."""

import keras
from keras import layers

from nets.at_cifar10 import Cifar10ModelHelper
from nets.layers import FusedBatchNormalization


class ModelHelper(Cifar10ModelHelper):
    """8x8 and 4x4 positions only, so that a training step takes a millisecond."""

    model_name = "tiny"

    def build_model(self) -> keras.Model:
        def conv(x, channels, kernel_size, strides=1):
            x = layers.Conv2D(channels, kernel_size, strides, padding="same", use_bias=False)(x)
            return FusedBatchNormalization(momentum=0.9)(x)

        images = layers.Input((32, 32, 3))
        x = layers.ReLU()(conv(images, 8, 3, strides=4))
        x = layers.ReLU()(conv(x, 8, 3))
        shortcut = conv(x, 16, 1, strides=2)
        x = layers.ReLU()(conv(x, 16, 3, strides=2))
        x = layers.ReLU()(layers.Add()([conv(x, 16, 3), shortcut]))
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(images, layers.Dense(self.dataset.num_classes)(x))
