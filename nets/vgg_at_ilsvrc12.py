"""VGG-16 on ILSVRC-12."""

from typing import Any

import keras

from nets.at_ilsvrc12 import Ilsvrc12ModelHelper, Recipe
from nets.config import NetConfig
from nets.vgg import build_imagenet_vgg

_EPOCHS = 74


class ModelHelper(Ilsvrc12ModelHelper):
    """VGG-16 without batch norm, configuration D of Simonyan & Zisserman 2015, and their recipe.

    They divided the rate by 10 three times, whenever the validation accuracy stopped improving, and do not say at which
    of the 74 epochs. Here that is after a half, three quarters and nine tenths of the training.
    """

    model_name = "vgg_16"

    @classmethod
    def recipe(cls, config: NetConfig) -> Recipe:
        return Recipe(
            epochs=_EPOCHS,
            learning_rate=0.01,
            batch_size=256,
            decay_epochs=(0.5 * _EPOCHS, 0.75 * _EPOCHS, 0.9 * _EPOCHS),
            weight_decay=5e-4,
        )

    def build_network(self, num_classes: int, input_shape: tuple[int, int, int], **variant: Any) -> keras.Model:
        return build_imagenet_vgg(16, num_classes, input_shape, **variant)
