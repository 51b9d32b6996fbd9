"""LeNet on CIFAR-10."""

import keras

from nets.at_cifar10 import Cifar10ModelHelper
from nets.lenet import build_lenet


class ModelHelper(Cifar10ModelHelper):
    """The small network without batch norm."""

    model_name = "lenet"

    def build_model(self) -> keras.Model:
        return build_lenet(self.num_classes)
