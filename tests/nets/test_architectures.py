import importlib.util
from pathlib import Path

import keras
import pytest

from nets.architectures import ARCHITECTURES, build_architecture
from nets.config import NetConfig, NetworkConfig
from utils.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CIFAR = (32, 32, 3)


@pytest.mark.parametrize(
    ("name", "model_name"),
    [
        ("lenet", "lenet"),
        ("resnet_32", "resnet_32"),
        ("resnet32_cifar", "resnet_32"),
        ("resnet44_cifar", "resnet_44"),
        ("preresnet_20", "preresnet_20"),
        ("preact_resnet44_cifar", "preresnet_44"),
        ("plain_20", "plain_20"),
        ("plain20_cifar", "plain_20"),
        ("vgg_16", "vgg_16"),
        ("vgg16_cifar", "vgg_16"),
        ("vgg13_bn_cifar", "vgg_13_bn"),
        ("simplenet", "simplenet"),
        ("simplenet_cifar", "simplenet"),
        ("mobilenet_050", "mobilenet"),
    ],
)
def test_a_name_gives_its_network_for_the_classes_and_images_asked(name, model_name):
    model = build_architecture(name, 7, CIFAR)
    assert model.name == model_name
    assert (model.input.shape, model.output.shape) == ((None, *CIFAR), (None, 7))


def test_each_call_gives_new_weights():
    first, second = (build_architecture("simplenet", 10, CIFAR).get_layer("conv1").kernel for _ in range(2))
    assert keras.ops.any(first != second)


def test_an_unknown_name_is_answered_with_all_names_and_those_nearest():
    with pytest.raises(InputError) as error:
        build_architecture("resnet20_cifra", 10, CIFAR)
    message = str(error.value)
    assert all(name in message for name in ARCHITECTURES)
    assert "of which resnet20_cifar" in message
    assert message.endswith("Received: 'resnet20_cifra'")


def test_a_name_near_to_none_is_answered_without_a_guess():
    with pytest.raises(InputError, match="must be one of (?!.*of which).*Received: 'q'"):
        build_architecture("q", 10, CIFAR)


@pytest.mark.parametrize(
    ("name", "shape"), [("alexnet", (62, 62, 3)), ("simplenet", (11, 11, 3)), ("vgg_16", (16, 16, 3))]
)
def test_images_that_are_too_small_are_an_error(name, shape):
    size = "x".join(map(str, shape))
    with pytest.raises(InputError, match=f"too small for the network {name}. Received: {size}"):
        build_architecture(name, 10, shape)


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("lenet", "lenet"),
        ("resnet", "resnet_32"),
        ("preresnet", "preresnet_32"),
        ("plain", "plain_20"),
        ("vgg", "vgg_16"),
        ("simplenet", "simplenet"),
    ],
)
def test_a_net_script_binds_the_network_it_is_called_after(script, name):
    path = ROOT / "nets" / f"{script}_at_cifar10_run.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    helper = module.ModelHelper(NetConfig(network=NetworkConfig(resnet_size=32)))
    model = helper.build_model()
    assert helper.model_name == model.name == name
    assert name in ARCHITECTURES
    assert model.output.shape == (None, 10)
