"""A small network's parameters, and what a policy does with a pruner in one epoch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.components import When
from compressors.parameters import Parameters


class SeededEvidence:
    """Evidence whose arrays the test gives, by path."""

    def __init__(self, seed=0, **arrays):
        self._seed, self._arrays = seed, arrays

    def generator(self, path):
        return np.random.default_rng([self._seed, *path.encode()])

    def zero_shares(self, path):
        return np.asarray(self._arrays["zero_shares"][path])

    def mean_activations(self, path):
        return np.asarray(self._arrays["mean_activations"][path])

    def gradient(self, path):
        return np.asarray(self._arrays["gradient"][path])


@pytest.fixture(scope="session")
def parameters():
    """Kernels conv1 (3, 3, 2, 4), conv2 (1, 1, 4, 4), wide (1, 1, 4, 10), depthwise (3, 3, 10, 1), fc (10, 3)."""
    inputs = keras.Input((8, 8, 2))
    values = keras.layers.Conv2D(4, 3, name="conv1")(inputs)
    values = keras.layers.Conv2D(4, 1, name="conv2")(values)
    values = keras.layers.Conv2D(10, 1, name="wide")(values)
    values = keras.layers.DepthwiseConv2D(3, name="depthwise")(values)
    values = keras.layers.GlobalAveragePooling2D()(values)
    return Parameters(keras.Model(inputs, keras.layers.Dense(3, name="fc")(values)))


@pytest.fixture(scope="session")
def masks_of(parameters):
    """The masks of an epoch, by path; with `steps` a list of them, made in compiled code."""

    def masks(pruner, kernels, when=None, evidence=None, steps=None):
        targets = pruner.targets(parameters)
        weights = {path: tf.constant(kernel, tf.float32) for path, kernel in kernels.items()}
        previous = {path: tf.ones_like(kernel) for path, kernel in weights.items()}
        numbers = {}
        for target in targets:
            looked = pruner.first_look(target, weights[target.path].numpy())
            found = pruner.numbers(target, when or When(0, 0, 1), looked, evidence or SeededEvidence())
            assert found.dtype == np.float32
            numbers[target.path] = tf.constant(found)

        def make(step):
            return pruner.masks(targets, weights, previous, numbers, step)

        made = make if steps is None else tf.function(make)
        found = [made(tf.constant(step, tf.int64)) for step in ([0] if steps is None else steps)]
        found = [{path: mask.numpy() for path, mask in masks.items()} for masks in found]
        return found[0] if steps is None else found

    return masks


@pytest.fixture(scope="session")
def evidence_of():
    return SeededEvidence
