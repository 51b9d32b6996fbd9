"""A small network, pictures for it, and its training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers


@pytest.fixture
def labels():
    return np.arange(16) % 4


@pytest.fixture
def images(labels):
    """Noise around a color for each label."""
    colors = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]])[labels]
    return (np.random.default_rng(0).normal(size=(16, 8, 8, 3)) + colors[:, None, None]).astype(np.float32)


@pytest.fixture
def network():
    """Residual, with a ReLU of each kind: a layer, an `Activation`, ReLU6, and of convolution and dense layers."""
    inputs = keras.Input((8, 8, 3), name="images")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = shortcut = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="block1.conv1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="block1.conv2")(x)
    x = layers.Activation("relu", name="block1.relu")(layers.Add(name="block1.add")([x, shortcut]))
    x = layers.ReLU(6.0, name="block1.relu6")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(5, activation="relu", name="fc1")(x)
    return keras.Model(inputs, layers.Dense(4, name="fc2")(x), name="net")


class Trainer:
    """Plain stochastic gradient descent on one batch."""

    def __init__(self, model, images, labels, rate=0.3, is_compiled=False):
        self._optimizer = keras.optimizers.SGD(rate)
        self._optimizer.build(model.trainable_variables)
        self._model, self._images, self._labels = model, tf.constant(images), tf.constant(labels)
        self._step = tf.function(self._one_step) if is_compiled else self._one_step

    def losses(self, steps):
        return [float(self._step()) for _ in range(steps)]

    @property
    def trace_count(self):
        return self._step.experimental_get_tracing_count()

    def _one_step(self):
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model(self._images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(self._labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss


@pytest.fixture
def trainer(images, labels):
    return lambda model, **arguments: Trainer(model, images, labels, **arguments)
