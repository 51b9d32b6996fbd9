import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from compressors.channels import ChannelGraph, added, dependent_vectors
from nets.preresnet import build_preresnet
from nets.resnet import build_resnet
from tests.networks_with_zeros import conv, head, images, network, norm, randomised, small_mobilenet, zero
from utils.errors import InputError


def reads_of(model, name):
    return next(kernel.inputs for kernel in ChannelGraph(model).kernels if kernel.layer.name == name)


def labels(model):
    """Kernel path -> labels of (input channels, filters)."""
    graph = ChannelGraph(model)
    return {path: [graph.labels[ids] for ids in axes if ids is not None] for path, axes in graph.axes.items()}


def test_the_constant_of_a_zero_filter_is_followed_through_bias_norm_and_rectifier():
    model = network(conv(3, "conv1"), norm("bn", epsilon=0.0), layers.ReLU(), conv(2, "conv2"), head)
    zero(model, "conv1", [0, 2], is_silent=False)
    model.get_layer("conv1").bias.assign([2.0, 1.0, 2.0])
    # gamma, beta, mean, variance: 3 (2 - 1) / sqrt(4) + 1 = 2.5, and below 0 for the other.
    model.get_layer("bn").set_weights(np.array([[3.0, 1, 3], [1, 1, -9], [1, 1, 1], [4, 1, 4]]))
    np.testing.assert_allclose(reads_of(model, "conv2").constants, [2.5, np.nan, 0], rtol=1e-6)


class Doubling(layers.Layer):
    is_elementwise = True

    def call(self, inputs):
        return 2 * inputs + 1


def beside(make):
    """The layer of two inputs, of the tensor and of a rectified one."""
    return lambda x: make()([x, layers.ReLU()(x)])


KEEPING = {
    "same max pooling": layers.MaxPooling2D(3, 2, padding="same"),
    "same average pooling": layers.AveragePooling2D(3, 2, padding="same"),
    "global pooling": layers.GlobalAveragePooling2D(keepdims=True),
    "bilinear upsampling": layers.UpSampling2D(2, interpolation="bilinear"),
    "cropping": layers.Cropping2D(1),
    "zero padding": layers.ZeroPadding2D(1),
    "leaky": layers.LeakyReLU(),
    "sigmoid": layers.Activation("sigmoid"),
    "prelu": layers.PReLU(alpha_initializer="random_normal"),
    "prelu shared": layers.PReLU(alpha_initializer="random_normal", shared_axes=(1, 2)),
    "dropout": layers.Dropout(0.5),
    "keras norm": layers.BatchNormalization(scale=False),
    "own elementwise": Doubling(),
    "add": beside(layers.Add),
    "multiply": beside(layers.Multiply),
    "average": beside(layers.Average),
    "operator": lambda x: 2.0 * (x + keras.ops.relu(x)),
    "excitation": lambda x: x * layers.GlobalMaxPooling2D(keepdims=True)(x),
    "concatenate": beside(layers.Concatenate),
    "reshape": layers.Reshape((64, 1, 4)),
    "pad": lambda x: keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (1, 2))),
    "pad around": lambda x: keras.ops.pad(x, ((0, 0), (1, 0), (0, 0), (1, 2))),
    "depthwise": layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="tanh"),
    "valid depthwise": layers.DepthwiseConv2D(3, activation="relu"),
    "shared": lambda x: (lambda relu: relu(relu(x) - 0.3))(layers.ReLU()),
}


@pytest.mark.parametrize("name", KEEPING)
def test_channels_taken_for_constant_are_so_for_all_images_and_positions(name):
    make = KEEPING[name]
    pair = type(make).from_config(make.get_config()) if isinstance(make, layers.Layer) else make
    model = network(conv(4, "conv1"), pair, conv(2, "conv2", 1))
    zero(model, "conv1", [0, 1, 3], is_silent=False)
    model.get_layer("conv1").bias.assign([0.0, 0.7, 0.0, -0.6])
    read = keras.Model(model.input, model.get_layer("conv2").input)(images(model, 8), training=False).numpy()
    read = read.reshape(-1, read.shape[-1])
    is_constant = np.ptp(read, axis=0) < 1e-6
    constants = reads_of(model, "conv2").constants
    np.testing.assert_allclose(constants, np.where(is_constant, read[0], np.nan), atol=1e-6)
    assert is_constant.any()


