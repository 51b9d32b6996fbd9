"""What of a network's calibration fits into memory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.graph import prunable_layers
from compressors.input_patches import input_patches
from compressors.layer_sizes import (
    LayerSizes,
    NetworkSizes,
    check_gram_memory,
    describe,
    kept_inputs,
    network_sizes,
    solvable,
)
from utils.errors import InputError

layers = keras.layers


def conv(path, width, outputs, side):
    return LayerSizes(path, width, outputs, ((side, side),))


def test_sizes_are_those_of_the_network():
    inputs = layers.Input((9, 8, 2))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="one")(inputs)
    shared = layers.Conv2D(4, 3, padding="same", name="two")
    x = layers.MaxPooling2D(2)(shared(shared(x)))
    x = layers.Conv2D(5, 2, dilation_rate=1, name="three")(x)
    model = keras.Model(inputs, layers.Dense(7, name="fc")(layers.Dense(3, name="rows")(layers.Flatten()(x))))
    found = network_sizes(model, np.zeros((9, 8, 2), np.float32))
    assert found.layers == [
        LayerSizes("one/kernel", 18, 4, ((5, 4),)),
        LayerSizes("two/kernel", 36, 4, ((5, 4), (5, 4))),
        LayerSizes("three/kernel", 16, 5, ((1, 1),)),
        LayerSizes("rows/kernel", 5, 3, ((1,),)),
        LayerSizes("fc/kernel", 3, 7, ((1,),)),
    ]
    assert found.activation == 4 * 5 * 4 * 4  # of a convolution's outputs


@pytest.mark.parametrize("max_positions", [None, 6, 20])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_rows_are_those_of_the_patches(max_positions, padding):
    inputs = layers.Input((11, 8, 2))
    x = layers.Conv2D(4, 3, strides=2, padding=padding, name="one")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="everywhere")(x))
    images = np.zeros((2, 11, 8, 2), np.float32)
    values = [images, keras.Model(inputs, x)(images)]
    for layer, value, size in zip(prunable_layers(model), values, network_sizes(model, images[0]).layers, strict=True):
        assert size.rows(max_positions) == (len(input_patches(layer, tf.constant(value), max_positions)) // 2,)


def test_a_layer_that_sees_few_inputs_keeps_them_all():
    sizes = NetworkSizes([conv("a", 100, 4, 10), LayerSizes("fc", 100, 4, ((1,),))], 0)
    kept = kept_inputs(sizes, 49)
    assert list(kept) == ["fc"]  # 2 * 49 < 100
    np.testing.assert_array_equal(kept["fc"].numbers, np.arange(49))
    assert describe(kept) is None
    assert kept_inputs(sizes, 50) == {}
    assert kept_inputs(sizes, 49, without=["fc"]) == {}


def test_the_widest_layers_keep_samples_of_half_their_bytes_until_all_fit():
    # Matrices of 4 * 1000 * 1000 = 4 MB, 2.56 MB and 0.16 MB. To 5 MB: a takes 2 MB, which makes 4.72.
    sizes = NetworkSizes([conv("a", 1000, 8, 8), conv("b", 800, 8, 8), conv("c", 200, 8, 8)], 0)
    kept = kept_inputs(sizes, 320, gram_memory=5e-3)
    assert {path: len(inputs.numbers) for path, inputs in kept.items()} == {"a": 500}
    # To 2 MB: a 2, b 1.28, a 1, that is 2.44; b 0.64, that is 1.8.
    kept = kept_inputs(sizes, 320, gram_memory=2e-3)
    assert {path: len(inputs.numbers) for path, inputs in kept.items()} == {"a": 250, "b": 200}
    numbers = kept["a"].numbers
    assert np.all(np.diff(numbers) > 0)
    assert numbers[-1] < kept["a"].available == 320 * 64
    assert len(np.unique(numbers // 64)) > 150  # of 320 images
    assert describe(kept) == "a sample of inputs, to stay within --ws_gram_memory: a (250 of 20,480), b (200 of 20,480)"
    np.testing.assert_array_equal(kept_inputs(sizes, 320, gram_memory=2e-3)["a"].numbers, numbers)


def test_too_little_memory_is_an_input_error_that_says_what_is_enough():
    sizes = NetworkSizes([conv("a", 1000, 8, 8), conv("b", 30, 8, 8)], 0)
    # 64 rows of 1000 inputs and a matrix of 30 x 30: 4 * (64000 + 900) bytes.
    message = r"--ws_gram_memory must be at least 0.00026 for this network. Received: 0.0002"
    with pytest.raises(InputError, match=message):
        kept_inputs(sizes, 320, gram_memory=2e-4)
    with pytest.raises(InputError, match=message):
        check_gram_memory([(10, 10, 10, 8), (30, 8)], 2e-4)
    check_gram_memory([(10, 10, 10, 8), (30, 8)], 2.6e-4)
    assert len(kept_inputs(sizes, 320, gram_memory=2.6e-4)["a"].numbers) == 64


def test_fewer_images_and_positions_are_solved_with_where_memory_is_short():
    # 4 MB an image at its largest, 4 at a time: 320 images need 5.12 GB.
    sizes = NetworkSizes([conv("a", 30, 100, 64), conv("b", 300, 100, 16)], 4_000_000)
    assert solvable(sizes, 320, 6.0) == (320, 256)
    assert solvable(sizes, 320, 4.0) == (250, 256)
    assert solvable(sizes, 320, 1.6) == (100, 256)
    assert solvable(sizes, 320, 0.1) == (64, 256)  # never fewer
    assert solvable(sizes, 40, 0.1)[0] == 40
    # 320 images * 100 outputs * (256 + 256) positions * 4 bytes: 65.5 MB.
    sizes = sizes._replace(activation=1)
    assert solvable(sizes, 320, 0.066) == (320, 256)
    assert solvable(sizes, 320, 0.04) == (320, 128)
    assert solvable(sizes, 320, 0.01) == (320, 32)
    # b needs 2 * 300 inputs: of ten images 64 positions.
    assert solvable(sizes, 10, 1e-6) == (10, 64)
