"""VGG-16 on CIFAR-10."""

import keras

from nets.at_cifar10 import Cifar10ModelHelper
from nets.vgg import build_vgg


class ModelHelper(Cifar10ModelHelper):
    """VGG-16 as in the published schedules, without batch norm.

    It wants a low rate, such as `--lrn_rate_init 0.016`: at the default its rectifiers die. On digits32 it leaves the
    accuracy of guessing only after some 30,000 images.
    """

    model_name = "vgg_16"

    def build_model(self) -> keras.Model:
        return build_vgg(16, self.num_classes)
