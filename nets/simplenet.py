"""The two small networks without batch norm of the published schedules, for 32x32 and for 28x28 images."""

import keras
from keras import layers


def build_simplenet(num_classes: int, input_shape: tuple[int, int, int] = (32, 32, 3)) -> keras.Model:
    """LeNet-5's layers with rectifiers and max pooling, 62,006 parameters; outputs logits `[B, num_classes]`."""
    images = layers.Input(input_shape, name="images")
    x = _conv_relu_pool(images, 6, 1)
    x = layers.Flatten(name="flatten")(_conv_relu_pool(x, 16, 2))
    x = _dense_relu(x, 120, 1)
    x = _dense_relu(x, 84, 2)
    logits = layers.Dense(num_classes, dtype="float32", name="fc3")(x)
    return keras.Model(images, logits, name="simplenet")


def build_simplenet_mnist(num_classes: int, input_shape: tuple[int, int, int] = (28, 28, 1)) -> keras.Model:
    """Two 5x5 convolutions and two dense layers, 431,080 parameters; outputs logits `[B, num_classes]`."""
    images = layers.Input(input_shape, name="images")
    x = _conv_relu_pool(images, 20, 1)
    x = layers.Flatten(name="flatten")(_conv_relu_pool(x, 50, 2))
    x = _dense_relu(x, 500, 1)
    logits = layers.Dense(num_classes, dtype="float32", name="fc2")(x)
    return keras.Model(images, logits, name="simplenet_mnist")


def _conv_relu_pool(x: keras.KerasTensor, channels: int, number: int) -> keras.KerasTensor:
    x = layers.Conv2D(channels, 5, kernel_initializer="he_normal", name=f"conv{number}")(x)
    x = layers.ReLU(name=f"relu_conv{number}")(x)
    return layers.MaxPooling2D(2, name=f"pool{number}")(x)


def _dense_relu(x: keras.KerasTensor, units: int, number: int) -> keras.KerasTensor:
    x = layers.Dense(units, kernel_initializer="he_normal", name=f"fc{number}")(x)
    return layers.ReLU(name=f"relu_fc{number}")(x)
