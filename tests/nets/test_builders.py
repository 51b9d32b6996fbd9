import keras
import numpy as np
import pytest

from nets.lenet import build_lenet
from nets.resnet import RESNET_SIZES, build_resnet
from utils.errors import InputError


def _kernels(model):
    return {v.path: tuple(v.shape) for v in model.trainable_variables if v.path.endswith("/kernel")}


@pytest.mark.parametrize("size", RESNET_SIZES)
def test_resnet_has_size_minus_two_convolutions_in_blocks_two_projections_and_a_classifier(size):
    kernels = _kernels(build_resnet(size, 10))
    assert len(kernels) == size + 2
    assert sum(len(shape) == 4 and shape[0] == 3 for shape in kernels.values()) == size - 1


def test_resnet20_has_the_parameters_of_the_paper_plus_its_projections():
    # 0.27M in He et al. 2016: 432 + 6*2304 + 4608 + 5*9216 + 18432 + 5*36864 + 640 = 268,336 kernel weights,
    # and 16*32 + 32*64 = 2,560 of the two projections that replace padded shortcuts.
    kernels = _kernels(build_resnet(20, 10))
    assert sum(np.prod(shape) for shape in kernels.values()) == 268_336 + 2_560


def test_resnet_names_are_those_of_the_published_schedules():
    paths = set(_kernels(build_resnet(20, 10)))
    assert {"conv1/kernel", "layer1.0.conv1/kernel", "layer2.0.downsample.0/kernel", "fc/kernel"} <= paths


def test_resnet_halves_the_map_at_stages_two_and_three():
    model = build_resnet(20, 10)
    assert model.get_layer("layer1.2.relu2").output.shape == (None, 32, 32, 16)
    assert model.get_layer("layer2.2.relu2").output.shape == (None, 16, 16, 32)
    assert model.get_layer("layer3.2.relu2").output.shape == (None, 8, 8, 64)


def test_unknown_resnet_size_names_what_exists():
    with pytest.raises(InputError, match="20, 32, 44, 56, 110. Received: 21"):
        build_resnet(21, 10)


def test_a_residual_block_of_zero_kernels_passes_its_input_on():
    model = build_resnet(20, 10)
    for layer in model.layers:
        if layer.name.startswith("layer1.0.conv"):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    probe = keras.Model(model.input, [model.get_layer("relu").output, model.get_layer("layer1.0.relu2").output])
    before, after = probe(np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32"))
    np.testing.assert_array_equal(before, after)


def test_lenet_outputs_logits_and_has_no_batch_norm():
    model = build_lenet(10)
    assert model.output.shape == (None, 10)
    assert len(_kernels(model)) == 5
    assert not model.non_trainable_variables
