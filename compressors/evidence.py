"""What pruners may look at beside the weights: activations and gradients on a few training batches."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.graph import run_graph
from compressors.parameters import DEPTHWISE, Parameters, leaf_layers


class NoEvidence:
    """Zeros of the right shapes: for asking a pruner how many numbers it needs."""

    def __init__(self, parameters: Parameters):
        self._parameters = parameters

    def generator(self, path: str) -> np.random.Generator:
        return np.random.default_rng(0)

    def zero_shares(self, path: str) -> np.ndarray:
        parameter = self._parameters[path]
        channels = parameter.shape[-1] * (parameter.shape[-2] if parameter.kind == DEPTHWISE else 1)
        return np.zeros(channels, np.float32)

    mean_activations = zero_shares

    def gradient(self, path: str) -> np.ndarray:
        return np.zeros(self._parameters[path].shape, np.float32)


class TrainingEvidence:
    """Measures on the batches of `training` what it is asked for, each once.

    The activation of a layer is the output of the rectifier, or other activation, that follows it directly or through
    its batch norm; else that of the batch norm, else its own.

    Args:
        training: gives `batches()`, `loss` and `seed`.
        epoch: the random numbers' own, so that they are fresh in each epoch and the same after a resume.
    """

    def __init__(self, model: keras.Model, training: Any, epoch: int):
        self._model, self._training, self._epoch = model, training, epoch

    def generator(self, path: str) -> np.random.Generator:
        return np.random.default_rng([self._training.seed, self._epoch, *path.encode()])

    def zero_shares(self, path: str) -> np.ndarray:
        return self._activations[path].zero_shares

    def mean_activations(self, path: str) -> np.ndarray:
        return self._activations[path].means

    def gradient(self, path: str) -> np.ndarray:
        return self._gradients[path]

    @functools.cached_property
    def _activations(self) -> dict[str, "_Activation"]:
        observed = {chain[-1]: layer.kernel.path for layer, chain in _chains(self._model).items()}

        @tf.function
        def measure(images, labels):
            found = {}

            def call(layer, args, kwargs):
                output = layer(*args, **kwargs)
                if layer in observed:
                    axes = list(range(len(output.shape) - 1))
                    zeros = tf.cast(tf.equal(output, 0), tf.float32)
                    found[observed[layer]] = tf.reduce_mean(zeros, axes), tf.reduce_mean(output, axes)
                return output

            run_graph(self._model, images, call)
            return found

        found = _mean_over(self._training.batches(), measure)
        return {path: _Activation(*pair) for path, pair in found.items()}

    @functools.cached_property
    def _gradients(self) -> dict[str, np.ndarray]:
        variables = self._model.trainable_variables

        @tf.function
        def gradients(images, labels):
            with tf.GradientTape() as tape:
                loss = self._training.loss(labels, self._model(images, training=False))
            return tape.gradient(loss, [variable.value for variable in variables])

        found = _mean_over(self._training.batches(), gradients)
        return {variable.path: gradient for variable, gradient in zip(variables, found, strict=True)}


class _Activation(NamedTuple):
    zero_shares: np.ndarray
    means: np.ndarray


def following_batch_norms(model: keras.Model) -> dict[str, keras.layers.BatchNormalization]:
    """The batch norm that alone reads a convolution's output, by the path of the convolution's kernel."""
    return {
        layer.kernel.path: chain[1]
        for layer, chain in _chains(model).items()
        if isinstance(layer, keras.layers.Conv2D) and len(chain) > 1 and _is_norm(chain[1])
    }


def _chains(model: keras.Model) -> dict[keras.Layer, list[keras.Layer]]:
    """Each layer with a kernel -> itself, then the batch norm and the activation that alone read it."""
    readers: dict[keras.Layer, list[keras.Layer]] = {}

    def call(layer, args, kwargs):
        for producer in keras.tree.flatten((args, kwargs)):
            if isinstance(producer, keras.Layer):
                readers.setdefault(producer, []).append(layer)
        return layer

    run_graph(model, keras.tree.map_structure(lambda tensor: "input", model.input), call)

    def followed(chain: list[keras.Layer], is_allowed: Callable[[keras.Layer], bool]) -> list[keras.Layer]:
        following = readers.get(chain[-1], [])
        return [*chain, following[0]] if len(following) == 1 and is_allowed(following[0]) else chain

    return {
        layer: followed(followed([layer], _is_norm), _is_activation)
        for layer in leaf_layers(model)
        if isinstance(getattr(layer, "kernel", None), keras.Variable)
    }


def _is_norm(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _is_activation(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.ReLU | keras.layers.Activation) or getattr(layer, "is_elementwise", False)


def _mean_over(batches: tf.data.Dataset, measure: Callable) -> Any:
    """The mean of each array of `measure(images, labels)` over the batches."""
    found = [keras.tree.map_structure(np.asarray, measure(images, labels)) for images, labels in batches]
    return keras.tree.map_structure(lambda *arrays: np.mean(arrays, axis=0), *found)
