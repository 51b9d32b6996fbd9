import numpy as np
import pydantic
import pytest

from compressors.components import When
from compressors.pruners.random_groups import (
    BernoulliFilterPruner,
    BernoulliFilterPruner_AGP,
    RandomLevelStructureParameterPruner,
)

WIDE = "wide/kernel"  # (1, 1, 4, 10)
STEPS = range(300)


def random_level(sparsity_range, group="Filters", weights=(WIDE,), **more):
    return RandomLevelStructureParameterPruner(
        group_type=group, sparsity_range=sparsity_range, weights=list(weights), **more
    )


def bernoulli(probability, weights=(WIDE,), **more):
    return BernoulliFilterPruner(group_type="Filters", desired_sparsity=probability, weights=list(weights), **more)


def rising():
    """A kernel whose filters have rising norms."""
    return np.tile(np.arange(1, 11), (1, 1, 4, 1))


def removed_filters(mask):
    flat = mask.reshape(-1, mask.shape[-1])
    assert (flat == flat[0]).all()
    return np.flatnonzero(flat[0] == 0).tolist()


# random level


def test_random_levels_fill_their_range_and_take_the_lowest_norms(masks_of):
    found = [
        removed_filters(masks[WIDE]) for masks in masks_of(random_level([0.2, 0.7]), {WIDE: rising()}, steps=STEPS)
    ]
    assert all(filters == list(range(len(filters))) for filters in found)
    counts = np.bincount([len(filters) for filters in found], minlength=10)
    assert counts[[0, 1, 7, 8, 9]].sum() == 0
    assert (counts[2:7] > 30).all()  # 60 of each are expected


@pytest.mark.parametrize(("sparsity_range", "removed"), [([0.3, 0.3], 3), ([0, 0], 0), ([1, 1], 9), ([0.29, 0.29], 2)])
def test_a_range_of_one_level_is_that_level_but_one_filter_stays(masks_of, sparsity_range, removed):
    for masks in masks_of(random_level(sparsity_range), {WIDE: rising()}, steps=range(5)):
        assert removed_filters(masks[WIDE]) == list(range(removed))


def test_random_levels_are_those_of_the_generator_and_the_step(masks_of, evidence_of):
    def run(seed, steps):
        found = masks_of(random_level([0, 0.9]), {WIDE: rising()}, evidence=evidence_of(seed), steps=steps)
        return [len(removed_filters(masks[WIDE])) for masks in found]

    assert run(1, range(20)) == run(1, range(20))
    assert run(1, range(20)) != run(2, range(20))
    assert run(1, range(10, 20)) == run(1, range(20))[10:]


def test_random_levels_are_for_blocks_and_dense_units_too(masks_of):
    pruner = random_level([0.5, 0.5], "Blocks", kwargs={"block_shape": [5, 2, 1, 1]})
    mask = masks_of(pruner, {WIDE: rising()})[WIDE]
    assert removed_filters(mask) == [0, 1, 2, 3, 4]
    pruner = random_level([0.4, 0.4], "Rows", ["fc/kernel"])
    mask = masks_of(pruner, {"fc/kernel": np.tile([3, 1, 2], (10, 1))})["fc/kernel"]
    np.testing.assert_array_equal(mask, np.tile([1, 0, 1], (10, 1)))


def test_the_level_of_the_leader_is_that_of_all(masks_of):
    kernels = {"conv2/kernel": np.tile([4, 3, 2, 1], (1, 1, 4, 1)), "conv1/kernel": np.ones((3, 3, 2, 4))}
    pruner = random_level([0, 1], weights=kernels, group_dependency="Leader")
    for masks in masks_of(pruner, kernels, steps=range(10)):
        first, second = (removed_filters(mask) for mask in masks.values())
        assert first == second == [0, 1, 2, 3][4 - len(first) :]


@pytest.mark.parametrize("sparsity_range", [[0.5, 0.4], [-0.1, 0.5], [0.5, 1.1], [0.5], 0.5, [0.1, 0.2, 0.3]])
def test_a_wrong_range_is_an_error(sparsity_range):
    with pytest.raises(pydantic.ValidationError):
        random_level(sparsity_range)


# Bernoulli


def test_filters_are_dropped_with_the_probability_and_independently(masks_of):
    found = masks_of(bernoulli(0.3), {WIDE: rising()}, steps=STEPS)
    dropped = np.array([masks[WIDE][0, 0, 0] == 0 for masks in found])
    assert abs(dropped.mean() - 0.3) < 0.04  # 3000 draws: a standard deviation of 0.0084
    assert (abs(dropped.mean(axis=0) - 0.3) < 0.14).all()  # 300 draws each: 0.026
    correlations = np.corrcoef(dropped.T)[np.triu_indices(10, 1)]
    assert abs(correlations).max() < 0.3
    for masks in found:
        removed_filters(masks[WIDE])


@pytest.mark.parametrize(("probability", "removed"), [(0, 0), (1, 9)])
def test_the_extremes_drop_none_and_all_but_one(masks_of, probability, removed):
    for masks in masks_of(bernoulli(probability), {WIDE: rising()}, steps=range(5)):
        assert len(removed_filters(masks[WIDE])) == removed


def test_drops_are_those_of_the_generator_and_the_step(masks_of, evidence_of):
    def run(seed):
        found = masks_of(bernoulli(0.5), {WIDE: rising()}, evidence=evidence_of(seed), steps=range(10))
        return [removed_filters(masks[WIDE]) for masks in found]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert len(set(map(tuple, run(1)))) > 5


def test_kernels_are_dropped_from_independently_unless_one_leads(masks_of):
    kernels = {"conv1/kernel": np.ones((3, 3, 2, 4)), "conv2/kernel": np.ones((1, 1, 4, 4))}
    for dependency, is_same in ((None, False), ("Leader", True)):
        found = masks_of(bernoulli(0.5, kernels, group_dependency=dependency), kernels, steps=range(20))
        same = [len({tuple(removed_filters(mask)) for mask in masks.values()}) == 1 for masks in found]
        assert all(same) == is_same


def test_the_gradual_probability_rises(masks_of):
    pruner = BernoulliFilterPruner_AGP(initial_sparsity=0.1, final_sparsity=0.6, group_type="3D", weights=[WIDE])
    for epoch, probability in ((0, 0.1), (1, 0.6 - 0.5 / 8), (2, 0.6)):
        found = masks_of(pruner, {WIDE: rising()}, When(epoch, 0, 3), steps=STEPS)
        share = np.mean([len(removed_filters(masks[WIDE])) / 10 for masks in found])
        assert abs(share - probability) < 0.04


def test_the_sparsity_is_not_known_beforehand(parameters):
    for pruner in (bernoulli(0.5), random_level([0.1, 0.2])):
        assert pruner.planned_sparsity(pruner.targets(parameters)[0], When(0, 0, 1)) is None
