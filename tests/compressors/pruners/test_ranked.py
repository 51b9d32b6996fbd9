import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.components import When
from compressors.pruners.ranked import (
    L1RankedStructureParameterPruner,
    L1RankedStructureParameterPruner_AGP,
    L2RankedStructureParameterPruner,
    L2RankedStructureParameterPruner_AGP,
    num_removed_groups,
)
from utils.errors import InputError

WIDE = "wide/kernel"  # (1, 1, 4, 10)


def l1(level, group="Filters", weights=(WIDE,), **more):
    return L1RankedStructureParameterPruner(group_type=group, desired_sparsity=level, weights=list(weights), **more)


def wide_with_norms(norms):
    """A kernel (1, 1, 4, 10) whose filters have these L1 norms."""
    return np.tile(np.asarray(norms, np.float32) / 4, (1, 1, 4, 1))


def random_wide(seed=3):
    return np.random.default_rng(seed).normal(size=(1, 1, 4, 10)).astype(np.float32)


def removed_filters(mask):
    """The indices of the filters that are removed; a filter is removed as a whole or not at all."""
    flat = mask.reshape(-1, mask.shape[-1])
    assert (flat == flat[0]).all()
    return np.flatnonzero(flat[0] == 0).tolist()


# num_removed_groups


@pytest.mark.parametrize(
    ("level", "groups", "size", "rounding", "removed"),
    [
        (0.5, 10, 1, "floor", 5),
        (0.29, 100, 1, "floor", 29),  # 28.999999999999996 in floats
        (0.56, 10, 1, "floor", 5),
        (0.54, 10, 1, "ceil", 6),
        (0.56, 10, 1, "round", 6),
        (0.54, 10, 1, "round", 5),
        (0.3, 10, 1, "ceil", 3),
        (0.5, 16, 4, "floor", 8),
        (0.6, 16, 4, "floor", 8),  # 9, then 2 fours
        (0.6, 16, 4, "ceil", 12),  # 10, then 3 fours
        (0.6, 16, 4, "round", 8),  # 10, then 2.5 fours: the even one
        (0.7, 16, 4, "round", 12),  # 11, then 2.75 fours
        (0.99, 16, 4, "ceil", 12),  # not all
        (0.99, 10, 1, "ceil", 9),
        (0.9, 10, 4, "ceil", 8),  # 12 fours' groups there are not
        (1.0, 16, 4, "floor", 16),
        (1.0, 10, 4, "floor", 10),
        (0.0, 10, 1, "ceil", 0),
        (0.5, 1, 1, "ceil", 0),
        (0.9, 3, 4, "round", 0),
    ],
)
def test_number_of_groups_that_a_level_removes(level, groups, size, rounding, removed):
    assert num_removed_groups(level, groups, size, rounding) == removed


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 600), st.integers(1, 16), st.sampled_from(["floor", "ceil"]))
def test_a_level_below_one_leaves_a_group_and_removes_a_multiple_of_the_group_size(level, groups, size, rounding):
    removed = num_removed_groups(level, groups, size, rounding)
    assert 0 <= removed < groups
    assert removed % size == 0


# which groups go


def test_the_filters_of_lowest_l1_norm_go(masks_of):
    kernel = wide_with_norms([5, 3, 9, 1, 7, 2, 8, 6, 4, 10])
    assert removed_filters(masks_of(l1(0.39), {WIDE: kernel})[WIDE]) == [1, 3, 5]


def test_compiled_masks_are_the_same(masks_of):
    kernels = {WIDE: random_wide()}
    for group in ("Filters", "Channels", "2D"):
        compiled = masks_of(l1(0.5, group), kernels, steps=[0])[0][WIDE]
        np.testing.assert_array_equal(compiled, masks_of(l1(0.5, group), kernels)[WIDE])


def test_l1_and_l2_rank_a_spike_and_a_plain_differently(masks_of):
    kernel = np.full((1, 1, 4, 4), 10.0)
    kernel[0, 0, :, 1] = [3, 0, 0, 0]  # L1 3, L2 3
    kernel[0, 0, :, 2] = [1, 1, 1, 1]  # L1 4, L2 2
    arguments = {"group_type": "3D", "desired_sparsity": 0.25, "weights": ["conv2/kernel"]}
    for pruner, removed in (
        (L1RankedStructureParameterPruner(**arguments), [1]),
        (L2RankedStructureParameterPruner(**arguments), [2]),
    ):
        assert removed_filters(masks_of(pruner, {"conv2/kernel": kernel})["conv2/kernel"]) == removed


