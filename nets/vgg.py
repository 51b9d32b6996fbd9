"""VGG (Simonyan & Zisserman 2015) for 32x32 and for 224x224 images, under the published schedules' layer names."""

from collections.abc import Callable
from functools import partial

import keras
from keras import layers

from nets.blocks import numbered, small_uniform
from utils.errors import InputError

_STAGES = {  # size -> output channels of the convolutions of each stage
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    19: ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}
VGG_SIZES = tuple(_STAGES)


def build_vgg(
    size: int,
    num_classes: int,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    batch_norm: Callable[..., keras.layers.BatchNormalization] | None = None,
) -> keras.Model:
    """VGG of `size` layers by the original count: five stages of 3x3 convolutions, each with a 2x2 max pooling.

    The layers are `features.N` and `classifier`, with N counting convolutions, batch norms (if any), rectifiers and
    poolings; outputs logits `[B, num_classes]`.

    Raises:
        InputError: `size` is not one of `VGG_SIZES`.
    """
    images = layers.Input(input_shape, name="images")
    x = layers.Flatten(name="flatten")(_features(images, size, batch_norm))
    logits = layers.Dense(num_classes, dtype="float32", name="classifier")(x)
    return keras.Model(images, logits, name=f"vgg_{size}_bn" if batch_norm else f"vgg_{size}")


def build_imagenet_vgg(
    size: int,
    num_classes: int,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    batch_norm: Callable[..., keras.layers.BatchNormalization] | None = None,
) -> keras.Model:
    """The same with the paper's classifier of 4,096, 4,096 and `num_classes` outputs, `classifier.{0,3,6}`.

    Half of the features are dropped behind each of the two in training. For 1,000 classes and 224x224 VGG-16 has
    138,357,544 parameters; other sizes change the inputs of `classifier.0`, which are in the order (height, width,
    channel).

    Raises:
        InputError: `size` is not one of `VGG_SIZES`.
    """

    def dense(units=4096):
        return partial(layers.Dense, units, kernel_initializer=small_uniform())

    images = layers.Input(input_shape, name="images")
    x = layers.Flatten(name="flatten")(_features(images, size, batch_norm))
    dropout = partial(layers.Dropout, 0.5)
    x = numbered(x, "classifier", [dense(), layers.ReLU, dropout, dense(), layers.ReLU, dropout])
    logits = dense(num_classes)(dtype="float32", name="classifier.6")(x)
    return keras.Model(images, logits, name=f"vgg_{size}_bn" if batch_norm else f"vgg_{size}")


def _features(
    images: keras.KerasTensor, size: int, batch_norm: Callable[..., keras.layers.BatchNormalization] | None
) -> keras.KerasTensor:
    if size not in VGG_SIZES:
        raise InputError(f"the size of VGG must be one of {', '.join(map(str, VGG_SIZES))}. Received: {size}")
    norm = [partial(batch_norm, momentum=0.9, epsilon=1e-5)] if batch_norm else []
    makers = []
    for stage in _STAGES[size]:
        for channels in stage:
            conv = partial(layers.Conv2D, channels, 3, padding="same", kernel_initializer="he_normal")
            makers += [conv, *norm, layers.ReLU]
        makers.append(partial(layers.MaxPooling2D, 2))
    return numbered(images, "features", makers)
