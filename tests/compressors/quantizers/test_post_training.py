"""Post-training quantization of small networks."""

import keras
import numpy as np
import pydantic
import pytest
from keras import layers

from compressors.quantizers.folding import fold_batch_norm
from compressors.quantizers.post_training import PostTrainLinearQuantizer
from compressors.quantizers.ranges import BatchRange, FixedRange
from compressors.quantizers.statistics import as_mapping, collect, write_statistics
from utils.errors import InputError

IMAGES = np.random.default_rng(0).normal(size=(16, 6, 6, 3)).astype(np.float32)
ASYMMETRIC = "ASYMMETRIC_UNSIGNED"


def randomized(model):
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if "variance" in variable.path or "gamma" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif "kernel" in variable.path:
            fan_in = np.prod(variable.shape[:-1])
            variable.assign(rng.normal(0, fan_in**-0.5, variable.shape))
        else:
            variable.assign(rng.normal(0, 0.2, variable.shape))
    return model


@pytest.fixture(scope="module")
def network():
    """Two branches, with all that networks have: batch norms, ReLUs, a sum, pooling, a depthwise convolution."""
    images = keras.Input((6, 6, 3), name="images")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(images)
    x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="conv2")(x)
    y = layers.ReLU(6.0, name="relu2")(layers.BatchNormalization(name="bn2")(y))
    x = layers.MaxPooling2D(name="pool")(layers.Add(name="add")([x, y]))
    x = layers.Dropout(0.5, name="dropout")(layers.Flatten(name="flatten")(x))
    return randomized(keras.Model(images, layers.Dense(5, name="fc")(x), name="network"))


@pytest.fixture(scope="module")
def statistics(network):
    return as_mapping(collect(network, lambda: [IMAGES]))


def error(model, other, inputs=IMAGES):
    """Relative to the root mean square of the first one's outputs."""
    wanted, found = np.asarray(model(inputs)), np.asarray(other(inputs))
    return np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))


def names(model, kind=FixedRange):
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


def kernel(model, name):
    return model.get_layer(name).get_weights()[0]


# What integer hardware computes.


def integers(x, low, high, bits, mode):
    """Integers minus the zero point, the step, and the ends of the former."""
    if mode == "SYMMETRIC":
        step = 2 * max(abs(low), abs(high)) / (2**bits - 1)
        smallest, largest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    else:
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / (2**bits - 1)
        smallest = int(np.round(low / step))
        largest = smallest + 2**bits - 1
    return np.clip(np.round(x / step), smallest, largest).astype(np.int64), step, (smallest, largest)


@pytest.mark.parametrize("mode", ["SYMMETRIC", ASYMMETRIC])
@pytest.mark.parametrize("is_per_channel", [False, True])
@pytest.mark.parametrize("bits_accum", [32, 7])
def test_outputs_are_those_of_integer_arithmetic(mode, is_per_channel, bits_accum):
    x = np.random.default_rng(2).normal(size=(50, 6)).astype(np.float32)
    inputs = keras.Input((6,))
    model = randomized(keras.Model(inputs, layers.Dense(4, name="dense")(inputs)))
    weights, bias = model.get_layer("dense").get_weights()
    statistics = {"dense": {"inputs": {0: {"min": -2.5, "max": 1.0}}, "output": {"min": -1.5, "max": 2.0}}}

    x_integers, x_step, _ = integers(x, -2.5, 1.0, 4, mode)
    columns = [weights[:, [o]] if is_per_channel else weights for o in range(4)]
    pairs = [integers(weights[:, o], column.min(), column.max(), 4, mode)[:2] for o, column in enumerate(columns)]
    steps = x_step * np.array([step for _, step in pairs])
    sums = x_integers @ np.stack([column for column, _ in pairs], 1) + np.round(bias / steps).astype(np.int64)
    sums = np.clip(sums, -(2 ** (bits_accum - 1)), 2 ** (bits_accum - 1) - 1)
    _, y_step, ends = integers(0.0, -1.5, 2.0, 4, mode)
    expected = np.clip(np.round(sums * steps / y_step), *ends) * y_step

    quantized = PostTrainLinearQuantizer(
        bits_activations=4, bits_parameters=4, bits_accum=bits_accum, mode=mode, per_channel_wts=is_per_channel,
        model_activation_stats=statistics,
    ).prepare(model)  # fmt: skip
    assert quantized(x).numpy() == pytest.approx(expected, abs=1e-5)
    assert (sums.max() == 63) == (bits_accum == 7)  # so that saturation is tested


