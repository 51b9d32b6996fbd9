"""Networks with filters of zeros, for tests of what is removed."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
from keras import layers

from compressors.channels import dependent_vectors
from nets.layers import FusedBatchNormalization


def network(*stages: Callable, input_shape: tuple[int, ...] = (8, 8, 3)) -> keras.Model:
    """The stages one after the other, with random weights."""
    images = x = keras.Input(input_shape, name="images")
    for stage in stages:
        x = stage(x)
    return randomised(keras.Model(images, x, name="net"))


def conv(filters: int, name: str, size: int = 3, padding: str = "same", **options) -> keras.layers.Conv2D:
    return layers.Conv2D(filters, size, padding=padding, name=name, **options)


def norm(name: str, **options) -> keras.layers.BatchNormalization:
    return FusedBatchNormalization(name=name, **options)


def head(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Dense(4, name="fc")(layers.GlobalAveragePooling2D(name="pool")(x))


def small_mobilenet() -> keras.Model:
    def separable(filters, number):
        def block(x):
            x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise{number}")(x)
            x = layers.ReLU()(norm(f"depthwise_bn{number}")(x))
            return layers.ReLU()(norm(f"bn{number}")(conv(filters, f"conv{number}", 1, use_bias=False)(x)))

        return block

    first = [conv(6, "conv1", use_bias=False), norm("bn1"), layers.ReLU()]
    return network(*first, separable(8, 2), separable(8, 3), head)


def randomised(model: keras.Model, seed: int = 0) -> keras.Model:
    """All weights and statistics at random, of a size that keeps activations near 1."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(generator.uniform(0.5, 1.5, shape))
        elif len(shape) > 1:
            variable.assign(generator.normal(0, np.prod(shape[:-1]) ** -0.5, shape))
        elif shape:
            variable.assign(generator.normal(0, 0.5, shape))
    return model


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    return {variable.path: variable for variable in model.weights}


def zero(model: keras.Model, layer: str, filters: Iterable[int], is_silent: bool = True) -> None:
    """Zeroes filters; silently, what depends on them too."""
    kernel = model.get_layer(layer).kernel
    paths = [kernel.path, *(dependent_vectors(model)[kernel.path] if is_silent else [])]
    for path in paths:
        values = variables(model)[path].numpy()
        values[..., list(filters)] = 0
        variables(model)[path].assign(values)


def zero_channels(model: keras.Model, layer: str, channels: Iterable[int]) -> None:
    """Zeroes the weights of a layer for these input channels."""
    kernel = model.get_layer(layer).kernel
    values = kernel.numpy()
    values[..., list(channels), :] = 0
    kernel.assign(values)


def images(model: keras.Model, count: int = 4, seed: int = 1) -> np.ndarray:
    shape = (count, *model.inputs[0].shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
