"""A network of a few thousand weights at ILSVRC-12's records, with a depthwise convolution."""

import keras
from keras import layers

from nets.at_ilsvrc12 import Ilsvrc12ModelHelper, Recipe
from nets.layers import FusedBatchNormalization


class ModelHelper(Ilsvrc12ModelHelper):
    """Takes images of 16 pixels, so that a training step takes milliseconds."""

    model_name = "tiny"
    min_image_size = 16

    @classmethod
    def recipe(cls, config):
        return Recipe(4, learning_rate=0.1, batch_size=32, decay_epochs=(2, 3), weight_decay=1e-4, warm_up_epochs=1)

    def build_network(self, num_classes, input_shape, **options):
        images = layers.Input(input_shape, name="images")
        x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="conv1")(images)
        x = layers.ReLU(name="relu1")(FusedBatchNormalization(momentum=0.9, name="bn1")(x))
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
        x = layers.ReLU(name="relu2")(FusedBatchNormalization(momentum=0.9, name="bn2")(x))
        x = layers.Conv2D(24, 1, use_bias=False, name="pointwise")(x)
        x = layers.ReLU(name="relu3")(FusedBatchNormalization(momentum=0.9, name="bn3")(x))
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        return keras.Model(images, layers.Dense(num_classes, dtype="float32", name="fc")(x), name="tiny")
