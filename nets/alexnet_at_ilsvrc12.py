"""AlexNet on ILSVRC-12."""

from typing import Any

import keras

from nets.alexnet import build_alexnet
from nets.at_ilsvrc12 import Ilsvrc12ModelHelper, Recipe
from nets.config import NetConfig

_EPOCHS = 90


class ModelHelper(Ilsvrc12ModelHelper):
    """AlexNet in its one-column form, and the recipe published with that.

    Krizhevsky 2014: the rate of a batch of 128 is 0.01, and is divided by the cube root of 250 after a quarter, a half
    and three quarters of the training; epochs and weight decay as in Krizhevsky et al. 2012. Dropout stands in the same
    places; there is no local response normalisation, as in the later form.
    """

    model_name = "alexnet"
    min_image_size = 63

    @classmethod
    def recipe(cls, config: NetConfig) -> Recipe:
        return Recipe(
            epochs=_EPOCHS,
            learning_rate=0.01,
            batch_size=128,
            decay_epochs=(0.25 * _EPOCHS, 0.5 * _EPOCHS, 0.75 * _EPOCHS),
            decay=250 ** (-1 / 3),
            weight_decay=5e-4,
        )

    def build_network(self, num_classes: int, input_shape: tuple[int, int, int], **variant: Any) -> keras.Model:
        return build_alexnet(num_classes, input_shape, **variant)
