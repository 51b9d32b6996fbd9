"""Every network of ours by name: the published schedules' names, and our own where they differ."""

import difflib
from collections.abc import Callable
from functools import partial

import keras

from nets.alexnet import build_alexnet
from nets.imagenet_resnet import build_imagenet_resnet
from nets.layers import FusedBatchNormalization
from nets.lenet import build_lenet
from nets.mobilenet import build_mobilenet, build_mobilenet_v1
from nets.mobilenet_v2 import build_mobilenet_v2
from nets.plain import build_plain_20
from nets.preresnet import build_preresnet
from nets.resnet import build_resnet
from nets.simplenet import build_simplenet, build_simplenet_mnist
from nets.vgg import build_imagenet_vgg, build_vgg
from utils.errors import InputError

Builder = Callable[[int, tuple[int, int, int]], keras.Model]

# Builders take (number of classes, input shape). The names in `_cifar` and those for ImageNet are Distiller's.
ARCHITECTURES: dict[str, Builder] = {
    "lenet": build_lenet,
    "resnet_20": partial(build_resnet, 20),
    "resnet_32": partial(build_resnet, 32),
    "resnet_44": partial(build_resnet, 44),
    "resnet_56": partial(build_resnet, 56),
    "resnet_110": partial(build_resnet, 110),
    "resnet20_cifar": partial(build_resnet, 20),
    "resnet32_cifar": partial(build_resnet, 32),
    "resnet44_cifar": partial(build_resnet, 44),
    "resnet56_cifar": partial(build_resnet, 56),
    "preresnet_20": partial(build_preresnet, 20),
    "preresnet_32": partial(build_preresnet, 32),
    "preresnet_44": partial(build_preresnet, 44),
    "preresnet_56": partial(build_preresnet, 56),
    "preresnet_110": partial(build_preresnet, 110),
    "preact_resnet20_cifar": partial(build_preresnet, 20),
    "preact_resnet32_cifar": partial(build_preresnet, 32),
    "preact_resnet44_cifar": partial(build_preresnet, 44),
    "preact_resnet56_cifar": partial(build_preresnet, 56),
    "preact_resnet110_cifar": partial(build_preresnet, 110),
    "preact_resnet20_cifar_conv_ds": partial(build_preresnet, 20, conv_downsample=True),
    "preact_resnet32_cifar_conv_ds": partial(build_preresnet, 32, conv_downsample=True),
    "preact_resnet44_cifar_conv_ds": partial(build_preresnet, 44, conv_downsample=True),
    "preact_resnet56_cifar_conv_ds": partial(build_preresnet, 56, conv_downsample=True),
    "preact_resnet110_cifar_conv_ds": partial(build_preresnet, 110, conv_downsample=True),
    "plain_20": build_plain_20,
    "plain20_cifar": build_plain_20,
    "plain20_cifar_nobn": partial(build_plain_20, batch_norm=None),
    "vgg_16": partial(build_vgg, 16),
    "vgg11_cifar": partial(build_vgg, 11),
    "vgg13_cifar": partial(build_vgg, 13),
    "vgg16_cifar": partial(build_vgg, 16),
    "vgg19_cifar": partial(build_vgg, 19),
    "vgg11_bn_cifar": partial(build_vgg, 11, batch_norm=FusedBatchNormalization),
    "vgg13_bn_cifar": partial(build_vgg, 13, batch_norm=FusedBatchNormalization),
    "vgg16_bn_cifar": partial(build_vgg, 16, batch_norm=FusedBatchNormalization),
    "vgg19_bn_cifar": partial(build_vgg, 19, batch_norm=FusedBatchNormalization),
    "simplenet": build_simplenet,
    "simplenet_cifar": build_simplenet,
    "simplenet_mnist": build_simplenet_mnist,
    "alexnet": build_alexnet,
    "resnet18": partial(build_imagenet_resnet, 18),
    "resnet34": partial(build_imagenet_resnet, 34),
    "resnet50": partial(build_imagenet_resnet, 50),
    "resnet101": partial(build_imagenet_resnet, 101),
    "resnet152": partial(build_imagenet_resnet, 152),
    "mobilenet": build_mobilenet,
    "mobilenet_025": partial(build_mobilenet, width=0.25),
    "mobilenet_050": partial(build_mobilenet, width=0.5),
    "mobilenet_075": partial(build_mobilenet, width=0.75),
    "mobilenet_v1": build_mobilenet_v1,
    "mobilenet_v2": build_mobilenet_v2,
    "vgg11": partial(build_imagenet_vgg, 11),
    "vgg13": partial(build_imagenet_vgg, 13),
    "vgg16": partial(build_imagenet_vgg, 16),
    "vgg19": partial(build_imagenet_vgg, 19),
    "vgg11_bn": partial(build_imagenet_vgg, 11, batch_norm=FusedBatchNormalization),
    "vgg13_bn": partial(build_imagenet_vgg, 13, batch_norm=FusedBatchNormalization),
    "vgg16_bn": partial(build_imagenet_vgg, 16, batch_norm=FusedBatchNormalization),
    "vgg19_bn": partial(build_imagenet_vgg, 19, batch_norm=FusedBatchNormalization),
}


def build_architecture(name: str, num_classes: int, input_shape: tuple[int, int, int]) -> keras.Model:
    """The freshly initialised network of that name; outputs logits `[B, num_classes]`.

    Raises:
        InputError: the name is unknown, or the images are too small for the network.
    """
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=3, cutoff=0.4)
        hint = f", of which {' and '.join(near)} come nearest" if near else ""
        raise InputError(f"the network must be one of {', '.join(ARCHITECTURES)}{hint}. Received: {name!r}")
    try:
        return ARCHITECTURES[name](num_classes, input_shape)
    except ValueError as error:
        size = "x".join(map(str, input_shape))
        raise InputError(f"the images are too small for the network {name}. Received: {size}") from error
