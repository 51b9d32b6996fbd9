import gzip

import keras
import numpy as np
import pytest

from export.sizes import kernel_layers, kernel_table, model_sizes
from utils.errors import InputError


@pytest.fixture
def two_dense_layers():
    """5 -> 3 with bias, then 3 -> 2 without: kernels of 15 and 6 weights, 3 biases, which start at 0."""
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(3, name="first"), keras.layers.Dense(2, use_bias=False, name="second")]
    )
    first, second = np.zeros((5, 3), np.float32), np.full((3, 2), 0.5, np.float32)
    first.flat[[0, 4, 9, 14]] = (1.0, -2.0, 3.0, 4.0)
    model.get_layer("first").kernel.assign(first)
    model.get_layer("second").kernel.assign(second)
    return model


@pytest.fixture
def convolutions():
    """9x9x3 -> strided convolution 4x4x4 -> grouped -> depthwise 4x4x8 -> dense 10."""
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="strided")(inputs)
    x = keras.layers.Conv2D(4, 3, groups=2, padding="same", name="grouped")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="depthwise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="fc")(x))


def test_bytes_of_two_layers_by_hand(two_dense_layers):
    sizes = model_sizes(two_dense_layers)
    assert sizes["dense_bytes"] == 4 * (15 + 3 + 6)
    # Bitmaps of 15 and 6 bits take 2 bytes and 1; 4 and 6 values are not 0; 3 biases are stored dense.
    assert sizes["sparse_bytes"] == (2 + 4 * 4) + (1 + 4 * 6) + 4 * 3
    assert {key: sizes[key] for key in sizes if "weights" in key} == {
        "weights": 24,
        "nonzero_weights": 10,
        "kernel_weights": 21,
        "nonzero_kernel_weights": 10,
    }


def test_gzip_bytes_are_those_of_the_raw_weights_and_the_same_each_time(two_dense_layers):
    raw = b"".join(value.tobytes() for value in two_dense_layers.get_weights())
    assert model_sizes(two_dense_layers)["gzip_bytes"] == len(gzip.compress(raw, 6, mtime=0))
    assert model_sizes(two_dense_layers) == model_sizes(two_dense_layers)


def test_zeros_make_the_sparse_and_gzip_forms_smaller_but_not_the_dense_one():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((200,)), keras.layers.Dense(100, name="fc")])
    before = model_sizes(model)
    kernel = model.get_layer("fc").kernel
    kernel.assign(np.where(np.random.default_rng(0).random((200, 100)) < 0.9, 0, kernel.numpy()))
    after = model_sizes(model)
    assert after["dense_bytes"] == before["dense_bytes"]
    assert after["sparse_bytes"] < 0.2 * before["sparse_bytes"]
    assert after["gzip_bytes"] < 0.2 * before["gzip_bytes"]


def test_batch_norm_statistics_are_stored_dense(convolutions):
    assert list(kernel_layers(convolutions)) == ["strided/kernel", "grouped/kernel", "depthwise/kernel", "fc/kernel"]
    sizes = model_sizes(convolutions)
    assert sizes["weights"] == convolutions.count_params()
    assert sizes["kernel_weights"] == 108 + 72 + 72 + 80


def test_flops_by_hand(convolutions):
    paths = ["strided/kernel", "grouped/kernel", "depthwise/kernel", "fc/kernel"]
    rows = {row["path"]: row for row in kernel_table(convolutions, paths, {})}
    assert rows["strided/kernel"]["flops_dense"] == 2 * (3 * 3 * 3 * 4) * (4 * 4)
    assert rows["grouped/kernel"]["flops_dense"] == 2 * (3 * 3 * 2 * 4) * (4 * 4)
    assert rows["depthwise/kernel"]["flops_dense"] == 2 * (3 * 3 * 4 * 2) * (4 * 4)
    assert rows["fc/kernel"]["flops_dense"] == 2 * (8 * 10)


def test_sparse_flops_and_sparsity_follow_the_zeros(convolutions):
    kernel = convolutions.get_layer("strided").kernel
    values = np.ones(kernel.shape, np.float32)
    values.flat[:27] = 0.0
    kernel.assign(values)
    (row,) = kernel_table(convolutions, ["strided/kernel"], {"strided/kernel": 0.26})
    assert row == {
        "path": "strided/kernel",
        "shape": [3, 3, 3, 4],
        "parameters": 108,
        "target_ratio": 0.26,
        "sparsity": 0.25,
        "flops_dense": 2 * 108 * 16,
        "flops_sparse": 2 * 81 * 16,
    }


def test_rows_keep_the_order_asked_for_and_a_missing_target_is_0(convolutions):
    rows = kernel_table(convolutions, ["fc/kernel", "strided/kernel"], {"fc/kernel": 0.5})
    assert [(row["path"], row["target_ratio"]) for row in rows] == [("fc/kernel", 0.5), ("strided/kernel", 0.0)]


def test_kernels_of_nested_models_are_found():
    block = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(3, 3, name="conv")], name="block")
    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, block(inputs))
    (path,) = kernel_layers(model)
    assert kernel_table(model, [path], {})[0]["flops_dense"] == 2 * 54 * 16
    assert model_sizes(model)["kernel_weights"] == 54


def test_a_path_that_is_no_kernel_is_named(convolutions):
    with pytest.raises(InputError, match="Received: conv9/kernel"):
        kernel_table(convolutions, ["fc/kernel", "conv9/kernel"], {})


def test_an_output_without_a_fixed_size_is_refused():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(inputs))
    with pytest.raises(InputError, match="layer conv must have an output of fixed size"):
        kernel_table(model, ["conv/kernel"], {})


def test_kernels_of_every_class_are_counted_wherever_they_lie():
    inputs = keras.Input((8, 4))
    x = keras.layers.SeparableConv1D(6, 3, use_bias=False)(keras.layers.Conv1D(4, 3, use_bias=False)(inputs))
    x = keras.layers.Conv1DTranspose(5, 2, use_bias=False)(x)
    x = keras.layers.MultiHeadAttention(1, 2, use_bias=False)(x, x)
    x = keras.layers.LSTM(3, use_bias=False)(x)
    model = keras.Model(inputs, x)
    separable, attention, recurrent = 3 * 4 + 4 * 6, 4 * 5 * 2, 5 * 12 + 3 * 12
    sizes = model_sizes(model)
    assert sizes["kernel_weights"] == 3 * 4 * 4 + separable + 2 * 6 * 5 + attention + recurrent
    assert sizes["weights"] == sizes["kernel_weights"]
    embedding = keras.Sequential([keras.Input((3,)), keras.layers.Embedding(10, 2)])
    assert model_sizes(embedding)["kernel_weights"] == 0


def test_the_cost_of_all_calls_of_a_layer_can_be_given(two_dense_layers):
    path = two_dense_layers.get_layer("first").kernel.path
    rows = kernel_table(two_dense_layers, [path], {}, {path: 3})
    assert rows[0]["flops_dense"] == 2 * 15 * 3
