import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from compressors.channels import dependent_vectors
from compressors.quantizers import QUANTIZERS
from compressors.thinning import check_thinnable, sliced, thin
from nets.preresnet import build_preresnet
from nets.resnet import build_resnet
from tests.networks_with_zeros import (
    conv,
    head,
    images,
    network,
    norm,
    randomised,
    small_mobilenet,
    variables,
    zero,
    zero_channels,
)
from utils.errors import InputError

STAGES = ((1, 16), (2, 32), (3, 64))


def thinned(model, function="remove_filters", optimizer=None):
    """The smaller network, after a look at what must hold of any."""
    before = model.get_weights()
    result = thin(model, optimizer or keras.optimizers.SGD(), function)
    for weights, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, weights)
    x = images(model)
    np.testing.assert_allclose(result.model(x, training=False), model(x, training=False), atol=1e-5)
    assert result.model.count_params() < model.count_params()
    assert {v.path for v in result.model.weights} >= {v.path for v in model.weights}
    assert result.model.name == model.name
    for path, kept in result.slices.items():
        shape = sliced(variables(model)[path].numpy(), kept).shape
        assert tuple(variables(result.model)[path].shape) == shape != tuple(variables(model)[path].shape)
    return result


def small_net(*middle, use_bias=False):
    def block(x):
        y = conv(5, "branch", use_bias=use_bias)(x)
        return layers.Concatenate(name="joined")([x, layers.ReLU()(norm("branch_bn")(y))])

    return network(
        conv(6, "conv1", use_bias=use_bias), *middle, layers.ReLU(), block,
        conv(4, "conv2", use_bias=use_bias), layers.MaxPooling2D(), layers.Dropout(0.3), layers.Flatten(),
        layers.Dense(7, activation="relu", name="fc1"), layers.Dense(3, name="fc2"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("middle", "use_bias"),
    [([], False), ([], True), ([norm("bn")], False), ([layers.BatchNormalization(name="bn")], True)],
)
def test_a_plain_network_computes_the_same_without_its_zeros(middle, use_bias):
    copies = [type(layer).from_config(layer.get_config()) for layer in middle]
    model = small_net(*copies, use_bias=use_bias)
    zero(model, "conv1", [0, 5])
    zero(model, "branch", [1])
    zero(model, "conv2", [2, 3])
    smaller = thinned(model).model
    assert smaller.get_layer("conv1").kernel.shape == (3, 3, 3, 4)
    assert smaller.get_layer("branch").kernel.shape == (3, 3, 4, 4)
    assert smaller.get_layer("joined").output.shape == (None, 8, 8, 8)
    assert smaller.get_layer("conv2").kernel.shape == (3, 3, 8, 2)
    assert smaller.get_layer("fc1").kernel.shape == (4 * 4 * 2, 7)


def equal_dead_filters(model):
    """Zero filters as a pruner leaves them whose leader decides for all convolutions of a sum."""
    trunks = {1: [1, 7], 2: [0, 3, 30], 3: list(range(20))}
    first = {"conv1": trunks[1]} if model.name.startswith("resnet") else {}
    dead = first | {f"layer{stage}.{block}.conv2": trunks[stage] for stage in trunks for block in range(3)}
    dead |= {f"layer{stage}.0.downsample.0": trunks[stage] for stage in (2, 3)}
    return dead | {f"layer{stage}.{block}.conv1": [stage, 9, 10] for stage in trunks for block in range(3)}


def test_a_residual_network_computes_the_same_without_its_zeros():
    model = randomised(build_resnet(20, 10, (16, 16, 3)))
    dead = equal_dead_filters(model)
    for name, filters in dead.items():
        zero(model, name, filters)
    smaller = thinned(model).model
    for name, filters in dead.items():
        assert smaller.get_layer(name).filters == model.get_layer(name).filters - len(filters)
    assert smaller.get_layer("fc").kernel.shape == (44, 10)


def test_a_preactivation_network_loses_the_zeros_that_its_shortcuts_add_as_well():
    model = randomised(build_preresnet(20, 10, (16, 16, 3)))
    # A shortcut that changes shape adds 8 and 16 channels of zeros on both sides.
    trunks = {1: [0, 5], 2: [1, 8, 13, 30], 3: [3, 17, 24, 29, 46]}
    for layer in model.layers:
        stage = int(layer.name[5]) if layer.name.startswith("layer") else 1 if layer.name == "conv1" else 3
        if layer.name.endswith("conv2") or layer.name == "conv1":
            zero(model, layer.name, trunks[stage])
        elif layer.name.endswith(("pre_bn", "final_bn")):
            reads = max(1, stage - 1) if layer.name.endswith(".0.pre_bn") else stage
            for variable in (layer.gamma, layer.beta):
                variable.assign(np.where(np.isin(np.arange(variable.shape[0]), trunks[reads]), 0, variable.numpy()))
    smaller = thinned(model).model
    assert smaller.get_layer("fc").kernel.shape == (59, 10)
    assert smaller.get_layer("layer2.0.conv2").filters == 28
    assert keras.models.model_from_json(smaller.to_json()).count_params() == smaller.count_params()


def test_a_network_of_depthwise_convolutions_computes_the_same_without_its_zeros():
    model = small_mobilenet()
    zero(model, "conv1", [2])
    zero(model, "conv2", [0, 7])
    zero(model, "conv3", range(5))
    smaller = thinned(model).model
    assert smaller.get_layer("depthwise2").kernel.shape == (3, 3, 5, 1)
    assert smaller.get_layer("conv3").kernel.shape == (1, 1, 6, 3)


@pytest.mark.parametrize(
    "reader",
    [
        [conv(4, "conv2", padding="valid")],
        [conv(4, "conv2", padding="valid", use_bias=False)],
        [conv(4, "conv2", 1, use_bias=False), norm("bn2")],
        [layers.DepthwiseConv2D(3, name="depthwise"), conv(4, "conv2", 1, use_bias=False, activation="relu")],
        [layers.Flatten(), layers.Dense(4, use_bias=False, name="conv2"), layers.Reshape((2, 2, 1))],
        [layers.Reshape((16, 4, -1)), layers.GlobalMaxPooling2D(keepdims=True), layers.Dense(4, name="conv2")],
    ],
    ids=["bias", "new bias", "norm", "depthwise", "flatten", "dense"],
)
def test_what_zero_filters_add_as_constants_is_kept(reader):
    copies = [type(layer).from_config(layer.get_config()) for layer in reader]
    model = network(conv(6, "conv1"), norm("bn"), layers.Activation("sigmoid"), *copies, head)
    zero(model, "conv1", [0, 4], is_silent=False)
    result = thinned(model)
    assert result.model.get_layer("conv1").filters == 4
    assert result.notes == ()


def test_a_new_bias_is_trained_and_starts_without_momentum():
    model = network(conv(6, "conv1"), conv(4, "conv2", 1, use_bias=False), head)
    zero(model, "conv1", [0, 4], is_silent=False)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    result = thinned(model, optimizer=optimizer)
    train(result.model, result.optimizer)
    assert "conv2/bias" in {variable.path for variable in result.model.trainable_variables}


def test_filters_that_nothing_reads_go_with_remove_channels():
    model = small_net(norm("bn"))
    zero_channels(model, "branch", [0, 1])
    zero_channels(model, "conv2", [1, 2, 7])  # 6 channels of conv1, then 5 of the branch
    smaller = thinned(model, "remove_channels").model
    assert smaller.get_layer("conv1").filters == 5
    assert smaller.get_layer("branch").filters == 4


def test_nothing_is_made_where_nothing_is_zero(caplog):
    assert thin(small_net(), keras.optimizers.SGD(), "remove_structures") is None
    assert not caplog.records


def test_what_is_zero_and_stays_is_logged(caplog):
    model = network(conv(6, "conv1"), conv(4, "conv2"), head)
    zero(model, "conv1", [0, 4], is_silent=False)
    with caplog.at_level(logging.WARNING):
        assert thin(model, keras.optimizers.SGD(), "remove_filters") is None
    assert [record.message for record in caplog.records] == [
        "conv1 keeps 2 zero filters: conv2 reads a constant other than zero that cannot be moved"
    ]


class Unsaved(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        return self.factor * inputs


@pytest.mark.parametrize("layer", [layers.Lambda(lambda x: 2 * x, name="strange"), Unsaved(2.0)])
def test_a_layer_that_cannot_be_made_anew_is_refused_before_training(layer):
    model = network(layer, conv(6, "conv1"), conv(4, "conv2"), head)
    with pytest.raises(InputError, match=f"{layer.name!r} of class {type(layer).__name__} does not allow"):
        check_thinnable(model, "remove_filters")


def inner_model(channels):
    inputs = keras.Input((8, 8, channels))
    x = layers.ReLU()(norm("inner_bn")(conv(6, "inner_conv")(inputs)))
    return keras.Model(inputs, x, name="inner")


NESTED = {
    "functional": lambda: network(conv(5, "conv1"), inner_model(5), conv(4, "conv2"), head),
    "sequential": lambda: network(
        conv(5, "conv1"), keras.Sequential([conv(6, "inner_conv"), norm("inner_bn")], name="inner"),
        conv(4, "conv2"), head,
    ),
    "in a sequential": lambda: randomised(
        keras.Sequential([keras.Input((8, 8, 3)), conv(5, "conv1"), inner_model(5), conv(4, "conv2"), layers.Flatten()])
    ),
    "called twice": lambda: network(
        conv(5, "conv1"),
        lambda x: (lambda inner: layers.Add()([inner(x), inner(layers.ReLU()(x))]))(inner_model(5)),
        conv(4, "conv2"), head,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_channels_go_across_the_borders_of_models_inside_the_model(name):
    model = NESTED[name]()
    inner = model.get_layer("inner")
    for layer, filters in ((model.get_layer("conv1"), [1, 4]), (inner.get_layer("inner_conv"), [0, 2, 3])):
        for variable in layer.weights:
            variable.assign(np.where(np.isin(np.arange(variable.shape[-1]), filters), 0, variable.numpy()))
    for variable in (inner.get_layer("inner_bn").gamma, inner.get_layer("inner_bn").beta):
        variable.assign(variable.numpy() * [0, 1, 0, 0, 1, 1])
    smaller = thinned(model).model
    assert type(smaller.get_layer("inner")) is type(inner)
    assert smaller.get_layer("inner").get_layer("inner_conv").kernel.shape == (3, 3, 3, 3)
    assert smaller.get_layer("conv2").kernel.shape == (3, 3, 3, 4)
    assert [v.path for v in smaller.weights] == [v.path for v in model.weights]


def test_what_is_not_trained_stays_untrained():
    model = network(conv(5, "conv1"), inner_model(5), conv(4, "conv2"), head)
    zero(model, "conv1", [1])
    model.get_layer("inner").trainable = False
    model.get_layer("conv2").trainable = False
    trained = [variable.path for variable in thinned(model).model.trainable_variables]
    assert trained == ["conv1/kernel", "conv1/bias", "fc/kernel", "fc/bias"]


def test_several_inputs_and_outputs_are_kept():
    left, right = keras.Input((8, 8, 3), name="l"), keras.Input((8, 8, 2), name="r")
    x = conv(4, "conv1")(layers.Concatenate()([left, right]))
    model = keras.Model({"l": left, "r": right}, {"a": conv(2, "conv2")(x), "b": head(x)})
    randomised(model)
    zero(model, "conv1", [3])
    smaller = thin(model, keras.optimizers.SGD(), "remove_filters").model
    data = {"l": np.ones((2, 8, 8, 3), np.float32), "r": np.ones((2, 8, 8, 2), np.float32)}
    for name, output in smaller(data).items():
        np.testing.assert_allclose(output, model(data)[name], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "is_exact"), [("WRPNQuantizer", True), ("QuantAwareTrainRangeLinearQuantizer", False)]
)
def test_quantized_layers_become_smaller_where_that_changes_no_quantized_weight(name, is_exact):
    model = QUANTIZERS[name](bits_weights=4, bits_activations=None).prepare(small_net(norm("bn")))
    zero(model, "conv1", [0, 5])
    for layer in ("branch", "conv2", "fc1"):
        kernel = model.get_layer(layer).kernel
        values = kernel.numpy()
        # The first input channel goes, but for fc1, and with the largest weight the range of linear quantization.
        values[..., 0, 0] = 1.2 * np.abs(values).max()
        kernel.assign(values)
    zero(model, "conv2", [1])
    result = thinned(model)
    assert type(result.model.get_layer("conv2")) is type(model.get_layer("conv2"))
    assert result.model.get_layer("conv2").filters == 3
    assert result.model.get_layer("conv1").filters == (4 if is_exact else 6)
    told = [note for note in result.notes if "the quantized weights of" in note]
    assert bool(told) != is_exact


def test_quantized_activations_keep_channels():
    model = small_net(norm("bn"), use_bias=True)
    quantizer = QUANTIZERS["PACTQuantizer"](bits_weights=None, bits_activations=4)
    model = quantizer.prepare(model)
    zero(model, "conv1", [0, 5])
    assert thinned(model).model.get_layer("conv1").filters == 4


def test_a_saved_network_is_loaded_the_same(tmp_path):
    model = small_net(norm("bn"), use_bias=True)
    zero(model, "conv1", [0, 5])
    zero(model, "conv2", [1])
    smaller = thinned(model).model
    smaller.save(tmp_path / "thin.keras")
    loaded = keras.models.load_model(tmp_path / "thin.keras")
    np.testing.assert_array_equal(loaded(images(model)), smaller(images(model)))


def train(model, optimizer, slices=None, steps=2):
    """Trains with the gradients of all that `slices` leave out masked, and no dropout."""
    for step in range(steps):
        x = images(model, 8, seed=step)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - 1.0))
        gradients = tape.gradient(loss, model.trainable_variables)
        masks = [np.zeros(v.shape) if v.path in (slices or {}) else None for v in model.trainable_variables]
        for mask, variable in zip(masks, model.trainable_variables, strict=True):
            if mask is not None:
                kept = zip(slices[variable.path], mask.shape, strict=True)
                mask[np.ix_(*(range(length) if axis is None else axis for axis, length in kept))] = 1
        pairs = zip(gradients, masks, strict=True)
        gradients = [g if mask is None else g * mask for g, mask in pairs]
        optimizer.apply(gradients, model.trainable_variables)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.SGD(0.05, momentum=0.9),
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)),
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, use_ema=True),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05, momentum=0.9), initial_scale=1.0),
    ],
    ids=["sgd", "adam", "adamw", "scaled"],
)
def test_training_goes_on_as_with_masks(make):
    model, optimizer = small_mobilenet(), make()
    zero(model, "conv1", [2])
    zero(model, "conv2", [0, 7])
    slices = thin(model, keras.optimizers.SGD(), "remove_filters").slices
    optimizer.build(model.trainable_variables)
    train(model, optimizer, slices)
    for path, vectors in dependent_vectors(model).items():  # what weight decay moved
        for variable in (variables(model)[name] for name in (path, *vectors)):
            alive = np.any(variables(model)[path].numpy() != 0, axis=(0, 1, 2))
            variable.assign(variable.numpy() * alive)
    result = thinned(model, optimizer=optimizer)
    assert type(result.optimizer) is type(optimizer)
    assert int(result.optimizer.iterations) == 2
    train(model, optimizer, slices)
    train(result.model, result.optimizer)
    for variable in result.model.weights:
        expected = sliced(variables(model)[variable.path].numpy(), slices.get(variable.path))
        np.testing.assert_allclose(variable, expected, atol=1e-5, err_msg=variable.path)