def test_a_scale_of_few_bits_is_an_integer_over_a_power_of_two(network, statistics):
    quantized = PostTrainLinearQuantizer(scale_approx_mult_bits=4, model_activation_stats=statistics).prepare(network)
    steps_in_one = [1 / quantized.get_layer(name).scale for name in names(quantized)]
    mantissas = 16 * np.frexp(steps_in_one)[0]
    assert mantissas == pytest.approx(np.round(mantissas), rel=1e-6)
    # From the accumulator of fc to its output: the kernel's smallest value is the weights' step.
    input_scale, output_scale = (quantized.get_layer(name).scale for name in ("add.quantize", "fc.quantize"))
    smallest = np.unique(np.abs(kernel(quantized, "fc")))[1]
    mantissa = 16 * np.frexp(input_scale * smallest / output_scale)[0]
    assert mantissa == pytest.approx(round(mantissa), rel=1e-5)


# How good it is.


@pytest.mark.parametrize("is_static", [True, False])
def test_eight_bits_change_little_and_two_bits_much(network, statistics, is_static):
    given = {"model_activation_stats": statistics if is_static else None, "mode": ASYMMETRIC}
    eight = PostTrainLinearQuantizer(**given).prepare(network)
    two = PostTrainLinearQuantizer(bits_activations=2, bits_parameters=2, **given).prepare(network)
    assert 0 < error(network, eight) < 0.03
    assert error(network, two) > 0.3


def test_ranges_can_be_measured_on_batches(network, statistics):
    measured = PostTrainLinearQuantizer(mode=ASYMMETRIC).prepare(network, lambda: [(IMAGES, np.zeros(16))])
    given = PostTrainLinearQuantizer(mode=ASYMMETRIC, model_activation_stats=statistics).prepare(network)
    assert names(measured) == names(given)
    assert error(given, measured) < 0.01


def test_ranges_of_channels_are_better_where_channels_differ():
    images = keras.Input((6, 6, 3))
    conv = layers.Conv2D(8, 3, name="conv")
    model = randomized(keras.Model(images, conv(images)))
    conv.kernel.assign(conv.kernel * np.geomspace(1, 300, 8))
    whole, each = (
        PostTrainLinearQuantizer(bits_activations=None, per_channel_wts=is_per_channel).prepare(model)
        for is_per_channel in (False, True)
    )
    assert error(model, each) < error(model, whole)
    assert not np.any(kernel(whole, "conv")[..., 0])  # lost in the step of the largest channel
    assert kernel(each, "conv")[..., 0] == pytest.approx(conv.kernel.numpy()[..., 0], abs=0.01)


@pytest.mark.parametrize("name", ["conv1", "conv2", "fc"])
def test_kernels_have_few_values_in_each_channel(network, statistics, name):
    quantizer = PostTrainLinearQuantizer(bits_parameters=3, model_activation_stats=statistics)
    whole = kernel(quantizer.prepare(network), name)
    assert 4 <= len(np.unique(whole.round(6))) <= 8
    each = kernel(quantizer.model_copy(update={"per_channel_wts": True}).prepare(network), name)
    channels = each.reshape(9, -1) if name == "conv2" else each.reshape(-1, each.shape[-1])
    assert all(len(np.unique(channel.round(6))) <= 8 for channel in channels.T)
    assert len(np.unique(each.round(6))) > 8


def test_activations_have_few_values(network, statistics):
    quantized = PostTrainLinearQuantizer(bits_activations=3, model_activation_stats=statistics).prepare(network)
    for name in ("relu1", "relu2", "pool", "flatten"):
        values = keras.Model(quantized.input, quantized.get_layer(name).output)(IMAGES)
        assert len(np.unique(values)) <= 8


# What is quantized, and how.


def test_a_quantizer_follows_each_layer_that_computes(network, statistics):
    quantized = PostTrainLinearQuantizer(model_activation_stats=statistics).prepare(network)
    assert set(names(quantized)) == {
        "conv1.quantize_input_0", "conv1.quantize", "conv2.quantize", "add.quantize", "fc.quantize",
    }  # fmt: skip
    kept = [layer.name for layer in quantized.layers if not isinstance(layer, FixedRange)]
    assert kept == [layer.name for layer in network.layers if not layer.name.startswith("bn")]
    paths = [weight.path for weight in quantized.weights]
    assert paths == [f"{name}/{weight}" for name in ("conv1", "conv2", "fc") for weight in ("kernel", "bias")]


