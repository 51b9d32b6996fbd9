"""Small networks of every kind, their weights at random and most of them zero."""

import keras
import numpy as np
from keras import layers


def with_zeros(model: keras.Model, removed: float = 0.8, seed: int = 0) -> keras.Model:
    """Random values for all floats of `model`; that share of each kernel is 0."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if "int" in str(variable.dtype):
            continue
        values = generator.normal(0, 0.3, shape)
        if len(shape) > 1:
            values[generator.random(shape) < removed] = 0
        elif variable.name in ("gamma", "moving_variance"):
            values = generator.uniform(0.5, 1.5, shape)
        variable.assign(values)
    return model


def convolutional() -> keras.Model:
    """A convolution, batch norm with and without scale, depthwise, separable and transposed ones, two outputs."""
    images = keras.Input((8, 8, 3), name="images")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stage1.conv")(images)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="stage1.bn")(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.BatchNormalization(scale=False, name="centred")(x)
    x = layers.SeparableConv2D(6, 3, name="separable")(x)
    x = layers.Conv2DTranspose(4, 2, name="transposed")(x)
    pooled = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, [layers.Dense(5, name="a")(pooled), layers.Dense(1, name="b")(pooled)], name="two")


def nested() -> keras.Model:
    """A model in a model, used twice, with dropout and its state of random numbers."""
    block = keras.Sequential(
        [keras.Input((12,)), layers.Dense(12, name="inner"), layers.Dropout(0.5, seed=3, name="drop")], name="block"
    )
    inputs = keras.Input((12,), name="numbers")
    return keras.Model(inputs, layers.Dense(3, name="fc")(block(block(inputs))), name="outer")


def recurrent() -> keras.Model:
    """An embedding, recurrent cells forwards and backwards, attention, layer normalisation."""
    words = keras.Input((7,), dtype="int32", name="words")
    x = layers.Embedding(30, 6, name="embedding")(words)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True, name="lstm"), name="both")(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.GRU(5, name="gru")(layers.LayerNormalization(name="norm")(x))
    return keras.Model(words, layers.Dense(2, activation="softmax", name="fc")(x), name="reader")


def mixed() -> keras.Model:
    """Variables of bfloat16, float16, float64 and float32."""
    inputs = keras.Input((6,), name="numbers")
    x = layers.Dense(5, dtype="bfloat16", name="brain")(inputs)
    x = layers.Dense(5, dtype="float16", name="half")(x)
    x = layers.Dense(5, dtype="float64", name="double")(x)
    x = layers.Dense(4, dtype="mixed_bfloat16", name="mixed")(x)
    return keras.Model(inputs, layers.Dense(2, dtype="float32", name="fc")(x), name="types")


def without_kernels() -> keras.Model:
    inputs = keras.Input((4,), name="numbers")
    return keras.Model(inputs, layers.ReLU(name="relu")(inputs), name="empty")


def small() -> keras.Model:
    """A kernel of one weight, one without any that is not 0, and one without zeros."""
    model = keras.Sequential(
        [
            keras.Input((1,)),
            layers.Dense(1, name="one"),
            layers.Dense(6, name="zeros"),
            layers.Dense(7, name="full"),
        ],
        name="small",
    )
    with_zeros(model, 0.0)
    model.get_layer("zeros").kernel.assign(np.zeros((1, 6)))
    return model


def example(model: keras.Model, count: int = 3) -> np.ndarray:
    """Inputs for a model of one input."""
    (inputs,) = model.inputs
    generator, shape = np.random.default_rng(5), (count, *inputs.shape[1:])
    return generator.integers(0, 30, shape) if inputs.dtype == "int32" else generator.normal(size=shape).astype("f4")
