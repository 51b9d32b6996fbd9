"""What every network at CIFAR-10 shares: the data, and how long and at which rate to train on it."""

import numpy as np

from datasets.images import ImageDataset
from datasets.loading import data_disk, load_dataset
from nets.learning_rates import piecewise, warm_up_cosine
from nets.model_helper import ModelHelper

CIFAR10_EPOCHS = 250
CIFAR10_DECAY_EPOCHS = (100, 150, 200)
DIGITS32_EPOCHS = 8


class Cifar10ModelHelper(ModelHelper):
    """CIFAR-10, or digits32 in its place where no directory is configured."""

    num_classes = 10  # of either

    def load_data(self) -> ImageDataset:
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
