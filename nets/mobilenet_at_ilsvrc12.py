"""MobileNet v1 and v2 on ILSVRC-12."""

from typing import Any

import keras

from nets.at_ilsvrc12 import Ilsvrc12ModelHelper, Recipe
from nets.config import NetConfig
from nets.keras_applications import Application, mobilenet_v1, mobilenet_v2
from nets.mobilenet import build_mobilenet_v1
from nets.mobilenet_v2 import build_mobilenet_v2

_V1_EPOCHS, _V1_DECAY_EPOCHS = 100, (30, 60, 80, 90)
_V2_EPOCHS = 412


class ModelHelper(Ilsvrc12ModelHelper):
    """`--mobilenet_version` picks the network, `--mobilenet_depth_mult` its width.

    Rate, batch and weight decay are those that Sandler et al. 2018 and TF-Slim publish, epochs and steps of the rate
    those of PocketFlow: of version 2 the rate falls to 0.98 after each epoch, as in the paper, and labels are smoothed
    as TF-Slim's command says. SGD with momentum stands in for the papers' RMSprop, as in PocketFlow.
    """

    mean = std = (127.5, 127.5, 127.5)  # inputs from -1 to 1, as published
    own_flags = ("mobilenet_version", "mobilenet_depth_mult")

    @classmethod
    def recipe(cls, config: NetConfig) -> Recipe:
        common: dict[str, Any] = {"learning_rate": 0.045, "batch_size": 96, "weight_decay": 4e-5}
        if config.network.mobilenet_version == 1:
            return Recipe(epochs=_V1_EPOCHS, decay_epochs=_V1_DECAY_EPOCHS, **common)
        every_epoch = tuple(range(1, _V2_EPOCHS))
        return Recipe(epochs=_V2_EPOCHS, decay_epochs=every_epoch, decay=0.98, label_smoothing=0.1, **common)

    @property
    def model_name(self) -> str:
        network = self.config.network
        suffix = "" if network.mobilenet_depth_mult == 1 else f"_{network.mobilenet_depth_mult:g}"
        return f"mobilenet_v{network.mobilenet_version}{suffix}"

    @property
    def application(self) -> Application:
        network = self.config.network
        return (mobilenet_v1 if network.mobilenet_version == 1 else mobilenet_v2)(network.mobilenet_depth_mult)

    def build_network(self, num_classes: int, input_shape: tuple[int, int, int], **variant: Any) -> keras.Model:
        network = self.config.network
        build = build_mobilenet_v1 if network.mobilenet_version == 1 else build_mobilenet_v2
        return build(num_classes, input_shape, width=network.mobilenet_depth_mult, **variant)