def test_slots_are_slices_of_the_old_ones():
    model = small_net(use_bias=True)
    zero(model, "conv1", [0, 5])
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    for index, variable in enumerate(optimizer.variables[2:]):
        variable.assign(np.random.default_rng(index).normal(size=variable.shape))
    result = thinned(model, optimizer=optimizer)
    slots = {variable.path: variable.numpy() for variable in result.optimizer.variables}
    for variable in optimizer.variables[2:]:
        path = next(p for p in variables(model) if variable.name.startswith(p.replace("/", "_") + "_"))
        np.testing.assert_array_equal(slots[variable.path], sliced(variable.numpy(), result.slices.get(path)))


def test_an_optimizer_that_is_not_built_stays_so():
    model = small_net()
    zero(model, "conv1", [0])
    assert not thinned(model, optimizer=keras.optimizers.Adam(0.125)).optimizer.built


def mixed_net():
    """A sum, a product and a concatenation; depthwise, strided and padded convolutions; two readers of most tensors."""

    def residual(x):
        y = layers.ReLU()(norm("bn2")(conv(6, "conv2", use_bias=False)(x)))
        x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)])
        gate = layers.Dense(6, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(x))
        return layers.Multiply()([x, gate])

    def split(x):
        left = layers.MaxPooling2D()(conv(5, "left", 2, "valid", activation="elu")(x))
        right = norm("bn3")(conv(4, "right", 1, padding="valid", strides=2, use_bias=False)(x))
        return layers.Concatenate()([left, layers.Cropping2D(((0, 1), (1, 0)))(right)])

    return network(
        conv(6, "conv1"), norm("bn1"), layers.PReLU(name="prelu"), residual, split, conv(3, "last"), layers.Flatten(),
        layers.Dense(5, activation="tanh", name="fc1"), layers.Dense(3, name="fc2"),
    )  # fmt: skip


