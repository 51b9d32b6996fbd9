"""The names in Distiller's published example schedules, and what our networks have under them."""

import functools

import pytest

from compressors.parameters import CONV, DENSE, DEPTHWISE, Parameters
from nets.architectures import build_architecture

CIFAR = (32, 32, 3)
IMAGES = {"alexnet": (127, 127, 3), "simplenet_mnist": (28, 28, 1)}

WEIGHTS = {
    "alexnet": """
        features.module.0.weight features.module.3.weight features.module.6.weight features.module.8.weight
        features.module.10.weight classifier.1.weight classifier.4.weight classifier.6.weight""",
    "resnet20_cifar": """
        module.conv1.weight
        module.layer1.0.conv1.weight module.layer1.0.conv2.weight module.layer1.1.conv1.weight
        module.layer1.1.conv2.weight module.layer1.2.conv1.weight module.layer1.2.conv2.weight
        module.layer2.0.conv1.weight module.layer2.0.conv2.weight module.layer2.0.downsample.0.weight
        module.layer2.1.conv1.weight module.layer2.1.conv2.weight module.layer2.2.conv1.weight
        module.layer2.2.conv2.weight
        module.layer3.0.conv1.weight module.layer3.0.conv2.weight module.layer3.0.downsample.0.weight
        module.layer3.1.conv1.weight module.layer3.1.conv2.weight module.layer3.2.conv1.weight
        module.layer3.2.conv2.weight
        module.fc.weight""",
    "resnet56_cifar": """
        module.layer1.0.conv1.weight module.layer1.3.conv1.weight module.layer1.8.conv1.weight
        module.layer2.1.conv1.weight module.layer2.4.conv1.weight module.layer2.7.conv1.weight
        module.layer3.1.conv1.weight module.layer3.5.conv1.weight module.layer3.8.conv1.weight""",
    "plain20_cifar": """
        module.conv1.weight
        module.layer1.0.conv1.weight module.layer1.1.conv1.weight module.layer1.2.conv1.weight
        module.layer1.0.conv2.weight module.layer1.1.conv2.weight module.layer1.2.conv2.weight
        module.layer2.0.conv1.weight module.layer2.1.conv1.weight module.layer2.2.conv1.weight
        module.layer2.0.conv2.weight module.layer2.1.conv2.weight module.layer2.2.conv2.weight
        module.layer3.0.conv1.weight module.layer3.1.conv1.weight module.layer3.2.conv1.weight
        module.layer3.0.conv2.weight module.layer3.1.conv2.weight module.layer3.2.conv2.weight""",
    "vgg16_cifar": """
        features.module.0.weight features.module.2.weight features.module.5.weight features.module.7.weight
        features.module.10.weight features.module.12.weight features.module.14.weight features.module.17.weight
        features.module.19.weight features.module.21.weight features.module.24.weight features.module.26.weight
        features.module.28.weight classifier.weight""",
    "simplenet_mnist": "module.conv1.weight module.conv2.weight module.fc2.weight",
    "resnet18": """
        module.layer1.0.conv1.weight module.layer1.0.conv2.weight module.layer1.1.conv1.weight
        module.layer1.1.conv2.weight module.layer2.0.conv1.weight module.layer2.0.conv2.weight
        module.layer2.0.downsample.0.weight module.layer2.1.conv1.weight module.layer2.1.conv2.weight
        module.layer3.0.conv1.weight module.layer3.0.conv2.weight module.layer3.1.conv1.weight
        module.layer3.1.conv2.weight module.layer4.0.conv1.weight module.layer4.0.conv2.weight
        module.layer4.0.downsample.0.weight module.layer4.1.conv1.weight module.layer4.1.conv2.weight""",
    "resnet50": """
        module.conv1.weight
        module.layer1.0.conv1.weight module.layer1.0.conv2.weight module.layer1.0.conv3.weight
        module.layer1.0.downsample.0.weight module.layer1.1.conv1.weight module.layer1.1.conv2.weight
        module.layer1.1.conv3.weight module.layer1.2.conv1.weight module.layer1.2.conv2.weight
        module.layer1.2.conv3.weight module.layer2.0.conv1.weight module.layer2.0.conv2.weight
        module.layer2.0.conv3.weight module.layer2.0.downsample.0.weight module.layer2.1.conv1.weight
        module.layer2.1.conv2.weight module.layer2.1.conv3.weight module.layer2.2.conv1.weight
        module.layer2.2.conv2.weight module.layer2.2.conv3.weight module.layer2.3.conv1.weight
        module.layer2.3.conv2.weight module.layer2.3.conv3.weight module.layer3.0.conv1.weight
        module.layer3.0.conv2.weight module.layer3.0.conv3.weight module.layer3.0.downsample.0.weight
        module.layer3.1.conv1.weight module.layer3.1.conv2.weight module.layer3.1.conv3.weight
        module.layer3.2.conv1.weight module.layer3.2.conv2.weight module.layer3.2.conv3.weight
        module.layer3.3.conv1.weight module.layer3.3.conv2.weight module.layer3.3.conv3.weight
        module.layer3.4.conv1.weight module.layer3.4.conv2.weight module.layer3.4.conv3.weight
        module.layer3.5.conv1.weight module.layer3.5.conv2.weight module.layer3.5.conv3.weight
        module.layer4.0.conv1.weight module.layer4.0.conv2.weight module.layer4.0.conv3.weight
        module.layer4.0.downsample.0.weight module.layer4.1.conv1.weight module.layer4.1.conv2.weight
        module.layer4.1.conv3.weight module.layer4.2.conv1.weight module.layer4.2.conv2.weight
        module.layer4.2.conv3.weight module.fc.weight""",
    "mobilenet": """
        module.model.4.3.weight module.model.5.3.weight module.model.6.3.weight module.model.7.3.weight
        module.model.8.3.weight module.model.9.3.weight module.model.10.3.weight module.model.11.3.weight
        module.model.12.3.weight module.model.13.3.weight module.fc.weight""",
}

