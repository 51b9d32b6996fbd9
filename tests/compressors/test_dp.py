import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.ratios import (
    LayerSpec,
    dp_allocation,
    kept_weights,
    largest_reachable_ratio,
    num_removed,
    parameter_budget,
    removed_counts,
)
from utils.errors import InputError

DENSITIES = 0.9 ** np.arange(56)


def specs(*sizes):
    return [LayerSpec(f"layer{index}/kernel", (size, 1)) for index, size in enumerate(sizes)]


def kept_at(size, densities):
    return np.array([size - num_removed(1 - density, size) for density in densities])


def least_error(layers, budget, densities, errors):
    """The least sum of errors over every combination of levels that keeps at most `budget`."""
    kept = [kept_at(layer.size, densities) for layer in layers]
    combinations = itertools.product(range(len(densities)), repeat=len(layers))
    return min(
        sum(errors[layer.path][level] for layer, level in zip(layers, levels, strict=True))
        for levels in combinations
        if sum(counts[level] for counts, level in zip(kept, levels, strict=True)) <= budget
    )


def error_of(layers, ratios, densities, errors):
    """The sum of errors of an allocation, linear between two levels."""
    kept = {layer.path: layer.size - count for layer, count in zip(layers, removed_counts(layers, ratios), strict=True)}
    total = 0.0
    for layer in layers:
        counts, level_errors = kept_at(layer.size, densities)[::-1], errors[layer.path][::-1]
        last = np.append(counts[1:] > counts[:-1], True)  # of levels that keep equally many, the denser one's error
        total += np.interp(kept[layer.path], counts[last], level_errors[last])
    return total


@st.composite
def problems(draw):
    """(layers, ratio, densities, errors) with three levels for at most five layers, errors rising as density falls."""
    layers = specs(*draw(st.lists(st.integers(1, 60), min_size=1, max_size=5)))
    densities = np.array([1.0, *sorted(draw(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=2)), reverse=True)])
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    errors = {layer.path: np.append(0.0, np.cumsum(rng.uniform(0, 1, 2))) for layer in layers}
    ratio = draw(st.floats(0, 1)) * largest_reachable_ratio(layers, (), 1 - densities[-1])
    return layers, ratio, densities, errors


def convex_paths(layers, seed=0):
    rng = np.random.default_rng(seed)
    return {layer.path: rng.uniform(0.1, 3) * (1 - DENSITIES) ** rng.uniform(1.5, 5) for layer in layers}


def test_the_cheaper_of_two_layers_is_pruned():
    errors = {"layer0/kernel": np.array([0.0, 0.1]), "layer1/kernel": np.array([0.0, 0.9])}
    ratios = dp_allocation(specs(10, 10), 0.25, np.array([1.0, 0.5]), errors)
    assert ratios == {"layer0/kernel": 0.5, "layer1/kernel": 0.0}


def test_the_best_single_steps_are_not_taken_where_together_they_are_worse():
    # 20 weights, 12 kept. The best step, layer 1 to half, saves 4 for .1, but then both others must follow.
    layers = specs(6, 8, 6)
    errors = {
        "layer0/kernel": np.array([0, 0.5]),
        "layer1/kernel": np.array([0, 0.1]),
        "layer2/kernel": np.array([0, 0.5]),
    }
    ratios = dp_allocation(layers, 0.35, np.array([1.0, 0.5]), errors)
    assert kept_weights(layers, ratios) == 13
    assert ratios == {"layer0/kernel": 0.5, "layer1/kernel": 0.5, "layer2/kernel": 0.0}


@settings(deadline=None)
@given(problems())
def test_no_combination_of_levels_has_a_smaller_error(problem):
    layers, ratio, densities, errors = problem
    ratios = dp_allocation(layers, ratio, densities, errors)
    best = least_error(layers, parameter_budget(layers, ratio), densities, errors)
    assert error_of(layers, ratios, densities, errors) <= best + 1e-9


@settings(deadline=None)
@given(problems(), st.sampled_from([1, 3, 17, 10_000]))
def test_exactly_the_budget_is_kept_at_any_resolution(problem, cells):
    layers, ratio, densities, errors = problem
    ratios = dp_allocation(layers, ratio, densities, errors, cells=cells)
    assert kept_weights(layers, ratios) == parameter_budget(layers, ratio)
    assert all(0 <= layer_ratio <= 1 - densities[-1] for layer_ratio in ratios.values())


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.98])
def test_the_resolution_costs_next_to_nothing_on_real_sizes(ratio):
    layers = specs(432, *[2304] * 6, 4608, *[9216] * 5, 18432, *[36864] * 5, 512, 2048, 640)
    errors = convex_paths(layers)
    coarse, fine = (
        error_of(layers, dp_allocation(layers, ratio, DENSITIES, errors, cells=cells), DENSITIES, errors)
        for cells in (10_000, 100_000)
    )
    assert coarse == pytest.approx(fine, rel=2e-3)


def test_dense_layers_use_up_budget_and_need_no_errors():
    layers = specs(100, 100, 100)
    errors = convex_paths(layers[:2])
    ratios = dp_allocation(layers, 0.6, DENSITIES, errors, dense={"layer2/kernel"})
    assert ratios["layer2/kernel"] == 0.0
    assert kept_weights(layers, ratios) == 120


def test_ratio_zero_keeps_everything():
    layers = specs(10, 100)
    assert set(dp_allocation(layers, 0.0, DENSITIES, convex_paths(layers)).values()) == {0.0}
    assert set(dp_allocation(layers, 0.0, DENSITIES, {}, dense={layer.path for layer in layers}).values()) == {0.0}


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_reachable_ratio_is_reached(seed):
    layers = specs(432, 2304, 4608, 640)
    dense = {"layer0/kernel"}
    largest = largest_reachable_ratio(layers, dense, 1 - DENSITIES[-1])
    ratios = dp_allocation(layers, largest, DENSITIES, convex_paths(layers, seed), dense)
    assert kept_weights(layers, ratios) == parameter_budget(layers, largest)


def test_an_unreachable_budget_is_an_error_that_says_the_largest_reachable():
    layers = specs(100, 100)
    with pytest.raises(InputError, match=r"at most 0\.4, the largest reachable .*Received: 0\.41"):
        dp_allocation(layers, 0.41, np.array([1.0, 0.2]), {"layer0/kernel": [0, 1]}, dense={"layer1/kernel"})
    with pytest.raises(InputError, match=r"must be in \[0, 1\]. Received: 1.5"):
        dp_allocation(layers, 1.5, DENSITIES, convex_paths(layers))
