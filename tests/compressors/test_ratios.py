import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.ratios import (
    LayerSpec,
    erk,
    global_ranking,
    heurist,
    kept_weights,
    lamp,
    largest_reachable_ratio,
    num_removed,
    overall_ratio,
    parameter_budget,
    removed_counts,
    uniform,
    water_fill,
)
from utils.errors import InputError


def specs(*shapes):
    return [LayerSpec(f"layer{index}/kernel", shape) for index, shape in enumerate(shapes)]


def pocketflow_resnet20():
    """The 23 kernels of PocketFlow's ResNet-20: its first block has a projection too, each before the block's convs."""
    shapes, channels = [(3, 3, 3, 16)], 16
    for width in (16, 32, 64):
        shapes += [(1, 1, channels, width), (3, 3, channels, width)] + [(3, 3, width, width)] * 5
        channels = width
    return specs(*shapes, (64, 10))


shapes = st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple)
layer_lists = st.lists(shapes, min_size=1, max_size=6).map(lambda drawn: specs(*drawn))


@st.composite
def problems(draw):
    """(layers, a reachable ratio, dense paths, the largest ratio of a layer)."""
    layers = draw(layer_lists)
    dense = draw(st.sets(st.sampled_from([layer.path for layer in layers])))
    max_layer_ratio = draw(st.sampled_from([1.0, 0.99, 0.75, 1 - 0.9**55]))
    largest = largest_reachable_ratio(layers, dense, max_layer_ratio)
    return layers, draw(st.floats(0, 1)) * largest, dense, max_layer_ratio


def random_weights(layers):
    rng = np.random.default_rng(0)
    return {layer.path: rng.normal(size=layer.shape) * rng.uniform(0.1, 2) for layer in layers}


def lamp_of_random_weights(layers, ratio, dense, max_layer_ratio):
    return lamp(layers, ratio, random_weights(layers), dense, max_layer_ratio)


def global_of_random_scores(layers, ratio, dense, max_layer_ratio):
    scores = {path: np.abs(weights).round(1) for path, weights in random_weights(layers).items()}
    return global_ranking(layers, ratio, scores, dense, max_layer_ratio)


PROTOCOLS = [uniform, heurist, erk, lamp_of_random_weights, global_of_random_scores]


@pytest.mark.parametrize(
    ("ratio", "size", "removed"),
    [
        (0.29, 100, 29),  # 28.999999999999996 in floats
        (1 - 0.9, 10, 1),  # 0.9999999999999998 in floats
        (0.3, 10, 3),
        (0.75, 3, 2),
        (0.999, 1, 0),
        (0.0, 7, 0),
        (1.0, 7, 7),
        (1.0, 1, 1),
        (0.5, 0, 0),
    ],
)
def test_number_removed_is_the_floor_of_the_exact_product(ratio, size, removed):
    assert num_removed(ratio, size) == removed


@given(st.integers(1, 10**8), st.data())
def test_a_count_divided_by_the_size_gives_the_count_back(size, data):
    count = data.draw(st.integers(0, size))
    assert num_removed(count / size, size) == count
    assert num_removed(1 - count / size, size) == size - count


@given(st.integers(0, 1000), st.integers(1, 10**6))
def test_number_removed_is_exact_for_decimal_ratios(thousandths, size):
    assert num_removed(thousandths / 1000, size) == math.floor(Fraction(thousandths, 1000) * size)


