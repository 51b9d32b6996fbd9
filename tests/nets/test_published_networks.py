"""The networks of the published schedules and weights: their sizes and how they are put together."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.keras_model import plain_model
from nets.architectures import build_architecture
from nets.imagenet_resnet import build_imagenet_resnet
from nets.mobilenet import build_mobilenet
from nets.plain import build_plain_20
from nets.preresnet import build_preresnet
from nets.vgg import VGG_SIZES, build_vgg
from utils.errors import InputError

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)


@functools.cache
def _network(name, image=CIFAR):
    """For tests that only look."""
    return build_architecture(name, 1000 if image == IMAGENET else 10, image)


def _count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _kernels(model):
    return [variable for variable in model.trainable_variables if variable.name == "kernel"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("alexnet", 61_100_840),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("mobilenet", 4_231_976),
        ("mobilenet_v1", 4_231_976),
    ],
)
def test_networks_for_imagenet_have_as_many_parameters_as_published(name, parameters):
    assert _count(_network(name, IMAGENET).trainable_variables) == parameters


def test_resnet_101_has_as_many_parameters_as_published_at_any_size():
    assert _count(build_imagenet_resnet(101, 1000, CIFAR).trainable_variables) == 44_549_160


def test_vgg_16_has_as_many_parameters_as_published_at_224_pixels():
    # Images of 32 pixels end in one position of 512 channels, those of 224 in 7 * 7, which the next layer sees.
    small = _count(build_architecture("vgg16", 1000, CIFAR).trainable_variables)
    assert small + (7 * 7 - 1) * 512 * 4096 == 138_357_544


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet20_cifar", 270_896),
        ("resnet56_cifar", 851_504),
        ("plain20_cifar", 268_336),
        # ResNet-20 without its two projections of 16*32 and 32*64 weights, or with them.
        ("preact_resnet20_cifar", 268_336),
        ("preact_resnet20_cifar_conv_ds", 270_896),
        # 9 * (3*64 + 64*64 + 64*128 + 128**2 + 128*256 + 2 * 256**2 + 256*512 + 5 * 512**2) + 512*10
        ("vgg16_cifar", 14_715_584),
        ("vgg16_bn_cifar", 14_715_584),
        ("simplenet_cifar", 75 * 6 + 150 * 16 + 400 * 120 + 120 * 84 + 84 * 10),
    ],
)
def test_networks_for_cifar_have_as_many_weights_as_published(name, weights):
    assert _count(_kernels(_network(name))) == weights


def test_simplenet_for_mnist_ends_in_4x4_positions_of_50_channels():
    model = _network("simplenet_mnist", (28, 28, 1))
    assert _count(model.trainable_variables) == 520 + 25_050 + (4 * 4 * 50 + 1) * 500 + 5_010


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("preact_resnet20_cifar", 2 * 9 + 1),
        ("plain20_cifar", 19),
        ("plain20_cifar_nobn", 0),
        ("vgg16_cifar", 0),
        ("vgg16_bn_cifar", 13),
        ("resnet18", 17 + 3),
        ("resnet50", 49 + 4),
        ("mobilenet_025", 27),
    ],
)
def test_every_convolution_has_its_batch_norm(name, norms):
    found = [layer for layer in _network(name).layers if hasattr(layer, "moving_mean")]
    assert len(found) == norms
    assert all((layer.momentum, layer.epsilon) == (0.9, 1e-5) for layer in found)


@pytest.mark.parametrize(
    "build",
    [
        lambda norm: build_preresnet(20, 10, batch_norm=norm),
        lambda norm: build_plain_20(10, batch_norm=norm),
        lambda norm: build_vgg(11, 10, batch_norm=norm),
        lambda norm: build_imagenet_resnet(18, 10, CIFAR, batch_norm=norm),
        lambda norm: build_mobilenet(10, CIFAR, batch_norm=norm, width=0.25),
    ],
)
def test_the_class_of_the_batch_norm_can_be_chosen(build):
    norms = [layer for layer in build(keras.layers.BatchNormalization).layers if hasattr(layer, "moving_mean")]
    assert {type(layer) for layer in norms} == {keras.layers.BatchNormalization}


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("preact_resnet20_cifar", CIFAR),
        ("preact_resnet20_cifar_conv_ds", CIFAR),
        ("plain20_cifar", CIFAR),
        ("plain20_cifar_nobn", CIFAR),
        ("vgg11_cifar", CIFAR),
        ("vgg11_bn_cifar", CIFAR),
        ("simplenet_cifar", CIFAR),
        ("simplenet_mnist", (28, 28, 1)),
        ("alexnet", (63, 63, 3)),
        ("resnet18", CIFAR),
        ("resnet50", CIFAR),
        ("mobilenet_025", CIFAR),
    ],
)
def test_one_training_step_has_a_finite_loss_and_moves_every_kernel(name, image):
    model = build_architecture(name, 3, image)
    generator = np.random.default_rng(0)
    images, labels = generator.normal(size=(4, *image)).astype("float32"), np.array([0, 1, 2, 0])
    before = [kernel.numpy() for kernel in _kernels(model)]
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    keras.optimizers.SGD(0.1).apply(gradients, variables)
    assert logits.shape == (4, 3)
    assert logits.dtype == tf.float32
    assert np.isfinite(loss)
    for old, kernel in zip(before, _kernels(model), strict=True):
        assert not np.array_equal(old, kernel.numpy()), kernel.path


def _probe(model, *names):
    return keras.Model(model.input, [model.get_layer(name).output for name in names])


def _silence(model, block):
    for layer in model.layers:
        if layer.name.startswith(f"{block}.conv"):
            layer.kernel.assign(np.zeros(layer.kernel.shape))


IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


def test_a_preactivation_block_of_zero_kernels_passes_its_input_on_unrectified():
    model = build_preresnet(20, 10)
    _silence(model, "layer1.1")
    before, after = _probe(model, "layer1.0.add", "layer1.1.add")(IMAGES)
    assert np.min(before) < 0
    np.testing.assert_array_equal(before, after)


def test_a_preactivation_shortcut_without_weights_is_the_mean_of_four_pixels_between_channels_of_zeros():
    model = build_preresnet(20, 10)
    _silence(model, "layer2.0")
    before, after = map(np.asarray, _probe(model, "layer1.2.add", "layer2.0.add")(IMAGES))
    means = before.reshape(2, 16, 2, 16, 2, 16).mean((2, 4))
    np.testing.assert_allclose(after, np.pad(means, ((0, 0), (0, 0), (0, 0), (8, 8))), atol=1e-5)


def test_a_preactivation_shortcut_with_weights_sees_the_rectified_input():
    model = build_preresnet(20, 10, conv_downsample=True)
    _silence(model, "layer2.0")
    before, after = map(np.asarray, _probe(model, "layer2.0.pre_relu", "layer2.0.add")(IMAGES))
    kernel = model.get_layer("layer2.0.downsample").kernel.numpy()[0, 0]
    np.testing.assert_allclose(after, before[:, ::2, ::2] @ kernel, atol=1e-4)


def test_a_preactivation_network_is_saved_without_classes_of_ours(tmp_path):
    model = plain_model(build_preresnet(20, 10))
    assert "trimflow" not in model.to_json()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(IMAGES), model(IMAGES))


def test_a_plain_block_of_zero_kernels_stops_everything():
    model = build_plain_20(10)
    _silence(model, "layer1.0")
    assert not np.any(_probe(model, "layer1.0.relu2")(IMAGES))


def test_a_bottleneck_halves_the_map_in_its_3x3_convolution():
    model = build_imagenet_resnet(50, 10, (64, 64, 3))
    sizes = {name: model.get_layer(f"layer2.0.{name}").output.shape[1:] for name in ("conv1", "conv2", "conv3")}
    assert sizes == {"conv1": (16, 16, 128), "conv2": (8, 8, 128), "conv3": (8, 8, 512)}
    assert model.get_layer("layer1.0.downsample.0").strides == (1, 1)
    assert model.get_layer("layer2.0.downsample.0").strides == (2, 2)


def test_a_basic_block_halves_the_map_in_its_first_convolution():
    model = build_imagenet_resnet(18, 10, (64, 64, 3))
    assert model.get_layer("layer2.0.conv1").output.shape == (None, 8, 8, 128)
    assert "layer1.0.downsample.0" not in [layer.name for layer in model.layers]


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("alexnet", "features.12", (6, 6, 256)),
        ("resnet18", "layer4.1.relu2", (7, 7, 512)),
        ("mobilenet", "model.13.5", (7, 7, 1024)),
    ],
)
def test_images_of_224_pixels_end_in_the_published_map(name, layer, shape):
    assert _network(name, IMAGENET).get_layer(layer).output.shape[1:] == shape


def test_the_width_of_mobilenet_scales_its_channels_but_not_below_eight():
    model = build_mobilenet(10, CIFAR, width=0.15)
    channels = [
        model.get_layer(name).output.shape[-1] for name in ("model.0.0", "model.1.3", "model.2.3", "model.13.3")
    ]
    assert channels == [8, 9, 19, 153]


def test_sizes_that_do_not_exist_are_errors_that_name_what_does():
    with pytest.raises(InputError, match="20, 32, 44, 56, 110. Received: 18"):
        build_preresnet(18, 10)
    with pytest.raises(InputError, match="11, 13, 16, 19. Received: 12"):
        build_vgg(12, 10)
    with pytest.raises(InputError, match="18, 34, 50, 101, 152. Received: 20"):
        build_imagenet_resnet(20, 10)
    with pytest.raises(InputError, match="above 0. Received: 0"):
        build_mobilenet(10, width=0)


@pytest.mark.parametrize("size", VGG_SIZES)
def test_vgg_of_size_n_has_n_layers_less_the_two_dense_ones_left_out(size):
    assert len(_kernels(_network(f"vgg{size}_cifar"))) == size - 2
