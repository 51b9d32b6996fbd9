"""Pre-activation residual networks for 32x32 images (He et al. 2016b), under the published schedules' layer names."""

import keras
from keras import layers

from nets.blocks import CIFAR_STAGES, convolution
from nets.layers import FusedBatchNormalization
from nets.resnet import RESNET_SIZES
from utils.errors import InputError


def build_preresnet(
    size: int,
    num_classes: int,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    batch_norm: type[keras.layers.BatchNormalization] = FusedBatchNormalization,
    conv_downsample: bool = False,
) -> keras.Model:
    """Pre-activation ResNet of `size` = 6 n + 2 layers with n blocks a stage; outputs logits `[B, num_classes]`.

    A shortcut that changes shape is the mean of 2x2 pixels (`layerS.0.downsample.0`) with channels of zeros on both
    sides; with `conv_downsample` a 1x1 convolution of the normalised and rectified input, `layerS.0.downsample`.

    Raises:
        InputError: `size` is not one of `RESNET_SIZES`.
    """
    if size not in RESNET_SIZES:
        raise InputError(f"--resnet_size must be one of {', '.join(map(str, RESNET_SIZES))}. Received: {size}")

    def norm_relu(x, norm_name, relu_name):
        return layers.ReLU(name=relu_name)(batch_norm(momentum=0.9, epsilon=1e-5, name=norm_name)(x))

    images = layers.Input(input_shape, name="images")
    x = convolution(images, 16, 3, 1, "conv1")
    for stage, (channels, first_stride) in enumerate(CIFAR_STAGES, start=1):
        for block in range((size - 2) // 6):
            name = f"layer{stage}.{block}"
            strides = first_stride if block == 0 else 1
            inputs = norm_relu(x, f"{name}.pre_bn", f"{name}.pre_relu")
            if strides != 1 and conv_downsample:
                x = convolution(inputs, channels, 1, strides, f"{name}.downsample")
            elif strides != 1:
                x = _halve(x, channels, f"{name}.downsample.0")
            y = convolution(inputs, channels, 3, strides, f"{name}.conv1")
            y = convolution(norm_relu(y, f"{name}.bn", f"{name}.relu"), channels, 3, 1, f"{name}.conv2")
            x = layers.Add(name=f"{name}.add")([y, x])
    x = layers.GlobalAveragePooling2D(name="avgpool")(norm_relu(x, "final_bn", "final_relu"))
    logits = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(images, logits, name=f"preresnet_{size}")


def _halve(x: keras.KerasTensor, channels: int, name: str) -> keras.KerasTensor:
    """A shortcut without weights to half the resolution."""
    x = layers.AveragePooling2D(2, padding="same", name=name)(x)
    side = (channels - x.shape[-1]) // 2
    return keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (side, side)))
