"""A small trained-looking network with zeros in it, and examples for it: what tests of exports work on."""

import keras
import numpy as np

from export.formats import Source
from export.proof import EvaluationSet

SHAPE = (8, 8, 3)
CLASSES = 5


def small_network(seed: int = 0, sparsity: float = 0.9) -> keras.Model:
    """Convolution, batch norm, depthwise convolution, dense layer; `sparsity` of each kernel is zero."""
    keras.utils.set_random_seed(seed)
    images = keras.Input(SHAPE, name="images")
    x = keras.layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv")(images)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, name="depthwise")(x)
    x = keras.layers.Conv2D(64, 1, activation="relu", name="pointwise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(images, keras.layers.Dense(CLASSES, name="fc")(x), name="small")
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        values = rng.normal(0.5 if "variance" not in variable.path else 2.0, 0.3, variable.shape)
        if "kernel" in variable.path:
            values = rng.normal(0, 1, variable.shape) * (rng.random(variable.shape) >= sparsity)
        variable.assign(np.abs(values) + 0.1 if "variance" in variable.path else values)
    return model


def small_source(model: keras.Model | None = None) -> Source:
    """The network as formats take it."""
    return Source(model or small_network(), SHAPE, examples(64), lambda network: network)


def examples(count: int, seed: int = 1) -> np.ndarray:
    """Images [count, 8, 8, 3]."""
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def evaluation_set(model: keras.Model, count: int = 50, batch: int = 16) -> EvaluationSet:
    """Images whose labels are what the network says, but for every tenth: its accuracy is 0.9."""
    images = examples(count)
    labels = np.asarray(model(images)).argmax(1)
    labels[::10] = (labels[::10] + 1) % CLASSES
    batches = [(images[i : i + batch], labels[i : i + batch]) for i in range(0, count, batch)]
    return EvaluationSet(
        batches=batches,
        num_batches=len(batches),
        quality=lambda truth, outputs: (outputs.argmax(1) == truth).astype(float),
        agrees=lambda wanted, outputs: wanted.argmax(1) == outputs.argmax(1),
        calibration=examples(64, seed=2),
    )
