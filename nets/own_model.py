"""The user's own network at the user's own data: `--own_model` and `--own_data`."""

import functools
import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import keras
import numpy as np
import tensorflow as tf

from datasets.own import OwnDataset, dataset_name, load_own_dataset
from datasets.own_options import picture_shape
from nets.config import NetConfig, NetworkConfig
from nets.given_network import call_function, is_function, read_keras_file
from nets.learning_rates import warm_up_cosine
from nets.model_helper import ModelHelper
from nets.network_checks import check_network, check_same, remade
from nets.tasks import (
    ACCURACY,
    MINUS_ERROR,
    Outputs,
    classification_loss,
    classifier_outputs,
    is_right,
    label_variances,
    normalised_errors,
    top_metrics,
)
from utils.errors import InputError
from utils.flags import flag_fields

LITTLE_BETTER_THAN_CHANCE = 1.2  # times the accuracy of guessing


class NetworkFacts(NamedTuple):
    """What must be known of a network beside its weights.

    input_shape: without the batch; None where it leaves a size open.
    outputs: what they are in a classification.
    """

    input_shape: tuple[int | None, ...]
    num_outputs: int
    outputs: Outputs


class OwnModelHelper(ModelHelper):
    """A network from a file or a function, and images from folders or arrays from files."""

    DEFAULT_RATES: ClassVar[Mapping[str, float]] = {"adam": 0.001, "sgd": 0.01}

    def __init__(self, config: NetConfig, rank: int = 0, size: int = 1):
        super().__init__(config, rank, size)
        self._own = config.own_model
        for name, value in (("--own_model", self._own.source), ("--own_data", config.own_data.source)):
            if not value:
                raise InputError(f"{name} must be given with nets/own_model_run.py. Received: none")
        self._weights: list[np.ndarray] | None = None

    @classmethod
    def flag_defaults(cls, config: NetConfig) -> Mapping[str, Any]:
        return {
            "lrn_rate_init": cls.DEFAULT_RATES[config.own_model.optimizer],
            "batch_size": 32,
            "batch_size_norm": 32,
            "loss_w_dcy": 0.0,
        }

    @classmethod
    def check_flags(cls, config: NetConfig, given: Collection[str]) -> None:
        useless = {
            **dict.fromkeys(("data_disk", "data_dir_local", "data_dir_hdfs", "data_hdfs_host"), "--own_data"),
            **dict.fromkeys(flag_fields(NetworkConfig), "--own_model"),
            "image_size": "--own_image_size",
            "skip_bad_images": "--own_skip_bad",
        }
        for name, instead in useless.items():
            if name in given:
                raise InputError(f"--{name} must be left out with nets/own_model_run.py, which has {instead}")
        if "label_smoothing" in given and config.own_model.task == "regression":
            raise InputError("--label_smoothing needs --own_task classification. Received: --own_task regression")
        if "momentum" in given and config.own_model.optimizer == "adam":
            raise InputError("--momentum needs --own_optimizer sgd. Received: --own_optimizer adam")

    @property
    def model_name(self) -> str:
        source = self._own.source
        return _safe_name(source.split(":")[1] if is_function(source) else Path(source).stem)

    @property
    def dataset_name(self) -> str:
        return dataset_name(self.config.own_data.source)

    @property
    def has_trained_weights(self) -> bool:
        return not self._own.train_dense

    @property
    def weights_source(self) -> str:
        return self._own.source

    @property
    def num_epochs(self) -> float:
        return self._own.num_epochs * self.config.training.epochs_ratio

    def learning_rate_at(self, step: np.ndarray) -> np.ndarray:
        return warm_up_cosine(step, self.peak_learning_rate, self.num_iterations)

    def optimizer(self) -> keras.Optimizer:
        return keras.optimizers.Adam(0.0) if self._own.optimizer == "adam" else super().optimizer()

    def build_model(self) -> keras.Model:
        given = self._given_network()
        model = remade(given, self._shape, self._name)
        if self._weights is None:
            check_same(given, model, self._name)
            self._weights = model.get_weights()
        else:  # a function may draw other ones each time it is called
            model.set_weights(self._weights)
        return model

    @functools.cached_property
    def _facts(self) -> NetworkFacts:
        model = self._given_network()
        return NetworkFacts(tuple(model.inputs[0].shape[1:]), model.outputs[0].shape[-1], classifier_outputs(model))

    @functools.cached_property
    def _shape(self) -> tuple[int, ...]:
        """The shape of an example: the network's own, or that of the data where the network leaves sizes open."""
        given = tuple(size for size in self._facts.input_shape if size is not None)
        if len(given) == len(self._facts.input_shape):
            return given
        if self.config.own_data.image_size:
            return picture_shape(self.config.own_data.image_size, self._facts.input_shape)
        return self._own_dataset.train.images.shape[1:]

    def _given_network(self) -> keras.Model:
        source = self._own.source
        # Layers without names of their own and new weights are the same each time.
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(self.config.seed)
        model = call_function(source) if is_function(source) else read_keras_file(Path(source), self._own.unsafe)
        check_network(model, self._name)
        return model

    @property
    def _name(self) -> str:
        """What errors call the network."""
        return f"the network of --own_model {self._own.source}"

    def load_data(self) -> OwnDataset:
        dataset = load_own_dataset(
            self.config.own_data,
            self.config.data,
            task=self._own.task,
            input_shape=self._facts.input_shape,
            seed=self.config.seed,
            quiet=self.config.quiet,
        )
        self._check_fit(dataset)
        return dataset

    @property
    def _own_dataset(self) -> OwnDataset:
        return cast(OwnDataset, self.dataset)  # what `load_data` gave

    def _check_fit(self, dataset: OwnDataset) -> None:
        """Raises InputError unless the network's inputs and outputs are those of the data."""
        outputs, classes = self._facts.num_outputs, dataset.num_classes
        given, wanted = dataset.train.images.shape[1:], self._facts.input_shape
        if len(given) != len(wanted) or any(own not in (None, size) for own, size in zip(wanted, given, strict=True)):
            raise InputError(
                f"--own_data must fit the network's input {list(wanted)}. Received: examples of {list(given)}"
            )
        if self._own.task == "regression":
            if outputs != classes:
                raise InputError(
                    f"the network must have an output for each number of a label, {classes}. Received: {outputs}"
                )
            return
        is_named = dataset.class_names != tuple(map(str, range(classes)))
        capacity = 2 if outputs == 1 else outputs
        # Numbers as labels are the outputs' own numbers, so that a class may be missing in the data; names are not.
        if capacity < classes or is_named and capacity > classes:
            names = ", ".join(dataset.class_names[:6]) + (", ..." if classes > 6 else "")
            raise InputError(
                f"the network must have an output for each class of the data, {classes} ({names}). Received: {outputs}"
            )

    @property
    def gives_logits(self) -> bool:
        return self._own.task == "classification" and self._facts.outputs == Outputs.LOGITS

    @property
    def metric_name(self) -> str:
        return ACCURACY if self._own.task == "classification" else MINUS_ERROR

    @functools.cached_property
    def _variances(self) -> np.ndarray:
        return label_variances(self._own_dataset.train.labels)

    def loss(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        if self._own.task == "regression":
            return tf.reduce_mean(normalised_errors(labels, outputs, self._variances))
        return classification_loss(self._facts.outputs, labels, outputs)

    def training_loss(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        smoothing = self.config.training.label_smoothing
        if not smoothing:
            return self.loss(labels, outputs)
        return classification_loss(self._facts.outputs, labels, outputs, smoothing)

    def quality(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        if self._own.task == "regression":
            return -normalised_errors(labels, outputs, self._variances)
        return is_right(self._facts.outputs, labels, outputs)

    @property
    def metrics(self) -> Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
        return top_metrics(self.num_classes) if self._own.task == "classification" else {}

    def advice(self, tested: Mapping[str, float]) -> str:
        classes = self.dataset.num_classes
        is_regression = self._own.task == "regression"
        chance = -1.0 if is_regression else LITTLE_BETTER_THAN_CHANCE / classes
        if tested["accuracy"] > chance:
            return ""
        guess = "always saying the mean" if is_regression else f"guessing among {classes} classes"
        remedy = (
            "was --own_epochs or --lrn_rate_init too small or too large?"
            if self._own.train_dense
            else "is its input prepared as in its training (--own_rescale, --own_mean, --own_std), and is it trained "
            "(if not: --own_train_dense)?"
        )
        return f"the dense network is hardly better than {guess}: {remedy}"

    def identity(self) -> Mapping[str, Any]:
        """The content of network and data in place of their paths."""
        return {"own_model": f"content {self._network_digest()}", "own_data": f"content {self._data_digest()}"}

    def _network_digest(self) -> str:
        source = self._own.source
        if not is_function(source):
            return hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]
        model = self.build_model()
        digest = hashlib.sha256(repr([(w.path, tuple(w.shape)) for w in model.weights]).encode())
        if self.has_trained_weights:  # new ones may be drawn anew each time
            for values in model.get_weights():
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()[:12]

    def _data_digest(self) -> str:
        dataset = self._own_dataset
        digest = hashlib.sha256(repr(dataset.class_names).encode())
        for split in (dataset.train, dataset.validation, dataset.test):
            for array in split:
                digest.update(repr((array.shape, array.dtype)).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:12]


def _safe_name(name: str) -> str:
    """`name` with letters that may be in the name of a folder."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "own_model"