# What the quantizers' overrides name.
LAYERS = {
    "alexnet": "features.0 features.1 classifier.5 classifier.6",
    "preact_resnet20_cifar": "conv1 layer1.0.pre_relu final_relu fc",
    "resnet18": "conv1 layer1.0.add layer4.1.add fc",
}


@functools.cache
def _network(name):
    return build_architecture(name, 10, IMAGES.get(name, CIFAR))


@pytest.mark.parametrize("architecture", WEIGHTS)
def test_every_published_name_of_a_weight_is_a_kernel_of_its_own(architecture):
    parameters = Parameters(_network(architecture))
    found = parameters.resolve_all(WEIGHTS[architecture].split())
    assert {parameter.kind for parameter in found.values()} <= {CONV, DENSE}
    assert all(parameter.is_prunable for parameter in found.values())


@pytest.mark.parametrize("architecture", ["alexnet", "resnet20_cifar", "vgg16_cifar", "resnet50"])
def test_schedules_that_name_every_kernel_leave_none_out(architecture):
    parameters = Parameters(_network(architecture))
    found = parameters.resolve_all(WEIGHTS[architecture].split())
    assert {parameter.path for parameter in found.values()} == {parameter.path for parameter in parameters.prunable()}


@pytest.mark.parametrize("architecture", LAYERS)
def test_every_published_name_of_a_layer_is_one(architecture):
    assert set(LAYERS[architecture].split()) <= {layer.name for layer in _network(architecture).layers}


def test_slimming_names_the_scales_of_batch_norm():
    names = [f"module.layer{stage}.{block}.bn2.weight" for stage in (1, 2, 3) for block in (0, 1, 2)]
    found = Parameters(_network("resnet20_cifar")).resolve_all(names)
    assert [parameter.path for parameter in found.values()] == [name[7:-7] + "/gamma" for name in names]


def test_depthwise_convolutions_are_found_but_not_pruned_by_default():
    parameters = Parameters(_network("mobilenet"))
    depthwise = parameters.resolve_all([f"module.model.{block}.0.weight" for block in range(1, 14)])
    assert {parameter.kind for parameter in depthwise.values()} == {DEPTHWISE}
    assert not any(parameter.is_prunable for parameter in depthwise.values())


@pytest.mark.parametrize(
    ("architecture", "name", "shape"),
    [  # the published tables', from (out, in, height, width) and (out, in)
        ("alexnet", "features.module.0.weight", (11, 11, 3, 64)),
        ("alexnet", "features.module.3.weight", (5, 5, 64, 192)),
        ("alexnet", "features.module.8.weight", (3, 3, 384, 256)),
        ("resnet18", "module.conv1.weight", (7, 7, 3, 64)),
        ("resnet18", "module.layer4.0.downsample.0.weight", (1, 1, 256, 512)),
        ("resnet50", "module.layer1.0.conv3.weight", (1, 1, 64, 256)),
        ("resnet50", "module.layer4.0.downsample.0.weight", (1, 1, 1024, 2048)),
        ("resnet50", "module.layer4.2.conv1.weight", (1, 1, 2048, 512)),
        ("mobilenet", "module.model.0.0.weight", (3, 3, 3, 32)),
        ("mobilenet", "module.model.6.3.weight", (1, 1, 256, 512)),
        ("mobilenet", "module.model.12.3.weight", (1, 1, 512, 1024)),
        ("resnet20_cifar", "module.layer3.0.conv1.weight", (3, 3, 32, 64)),
        ("vgg16_cifar", "classifier.weight", (512, 10)),
    ],
)
def test_a_published_name_has_the_published_shape(architecture, name, shape):
    assert Parameters(_network(architecture)).find(name).shape == shape