def test_the_range_before_a_relu_is_what_it_passes_on(network, statistics):
    quantized = PostTrainLinearQuantizer(mode=ASYMMETRIC, model_activation_stats=statistics).prepare(network)
    highest = statistics["bn1"]["output"]["max"]
    first, second = map(quantized.get_layer, ("conv1.quantize", "conv2.quantize"))
    assert (first.zero_point, first.scale) == (0, pytest.approx(highest / 255))
    assert (second.zero_point, second.scale) == (0, pytest.approx(min(statistics["bn2"]["output"]["max"], 6) / 255))


@pytest.mark.parametrize(("function", "reach"), [("tanh", 4.0), ("sigmoid", 6.0)])
def test_the_range_before_a_saturating_function_ends_where_it_saturates(function, reach):
    inputs = keras.Input((2,))
    x = layers.Activation(function, name="activation")(layers.Dense(2, name="dense")(inputs))
    wide = {"inputs": {0: {"min": -50, "max": 50}}, "output": {"min": -50, "max": 50}}
    quantizer = PostTrainLinearQuantizer(
        mode="SYMMETRIC_RESTRICTED", model_activation_stats={"dense": wide, "activation": wide}
    )
    quantized = quantizer.prepare(keras.Model(inputs, x))
    assert quantized.get_layer("dense.quantize").scale == pytest.approx(reach / 127)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_an_activation_that_is_part_of_its_layer_is_not_parted_from_it(activation):
    inputs = keras.Input((4,), name="inputs")
    model = randomized(keras.Model(inputs, layers.Dense(3, activation=activation, name="dense")(inputs)))
    x = np.random.default_rng(2).normal(size=(20, 4)).astype(np.float32)
    quantizer = PostTrainLinearQuantizer(model_activation_stats=as_mapping(collect(model, lambda: [x])))
    quantized = quantizer.prepare(model)
    after = "dense" if activation == "relu" else "dense.activation"
    assert names(quantized) == ["dense.quantize_input_0", f"{after}.quantize"]
    assert error(model, quantized, x) < 0.03


@pytest.mark.parametrize(
    ("clip", "reach"), [("NONE", 10.0), ("AVG", 6.0), ("N_STD", 5.0), ("GAUSS", 8.9), ("LAPLACE", 9.65)]
)
def test_activations_are_clipped_as_asked(clip, reach):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(2, name="dense")(inputs))
    numbers = {"min": -10, "max": 10, "avg_min": -6, "avg_max": 6, "mean": 1.0, "std": 2.0, "b": 1.0}
    statistics = {"dense": {"inputs": {0: numbers}, "output": numbers}}
    given = {"mode": "SYMMETRIC_RESTRICTED", "clip_acts": clip, "model_activation_stats": statistics}
    quantized = PostTrainLinearQuantizer(clip_n_stds=2, **given).prepare(model)
    # Alpha for 8 bits is 3.93 std and 9.9 b; |mean| comes on top, and the extremes stay.
    wanted = {"GAUSS": 1 + 3.93 * 2, "LAPLACE": 10.0}.get(clip, reach)
    assert quantized.get_layer("dense.quantize").scale == pytest.approx(wanted / 127, rel=2e-3)
    unclipped = PostTrainLinearQuantizer(clip_n_stds=2, no_clip_layers=["module.dense"], **given).prepare(model)
    assert unclipped.get_layer("dense.quantize").scale == pytest.approx(10 / 127)


def test_modes_of_activations_and_weights_may_differ(network, statistics):
    quantizer = PostTrainLinearQuantizer(
        mode={"activations": "ASYMMETRIC_SIGNED", "weights": "SYMMETRIC_RESTRICTED"}, bits_parameters=2,
        model_activation_stats=statistics,
    )  # fmt: skip
    quantized = quantizer.prepare(network)
    assert quantized.get_layer("add.quantize").mode == "ASYMMETRIC_SIGNED"
    assert len(np.unique(kernel(quantized, "fc").round(6))) == 3