FILTERS = {"conv1": 6, "conv2": 6, "left": 5, "right": 4, "last": 3}


@settings(max_examples=25)
@given(
    dead=st.fixed_dictionaries({name: st.sets(st.integers(0, count - 1)) for name, count in FILTERS.items()}),
    silent=st.sets(st.sampled_from(list(FILTERS))),
    unread=st.fixed_dictionaries({name: st.sets(st.integers(0, 5)) for name in ("conv2", "left", "right", "gate")}),
    function=st.sampled_from(["remove_filters", "remove_channels", "remove_structures"]),
)
def test_whatever_is_zero_the_thinned_network_computes_the_same(dead, silent, unread, function):
    model = mixed_net()
    for name, filters in dead.items():
        zero(model, name, filters, is_silent=name in silent)
    for name, channels in unread.items():
        zero_channels(model, name, channels)
    result = thin(model, keras.optimizers.SGD(), function)
    if result is not None:
        x = images(model)
        np.testing.assert_allclose(result.model(x, training=False), model(x, training=False), atol=1e-5)
        assert all(min(variable.shape, default=1) >= 1 for variable in result.model.weights)
        assert result.model.count_params() < model.count_params()
        assert thin(result.model, result.optimizer, function) is None
    elif function != "remove_channels":
        assert not (
            dead["conv2"] and "conv2" in silent and 0 < len(dead["conv2"] & dead["conv1"]) < 6 and "conv1" in silent
        )
