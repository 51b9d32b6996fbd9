"""ModelHelper: one network bound to one data set, all that a learner knows of either."""

import abc
import contextlib
import copy
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from datasets.dataset import Dataset, telling_of_bad_data
from nets.config import NetConfig, OwnDataConfig, OwnModelConfig
from nets.tasks import ACCURACY, Outputs, classification_loss, is_largest_right
from utils.errors import InputError
from utils.flags import flag_fields


class ModelHelper(abc.ABC):
    """A network and its data; as it stands, a classifier of images.

    A subclass says `model_name`, `build_model`, `load_data`, `num_epochs` and `learning_rate_at`; the rest follows. For
    another task it has its own `loss`, `quality` and `metric_name`.
    """

    def __init__(self, config: NetConfig, rank: int = 0, size: int = 1):
        self.config = config
        self.rank, self.size = rank, size

    @classmethod
    def flag_defaults(cls, config: NetConfig) -> Mapping[str, Any]:
        """Flag name -> the value that it has for this network where neither command line nor path.conf gives one."""
        return {}

    @classmethod
    def check_flags(cls, config: NetConfig, given: Collection[str]) -> None:
        """Raises InputError where the command line gives a flag that would do nothing here."""
        own = [*flag_fields(OwnModelConfig), *flag_fields(OwnDataConfig)]
        for name in own:
            if name in given:
                raise InputError(f"--{name} needs nets/own_model_run.py. Received: another net script")
        has_own_loss = cls.loss is not ModelHelper.loss and cls.training_loss is ModelHelper.training_loss
        if config.training.label_smoothing and has_own_loss:
            raise InputError(
                "--label_smoothing must be left out where the network has a loss of its own but no training_loss. "
                f"Received: {config.training.label_smoothing}"
            )

    @property
    def metric_name(self) -> str:
        """What the mean of `quality` is called; only an accuracy is shown in percent."""
        return ACCURACY

    @property
    def gives_logits(self) -> bool:
        """Whether outputs are logits of classes, from which a student network can learn."""
        return True

    @property
    def has_trained_weights(self) -> bool:
        """Whether `build_model` gives a trained network: that is the dense one then."""
        return False

    @property
    def weights_source(self) -> str:
        """Where trained weights come from."""
        return ""

    @property
    @abc.abstractmethod
    def model_name(self) -> str:
        """Name of the network, as in `resnet_20`."""

    @abc.abstractmethod
    def build_model(self) -> keras.Model:
        """A new network each time, layers named alike: freshly initialised, or trained where `has_trained_weights`.

        Its outputs are what `loss` and `quality` take: here logits `[B, num_classes]`.
        """

    @abc.abstractmethod
    def load_data(self) -> Dataset:
        """Reads the data set; raises InputError for anything wrong with it."""

    @property
    @abc.abstractmethod
    def num_epochs(self) -> float:
        """Length of a full training in epochs."""

    @abc.abstractmethod
    def learning_rate_at(self, step: np.ndarray) -> np.ndarray:
        """Learning rate of a full training at each (0-based) step."""

    def alone(self) -> "ModelHelper":
        """The same with the batches of one worker alone, for work that each of several does by itself."""
        if self.size == 1:
            return self
        assert self.dataset  # read once for both
        other = copy.copy(self)
        other.rank, other.size = 0, 1
        return other

    @contextlib.contextmanager
    def telling_of_bad_data(self) -> Iterator[None]:
        """Within it, an error of TensorFlow's that bad data is behind becomes the InputError that says so."""
        with telling_of_bad_data(self):
            yield

    @property
    def skipped_images(self) -> Sequence[str]:
        """Names of the images that were left out because they cannot be decoded, of those met up to now."""
        return getattr(self.dataset, "skipped", ())

    def problem(self) -> InputError | None:
        """What is wrong with the data, as far as it was read."""
        find = getattr(vars(self).get("dataset"), "problem", None)  # not loaded in order to ask
        return find and find()

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data, loaded once."""
        return self.load_data()

    @property
    def dataset_name(self) -> str:
        """Name of the data; a subclass that knows it without reading the data makes a dry run need none."""
        return self.dataset.name

    @property
    def num_classes(self) -> int:
        """Number of classes (or of numbers that a regression gives), likewise."""
        return self.dataset.num_classes

    @property
    def steps_per_epoch(self) -> int:
        """Training steps that see each image about once, all workers together."""
        return max(1, self.dataset.num_training_images // (self.config.data.batch_size * self.size))

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
        return self.dataset.training_batches(
            batch_size=self.config.data.batch_size,
            seed=self.config.seed,
            start_step=start_step,
            rank=self.rank,
            size=self.size,
        )

    def validation_batches(self) -> tf.data.Dataset:
        """The validation split in order, without augmentation: what the search may look at. A worker has its share."""
        return self.dataset.validation_batches(**self._evaluation_options)

    def evaluation_batches(self) -> tf.data.Dataset:
        """The test set in order: for the final figures only. A worker has its share."""
        return self.dataset.test_batches(**self._evaluation_options)

    def calibration_images(self, count: int) -> np.ndarray:
        """`count` training examples `[count, ...]`, normalised, not augmented, drawn with the run's seed."""
        return self.dataset.calibration_images(count, self.config.seed)

    def loss(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The batch's loss, a mean over its examples: here cross entropy."""
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs))

    def training_loss(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """What a training makes smaller: `loss`, or with `--label_smoothing` cross entropy against smoothed labels."""
        smoothing = self.config.training.label_smoothing
        if not smoothing:
            return self.loss(labels, outputs)
        return classification_loss(Outputs.LOGITS, labels, outputs, smoothing)

    def quality(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """How good each output is, `float32 [B]`, more being better; the mean is what all learners call accuracy."""
        return is_largest_right(labels, outputs)

    @property
    def metrics(self) -> Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
        """Name -> quality of each example: what test sets are measured by and a search can go by.

        Of classifiers `nets.tasks.top_metrics(self.num_classes)`; nothing where a subclass does not say.
        """
        return {}

    def optimizer(self) -> keras.Optimizer:
        """The optimizer of every full training, here SGD with momentum; the training loop sets the rate."""
        return keras.optimizers.SGD(0.0, momentum=self.config.training.momentum)

    def identity(self) -> Mapping[str, Any]:
        """What the result depends on beside the flags, such as the content of a file."""
        return {}

    def advice(self, tested: Mapping[str, float]) -> str:
        """What to tell a user whose dense network has this `accuracy` on the test set; mostly nothing."""
        return ""

    @property
    def _evaluation_options(self) -> Mapping[str, int]:
        return {"batch_size": self.config.data.evaluation_batch_size, "rank": self.rank, "size": self.size}