def test_one_name_for_both_modes_is_the_same_as_two():
    both = {"activations": ASYMMETRIC, "weights": ASYMMETRIC}
    one = PostTrainLinearQuantizer(mode=ASYMMETRIC)
    assert one == PostTrainLinearQuantizer(mode=both)
    assert PostTrainLinearQuantizer(**one.arguments()) == one


def test_null_leaves_a_layer_as_it_is(network, statistics):
    quantizer = PostTrainLinearQuantizer(
        overrides={"conv.": {"bits_activations": None, "bits_weights": None}, "relu.|add|pool": {"acts": 32}},
        model_activation_stats=statistics,
    )
    quantized, folded = quantizer.prepare(network), fold_batch_norm(network)
    assert names(quantized) == ["fc.quantize_input_0", "fc.quantize"]
    for name in ("conv1", "conv2"):
        assert np.array_equal(kernel(quantized, name), kernel(folded, name))
    before = keras.Model(folded.input, folded.get_layer("flatten").output)
    assert error(before, keras.Model(quantized.input, quantized.get_layer("flatten").output)) == 0.0
    assert quantizer.layers(network) == {"fc": "weights 8 bits, activations 8 bits"}


def test_only_relus_may_be_quantized(network, statistics):
    overrides = {
        "conv.*": {"bits_weights": 4},
        "relu.*": {"bits_activations": 4, "quantize_inputs": False, "mode": ASYMMETRIC},
    }
    quantizer = PostTrainLinearQuantizer(
        bits_activations=None, bits_parameters=None, overrides=overrides, model_activation_stats=statistics
    )
    quantized = quantizer.prepare(network)
    assert names(quantized) == ["relu1.quantize", "relu2.quantize"]
    assert quantized.get_layer("relu1.quantize").scale == pytest.approx(statistics["bn1"]["output"]["max"] / 15)
    assert quantizer.layers(network) == {
        "conv1": "weights 4 bits", "relu1": "activations 4 bits", "conv2": "weights 4 bits",
        "relu2": "activations 4 bits",
    }  # fmt: skip


def test_a_relu_of_its_own_settings_has_its_own_quantizer(network, statistics):
    quantizer = PostTrainLinearQuantizer(
        overrides={"relu1": {"bits_activations": 3}}, model_activation_stats=statistics
    )
    quantized = quantizer.prepare(network)
    assert quantized.get_layer("relu1.quantize").bits == 3
    values = keras.Model(quantized.input, quantized.get_layer("relu1").output)(IMAGES)
    assert len(np.unique(values)) == 4  # half of the symmetric values


def test_layers_say_what_becomes_of_them(network):
    assert PostTrainLinearQuantizer(per_channel_wts=True, overrides={"fc": {"fp16": True}}).layers(network) == {
        "conv1": "weights 8 bits per channel, activations 8 bits",
        "relu1": "activations 8 bits",
        "conv2": "weights 8 bits per channel, activations 8 bits",
        "relu2": "activations 8 bits",
        "add": "activations 8 bits",
        "pool": "activations 8 bits",
        "fc": "float16",
    }


def test_a_bias_may_have_few_bits_of_its_own(network, statistics):
    quantizer = PostTrainLinearQuantizer(
        bits_activations=None, overrides={"conv.": {"bits_bias": 2}}, model_activation_stats=statistics
    )
    quantized, folded = quantizer.prepare(network), fold_batch_norm(network)
    assert len(np.unique(quantized.get_layer("conv1").get_weights()[1])) <= 4
    assert np.array_equal(quantized.get_layer("fc").get_weights()[1], folded.get_layer("fc").get_weights()[1])


def test_fake_quantizes_the_output_alone(network, statistics):
    quantizer = PostTrainLinearQuantizer(
        overrides={"conv1": {"fake": True, "fpq_module": 32}}, model_activation_stats=statistics
    )
    quantized = quantizer.prepare(network)
    assert np.array_equal(kernel(quantized, "conv1"), kernel(fold_batch_norm(network), "conv1"))
    assert "conv1.quantize" in names(quantized)
    assert "conv1.quantize_input_0" not in names(quantized)


