import keras
import numpy as np
import pytest
from keras import layers

from compressors.channels import ChannelGraph
from compressors.removal import check_removable, removal
from tests.networks_with_zeros import conv, head, network, norm, small_mobilenet, variables, zero, zero_channels
from utils.errors import InputError


def found(model, function="remove_filters"):
    return removal(ChannelGraph(model), function)


def kept(plan):
    """Path -> the indices kept along the axes that became smaller."""
    return {path: [list(axis) for axis in axes if axis is not None] for path, axes in plan.kept.items()}


def plain(**options):
    """Filters 1 and 2 of conv1 are zero, but for their bias."""
    model = network(conv(4, "conv1"), layers.ReLU(), conv(3, "conv2", **options), head)
    zero(model, "conv1", [1, 2], is_silent=False)
    model.get_layer("conv1").bias.assign([0.1, 0.2, -0.3, 0.4])
    return model


def test_a_filter_that_gives_zeros_goes_with_its_bias_and_the_channels_that_read_it():
    plan = found(plain())
    assert kept(plan) == {"conv1/kernel": [[0, 1, 3]], "conv1/bias": [[0, 1, 3]], "conv2/kernel": [[0, 1, 3]]}
    assert [axis is None for axis in plan.kept["conv2/kernel"]] == [True, True, False, True]
    assert plan.shifts == plan.biases == {}


def test_a_constant_that_padding_interrupts_stays_and_is_told():
    assert found(plain()).notes == (
        "conv1 keeps 1 zero filters: conv2 reads a constant other than zero that cannot be moved",
    )


@pytest.mark.parametrize("options", [{"padding": "valid"}, {"size": 1, "strides": 2}])
def test_a_constant_is_moved_to_the_bias_that_reads_it_everywhere(options):
    model = plain(**options)
    plan = found(model)
    assert kept(plan)["conv2/kernel"] == [[0, 3]]
    assert plan.notes == ()
    expected = 0.2 * model.get_layer("conv2").kernel.numpy()[:, :, 1].sum((0, 1))
    np.testing.assert_allclose(plan.shifts["conv2/bias"], expected, rtol=1e-6)


