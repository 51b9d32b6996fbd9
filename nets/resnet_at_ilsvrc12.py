"""ResNet-18/34/50/101/152 on ILSVRC-12."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras

from nets.at_ilsvrc12 import Ilsvrc12ModelHelper, Recipe
from nets.config import NetConfig
from nets.imagenet_resnet import IMAGENET_RESNET_SIZES, build_imagenet_resnet
from nets.keras_applications import Application, resnet_50
from utils.errors import InputError

DEFAULT_SIZE = 18


class ModelHelper(Ilsvrc12ModelHelper):
    """`--resnet_size` picks the network.

    The recipe is that of Goyal et al. 2017 with the label smoothing of NVIDIA's for ResNet-50 v1.5. With
    `--keras_weights` of keras.applications ResNet-50 is the version 1 that those were trained for.
    """

    own_flags = ("resnet_size",)

    def __init__(self, config: NetConfig, rank: int = 0, size: int = 1):
        _check_size(config.network.resnet_size)
        super().__init__(config, rank, size)

    @classmethod
    def recipe(cls, config: NetConfig) -> Recipe:
        return Recipe(
            epochs=90,
            learning_rate=0.1,
            batch_size=256,
            decay_epochs=(30, 60, 80),
            weight_decay=1e-4,
            warm_up_epochs=5,
            label_smoothing=0.1,
        )

    @classmethod
    def flag_defaults(cls, config: NetConfig) -> Mapping[str, Any]:
        return {**super().flag_defaults(config), "resnet_size": DEFAULT_SIZE}

    @classmethod
    def check_flags(cls, config: NetConfig, given: Collection[str]) -> None:
        super().check_flags(config, given)
        if "resnet_size" in given:
            _check_size(config.network.resnet_size)

    @property
    def model_name(self) -> str:
        return f"resnet_{self.config.network.resnet_size}"

    @property
    def variants(self) -> Sequence[Mapping[str, Any]]:
        return ({}, {"is_keras_variant": True})

    @property
    def application(self) -> Application | None:
        return resnet_50() if self.config.network.resnet_size == 50 else None

    def build_network(self, num_classes: int, input_shape: tuple[int, int, int], **variant: Any) -> keras.Model:
        return build_imagenet_resnet(self.config.network.resnet_size, num_classes, input_shape, **variant)


def _check_size(size: int) -> None:
    if size not in IMAGENET_RESNET_SIZES:
        sizes = ", ".join(map(str, IMAGENET_RESNET_SIZES))
        raise InputError(f"--resnet_size must be one of {sizes} at ILSVRC-12. Received: {size}")
