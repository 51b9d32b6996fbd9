"""A network of 1,112 prunable weights in 3 kernels with all that may be drawn at random: dropout, noise, crops."""

import keras
from keras import layers

from nets.at_cifar10 import Cifar10ModelHelper
from nets.layers import FusedBatchNormalization


class ModelHelper(Cifar10ModelHelper):
    """8x8 and 4x4 positions only; digits32 adds random crops."""

    model_name = "dropout"

    def build_model(self) -> keras.Model:
        images = layers.Input((32, 32, 3))
        x = layers.Conv2D(8, 3, strides=4, padding="same", use_bias=False)(layers.GaussianNoise(0.1)(images))
        x = layers.ReLU()(FusedBatchNormalization(momentum=0.9)(x))
        x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(layers.SpatialDropout2D(0.1)(x))
        x = layers.ReLU()(FusedBatchNormalization(momentum=0.9)(x))
        x = layers.Dropout(0.2)(layers.Flatten()(x))
        return keras.Model(images, layers.Dense(self.dataset.num_classes)(x))