@pytest.mark.parametrize("ratio", [-0.01, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_ratio_outside_0_and_1_is_an_error(protocol, ratio):
    with pytest.raises(InputError, match=rf"must be in \[0, 1\]. Received: {ratio}"):
        protocol(specs((4, 4)), ratio, (), 1.0)


def test_counts_of_ratios():
    layers = specs((10, 10), (2, 3))
    ratios = {"layer0/kernel": 0.29, "layer1/kernel": 0.5}
    assert removed_counts(layers, ratios).tolist() == [29, 3]
    assert kept_weights(layers, ratios) == 74
    assert overall_ratio(layers, ratios) == pytest.approx(32 / 106)


@pytest.mark.parametrize("ratios", [{}, {"layer0/kernel": 0.5, "other/kernel": 0.5}])
def test_ratios_of_other_kernels_are_an_error(ratios):
    with pytest.raises(InputError, match="ratios must name the prunable kernels"):
        kept_weights(specs((4, 4)), ratios)


def test_parameter_budget_is_what_may_be_kept():
    assert parameter_budget(specs((10, 10)), 0.29) == 71
    assert parameter_budget(specs((10, 10), (1, 1)), 0.75) == 25
    assert parameter_budget(pocketflow_resnet20(), 0.75) == 67788


def test_largest_reachable_ratio_counts_whole_weights():
    layers = specs((10, 10), (5, 5))
    assert largest_reachable_ratio(layers) == 1.0
    assert largest_reachable_ratio(layers, {"layer1/kernel"}) == pytest.approx(0.8)
    assert largest_reachable_ratio(layers, (), 0.9) == pytest.approx((90 + 22) / 125)


# All protocols.


@settings(deadline=None, max_examples=50)
@given(problems())
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exactly_the_budget_is_kept(protocol, problem):
    layers, ratio, dense, max_layer_ratio = problem
    ratios = protocol(layers, ratio, dense, max_layer_ratio)
    assert kept_weights(layers, ratios) == parameter_budget(layers, ratio)
    assert ratio - 1e-9 <= overall_ratio(layers, ratios) < ratio + 1 / sum(layer.size for layer in layers) + 1e-9


@settings(deadline=None, max_examples=50)
@given(problems())
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dense_layers_stay_dense_and_no_layer_is_above_its_cap(protocol, problem):
    layers, ratio, dense, max_layer_ratio = problem
    ratios = protocol(layers, ratio, dense, max_layer_ratio)
    assert all(ratios[path] == 0 for path in dense)
    assert all(0 <= layer_ratio <= max_layer_ratio for layer_ratio in ratios.values())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unreachable_budget_is_an_error_that_says_the_largest_reachable(protocol):
    layers = specs((10, 10), (5, 5))
    with pytest.raises(InputError, match=r"at most 0\.8, the largest reachable .*Received: 0\.801"):
        protocol(layers, 0.801, {"layer1/kernel"}, 1.0)
    with pytest.raises(InputError, match=r"at most 0\.72, the largest reachable .*Received: 0\.73"):
        protocol(layers, 0.73, {"layer1/kernel"}, 0.9)
    assert overall_ratio(layers, protocol(layers, 0.72, {"layer1/kernel"}, 0.9)) == pytest.approx(0.72)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unknown_dense_path_is_an_error(protocol):
    with pytest.raises(InputError, match="Received: 'fc/kernel'"):
        protocol(specs((4, 4)), 0.5, {"fc/kernel"}, 1.0)


# uniform


def test_uniform_is_the_ratio_itself_without_dense_layers():
    assert set(uniform(pocketflow_resnet20(), 0.75).values()) == {0.75}


def test_uniform_makes_up_for_dense_layers_and_gives_the_rounding_to_the_largest():
    # 225 weights, 113 to remove of 200: 56.5 each, floor 56, and the one missing comes from the first of the largest.
    ratios = uniform(specs((5, 5), (10, 10), (10, 10)), 0.5, dense={"layer0/kernel"})
    assert ratios == {"layer0/kernel": 0.0, "layer1/kernel": 0.57, "layer2/kernel": pytest.approx(0.565)}


# heurist


def test_heurist_known_values_of_pocketflow():
    layers = pocketflow_resnet20()
    ratios = list(heurist(layers, 0.75).values())
    assert len(ratios) == 23
    assert ratios[0] == pytest.approx(0.45493, abs=5e-6)
    assert ratios[-1] == pytest.approx(0.48440, abs=5e-6)


def test_heurist_is_proportional_to_the_log_of_the_size():
    ratios = heurist(specs((10, 10), (100, 100)), 0.5)
    # log 10000 = 2 log 100: c (100 + 2 * 10000) = 5050.
    assert ratios["layer0/kernel"] == pytest.approx(5050 / 20100, abs=0)
    assert ratios["layer1/kernel"] == pytest.approx(2 * 5050 / 20100, abs=1e-4)


def test_heurist_spreads_what_the_clip_cuts_off():
    ratios = heurist(specs((10, 10), (100, 100)), 0.987)
    # 9969 of 10100 weights go; unclipped the large layer would lose .99194. Its 9900 leave 69 of the small one's 100.
    assert ratios == {"layer0/kernel": pytest.approx(0.69), "layer1/kernel": 0.99}


def test_heurist_lifts_its_clip_where_99_percent_everywhere_is_too_little():
    layers = specs((10, 10), (100, 100))
    ratios = heurist(layers, 0.995)
    assert kept_weights(layers, ratios) == 50
    assert ratios["layer1/kernel"] > 0.99


# erk


def test_erk_densities_are_proportional_to_sum_over_product_of_the_shape():
    layers = specs((3, 3, 16, 32), (64, 10), (3, 3, 64, 64))
    ratios = erk(layers, 0.8)
    # 8422 of 42112 weights are kept. The shapes' sums are 54, 74, 134: c = 8422 / 262 would keep 2379 of the 640 of the
    # second layer, so it is dense and the others share 7782; the floor of the first makes the third give one weight.
    kept = [(1 - ratios[layer.path]) * layer.size for layer in layers]
    assert kept == pytest.approx([7782 * 54 / 188, 640, 7782 - 2236], abs=1e-6)


def test_erk_gives_what_the_cap_at_density_one_leaves_to_the_others():
    # Sums 20 and 200: 5050 kept would be 459 of the first layer's 100, so it is dense and the other keeps 4950.
    ratios = erk(specs((10, 10), (100, 100)), 0.5)
    assert ratios == {"layer0/kernel": 0.0, "layer1/kernel": pytest.approx(0.505)}


# lamp and global


def test_lamp_hand_worked():
    weights = {"layer0/kernel": np.array([[1.0, -2.0, 3.0]]), "layer1/kernel": np.array([[4.0], [5.0]])}
    # Scores: 1/14, 4/13, 1 and 16/41, 1. Two of five go: both of the first layer.
    assert lamp(specs((1, 3), (2, 1)), 0.4, weights) == {"layer0/kernel": 2 / 3, "layer1/kernel": 0.0}
    assert lamp(specs((1, 3), (2, 1)), 0.6, weights) == {"layer0/kernel": 2 / 3, "layer1/kernel": 0.5}


@given(problems())
@settings(deadline=None, max_examples=50)
def test_lamp_never_empties_a_layer_before_all_others_have_one_weight_left(problem):
    layers, ratio, _, _ = problem
    if parameter_budget(layers, ratio) >= len(layers):
        removed = removed_counts(layers, lamp(layers, ratio, random_weights(layers)))
        assert all(layer.size - count >= 1 for layer, count in zip(layers, removed, strict=True))


def test_lamp_of_a_layer_of_zeros_prunes_it_first():
    weights = {"layer0/kernel": np.ones((1, 2)), "layer1/kernel": np.zeros((1, 2))}
    assert lamp(specs((1, 2), (1, 2)), 0.5, weights) == {"layer0/kernel": 0.0, "layer1/kernel": 1.0}


def test_global_removes_the_lowest_scores_of_all_layers():
    scores = {"layer0/kernel": np.array([[0.1, 0.2, 0.9]]), "layer1/kernel": np.array([[0.15], [0.8]])}
    layers = specs((1, 3), (2, 1))
    assert global_ranking(layers, 0.6, scores) == {"layer0/kernel": 2 / 3, "layer1/kernel": 0.5}
    assert global_ranking(layers, 0.4, scores) == {"layer0/kernel": 1 / 3, "layer1/kernel": 0.5}


def test_global_of_equal_scores_takes_the_first_layer_first():
    scores = {"layer0/kernel": np.ones((1, 2)), "layer1/kernel": np.ones((1, 2))}
    assert global_ranking(specs((1, 2), (1, 2)), 0.5, scores) == {"layer0/kernel": 1.0, "layer1/kernel": 0.0}


# water_fill


def bisected_fill(weights, sizes, total, low, high):
    """The same by bisection on c."""
    below, above = 0.0, 1e9
    for _ in range(200):
        middle = (below + above) / 2
        if np.sum(np.clip(middle * weights, low, high) * sizes) < total:
            below = middle
        else:
            above = middle
    return np.clip(above * weights, low, high)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0, 1))
def test_water_fill_agrees_with_bisection(seed, count, share):
    rng = np.random.default_rng(seed)
    weights, sizes = rng.uniform(0.1, 3, count), rng.integers(1, 1000, count)
    low = rng.uniform(0, 0.3, count)
    high = low + rng.uniform(0, 0.7, count)
    total = (1 - share) * (low @ sizes) + share * (high @ sizes)
    filled = water_fill(weights, sizes, total, low, high)
    assert filled @ sizes == pytest.approx(total)
    np.testing.assert_allclose(filled, bisected_fill(weights, sizes, total, low, high), atol=1e-7)


def test_water_fill_leaves_entries_of_weight_zero_at_their_lower_bound():
    ones = np.ones(2)
    assert water_fill(np.array([0.0, 2.0]), ones, 0.5, np.zeros(2), ones).tolist() == [0.0, 0.5]