def test_what_else_computes_is_quantized_behind_it():
    images = keras.Input((6, 6, 3))
    x = layers.BatchNormalization(name="norm")(images)
    x = layers.LeakyReLU(0.2, name="leaky")(x)
    x = layers.AveragePooling2D(2, name="pool")(layers.ZeroPadding2D(1, name="padding")(x))
    model = randomized(keras.Model(images, x))
    quantized = PostTrainLinearQuantizer(mode=ASYMMETRIC).prepare(model)
    assert names(quantized, BatchRange) == [
        "norm.quantize_input_0", "norm.quantize", "leaky.quantize", "pool.quantize",
    ]  # fmt: skip
    assert error(model, quantized) < 0.05


def test_a_relu6_whose_input_others_read_too_has_its_own_quantizer():
    images = keras.Input((4,))
    x = layers.Dense(3, name="dense")(images)
    model = keras.Model(images, [x, layers.ReLU(6.0, name="relu6")(x), layers.ReLU(name="relu")(x)])
    assert names(PostTrainLinearQuantizer().prepare(model), BatchRange) == [
        "dense.quantize_input_0", "dense.quantize", "relu6.quantize",
    ]  # fmt: skip


# Inputs that are not quantized yet.


def test_a_float_tensor_is_quantized_once_for_all_its_readers():
    images = keras.Input((4,))
    x = layers.Dense(3, name="left")(images) + layers.Dense(3, name="right")(images)
    model = keras.Model(images, layers.Dense(2, name="last")(x))
    quantized = PostTrainLinearQuantizer().prepare(model)
    # The sum is no layer that could be quantized.
    assert names(quantized, BatchRange) == [
        "left.quantize_input_0", "left.quantize", "right.quantize", "last.quantize_input_0", "last.quantize",
    ]  # fmt: skip


def test_overrides_of_inputs(network, statistics):
    overrides = {
        "conv1": {"bits_activations": 4, "input_overrides": {0: {"bits_activations": 6, "mode": ASYMMETRIC}}},
        "fc": {"bits_activations": 3, "input_quantization_settings": {0: {"from_output": True}}},
    }
    quantizer = PostTrainLinearQuantizer(
        inputs_quant_auto_fallback=False, overrides=overrides, model_activation_stats=statistics
    )
    quantized = quantizer.prepare(network)
    first, last = map(quantized.get_layer, ("conv1.quantize_input_0", "fc.quantize_input_0"))
    assert (first.bits, first.mode, last.bits, last.mode) == (6, ASYMMETRIC, 3, "SYMMETRIC")


def test_without_fallback_an_input_must_have_settings(network, statistics):
    quantizer = PostTrainLinearQuantizer(inputs_quant_auto_fallback=False, model_activation_stats=statistics)
    with pytest.raises(InputError, match="input 0 of layer 'conv1' is not quantized"):
        quantizer.prepare(network)


# Where a network can come from, and go to.


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": ASYMMETRIC, "per_channel_wts": True},
        {"bits_accum": 14, "scale_approx_mult_bits": 10},
        {"model_activation_stats": None, "clip_acts": "LAPLACE", "mode": "ASYMMETRIC_SIGNED"},
        {"fp16": True},
        {"bits_activations": 20},
    ],
    ids=["static", "accumulator", "dynamic", "float16", "20 bits"],
)
def test_a_saved_network_gives_the_same_outputs(network, statistics, arguments, tmp_path):
    quantizer = PostTrainLinearQuantizer(**{"model_activation_stats": statistics} | arguments)
    quantized = quantizer.finish(quantizer.prepare(network))
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(IMAGES), quantized(IMAGES))


def test_half_precision_changes_outputs_little(network):
    quantized = PostTrainLinearQuantizer(fp16=True).prepare(network)
    assert {weight.dtype for weight in quantized.weights} == {"float16"}
    assert quantized.output.dtype == "float32"
    assert 0 < error(network, quantized) < 2e-3
    assert PostTrainLinearQuantizer(fpq_module=16).layers(network).items() >= {("fc", "float16")}


def test_the_network_itself_is_left_as_it_is(network, statistics):
    before, outputs = network.get_weights(), network(IMAGES).numpy()
    PostTrainLinearQuantizer(bits_parameters=2, model_activation_stats=statistics).prepare(network)
    assert all(map(np.array_equal, network.get_weights(), before))
    assert np.array_equal(network(IMAGES), outputs)


