"""What every network at CIFAR-10 shares: the data, and how long and at which rate to train on it."""

from collections.abc import Callable, Collection, Mapping

import numpy as np
import tensorflow as tf

from datasets.dataset import Dataset
from datasets.loading import data_disk, load_dataset
from nets.config import NetConfig, NetworkConfig
from nets.learning_rates import piecewise, warm_up_cosine
from nets.model_helper import ModelHelper
from nets.tasks import top_metrics
from utils.errors import InputError
from utils.flags import flag_fields

CIFAR10_EPOCHS = 250
CIFAR10_DECAY_EPOCHS = (100, 150, 200)
DIGITS32_EPOCHS = 8
ILSVRC12_FLAGS = tuple(name for name in flag_fields(NetworkConfig) if name != "resnet_size")


class Cifar10ModelHelper(ModelHelper):
    """CIFAR-10, or digits32 in its place where no directory is configured."""

    num_classes = 10  # of either

    @classmethod
    def check_flags(cls, config: NetConfig, given: Collection[str]) -> None:
        super().check_flags(config, given)
        for name in (*ILSVRC12_FLAGS, "image_size", "skip_bad_images"):
            if name in given:
                raise InputError(f"--{name} needs a net script at ILSVRC-12. Received: one at CIFAR-10")

    @property
    def metrics(self) -> Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
        return top_metrics(self.num_classes)

    def load_data(self) -> Dataset:
        return load_dataset("cifar10", self.config.data)

    @property
    def dataset_name(self) -> str:
        return "digits32" if data_disk(self.config.data) == "embedded" else "cifar10"

    @property
    def num_epochs(self) -> float:
        recipe = CIFAR10_EPOCHS if self.dataset_name == "cifar10" else DIGITS32_EPOCHS
        return recipe * self.config.training.epochs_ratio

    def learning_rate_at(self, step: np.ndarray) -> np.ndarray:
        if self.dataset_name != "cifar10":
            return warm_up_cosine(step, self.peak_learning_rate, self.num_iterations)
        scale = self.config.training.epochs_ratio * self.steps_per_epoch
        return piecewise(step, self.peak_learning_rate, [epoch * scale for epoch in CIFAR10_DECAY_EPOCHS])
