import keras
import numpy as np
import pytest

from export.trim import VALUES, load_trim, save_trim
from tests.export.trim import networks, plain_reader


def network():
    """Kernels with zeros enough for columns, a dense one, a depthwise one, and more symbols than a first block has."""
    images = keras.Input((9, 9, 3), name="images")
    x = keras.layers.Conv2D(12, 3, use_bias=False, name="conv1")(images)
    x = keras.layers.BatchNormalization(name="bn1")(x)
    x = keras.layers.Conv2D(20, 3, name="conv2")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = networks.with_zeros(keras.Model(images, keras.layers.Dense(4, name="fc")(x), name="net"), 0.7)
    kernel = model.get_layer("conv2").kernel.numpy()
    kernel[:, :, ::2] = 0  # so that the columns of inputs differ
    model.get_layer("conv2").kernel.assign(kernel)
    return model


@pytest.mark.parametrize("values", VALUES)
def test_a_reader_written_from_the_description_alone_gets_the_same_numbers(values, tmp_path):
    path = tmp_path / "model.trim.npz"
    save_trim(network(), path, values)
    found, expected = plain_reader.read(path), load_trim(path).variables
    for mine, variable in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.array(mine, variable.dtype), variable.numpy().ravel())


def test_integers_of_a_seed_are_out_of_its_reach_but_floats_of_double_precision_are_not(tmp_path):
    inputs = keras.Input((6,), name="numbers")
    model = networks.with_zeros(keras.Model(inputs, keras.layers.Dense(5, dtype="float64", name="fc")(inputs)), 0.5)
    save_trim(model, tmp_path / "model.trim.npz", "float32")
    kernel, bias = plain_reader.read(tmp_path / "model.trim.npz")
    np.testing.assert_array_equal(kernel, model.get_layer("fc").kernel.numpy().ravel())
    np.testing.assert_array_equal(bias, model.get_layer("fc").bias.numpy())
