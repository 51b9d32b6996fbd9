"""ModelHelper: one network bound to one data set, all that a learner knows of either."""

import abc
import functools

import keras
import numpy as np
import tensorflow as tf

from datasets.images import ImageDataset
from datasets.pipeline import evaluation_batches, training_batches
from nets.config import NetConfig


class ModelHelper(abc.ABC):
    """An image classifier and its data.

    A subclass says `build_model`, `load_data`, `num_epochs` and `learning_rate_at`; the rest follows.
    """

    def __init__(self, config: NetConfig, rank: int = 0, size: int = 1):
        self.config = config
        self.rank, self.size = rank, size

    @property
    @abc.abstractmethod
    def model_name(self) -> str:
        """Name of the network, as in `resnet_20`."""

    @abc.abstractmethod
    def build_model(self) -> keras.Model:
        """A freshly initialised network; outputs logits `[B, num_classes]`."""

    @abc.abstractmethod
    def load_data(self) -> ImageDataset:
        """Reads the data set; raises InputError for anything wrong with it."""

    @property
    @abc.abstractmethod
    def num_epochs(self) -> float:
        """Length of a full training in epochs."""

    @abc.abstractmethod
    def learning_rate_at(self, step: np.ndarray) -> np.ndarray:
        """Learning rate of a full training at each (0-based) step."""

    @functools.cached_property
    def dataset(self) -> ImageDataset:
        """The data, read once."""
        return self.load_data()

    @property
    def dataset_name(self) -> str:
        """Name of the data; a subclass that knows it without reading the data makes a dry run need none."""
        return self.dataset.name

    @property
    def num_classes(self) -> int:
        """Number of classes, likewise."""
        return self.dataset.num_classes

    @property
    def steps_per_epoch(self) -> int:
        """Training steps that see each image about once, all workers together."""
        return max(1, len(self.dataset.train.labels) // (self.config.data.batch_size * self.size))

    @property
    def num_iterations(self) -> int:
        """Training steps of a full training."""
        return max(1, round(self.num_epochs * self.steps_per_epoch))

    @property
    def peak_learning_rate(self) -> float:
        """`lrn_rate_init * global batch size / batch_size_norm` (linear scaling, Goyal et al. 2017)."""
        training = self.config.training
        return training.initial_learning_rate * self.config.data.batch_size * self.size / training.reference_batch_size

    def training_batches(self, start_step: int = 0) -> tf.data.Dataset:
        """Endless augmented batches; batch t depends on the seed and t alone, so a resume is a `start_step`."""
        return training_batches(
            self.dataset.train,
            mean=self.dataset.mean,
            std=self.dataset.std,
            batch_size=self.config.data.batch_size,
            seed=self.config.seed,
            start_step=start_step,
            rank=self.rank,
            size=self.size,
            crop_padding=self.dataset.crop_padding,
            flip=self.dataset.flip,
        )

    def validation_batches(self) -> tf.data.Dataset:
        """The validation split in order, without augmentation: what the search may look at."""
        return self._in_order(self.dataset.validation)

    def evaluation_batches(self) -> tf.data.Dataset:
        """The test set in order: for the final figures only."""
        return self._in_order(self.dataset.test)

    def calibration_images(self, count: int) -> np.ndarray:
        """`count` training images `[count, H, W, C]`, normalised, not augmented, drawn with the run's seed."""
        train = self.dataset.train
        generator = np.random.default_rng([self.config.seed, 0xCA11])
        chosen = np.sort(generator.permutation(len(train.labels))[:count])
        return (train.images[chosen].astype(np.float32) - self.dataset.mean) / self.dataset.std

    def loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Mean cross entropy of the batch."""
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

    def _in_order(self, arrays) -> tf.data.Dataset:
        return evaluation_batches(
            arrays, mean=self.dataset.mean, std=self.dataset.std, batch_size=self.config.data.evaluation_batch_size
        )
