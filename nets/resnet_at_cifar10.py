"""ResNet-20/32/44/56/110 on CIFAR-10."""

import keras

from nets.at_cifar10 import Cifar10ModelHelper
from nets.resnet import build_resnet


class ModelHelper(Cifar10ModelHelper):
    """`--resnet_size` picks the network."""

    @property
    def model_name(self) -> str:
        return f"resnet_{self.config.network.resnet_size}"

    def build_model(self) -> keras.Model:
        return build_resnet(self.config.network.resnet_size, self.num_classes)
