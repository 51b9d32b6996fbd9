"""The networks at ILSVRC-12: names, recipes, flags."""

import importlib
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from datasets.config import DataConfig
from nets.config import NetConfig, NetworkConfig, TrainingConfig
from nets.lenet_at_cifar10 import ModelHelper as LeNetHelper
from nets.own_model import OwnModelHelper
from utils.errors import InputError

IMAGENET = DataConfig(disk="local", local_directory="/nowhere")
EMBEDDED = DataConfig(disk="embedded")
NETS = ("resnet", "mobilenet", "alexnet", "vgg")


def _class(net):
    return importlib.import_module(f"nets.{net}_at_ilsvrc12").ModelHelper


def _helper(net, data=IMAGENET, steps_per_epoch=10, training=None, **network):
    network = {"resnet_size": 18} | network
    helper = _class(net)(NetConfig(data=data, network=NetworkConfig(**network), training=training or TrainingConfig()))
    if data is IMAGENET:
        helper.dataset = type("Images", (), {"num_training_images": steps_per_epoch * data.batch_size})
    return helper


def _rates(net, epochs, **options):
    """In units of the peak, at these epochs of 10 steps each."""
    helper = _helper(net, **options)
    return helper.learning_rate_at(np.asarray([round(10 * epoch) for epoch in epochs])) / helper.peak_learning_rate


@pytest.mark.parametrize(
    ("net", "network", "name"),
    [
        ("resnet", {}, "resnet_18"),
        ("mobilenet", {}, "mobilenet_v1"),
        ("mobilenet", {"mobilenet_version": 2, "mobilenet_depth_mult": 0.5}, "mobilenet_v2_0.5"),
        ("mobilenet", {"mobilenet_version": 2, "mobilenet_depth_mult": 1.4}, "mobilenet_v2_1.4"),
        ("alexnet", {}, "alexnet"),
        ("vgg", {}, "vgg_16"),
    ],
)
def test_what_a_network_and_its_data_are_called_is_known_without_data(net, network, name):
    helper = _helper(net, **network)
    assert (helper.model_name, helper.dataset_name, helper.num_classes) == (name, "ilsvrc12", 1000)
    assert helper.image_size == 224
    embedded = _helper(net, EMBEDDED, **network)
    assert (embedded.model_name, embedded.dataset_name, embedded.num_classes) == (name, "digits32", 10)
    assert embedded.image_size == 64


@pytest.mark.parametrize("net", NETS)
def test_a_run_script_gives_its_helper(net):
    module = importlib.import_module(f"nets.{net}_at_ilsvrc12_run")
    assert module.ModelHelper is _class(net)


@pytest.mark.parametrize(
    ("net", "network", "flags"),
    [
        ("resnet", {}, (0.1, 256, 1e-4, 0.1)),
        ("mobilenet", {}, (0.045, 96, 4e-5, 0.0)),
        ("mobilenet", {"mobilenet_version": 2}, (0.045, 96, 4e-5, 0.1)),
        ("alexnet", {}, (0.01, 128, 5e-4, 0.0)),
        ("vgg", {}, (0.01, 256, 5e-4, 0.0)),
    ],
)
def test_published_recipes_are_the_flags_defaults(net, network, flags):
    defaults = dict(_class(net).flag_defaults(NetConfig(data=IMAGENET, network=NetworkConfig(**network))))
    assert defaults.pop("resnet_size", 18) == 18
    names = ("lrn_rate_init", "batch_size_norm", "loss_w_dcy", "label_smoothing")
    assert tuple(defaults.pop(name) for name in names) == flags
    assert defaults == {"summ_step": 100, "save_step": 1000}  # which a short training on digits32 does not have


@pytest.mark.parametrize(("net", "epochs"), [("resnet", 90), ("mobilenet", 100), ("alexnet", 90), ("vgg", 74)])
def test_epochs_are_the_published_ones_times_nb_epochs_rat(net, epochs):
    assert _helper(net).num_epochs == epochs
    assert _helper(net, training=TrainingConfig(epochs_ratio=0.5)).num_epochs == epochs / 2


def test_resnets_rate_warms_up_over_five_epochs_and_falls_after_30_60_and_80():
    rates = _rates("resnet", [0, 2.5, 5, 29.9, 30, 60, 80, 89])
    np.testing.assert_allclose(rates, [1 / 50, 26 / 50, 1, 1, 0.1, 0.01, 0.001, 0.001])


def test_nb_epochs_rat_scales_warm_up_and_steps_too():
    rates = _rates("resnet", [0, 2.4, 14.9, 15, 30, 40], training=TrainingConfig(epochs_ratio=0.5))
    np.testing.assert_allclose(rates, [1 / 25, 1, 1, 0.1, 0.01, 0.001])


def test_mobilenets_rates_fall_by_ten_or_a_little_after_each_epoch():
    np.testing.assert_allclose(_rates("mobilenet", [0, 29.9, 30, 60, 80, 90]), [1, 1, 0.1, 0.01, 1e-3, 1e-4])
    second = _helper("mobilenet", mobilenet_version=2)
    assert second.num_epochs == 412
    rates = _rates("mobilenet", [0, 0.9, 1, 100.5, 411.9], mobilenet_version=2)
    np.testing.assert_allclose(rates, [1, 1, 0.98, 0.98**100, 0.98**411])