def test_a_constant_is_given_up_where_a_norm_always_takes_the_batch_statistics():
    model = network(conv(4, "conv1"), lambda x: norm("bn")(x, training=True), conv(2, "conv2"), head)
    zero(model, "conv1", [1], is_silent=False)
    assert np.isnan(reads_of(model, "conv2").constants).all()


@pytest.mark.parametrize(("padding", "constants"), [("valid", [0.5, 1.5]), ("same", [0.5, np.nan])])
def test_a_filter_that_reads_nothing_but_constants_is_constant_if_nothing_is_padded(padding, constants):
    model = network(conv(3, "conv1"), conv(2, "conv2", 2, padding), head)
    zero(model, "conv1", [0, 1], is_silent=False)
    model.get_layer("conv1").bias.assign([0.0, 0.25, 0.25])
    weights = np.zeros((2, 2, 3, 2))
    weights[:, :, :2] = [[1, 1], [0, 1]]  # only filter 1 reads channel 1, whose value is .25, at four positions
    model.get_layer("conv2").set_weights([weights, np.array([0.5, 0.5])])
    np.testing.assert_allclose(reads_of(model, "fc").constants, constants)


def test_what_constants_add_is_their_weights_sum():
    model = network(conv(3, "conv1"), conv(2, "conv2", 2, "valid"), head)
    zero(model, "conv1", [0, 2], is_silent=False)
    model.get_layer("conv1").bias.assign([2.0, 5.0, -1.0])
    kernel = ChannelGraph(model).kernels[1]
    weights = kernel.layer.kernel.numpy().sum((0, 1))
    expected = 2 * weights[0] - weights[2]
    np.testing.assert_allclose(added(kernel.layer, kernel.inputs, np.array([True, False, True])), expected, rtol=1e-5)


def test_a_sum_ties_the_channels_of_its_branches_and_a_concatenation_does_not():
    def branches(merge):
        return lambda x: merge()([conv(4, "left")(x), conv(4, "right")(x)])

    summed = labels(network(branches(layers.Add), conv(2, "last"), head))
    np.testing.assert_array_equal(summed["left/kernel"][1], summed["right/kernel"][1])
    np.testing.assert_array_equal(summed["left/kernel"][1], summed["last/kernel"][0])
    assert len(set(summed["left/kernel"][1])) == 4
    joined = labels(network(branches(layers.Concatenate), conv(2, "last"), head))
    assert not set(joined["left/kernel"][1]) & set(joined["right/kernel"][1])
    np.testing.assert_array_equal(joined["last/kernel"][0], [*joined["left/kernel"][1], *joined["right/kernel"][1]])


def test_flattening_counts_positions_before_channels():
    model = network(
        conv(3, "conv1", padding="valid"), layers.Flatten(), layers.Dense(2, name="fc"), input_shape=(4, 4, 1)
    )
    found = labels(model)
    np.testing.assert_array_equal(found["fc/kernel"][0], np.tile(found["conv1/kernel"][1], 4))


def test_calls_of_one_layer_tie_their_channels():
    shared = layers.Conv2D(3, 1, name="shared")
    model = network(lambda x: layers.Concatenate()([shared(conv(4, "left")(x)), shared(conv(4, "right")(x))]), head)
    found = labels(model)
    np.testing.assert_array_equal(found["left/kernel"][1], found["right/kernel"][1])
    np.testing.assert_array_equal(found["fc/kernel"][0], np.tile(found["shared/kernel"][1], 2))