def test_without_a_bias_the_constant_moves_to_the_norm_behind():
    stages = conv(4, "conv1"), conv(3, "conv2", 1, use_bias=False), norm("bn"), head
    model = network(*stages)
    zero(model, "conv1", [1], is_silent=False)
    plan = found(model)
    constant = model.get_layer("conv1").bias.numpy()[1]
    assert plan.biases == {}
    expected = -constant * model.get_layer("conv2").kernel.numpy()[0, 0, 1]
    np.testing.assert_allclose(plan.shifts["bn/moving_mean"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "stages",
    [
        [layers.Conv2D(3, 1, use_bias=False, activation="relu", name="conv2"), norm("bn")],
        [layers.Conv2D(3, 1, use_bias=False, name="conv2"), lambda x: layers.Add()([norm("bn")(x), x])],
        [layers.Conv2D(3, 1, use_bias=False, name="conv2")],
    ],
    ids=["a norm behind an activation", "a norm that is not the only reader", "no norm"],
)
def test_else_the_layer_gets_a_bias(stages):
    model = network(conv(4, "conv1"), *stages, head)
    zero(model, "conv1", [1], is_silent=False)
    plan = found(model)
    assert plan.shifts == {}
    constant = model.get_layer("conv1").bias.numpy()[1]
    expected = constant * model.get_layer("conv2").kernel.numpy()[0, 0, 1]
    np.testing.assert_allclose(plan.biases["conv2/kernel"], expected, rtol=1e-6)


def test_a_norm_and_depthwise_convolution_lose_the_channel_with_the_filter():
    model = small_mobilenet()
    zero(model, "conv1", [0, 4])
    smaller = kept(found(model))
    vectors = ("gamma", "beta", "moving_mean", "moving_variance")
    owners = [f"{owner}/{vector}" for owner in ("bn1", "depthwise_bn2") for vector in vectors]
    assert smaller == dict.fromkeys(["conv1/kernel", "depthwise2/kernel", "conv2/kernel", *owners], [[1, 2, 3, 5]])


def test_flattened_channels_go_at_all_positions():
    model = network(
        conv(3, "conv1", padding="valid"), layers.Flatten(), layers.Dense(2, name="fc"), input_shape=(4, 4, 1)
    )
    zero(model, "conv1", [1])
    assert kept(found(model))["fc/kernel"] == [[0, 2, 3, 5, 6, 8, 9, 11]]


def branched(merge):
    def block(x):
        left, right = conv(4, "left")(x), conv(4, "right")(x)
        return merge()([left, right])

    return network(block, conv(3, "last"), head)


def test_a_channel_of_a_sum_goes_only_if_all_branches_give_zeros():
    model = branched(layers.Add)
    zero(model, "left", [0, 1])
    zero(model, "right", [1, 3])
    plan = found(model)
    assert kept(plan)["left/kernel"] == kept(plan)["right/kernel"] == kept(plan)["last/kernel"] == [[0, 2, 3]]
    reason = "they are not constant where they are read"
    assert plan.notes == tuple(f"{name} keeps 1 zero filters: {reason}" for name in ("left", "right"))


def test_a_product_with_zeros_goes():
    model = branched(layers.Multiply)
    zero(model, "left", [0, 1])
    assert kept(found(model))["right/kernel"] == [[2, 3]]


def test_concatenated_channels_go_one_by_one():
    model = branched(layers.Concatenate)
    zero(model, "left", [0])
    zero(model, "right", [2])
    plan = kept(found(model))
    assert plan["last/kernel"] == [[1, 2, 3, 4, 5, 7]]
    assert plan["left/kernel"] == [[1, 2, 3]]
    assert plan["right/kernel"] == [[0, 1, 3]]


def test_one_filter_is_left_of_a_convolution_of_zeros():
    model = network(conv(4, "conv1"), norm("bn"), conv(3, "conv2"), head)
    zero(model, "conv1", range(4))
    plan = found(model)
    assert kept(plan)["conv1/kernel"] == kept(plan)["bn/gamma"] == [[0]]
    # All that conv2 gives is its bias, which fc can take over.
    assert kept(plan)["conv2/kernel"] == [[0], [0]]
    assert plan.notes == ("conv1 keeps 1 zero filters: something must be left of conv1/kernel",)


def test_filters_that_read_only_zeros_go_too():
    model = network(conv(4, "conv1"), conv(3, "conv2", use_bias=False), conv(2, "conv3"), head)
    zero(model, "conv1", [0, 1])
    weights = model.get_layer("conv2").kernel.numpy()
    weights[:, :, 2:, 1] = 0  # filter 1 reads the channels 0 and 1 alone
    model.get_layer("conv2").kernel.assign(weights)
    assert kept(found(model))["conv2/kernel"] == [[2, 3], [0, 2]]


def test_filters_that_nothing_reads_are_channels_and_no_filters():
    model = network(conv(4, "conv1"), layers.ReLU(), conv(3, "conv2"), head)
    zero_channels(model, "conv2", [1, 2])
    assert found(model).kept == {}
    for function in ("remove_channels", "remove_structures"):
        smaller = kept(found(model, function))
        assert smaller == dict.fromkeys(["conv1/kernel", "conv1/bias", "conv2/kernel"], [[0, 3]])


def test_a_channel_goes_only_if_all_readers_have_zeros_for_it():
    def readers(x):
        return layers.Concatenate()([conv(3, "one")(x), conv(3, "two")(x)])

    model = network(conv(4, "conv1"), readers, head)
    zero_channels(model, "one", [1, 2])
    zero_channels(model, "two", [2, 3])
    plan = found(model, "remove_channels")
    assert kept(plan)["conv1/kernel"] == [[0, 1, 3]]
    assert plan.notes == (
        "one keeps 1 zero input channels: two has weights for them",
        "two keeps 1 zero input channels: one has weights for them",
    )


def test_structures_are_removed_where_each_reader_has_its_own_reason():
    def readers(x):
        return layers.Concatenate()([conv(3, "padded")(x), conv(3, "plain", 1)(x)])

    model = network(conv(4, "conv1"), readers, head)
    zero(model, "conv1", [1], is_silent=False)  # a constant, which the padded reader has no weights for
    zero_channels(model, "padded", [1])
    assert kept(found(model, "remove_structures"))["conv1/kernel"] == [[0, 2, 3]]


def test_hidden_units_of_dense_layers_are_structures_and_no_filters():
    model = network(layers.Dense(5, activation="relu", name="fc1"), layers.Dense(2, name="fc2"), input_shape=(3,))
    kernel = variables(model)["fc1/kernel"]
    kernel.assign(kernel.numpy() * [1, 0, 1, 0, 1])
    assert found(model).kept == {}
    assert kept(found(model, "remove_structures")) == dict.fromkeys(
        ["fc1/kernel", "fc1/bias", "fc2/kernel"], [[0, 2, 4]]
    )


def test_a_shared_layer_loses_what_is_zero_in_all_its_calls():
    shared = layers.Conv2D(3, 1, name="shared")

    def calls(x):
        return layers.Concatenate()([shared(conv(4, "left")(x)), shared(conv(4, "right")(x))])

    model = network(calls, head)
    zero(model, "left", [0, 1])
    zero(model, "right", [1, 2], is_silent=False)  # their bias is a constant that differs from the other call's
    assert found(model).kept == {}
    model.get_layer("right").bias.assign([1.0, 0, 0, 1])
    assert kept(found(model)) == dict.fromkeys(
        ["left/kernel", "left/bias", "right/kernel", "right/bias", "shared/kernel"], [[0, 2, 3]]
    )


def test_filters_that_a_layer_of_unknown_kind_reads_stay_and_are_told():
    model = network(
        conv(4, "conv1"), layers.LayerNormalization(name="strange"), conv(3, "conv2"), conv(2, "conv3"), head
    )
    zero(model, "conv1", [1], is_silent=False)
    zero(model, "conv2", [1])
    plan = found(model)
    assert set(plan.kept) == {"conv2/kernel", "conv2/bias", "conv3/kernel"}
    reason = "strange, of class LayerNormalization, may mix channels"
    assert plan.notes == (f"conv1 keeps 1 zero filters: {reason}",)


def test_the_networks_outputs_stay():
    model = network(conv(4, "conv1"), conv(3, "conv2"), layers.GlobalAveragePooling2D())
    zero(model, "conv2", [1], is_silent=False)
    plan = found(model)
    assert plan.kept == {}
    assert plan.notes == ("conv2 keeps 1 zero filters: the network's outputs must stay",)


def test_where_nothing_is_zero_nothing_is_found():
    plan = found(network(conv(4, "conv1"), norm("bn"), conv(3, "conv2"), head), "remove_structures")
    assert plan.kept == plan.shifts == plan.biases == {}
    assert plan.notes == ()


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [conv(4, "conv1"), layers.LayerNormalization(name="strange"), head],
            "remove_filters can remove nothing from the network 'net': strange, of class LayerNormalization, may mix",
        ),
        ([conv(4, "conv1")], "'net': the network's outputs must stay"),
        ([layers.Flatten(), layers.Dense(4), layers.Dense(3)], "'net': it has no convolution"),
    ],
)
def test_a_network_that_nothing_can_be_removed_from_is_refused(stages, message):
    with pytest.raises(InputError, match=message):
        check_removable(network(*stages), "remove_filters")


def test_a_network_that_something_can_be_removed_from_is_accepted():
    model = network(conv(4, "conv1"), layers.LayerNormalization(), conv(3, "conv2"), head)
    check_removable(model, "remove_filters")
    check_removable(network(layers.Dense(4), layers.Dense(3), input_shape=(3,)), "remove_structures")
    check_removable(keras.Sequential([keras.Input((8, 8, 3)), conv(3, "a"), conv(2, "b")]), "remove_channels")
