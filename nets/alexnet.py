"""AlexNet in its one-column form (Krizhevsky 2014), with the layer names and paddings of the published weights."""

from functools import partial

import keras
from keras import layers

from nets.blocks import margin, numbered, small_uniform


def build_alexnet(num_classes: int, input_shape: tuple[int, int, int] = (224, 224, 3)) -> keras.Model:
    """Five convolutions `features.N` and three dense layers `classifier.N`; outputs logits `[B, num_classes]`.

    Images have 63 pixels a side at least. For 1,000 classes and 224x224 there are 61,100,840 parameters; other sizes
    change the inputs of `classifier.1`, which are in the order (height, width, channel).
    """

    def conv(channels, kernel_size, strides=1, padding="same"):
        return partial(layers.Conv2D, channels, kernel_size, strides, padding, kernel_initializer="he_normal")

    def dense(units=4096):
        return partial(layers.Dense, units, kernel_initializer=small_uniform())

    pool, dropout = partial(layers.MaxPooling2D, 3, 2), partial(layers.Dropout, 0.5)
    features = [
        *(conv(64, 11, 4, "valid"), layers.ReLU, pool),
        *(conv(192, 5), layers.ReLU, pool),
        *(conv(384, 3), layers.ReLU),
        *(conv(256, 3), layers.ReLU),
        *(conv(256, 3), layers.ReLU, pool),
    ]
    images = layers.Input(input_shape, name="images")
    x = numbered(margin(images, 2, "features.0"), "features", features)
    x = layers.Flatten(name="flatten")(x)
    x = numbered(x, "classifier", [dropout, dense(), layers.ReLU, dropout, dense(), layers.ReLU])
    logits = dense(num_classes)(dtype="float32", name="classifier.6")(x)
    return keras.Model(images, logits, name="alexnet")
