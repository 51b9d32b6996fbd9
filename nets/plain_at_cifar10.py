"""The plain network of 20 layers on CIFAR-10."""

import keras

from nets.at_cifar10 import Cifar10ModelHelper
from nets.plain import build_plain_20


class ModelHelper(Cifar10ModelHelper):
    """ResNet-20 without its shortcuts."""

    model_name = "plain_20"

    def build_model(self) -> keras.Model:
        return build_plain_20(self.num_classes)
