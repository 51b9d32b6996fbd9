"""A small network's parameters."""

import keras
import pytest

from compressors.parameters import Parameters


@pytest.fixture(scope="session")
def parameters():
    """Kernels conv1 (3, 3, 1, 4), conv2 (1, 1, 4, 3), depthwise (3, 3, 3, 1), fc (3, 2)."""
    inputs = keras.Input((8, 8, 1))
    values = keras.layers.Conv2D(4, 3, name="conv1")(inputs)
    values = keras.layers.Conv2D(3, 1, name="conv2")(values)
    values = keras.layers.DepthwiseConv2D(3, name="depthwise")(values)
    values = keras.layers.GlobalAveragePooling2D()(values)
    return Parameters(keras.Model(inputs, keras.layers.Dense(2, name="fc")(values)))
