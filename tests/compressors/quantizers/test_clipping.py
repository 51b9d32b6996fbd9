"""Where activations are clipped."""

import numpy as np
import pytest
from scipy import optimize, stats

from compressors.quantizers.clipping import clipped_range, optimal_clipping
from compressors.quantizers.statistics import Statistics

SOME = Statistics(min=-4.0, max=10.0, avg_min=-2.0, avg_max=6.0, mean=1.0, std=1.5, b=1.2)
WIDE = Statistics(min=-100.0, max=100.0, avg_min=-50.0, avg_max=50.0, mean=1.0, std=1.5, b=1.2)


def ends(*args, **kwargs):
    return [float(end) for end in clipped_range(*args, **kwargs)]


@pytest.mark.parametrize(
    ("clip", "published"),
    [
        ("GAUSS", {1: 1.24, 2: 1.71, 3: 2.15, 4: 2.55, 5: 2.93, 6: 3.28, 7: 3.61, 8: 3.92}),
        ("LAPLACE", {1: 1.86, 2: 2.83, 3: 3.89, 4: 5.03, 5: 6.2, 6: 7.41, 7: 8.64, 8: 9.89}),
    ],
)
def test_optimal_clipping_is_that_of_the_paper(clip, published):
    for bits, alpha in published.items():
        assert optimal_clipping(clip, bits) == pytest.approx(alpha, abs=0.011)


@pytest.mark.parametrize(("clip", "density"), [("GAUSS", stats.norm.pdf), ("LAPLACE", stats.laplace.pdf)])
@pytest.mark.parametrize("bits", [3, 4, 6])
def test_optimal_clipping_nearly_minimises_the_error_of_real_quantization(clip, density, bits):
    x = np.linspace(0, 40, 200_001)
    probability = density(x)

    def error(alpha):
        step = 2 * alpha / 2**bits
        middles = np.clip(np.floor(x / step), 0, 2 ** (bits - 1) - 1) * step + step / 2
        return np.sum((x - middles) ** 2 * probability)

    best = optimize.minimize_scalar(error, bounds=(0.5, 15), method="bounded").fun
    assert best <= error(optimal_clipping(clip, bits)) < 1.05 * best


@pytest.mark.parametrize(
    ("clip", "expected"),
    [("NONE", [-4, 10]), ("AVG", [-2, 6]), ("N_STD", [1 - 3, 1 + 3])],
)
def test_the_modes_without_a_distribution(clip, expected):
    assert ends(SOME, 8, "ASYMMETRIC_SIGNED", clip, 2.0) == pytest.approx(expected)


def test_deviations_reach_no_further_than_the_extremes():
    assert ends(SOME, 8, "SYMMETRIC", "N_STD", 4.0) == pytest.approx([-4, 7])
    assert ends(SOME, 8, "SYMMETRIC", "LAPLACE") == pytest.approx([-4, 10])


@pytest.mark.parametrize("mode", ["SYMMETRIC", "ASYMMETRIC_UNSIGNED"])
def test_distributions_are_clipped_around_their_mean(mode):
    assert ends(WIDE, 4, mode, "GAUSS") == pytest.approx([1 - 2.559 * 1.5, 1 + 2.559 * 1.5], rel=2e-3)
    assert ends(WIDE, 4, mode, "LAPLACE") == pytest.approx([1 - 5.03 * 1.2, 1 + 5.03 * 1.2], rel=2e-3)


@pytest.mark.parametrize("clip", ["NONE", "AVG", "N_STD", "GAUSS", "LAPLACE"])
def test_a_rectified_range_begins_at_zero(clip):
    low, high = ends(SOME, 4, "ASYMMETRIC_UNSIGNED", clip, 2.0, is_rectified=True)
    assert low == 0.0
    assert 0.0 < high <= 10.0


def test_what_a_relu_stops_altogether_has_an_empty_range():
    negative = Statistics(-9.0, -1.0, -8.0, -2.0, -5.0, 1.0, 0.8)
    for clip in ("NONE", "AVG", "N_STD", "GAUSS", "LAPLACE"):
        assert ends(negative, 8, "ASYMMETRIC_UNSIGNED", clip, 2.0, is_rectified=True) == [0.0, 0.0]


def test_behind_a_relu_all_levels_of_an_asymmetric_mode_are_on_one_side():
    centred = WIDE._replace(mean=0.0, std=1.0, b=1.0)
    assert ends(centred, 4, "ASYMMETRIC_SIGNED", "GAUSS", is_rectified=True)[1] == pytest.approx(2.93, abs=0.01)
    assert ends(centred, 4, "ASYMMETRIC_SIGNED", "LAPLACE", is_rectified=True)[1] == pytest.approx(6.2, abs=0.01)
    assert ends(centred, 4, "SYMMETRIC", "GAUSS", is_rectified=True)[1] == pytest.approx(2.559, abs=0.01)


@pytest.mark.parametrize(("clip", "law"), [("GAUSS", stats.norm), ("LAPLACE", stats.laplace)])
@pytest.mark.parametrize("mean", [-2.0, -1.0, 0.0, 1.0, 3.0])
def test_behind_a_relu_the_error_is_near_the_smallest_whatever_the_mean(clip, law, mean):
    x = np.linspace(0, 40, 100_001)
    probability = law.pdf(x, mean)

    def error(high):
        step = high / 15
        return np.sum((x - np.clip(np.round(x / step), 0, 15) * step) ** 2 * probability)

    best = optimize.minimize_scalar(error, bounds=(0.2, 15), method="bounded").fun
    high = ends(WIDE._replace(mean=mean, std=1.0, b=1.0), 4, "ASYMMETRIC_UNSIGNED", clip, is_rectified=True)[1]
    assert error(high) < 1.15 * best
