"""Pre-activation ResNet-20/32/44/56/110 on CIFAR-10."""

import keras

from nets.at_cifar10 import Cifar10ModelHelper
from nets.preresnet import build_preresnet


class ModelHelper(Cifar10ModelHelper):
    """`--resnet_size` picks the network."""

    @property
    def model_name(self) -> str:
        return f"preresnet_{self.config.network.resnet_size}"

    def build_model(self) -> keras.Model:
        return build_preresnet(self.config.network.resnet_size, self.num_classes)