@pytest.mark.parametrize(
    ("group", "removed"),
    [("Channels", (slice(None), slice(None), 1)), ("2D", (slice(None), slice(None), 0, 3))],
)
def test_channels_and_spatial_kernels_go(masks_of, group, removed):
    kernel = np.ones((3, 3, 2, 4))
    kernel[removed] = 0.5
    level = {"Channels": 0.5, "2D": 0.125}[group]
    mask = masks_of(l1(level, group, ["conv1/kernel"]), {"conv1/kernel": kernel})["conv1/kernel"]
    np.testing.assert_array_equal(mask, kernel == 1)


@pytest.mark.parametrize(("group", "shape"), [("Rows", (1, 3)), ("Cols", (10, 1))])
def test_units_of_a_dense_layer_go(masks_of, group, shape):
    kernel = np.broadcast_to(np.arange(1.0, np.prod(shape) + 1).reshape(shape), (10, 3))
    mask = masks_of(l1(0.5, group, ["fc/kernel"]), {"fc/kernel": kernel})["fc/kernel"]
    np.testing.assert_array_equal(mask, kernel > np.prod(shape) // 2)


def test_blocks_go(masks_of):
    kernel = np.ones((1, 1, 4, 10))
    kernel[0, 0, 2:, 5] = 0.5  # one block of two input channels of one filter
    pruner = l1(0.05, "Blocks", kwargs={"block_shape": [1, 2, 1, 1]})
    np.testing.assert_array_equal(masks_of(pruner, {WIDE: kernel})[WIDE], kernel == 1)


def test_of_equal_norms_the_lowest_index_goes_first(masks_of):
    kernel = wide_with_norms([2, 1, 1, 2, 1, 1, 2, 2, 1, 1])
    assert removed_filters(masks_of(l1(0.4), {WIDE: kernel})[WIDE]) == [1, 2, 4, 5]


@settings(max_examples=40)
@given(st.sampled_from(range(11)), st.integers(0, 3), st.sampled_from(["Filters", "Channels", "2D"]))
def test_the_number_of_groups_removed_is_exact_with_ties_and_zeros_too(masks_of, tenths, levels, group):
    kernel = np.random.default_rng(tenths).integers(0, levels + 1, (1, 1, 4, 10))
    mask = masks_of(l1(tenths / 10, group), {WIDE: kernel})[WIDE]
    num_groups = {"Filters": 10, "Channels": 4, "2D": 40}[group]
    assert (mask == 0).sum() == tenths * num_groups // 10 * (40 // num_groups)
    assert set(np.unique(mask)) <= {0, 1}


def test_level_one_removes_all(masks_of):
    assert not masks_of(l1(1), {WIDE: random_wide()})[WIDE].any()


def test_the_group_size_and_the_rounding_count(masks_of, parameters):
    kernel = wide_with_norms(range(1, 11))
    for rounding, removed in (("floor", 4), ("ceil", 8)):
        pruner = l1(0.6, group_size=4, rounding_fn=rounding)
        assert removed_filters(masks_of(pruner, {WIDE: kernel})[WIDE]) == list(range(removed))
        assert pruner.planned_sparsity(pruner.targets(parameters)[0], When(0, 0, 1)) == removed / 10


# noise


def test_noise_is_the_same_with_the_same_generator_and_other_with_another(masks_of, evidence_of):
    kernel = random_wide()
    masks = [masks_of(l1(0.5, noise=1), {WIDE: kernel}, evidence=evidence_of(seed))[WIDE] for seed in (1, 1, 2)]
    assert removed_filters(masks[0]) == removed_filters(masks[1]) != removed_filters(masks[2])


def test_norms_are_multiplied_by_standard_normal_numbers_with_the_probability_of_the_noise(masks_of, evidence_of):
    norms = np.arange(1, 11)
    is_noisy = []
    for seed in range(60):
        generator = evidence_of(seed).generator(WIDE)
        is_noisy.append(generator.random() < 0.5)
        scores = norms * generator.standard_normal(10) if is_noisy[-1] else norms
        mask = masks_of(l1(0.4, noise=0.5), {WIDE: wide_with_norms(norms)}, evidence=evidence_of(seed))[WIDE]
        assert removed_filters(mask) == sorted(np.argsort(scores)[:4])
    assert 15 < sum(is_noisy) < 45


def test_groups_of_zeros_go_first_whatever_the_noise(masks_of, evidence_of):
    kernel = wide_with_norms([1, 1, 0, 1, 1, 0, 1, 1, 1, 1])
    for seed in range(20):
        mask = masks_of(l1(0.2, noise=1), {WIDE: kernel}, evidence=evidence_of(seed))[WIDE]
        assert removed_filters(mask) == [2, 5]


# gradual


@pytest.mark.parametrize("pruner_class", [L1RankedStructureParameterPruner_AGP, L2RankedStructureParameterPruner_AGP])
def test_the_gradual_pruner_follows_its_schedule(masks_of, parameters, pruner_class):
    pruner = pruner_class(initial_sparsity=0.05, final_sparsity=0.75, group_type="2D", weights=[WIDE])
    target = pruner.targets(parameters)[0]
    # Levels .05, .258368, .420645, .542593, .629973, .688546, .724074, .742318, .749040, .75 of 40 groups.
    for epoch, count in enumerate([2, 10, 16, 21, 25, 27, 28, 29, 29, 30]):
        when = When(epoch, 0, 10)
        assert (masks_of(pruner, {WIDE: random_wide()}, when)[WIDE] == 0).sum() == count
        assert pruner.planned_sparsity(target, when) == count / 40


def test_one_active_epoch_prunes_to_the_final_sparsity(masks_of):
    pruner = L1RankedStructureParameterPruner_AGP(
        initial_sparsity=0.1, final_sparsity=0.5, group_type="Filters", weights=[WIDE]
    )
    assert len(removed_filters(masks_of(pruner, {WIDE: random_wide()}, When(3, 3, 4))[WIDE])) == 5


def test_filters_once_removed_stay_removed_while_they_are_zero(masks_of):
    pruner = L1RankedStructureParameterPruner_AGP(
        initial_sparsity=0.1, final_sparsity=0.8, group_type="Filters", weights=[WIDE]
    )
    kernel, removed = random_wide(), set()
    for epoch, count in ((0, 1), (2, 5), (4, 7), (6, 7), (8, 8)):
        mask = masks_of(pruner, {WIDE: kernel}, When(epoch, 0, 10, 2))[WIDE]
        now = set(removed_filters(mask))
        assert len(now) == count
        assert removed <= now
        kernel, removed = kernel * mask, now


# arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {"desired_sparsity": 1.1},
        {"desired_sparsity": True},
        {"group_type": "4D"},
        {"group_type": "Blocks"},
        {"kwargs": {"block_shape": [1, 2, 1, 1]}},
        {"group_type": "Blocks", "kwargs": {"block_shape": [1, 2, 1]}},
        {"group_type": "Blocks", "kwargs": {"block_shape": [0, 2, 1, 1]}},
        {"group_type": "Blocks", "kwargs": {"shape": [1, 2, 1, 1]}},
        {"weights": []},
        {"group_dependency": "Follower"},
        {"noise": 1.5},
        {"group_size": 0},
        {"rounding_fn": "trunc"},
        {"magnitude_fn": "l1"},
    ],
)
def test_wrong_arguments_are_errors(arguments):
    right = {"group_type": "Filters", "desired_sparsity": 0.5, "weights": [WIDE]}
    with pytest.raises(pydantic.ValidationError):
        L1RankedStructureParameterPruner(**right | arguments)


def test_one_name_may_be_given_without_a_list():
    pruner = L1RankedStructureParameterPruner(group_type="Filters", desired_sparsity="5e-1", weights=WIDE)
    assert pruner == l1(0.5)


@pytest.mark.parametrize(
    ("group", "path"), [("Rows", WIDE), ("Filters", "fc/kernel"), ("Filters", "fc/bias"), ("Cols", "conv1/kernel")]
)
def test_a_group_that_the_kernel_does_not_have_is_an_error(parameters, group, path):
    with pytest.raises(InputError, match=path):
        l1(0.5, group, [path]).targets(parameters)


def test_an_unknown_name_is_an_error(parameters):
    with pytest.raises(InputError, match="nowhere"):
        l1(0.5, weights=["nowhere/kernel"]).targets(parameters)