def test_a_sequential_network_with_one_inside_and_a_shared_layer():
    shared = layers.Dense(4, name="shared")
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, layers.ReLU(name="relu")(shared(shared(inner_input))), name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(2, activation="softmax", name="last")])
    x = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    for batches in (None, lambda: [x]):
        assert error(model, PostTrainLinearQuantizer(mode=ASYMMETRIC).prepare(model, batches), x) < 0.05


def test_statistics_come_from_a_file_of_the_training_frameworks_names(network, statistics, tmp_path):
    found = collect(network, lambda: [IMAGES])
    write_statistics({f"module.{name}": each for name, each in found.items()}, tmp_path / "stats.yaml")
    from_file = PostTrainLinearQuantizer(model_activation_stats=str(tmp_path / "stats.yaml")).prepare(network)
    given = PostTrainLinearQuantizer(model_activation_stats=statistics).prepare(network)
    assert error(given, from_file) == 0.0


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits_parameters": 1}, "bits_parameters must be from 2 to 24, or null"),
        ({"bits_activations": 28}, "bits_activations must be from 2 to 24, or null"),
        ({"overrides": {"a": {"bits_activations": 1}}}, "bits_activations must be from 2 to 24, or null"),
        ({"overrides": {"a": {"bits_bias": 1}}}, "bits_bias must be from 2 to 24, or null"),
        ({"bits_accum": 33}, "bits_accum"),
        ({"clip_acts": "N_STD"}, "clip_n_stds must be given with clip_acts N_STD"),
        ({"overrides": {"a": {"clip_acts": "N_STD"}}}, "clip_n_stds must be given"),
        ({"clip_acts": "HALF"}, "clip_acts"),
        ({"mode": "LINEAR"}, "mode"),
        ({"mode": {"weights": "SYMMETRIC"}}, "mode.activations"),
        ({"fp16": True, "fpq_module": 32}, "fp16 must not be true where fpq_module is 32"),
        ({"fpq_module": 64}, "fpq_module"),
        ({"also_clip_weights": True}, "also_clip_weights"),
        ({"overrides": {"a": {"bits_accum": 8}}}, "bits_accum"),
        ({"overrides": {"a": {"input_overrides": {0: {"per_channel_wts": True}}}}}, "per_channel_wts"),
        ({"overrides": {"(": {}}}, "regular expressions"),
    ],
)
def test_impossible_arguments_are_errors_that_name_them(arguments, message):
    with pytest.raises(pydantic.ValidationError) as raised:
        PostTrainLinearQuantizer(**arguments)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": {"conv9": {"bits_weights": 4}}}, "no layer that matches 'conv9'; the nearest are conv"),
        ({"no_clip_layers": ["fc1"]}, "no_clip_layers: the model has no layer 'fc1'; the nearest are fc"),
        ({"overrides": {"fc": {"input_overrides": {1: {}}}}}, "input_overrides of layer 'fc', which has 1 inputs"),
        ({"bits_activations": None, "bits_parameters": None}, "has nothing to quantize"),
        ({"model_activation_stats": "no/such/file.yaml"}, "no/such/file.yaml cannot be read"),
        ({"model_activation_stats": {}}, "model_activation_stats has nothing of the layers conv1, conv2, add, fc"),
    ],
)
def test_what_does_not_suit_the_network_is_an_error(network, arguments, message):
    with pytest.raises(InputError) as raised:
        PostTrainLinearQuantizer(**arguments).check(network)
    assert message in str(raised.value)


def test_what_statistics_do_not_say_is_an_error_where_it_is_needed(network, statistics):
    short = {
        name: {"inputs": {i: {"min": 0, "max": 1} for i in each["inputs"]}, "output": {"min": 0, "max": 1}}
        for name, each in statistics.items()
    }
    PostTrainLinearQuantizer(model_activation_stats=short).prepare(network)
    quantizer = PostTrainLinearQuantizer(clip_acts="GAUSS", model_activation_stats=short)
    with pytest.raises(InputError, match="clip_acts GAUSS of layer 'conv1' needs mean and std"):
        quantizer.prepare(network)


@pytest.mark.parametrize("argument", ["bits_accum", "scale_approx_mult_bits"])
def test_integer_scales_need_ranges_that_do_not_change(network, argument):
    with pytest.raises(InputError, match="need ranges that do not change"):
        PostTrainLinearQuantizer(**{argument: 16}).prepare(network)