def test_alexnets_rate_has_fallen_to_a_250th_at_three_quarters():
    third = 250 ** (1 / 3)
    np.testing.assert_allclose(_rates("alexnet", [0, 22.4, 22.5, 45, 67.5]), [1, 1, 1 / third, 1 / third**2, 1 / 250])


def test_the_embedded_set_is_trained_for_four_epochs_with_a_warm_up_and_a_cosine():
    helper = _helper("resnet", EMBEDDED)
    assert helper.num_epochs == 4
    helper.dataset = type("Images", (), {"num_training_images": 1280})
    rates = helper.learning_rate_at(np.arange(40)) / helper.peak_learning_rate
    np.testing.assert_allclose(rates[[0, 3, 4]], [0.25, 1, 1])
    assert rates[22] == pytest.approx(0.5)
    assert rates[39] == pytest.approx(0.5 * (1 + math.cos(math.pi * 35 / 36)))


@pytest.mark.parametrize(
    ("net", "name", "value"),
    [
        ("resnet", "mobilenet_version", 2),
        ("mobilenet", "resnet_size", 50),
        ("vgg", "mobilenet_depth_mult", 0.5),
        ("alexnet", "resnet_size", 18),
    ],
)
def test_a_flag_of_another_network_is_an_error(net, name, value):
    config = NetConfig(data=IMAGENET, network=NetworkConfig(**{name: value}))
    with pytest.raises(InputError, match=f"--{name} must be left out"):
        _class(net).check_flags(config, {name})


@pytest.mark.parametrize(
    "name",
    ["image_size", "nb_classes", "skip_bad_images", "keras_weights", "keras_weights_body_only", "mobilenet_version"],
)
@pytest.mark.parametrize("helper_class", [LeNetHelper, OwnModelHelper])
def test_flags_of_ilsvrc12_mean_nothing_elsewhere(helper_class, name):
    with pytest.raises(InputError, match=f"--{name} (needs a net script at ILSVRC-12|must be left out)"):
        helper_class.check_flags(NetConfig(), {name})


def test_a_resnet_of_another_size_is_answered_with_those_there_are():
    config = NetConfig(data=IMAGENET, network=NetworkConfig(resnet_size=20))
    with pytest.raises(InputError, match="18, 34, 50, 101, 152 at ILSVRC-12. Received: 20"):
        _class("resnet").check_flags(config, {"resnet_size"})
    _class("resnet").check_flags(config, set())  # 20 is the default of CIFAR-10, which this script replaces
    with pytest.raises(InputError, match="Received: 20"):
        _class("resnet")(config)


def test_weights_for_the_body_alone_must_be_given():
    config = NetConfig(data=IMAGENET, network=NetworkConfig(keras_weights_body_only=True))
    with pytest.raises(InputError, match="--keras_weights_body_only needs --keras_weights"):
        _class("resnet").check_flags(config, {"keras_weights_body_only"})


@pytest.mark.parametrize(("net", "size"), [("resnet", 31), ("mobilenet", 31), ("vgg", 31), ("alexnet", 62)])
def test_images_that_are_too_small_are_refused(net, size):
    data = DataConfig(disk="embedded", image_size=size)
    with pytest.raises(InputError, match=f"--image_size must be at least {size + 1} for .*. Received: {size}"):
        _helper(net, data)


def test_the_embedded_set_has_ten_classes():
    with pytest.raises(InputError, match="--nb_classes must be 10 with the embedded data set. Received: 7"):
        _helper("resnet", EMBEDDED, num_classes=7)
    assert _helper("resnet", EMBEDDED, num_classes=10).num_classes == 10
    assert _helper("resnet", num_classes=7).num_classes == 7


@pytest.mark.parametrize("net", ["resnet", "mobilenet"])
def test_a_helper_builds_its_network_for_images_and_classes_asked(net):
    data = DataConfig(disk="local", local_directory="/nowhere", image_size=64)
    model = _helper(net, data, num_classes=7, mobilenet_depth_mult=0.25).build_model()
    assert (model.input_shape, model.output_shape) == ((None, 64, 64, 3), (None, 7))


@pytest.mark.parametrize(("net", "size"), [("alexnet", 64), ("vgg", 32)])
def test_networks_without_batch_norm_learn_at_the_first_rate_of_their_recipe(net, size):
    """Neither warms up: with too large weights in the dense layers the loss rises to thousands within five steps."""
    helper = _helper(net, DataConfig(disk="embedded", image_size=size))
    keras.utils.set_random_seed(0)
    model = helper.build_model()
    random = np.random.default_rng(0)
    images, labels = random.standard_normal((16, size, size, 3)).astype(np.float32), np.arange(16) % 10
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = helper.loss(labels, model(images, training=False))
        optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return loss

    losses = [float(step()) for _ in range(12)]
    assert losses[0] == pytest.approx(np.log(10), abs=0.1)
    assert max(losses) < 4
    assert min(losses[6:]) < losses[0] - 0.1
