import numpy as np
import pydantic
import pytest

from compressors.pruners.structure import StructureParameterPruner
from utils.errors import InputError


def test_groups_of_a_mean_at_most_the_threshold_are_removed(masks_of):
    kernel = np.zeros((1, 1, 4, 4))
    kernel[0, 0, :, 0] = [-2, 0, 0, 0]  # mean 0.5: removed
    kernel[0, 0, :, 1] = [1, 1, -1, 0]
    kernel[0, 0, :, 2] = 0.51
    pruner = StructureParameterPruner(reg_regims={"conv2/kernel": [0.5, "Filters"]})
    mask = masks_of(pruner, {"conv2/kernel": kernel})["conv2/kernel"]
    np.testing.assert_array_equal(mask[0, 0], np.tile([0, 1, 1, 0], (4, 1)))


def test_groups_of_a_maximum_at_most_the_threshold_are_removed(masks_of):
    kernel = np.zeros((10, 3))
    kernel[:, 1] = 0.5
    kernel[7, 2] = -0.51
    pruner = StructureParameterPruner(reg_regims={"module.fc.weight": ["0.5", "Rows"]}, threshold_criteria="Max")
    mask = masks_of(pruner, {"fc/kernel": kernel})["fc/kernel"]
    np.testing.assert_array_equal(mask, np.tile([0, 0, 1], (10, 1)))


def test_each_parameter_has_its_own_threshold_and_group(masks_of):
    kernels = {"conv1/kernel": np.ones((3, 3, 2, 4)), "conv2/kernel": np.ones((1, 1, 4, 4))}
    kernels["conv1/kernel"][:, :, 1, 2] = 0.125
    kernels["conv2/kernel"][:, :, 3] = 0.125
    pruner = StructureParameterPruner(reg_regims={"conv1/kernel": [0.125, "2D"], "conv2/kernel": [0.25, "Channels"]})
    masks = masks_of(pruner, kernels)
    assert np.argwhere(masks["conv1/kernel"] == 0)[:, 2:].tolist() == [[1, 2]] * 9
    assert np.argwhere(masks["conv2/kernel"] == 0)[:, 2].tolist() == [3] * 4


@pytest.mark.parametrize(("threshold", "kept"), [(0.9, 1), (1.0, 0)])
def test_a_whole_layer_is_one_group(masks_of, threshold, kept):
    pruner = StructureParameterPruner(reg_regims={"conv2/kernel": [threshold, "4D"]})
    mask = masks_of(pruner, {"conv2/kernel": np.ones((1, 1, 4, 4))})["conv2/kernel"]
    np.testing.assert_array_equal(mask, np.full((1, 1, 4, 4), kept))


def test_filters_of_a_depthwise_kernel_are_its_spatial_kernels(masks_of):
    kernel = np.ones((3, 3, 10, 1))
    kernel[:, :, 6] = 0
    pruner = StructureParameterPruner(reg_regims={"depthwise/kernel": [0, "3D"]})
    mask = masks_of(pruner, {"depthwise/kernel": kernel})["depthwise/kernel"]
    np.testing.assert_array_equal(mask, kernel)


@pytest.mark.parametrize("regime", [[0.1, "Rows"], [0.1, "Cols"]])
def test_groups_of_a_dense_kernel_on_a_convolution_are_errors(parameters, regime):
    with pytest.raises(InputError, match="conv1/kernel.*Received: '(Rows|Cols)'"):
        StructureParameterPruner(reg_regims={"conv1/kernel": regime}).targets(parameters)


@pytest.mark.parametrize(
    "arguments",
    [
        {"reg_regims": {"conv1/kernel": [-0.1, "2D"]}},
        {"reg_regims": {"conv1/kernel": [True, "2D"]}},
        {"reg_regims": {"conv1/kernel": [0.1, "5D"]}},
        {"reg_regims": {"conv1/kernel": [0.1]}},
        {"reg_regims": {"conv1/kernel": 0.1}},
        {"reg_regims": {}},
        {"reg_regims": {"conv1/kernel": [0.1, "2D"]}, "threshold_criteria": "L1"},
        {"reg_regims": {"conv1/kernel": [0.1, "2D"]}, "threshold": 1},
    ],
)
def test_wrong_arguments_are_errors(arguments):
    with pytest.raises(pydantic.ValidationError):
        StructureParameterPruner(**arguments)


def test_the_sparsity_is_for_the_weights_to_decide(parameters):
    pruner = StructureParameterPruner(reg_regims={"conv1/kernel": [0.1, "2D"]})
    assert pruner.planned_sparsity(pruner.targets(parameters)[0], None) is None


def test_a_star_leaves_out_kernels_without_such_groups(parameters):
    pruner = StructureParameterPruner(reg_regims={"*": [0.1, "Filters"]})
    assert [target.path for target in pruner.targets(parameters)] == ["conv1/kernel", "conv2/kernel", "wide/kernel"]
