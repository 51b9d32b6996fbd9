import keras
import numpy as np
import pytest
from keras import layers

from nets.blocks import centred_convolution, convolution, margin, numbered


def _of_ones(build, rows):
    """Outputs for a one-pixel-wide image of the given rows, with a 3x3 kernel of ones and stride 2."""
    image = layers.Input((len(rows), 1, 1))
    model = keras.Model(image, build(image, 1, 3, 2, "conv"))
    model.get_layer("conv").kernel.assign(np.ones((3, 3, 1, 1)))
    return np.ravel(model(np.reshape(rows, (1, -1, 1, 1)).astype("float32")))


def test_a_centred_convolution_has_as_many_zeros_above_as_below():
    np.testing.assert_array_equal(_of_ones(centred_convolution, [1, 2, 3, 4, 5, 6]), [0 + 1 + 2, 2 + 3 + 4, 4 + 5 + 6])


def test_the_other_convolution_has_them_below():
    np.testing.assert_array_equal(_of_ones(convolution, [1, 2, 3, 4, 5, 6]), [1 + 2 + 3, 3 + 4 + 5, 5 + 6 + 0])


@pytest.mark.parametrize(("kernel_size", "strides"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_a_centred_convolution_is_the_sum_over_a_centred_window(kernel_size, strides):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 9, 8, 3)).astype("float32")
    inputs = layers.Input((9, 8, 3))
    model = keras.Model(inputs, centred_convolution(inputs, 4, kernel_size, strides, "conv"))
    kernel, half = model.get_layer("conv").kernel.numpy(), kernel_size // 2
    padded = np.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
    expected = [
        [
            np.einsum("bhwi,hwio->bo", padded[:, row : row + kernel_size, column : column + kernel_size], kernel)
            for column in range(0, 8, strides)
        ]
        for row in range(0, 9, strides)
    ]
    np.testing.assert_allclose(model(images), np.transpose(expected, (2, 0, 1, 3)), atol=1e-4)


def test_a_margin_is_a_layer_only_where_it_has_a_width():
    x = layers.Input((4, 4, 1))
    assert margin(x, 0, "conv") is x
    assert margin(x, 2, "conv").shape == (None, 8, 8, 1)


def test_numbered_layers_are_called_in_turn():
    x = layers.Input((4,))
    model = keras.Model(x, numbered(x, "classifier", [layers.ReLU, layers.Flatten, layers.ReLU]))
    assert [layer.name for layer in model.layers[1:]] == ["classifier.0", "classifier.1", "classifier.2"]
