import numpy as np
import pydantic
import pytest

from compressors.pruners import PRUNERS
from compressors.pruners.ranked import L1RankedStructureParameterPruner
from utils.errors import InputError

WIDE = "wide/kernel"  # (1, 1, 4, 10)


def l1(level, weights, **more):
    return L1RankedStructureParameterPruner(group_type="Filters", desired_sparsity=level, weights=list(weights), **more)


def removed_filters(mask):
    """The indices of the filters that are removed; a filter is removed as a whole or not at all."""
    flat = mask.reshape(-1, mask.shape[-1])
    assert (flat == flat[0]).all()
    return np.flatnonzero(flat[0] == 0).tolist()


# leader


def test_the_first_kernel_leads(masks_of):
    kernels = {"conv2/kernel": np.ones((1, 1, 4, 4)), "conv1/kernel": np.ones((3, 3, 2, 4))}
    kernels["conv2/kernel"][..., 2] = 0.5
    kernels["conv1/kernel"][..., 0] = 0.5
    alone = masks_of(l1(0.25, kernels), kernels)
    assert [removed_filters(mask) for mask in alone.values()] == [[2], [0]]
    led = masks_of(l1(0.25, kernels, group_dependency="Leader"), kernels)
    assert [removed_filters(mask) for mask in led.values()] == [[2], [2]]


def test_a_leader_of_filters_leads_a_depthwise_kernel(masks_of):
    kernels = {WIDE: np.tile(np.arange(1, 11), (1, 1, 4, 1)), "depthwise/kernel": np.ones((3, 3, 10, 1))}
    masks = masks_of(l1(0.3, kernels, group_dependency="Leader"), kernels)
    np.testing.assert_array_equal(masks["depthwise/kernel"][0, 0, :, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1])


def test_with_a_leader_the_numbers_of_groups_must_be_equal(parameters):
    with pytest.raises(InputError, match=r"Leader.*Received: conv1/kernel: 4, wide/kernel: 10"):
        l1(0.5, ["conv1/kernel", WIDE], group_dependency="Leader").targets(parameters)


def test_without_a_leader_each_kernel_has_its_own_number_of_groups(parameters):
    targets = l1(0.5, ["conv1/kernel", WIDE]).targets(parameters)
    assert [target.setting.num_groups for target in targets] == [4, 10]


# levels

RANKED = [name for name in PRUNERS if "Ranked" in name or "Bernoulli" in name]


@pytest.mark.parametrize("name", RANKED)
def test_every_ranked_pruner_has_its_gradual_variant(name):
    fixed, gradual = PRUNERS[name.removesuffix("_AGP")], PRUNERS[f"{name.removesuffix('_AGP')}_AGP"]
    assert "desired_sparsity" in fixed.model_fields
    assert gradual.model_fields.keys() ^ fixed.model_fields.keys() == {
        "desired_sparsity", "initial_sparsity", "final_sparsity",
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in RANKED if name.endswith("_AGP")])
@pytest.mark.parametrize(("initial", "final"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_the_final_sparsity_must_be_above_the_initial_one(name, initial, final):
    with pytest.raises(pydantic.ValidationError):
        PRUNERS[name](initial_sparsity=initial, final_sparsity=final, group_type="Filters", weights=[WIDE])
