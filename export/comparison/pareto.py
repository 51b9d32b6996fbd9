"""The Pareto front: what nothing else beats."""

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices, in order, of the `(accuracy, cost)` points that no other point dominates.

    Point p dominates q where

        accuracy_p >= accuracy_q  and  cost_p <= cost_q,  at least one of them strictly.

    Equal points do not dominate each other, so all of them are members or none is. It takes O(n log n).

    Raises:
        ValueError: a number that is not finite, which could not be ranked.
    """
    for index, point in enumerate(points):
        if not all(map(math.isfinite, point)):
            raise ValueError(f"Points of a Pareto front must be finite. Received: {tuple(point)} at index {index}")
    members = []
    best, cost_of_best = -math.inf, math.inf
    # From cheap to dear, the most accurate first among those that cost the same: a member is better than all before it.
    for index in sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0])):
        accuracy, cost = points[index]
        if accuracy > best:
            best, cost_of_best = accuracy, cost
            members.append(index)
        elif accuracy == best and cost == cost_of_best:
            members.append(index)
    return sorted(members)
