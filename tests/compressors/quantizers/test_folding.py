"""Batch norms folded away, activations in layers of their own."""

import keras
import numpy as np
import pytest
from keras import layers

from compressors.quantizers.folding import fold_batch_norm, split_activations
from nets.layers import FusedBatchNormalization
from utils.errors import InputError

IMAGES = np.random.default_rng(0).normal(size=(3, 6, 6, 4)).astype(np.float32)


def randomized(model):
    """With weights and moving statistics that are none of the initial ones."""
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if "variance" in variable.path or "gamma" in variable.path:
            variable.assign(rng.uniform(0.3, 2.0, variable.shape))
        else:
            variable.assign(rng.normal(0, 0.4, variable.shape))
    return model


def chain(*several, shape=(6, 6, 4)):
    """A network of layers in a row."""
    x = images = keras.Input(shape, name="images")
    for layer in several:
        x = layer(x)
    return randomized(keras.Model(images, x, name="chain"))


def names(model):
    return [layer.name for layer in model.layers]


def assert_same_outputs(model, other, inputs=IMAGES):
    assert np.allclose(model(inputs), other(inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(5, 3, strides=2, padding="same", name="conv"),
        layers.Conv2D(5, 3, use_bias=False, dilation_rate=2, name="conv"),
        layers.Conv2D(4, 3, groups=2, name="conv"),
        layers.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False, name="conv"),
        layers.Dense(7, name="conv"),
    ],
    ids=["bias", "no bias", "grouped", "depthwise", "dense"],
)
@pytest.mark.parametrize(
    "norm",
    [layers.BatchNormalization(name="norm"), FusedBatchNormalization(name="norm")],
    ids=["keras", "fused"],
)
def test_a_batch_norm_is_folded_into_the_layer_before_it(layer, norm):
    model = chain(type(layer).from_config(layer.get_config()), type(norm).from_config(norm.get_config()))
    folded = fold_batch_norm(model)
    assert names(folded) == ["images", "conv"]
    assert [weight.path for weight in folded.weights] == ["conv/kernel", "conv/bias"]
    assert_same_outputs(model, folded)


def test_scale_and_shift_may_be_missing():
    model = chain(layers.Conv2D(2, 1, name="conv"), layers.BatchNormalization(scale=False, center=False, epsilon=0.1))
    assert_same_outputs(model, fold_batch_norm(model))


def test_hand_worked_weights():
    model = chain(layers.Dense(1, name="dense"), layers.BatchNormalization(epsilon=0.0), shape=(1,))
    model.set_weights([np.float32(w) for w in ([[3.0]], [1.0], [8.0], [0.5], [-1.0], [16.0])])
    # gamma / sqrt(variance) is 2: 2 * 3, and 2 * (1 - -1) + .5.
    assert [weight.item() for weight in fold_batch_norm(model).get_weights()] == [6.0, 4.5]


def test_residual_networks_keep_their_names_and_outputs():
    images = keras.Input((6, 6, 4))
    x = FusedBatchNormalization(name="bn1")(layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")(images))
    x = layers.ReLU(name="relu")(x)
    shortcut = layers.BatchNormalization(name="down.1")(layers.Conv2D(4, 1, name="down.0")(x))
    x = layers.Add(name="add")([x, shortcut])
    model = randomized(keras.Model(images, layers.GlobalAveragePooling2D(name="pool")(x), name="net"))
    folded = fold_batch_norm(model)
    assert folded.name == "net"
    assert names(folded)[1:] == ["conv1", "relu", "down.0", "add", "pool"]
    assert_same_outputs(model, folded)


def test_what_cannot_be_folded_stays():
    images = keras.Input((6, 6, 4))
    two_readers = layers.Conv2D(4, 3, padding="same", name="two_readers")(images)
    kept = layers.BatchNormalization(name="after_two_readers")(two_readers)
    x = layers.Add(name="sum")([two_readers, kept])
    x = layers.BatchNormalization(name="after_add")(x)
    x = layers.Conv2D(4, 1, activation="relu", name="with_activation")(x)
    x = layers.BatchNormalization(name="after_activation")(x)
    shared = layers.BatchNormalization(name="shared")
    x = shared(layers.Conv2D(4, 1, name="first")(x)) + shared(layers.Conv2D(4, 1, name="second")(x))
    x = layers.BatchNormalization(axis=1, name="other_axis")(layers.Conv2D(4, 1, name="third")(x))
    model = randomized(keras.Model(images, x))
    folded = fold_batch_norm(model)
    kept = {"after_two_readers", "after_add", "after_activation", "shared", "other_axis"}
    assert kept <= set(names(folded))
    assert_same_outputs(model, folded)


def test_a_network_inside_a_sequential_one_is_dissolved():
    inner = chain(layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"))
    model = keras.Sequential([keras.Input((6, 6, 4)), inner, layers.BatchNormalization(name="last")])
    folded = fold_batch_norm(model)
    assert names(folded)[1:] == ["conv", "last"]
    assert_same_outputs(model, folded)


def test_two_layers_of_one_name_are_an_error():
    inner = chain(layers.Conv2D(4, 3, name="conv"))
    model = keras.Sequential([keras.Input((6, 6, 4)), inner, layers.Conv2D(4, 3, name="conv")])
    with pytest.raises(InputError, match=r"need different names. Twice: \['conv'\]"):
        fold_batch_norm(model)


def test_the_model_itself_is_left_as_it_is():
    model = chain(layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"))
    before = model.get_weights()
    fold_batch_norm(model)
    assert names(model) == ["images", "conv", "norm"]
    assert all(map(np.array_equal, model.get_weights(), before))


def test_activations_become_layers():
    model = chain(
        layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.DepthwiseConv2D(3, activation="tanh", name="depthwise"),
        layers.Flatten(name="flatten"),
        layers.Dense(3, name="plain"),
        layers.Dense(3, activation=layers.LeakyReLU(0.1), name="leaky"),
    )
    split, origins = split_activations(model)
    assert names(split)[1:] == [
        "conv", "conv.activation", "depthwise", "depthwise.activation", "flatten", "plain", "leaky", "leaky.activation",
    ]  # fmt: skip
    assert origins == {f"{name}.activation": name for name in ("conv", "depthwise", "leaky")}
    assert [weight.path for weight in split.weights] == [weight.path for weight in model.weights]
    assert_same_outputs(model, split)
