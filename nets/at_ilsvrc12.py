"""What every network at ILSVRC-12 shares: the data, its recipe's form, and which flags mean something to it."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from datasets.dataset import Dataset
from datasets.images import ImageDataset
from datasets.loading import data_disk, load_dataset
from nets.config import NetConfig
from nets.keras_applications import Application
from nets.keras_weights import IMAGENET, GivenWeights, Target, assign_weights, check_source, read_weights
from nets.learning_rates import warm_up_cosine, warm_up_piecewise
from nets.model_helper import ModelHelper
from nets.tasks import top_metrics
from utils.errors import InputError

IMAGE_SIZE = 224
# So small that a command can be tried in minutes; 32, the digits' own size, would leave deep networks a single pixel.
DIGITS32_IMAGE_SIZE = 64
NUM_CLASSES, DIGITS32_CLASSES = 1000, 10
DIGITS32_EPOCHS = 4
NET_FLAGS = ("resnet_size", "mobilenet_version", "mobilenet_depth_mult")  # each of them means something to one network


@dataclass(frozen=True)
class Recipe:
    """A published training: SGD with momentum at a rate that falls by steps.

    The rate is `learning_rate * global batch size / batch_size`, times `decay` after each of `decay_epochs`; over the
    first `warm_up_epochs` it rises linearly from 0. `--nb_epochs_rat` scales all epochs.
    """

    epochs: float
    learning_rate: float
    batch_size: int
    decay_epochs: tuple[float, ...]
    weight_decay: float
    decay: float = 0.1
    warm_up_epochs: float = 0.0
    label_smoothing: float = 0.0
    digits32_learning_rate: float = 0.0  # at the embedded set, 0: the same


class Ilsvrc12ModelHelper(ModelHelper):
    """ILSVRC-12, or digits32 in its place where no directory is configured.

    A subclass has a `recipe`, a `build_network`, and says which of `NET_FLAGS` are its own.
    """

    # Of each channel, subtracted from and divided by, in units of 0..255: the means and standard deviations of
    # ILSVRC-12's images. The means are those of Caffe's networks, so that zero padding is the same as theirs.
    mean: ClassVar[tuple[float, float, float]] = (123.68, 116.779, 103.939)
    std: ClassVar[tuple[float, float, float]] = (58.393, 57.12, 57.375)
    min_image_size: ClassVar[int] = 32  # below, nothing is left of an image behind the last pooling
    own_flags: ClassVar[Collection[str]] = ()

    def __init__(self, config: NetConfig, rank: int = 0, size: int = 1):
        super().__init__(config, rank, size)
        classes = config.network.num_classes
        if self.dataset_name == "digits32" and classes not in (0, DIGITS32_CLASSES):
            raise InputError(f"--nb_classes must be {DIGITS32_CLASSES} with the embedded data set. Received: {classes}")
        if self.image_size < self.min_image_size:
            raise InputError(
                f"--image_size must be at least {self.min_image_size} for {self.model_name}. "
                f"Received: {self.image_size}"
            )
        if self._weights_source:
            check_source(self._weights_source, self._target)
            if self._weights_source == IMAGENET:
                self._check_classes(NUM_CLASSES)

    @classmethod
    @abc.abstractmethod
    def recipe(cls, config: NetConfig) -> Recipe:
        """How the network is trained."""

    @abc.abstractmethod
    def build_network(self, num_classes: int, input_shape: tuple[int, int, int], **variant: Any) -> keras.Model:
        """The network, freshly initialised, in one of its `variants`; the classifier is its last layer."""

    @property
    def variants(self) -> Sequence[Mapping[str, Any]]:
        """Options of `build_network` that make networks of the same variables; the first is what is trained."""
        return ({},)

    @property
    def application(self) -> Application | None:
        """The counterpart in keras.applications, if there is one."""
        return None

    @classmethod
    def flag_defaults(cls, config: NetConfig) -> Mapping[str, Any]:
        recipe, is_embedded = cls.recipe(config), data_disk(config.data) == "embedded"
        return {
            "lrn_rate_init": is_embedded and recipe.digits32_learning_rate or recipe.learning_rate,
            "batch_size_norm": recipe.batch_size,
            "loss_w_dcy": recipe.weight_decay,
            "label_smoothing": recipe.label_smoothing,
            **({} if is_embedded else {"summ_step": 100, "save_step": 1000}),  # an epoch has thousands of steps
        }

    @classmethod
    def check_flags(cls, config: NetConfig, given: Collection[str]) -> None:
        super().check_flags(config, given)
        if config.network.keras_weights_body_only and not config.network.keras_weights:
            raise InputError("--keras_weights_body_only needs --keras_weights. Received: none")
        for name in NET_FLAGS:
            if name in given and name not in cls.own_flags:
                raise InputError(f"--{name} must be left out: it means nothing to this net script")

    @property
    def metrics(self) -> Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
        return top_metrics(self.num_classes)

    @property
    def dataset_name(self) -> str:
        return "digits32" if data_disk(self.config.data) == "embedded" else "ilsvrc12"

    @property
    def num_classes(self) -> int:
        known = DIGITS32_CLASSES if self.dataset_name == "digits32" else NUM_CLASSES
        return self.config.network.num_classes or known

    @property
    def image_size(self) -> int:
        """Pixels a side of the images in batches."""
        known = DIGITS32_IMAGE_SIZE if self.dataset_name == "digits32" else IMAGE_SIZE
        return self.config.data.image_size or known

    def load_data(self) -> Dataset:
        dataset = load_dataset(
            "ilsvrc12",
            self.config.data,
            image_size=self.image_size,
            num_classes=self.num_classes,
            mean=np.array(self.mean, np.float32),
            std=np.array(self.std, np.float32),
            quiet=self.config.quiet,
        )
        if self._weights_source and self.dataset_name == "digits32":
            # The embedded set has a mean and deviation of its own; given weights were trained with these.
            assert isinstance(dataset, ImageDataset)
            return dataclasses.replace(
                dataset, mean=np.array(self.mean, np.float32), std=np.array(self.std, np.float32)
            )
        return dataset

    def build_model(self) -> keras.Model:
        shape = (self.image_size, self.image_size, 3)
        if not self._weights_source:
            return self.build_network(self.num_classes, shape)
        given = self._given_weights
        keras.utils.set_random_seed(self.config.seed)  # reading the weights may have drawn numbers
        model = self.build_network(self.num_classes, shape, **given.variant)
        classifier = model.layers[-1].name
        taken = {
            path: array
            for path, array in given.arrays.items()
            if not (self._is_body_only and path.startswith(f"{classifier}/"))
        }
        assign_weights(model, taken, self._weights_source)
        return model

    @property
    def has_trained_weights(self) -> bool:
        return bool(self._weights_source) and not self._is_body_only

    @property
    def weights_source(self) -> str:
        if self._weights_source == IMAGENET and self.application:
            return f"keras.applications' {self.application.title}"
        return self._weights_source

    def identity(self) -> Mapping[str, Any]:
        """The content of the weights in place of their path."""
        return {"keras_weights": f"content {self._given_weights.digest()}"} if self._weights_source else {}

    @property
    def _weights_source(self) -> str:
        return self.config.network.keras_weights

    @property
    def _is_body_only(self) -> bool:
        return self.config.network.keras_weights_body_only

    @property
    def _target(self) -> Target:
        return Target(
            self.model_name, self.build_network, self.variants, self.application, self.image_size, self.mean, self.std
        )

    @functools.cached_property
    def _given_weights(self) -> GivenWeights:
        given = read_weights(self._weights_source, self._target, needs_classifier=not self._is_body_only)
        self._check_classes(given.num_classes)
        return given

    def _check_classes(self, found: int | None) -> None:
        if not self._is_body_only and found != self.num_classes:
            raise InputError(
                f"--keras_weights must have a class for each of the data's, {self.num_classes}. Received: "
                f"{found or 'no classifier'}; --keras_weights_body_only keeps all but the classifier, and trains from "
                "there"
            )

    @property
    def num_epochs(self) -> float:
        epochs = self.recipe(self.config).epochs if self.dataset_name == "ilsvrc12" else DIGITS32_EPOCHS
        return epochs * self.config.training.epochs_ratio

    def learning_rate_at(self, step: np.ndarray) -> np.ndarray:
        if self.dataset_name != "ilsvrc12":
            return warm_up_cosine(step, self.peak_learning_rate, self.num_iterations)
        recipe = self.recipe(self.config)
        scale = self.config.training.epochs_ratio * self.steps_per_epoch
        boundaries = [epoch * scale for epoch in recipe.decay_epochs]
        return warm_up_piecewise(step, self.peak_learning_rate, recipe.warm_up_epochs * scale, boundaries, recipe.decay)
