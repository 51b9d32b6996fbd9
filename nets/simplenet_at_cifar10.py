"""The simplenet of the published schedules on CIFAR-10."""

import keras

from nets.at_cifar10 import Cifar10ModelHelper
from nets.simplenet import build_simplenet


class ModelHelper(Cifar10ModelHelper):
    """The smallest network, without batch norm."""

    model_name = "simplenet"

    def build_model(self) -> keras.Model:
        return build_simplenet(self.num_classes)
