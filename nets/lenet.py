"""LeNet-5 for 32x32 images (LeCun et al. 1998) with rectifiers and max pooling, as in Caffe's version."""

import keras
from keras import layers


def build_lenet(num_classes: int, input_shape: tuple[int, int, int] = (32, 32, 3)) -> keras.Model:
    """Two 5x5 convolutions and three dense layers, no batch norm; outputs logits `[B, num_classes]`."""
    images = layers.Input(input_shape, name="images")
    x = layers.Conv2D(32, 5, padding="same", activation="relu", kernel_initializer="he_normal", name="conv1")(images)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(64, 5, padding="same", activation="relu", kernel_initializer="he_normal", name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(256, activation="relu", kernel_initializer="he_normal", name="fc1")(x)
    x = layers.Dense(84, activation="relu", kernel_initializer="he_normal", name="fc2")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="fc3")(x)
    return keras.Model(images, logits, name="lenet")