@pytest.mark.parametrize(
    "mixing",
    [
        layers.LayerNormalization(name="mixing"),
        layers.Softmax(name="mixing"),
        layers.Activation("softmax", name="mixing"),
        layers.Conv2D(4, 3, activation="softmax", name="mixing"),
        layers.Conv2D(4, 3, groups=2, name="mixing"),
        layers.Conv2DTranspose(4, 3, name="mixing"),
        layers.BatchNormalization(axis=1, name="mixing"),
        layers.Reshape((16, 16), name="mixing"),
        layers.Permute((3, 1, 2), name="mixing"),
        layers.Concatenate(axis=1, name="mixing"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_channels_that_an_unknown_layer_reads_or_writes_must_stay(mixing):
    def call(x):
        return mixing([x, x] if isinstance(mixing, layers.Concatenate) else x)

    graph = ChannelGraph(network(conv(4, "conv1"), call, layers.Dense(2, name="last")))
    assert f"mixing, of class {type(mixing).__name__}, may mix channels" in {reason for _, reason in graph.fixed}
    fixed = graph.labels[np.concatenate([ids for ids, _ in graph.fixed])]
    first, last = graph.kernels[0], graph.kernels[-1]
    assert np.isin(graph.labels[first.outputs.ids], fixed).all()
    assert np.isin(graph.labels[last.inputs.ids], fixed).all()


def test_in_a_resnet_the_norm_behind_each_convolution_depends_on_it():
    vectors = dependent_vectors(build_resnet(20, 10, (16, 16, 3)))
    assert len(vectors) == 21
    assert vectors["layer1.0.conv1/kernel"] == ["layer1.0.bn1/gamma", "layer1.0.bn1/beta"]
    assert vectors["layer2.0.downsample.0/kernel"] == ["layer2.0.downsample.1/gamma", "layer2.0.downsample.1/beta"]


def test_a_norm_of_a_sum_depends_on_no_convolution_alone():
    vectors = dependent_vectors(build_preresnet(20, 10, (16, 16, 3)))
    assert vectors["layer1.0.conv1/kernel"] == ["layer1.0.bn/gamma", "layer1.0.bn/beta"]
    assert vectors["layer1.0.conv2/kernel"] == []


def test_depthwise_convolutions_and_their_norms_depend_on_the_convolution_before():
    vectors = dependent_vectors(small_mobilenet())
    assert vectors["conv1/kernel"] == [
        "bn1/gamma", "bn1/beta", "depthwise_bn2/gamma", "depthwise_bn2/beta",
    ]  # fmt: skip
    assert vectors["conv3/kernel"] == ["bn3/gamma", "bn3/beta"]


def test_biases_depend_and_untrained_variables_do_not():
    model = network(conv(3, "conv1"), layers.MaxPooling2D(), norm("bn"), conv(2, "conv2"), head)
    assert dependent_vectors(model) == {
        "conv1/kernel": ["conv1/bias", "bn/gamma", "bn/beta"],
        "conv2/kernel": ["conv2/bias"],
    }
    model.get_layer("bn").trainable = False
    assert dependent_vectors(model)["conv1/kernel"] == ["conv1/bias"]


def test_a_convolution_whose_outputs_are_the_networks_has_no_dependents():
    model = network(conv(3, "conv1"), conv(2, "conv2"), layers.GlobalAveragePooling2D())
    assert dependent_vectors(model) == {"conv1/kernel": ["conv1/bias"]}


def test_a_norm_that_two_convolutions_share_depends_on_neither():
    shared = norm("bn")
    model = network(
        lambda x: layers.Concatenate()([shared(conv(3, "left")(x)), shared(conv(3, "right")(x))]), conv(2, "last"), head
    )
    vectors = dependent_vectors(model)
    assert vectors["left/kernel"] == ["left/bias"]
    assert vectors["right/kernel"] == ["right/bias"]


def test_silenced_filters_give_zeros_to_all_that_reads_them():
    model = small_mobilenet()
    zero(model, "conv1", [0, 3])
    zero(model, "conv2", [1])
    graph = ChannelGraph(model)
    for kernel, dead in zip(graph.kernels[1:3], ([0, 3], [1]), strict=True):
        np.testing.assert_array_equal(np.flatnonzero(kernel.inputs.constants == 0), dead)
        assert np.isnan(np.delete(kernel.inputs.constants, dead)).all()


def test_a_sequential_model_is_followed_too():
    model = randomised(keras.Sequential([keras.Input((8, 8, 3)), conv(3, "conv1"), layers.ReLU(), conv(2, "conv2")]))
    assert [kernel.layer.name for kernel in ChannelGraph(model).kernels] == ["conv1", "conv2"]


class Subclassed(keras.Model):
    def call(self, inputs):
        return tf.identity(inputs)


@pytest.mark.parametrize("model", [Subclassed(name="mine"), keras.Sequential([conv(3, "conv1")], name="mine")])
def test_a_model_without_a_graph_is_refused(model):
    with pytest.raises(InputError, match="'mine'"):
        dependent_vectors(model)
