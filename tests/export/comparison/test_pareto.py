import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.comparison.pareto import pareto_front

FEW_VALUES = st.integers(0, 4).map(float)  # so that ties are common
POINTS = st.lists(st.tuples(FEW_VALUES, FEW_VALUES) | st.tuples(st.floats(-1, 1), st.floats(0, 1e9)), max_size=30)


def brute_force(points):
    """By the definition: compare each point with each other."""

    def dominates(p, q):
        return p[0] >= q[0] and p[1] <= q[1] and p != q

    return [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]


@given(POINTS)
def test_the_front_is_what_the_definition_says(points):
    assert pareto_front(points) == brute_force(points)


@given(POINTS.filter(bool))
def test_what_is_not_on_the_front_is_dominated_by_a_member(points):
    members = pareto_front(points)
    assert members
    for i, (accuracy, cost) in enumerate(points):
        assert i in members or any(points[m][0] >= accuracy and points[m][1] <= cost for m in members)


@pytest.mark.parametrize(
    ("points", "members"),
    [
        ([], []),
        ([(0.9, 5.0)], [0]),
        ([(0.9, 5.0), (0.8, 1.0), (0.7, 3.0)], [0, 1]),  # the third is worse and dearer than the second
        ([(0.9, 5.0), (0.9, 4.0)], [1]),  # the same accuracy for less
        ([(0.9, 5.0), (0.8, 5.0)], [0]),  # more accuracy for the same
        ([(0.9, 5.0), (0.8, 9.0), (0.9, 5.0)], [0, 2]),  # equal points stand or fall together
        ([(0.8, 5.0), (0.8, 5.0), (0.9, 5.0)], [2]),
        ([(-0.2, 5.0), (-0.1, 5.0)], [1]),  # a metric below zero
    ],
)
def test_small_fronts_by_hand(points, members):
    assert pareto_front(points) == members


@pytest.mark.parametrize("point", [(math.nan, 1.0), (0.5, math.inf)])
def test_a_number_that_cannot_be_ranked_is_refused_with_its_place(point):
    with pytest.raises(ValueError, match="must be finite. Received: .* at index 1"):
        pareto_front([(0.5, 1.0), point])
