"""Codebooks: few values for all the weights of a kernel, chosen and assigned so that the indices take few bits."""

import math
from typing import NamedTuple

import numpy as np

MOST_POINTS = 1 << 13  # a codebook is found on this many points; more values are first gathered in as many bins
ROUNDS = 40
CANDIDATES = 2  # on each side of the nearest codeword
SWEEPS = 2
SAME_INPUT, ALL_INPUTS = 0.5, 0.3  # how alike what two weights of a filter are multiplied with is taken to be


class Codebook(NamedTuple):
    """Whole numbers in ascending order, the value of a level being `level * step`, and their shares of the weights."""

    levels: np.ndarray  # int64 [K]
    shares: np.ndarray  # float64 [K], the sum is 1
    step: float


def fit_codebook(values: np.ndarray, size: int, rate: float, largest_level: int) -> Codebook:
    """At most `size` levels for `values`, by k-means with a price on bits (Chou, Lookabaugh & Gray 1989).

    Least is the mean of `(v - c_k)^2 - rate * log2 p_k` over the values, p_k being the share that goes to codeword k;
    codewords that nothing goes to are dropped. The same values always give the same codebook.

    Args:
        values: finite, not all zero, of a root mean square of about 1, which is the measure of `rate`.
        largest_level: the largest codeword's level; the others are rounded to a whole number of its steps.
    """
    points, weights = _points(np.asarray(values, np.float64))
    centres = np.unique(np.interp((np.arange(size) + 0.5) / size, np.cumsum(weights) / weights.sum(), points))
    if len(points) <= size:
        centres = points
    shares = np.full(len(centres), 1 / len(centres))
    for _ in range(ROUNDS):
        nearest = _cheapest(points, centres, shares, rate)
        total = np.bincount(nearest, weights, len(centres))
        used = total > 0
        sums = np.bincount(nearest, weights * points, len(centres))
        before, centres, shares = centres, sums[used] / total[used], total[used] / weights.sum()
        if len(before) == len(centres) and np.array_equal(before, centres):
            break
    step = float(np.abs(centres).max()) / largest_level
    levels, place = np.unique(np.round(centres / step).astype(np.int64), return_inverse=True)
    return Codebook(levels, np.bincount(place, shares), step)


def assign(values: np.ndarray, codebook: Codebook, rate: float) -> np.ndarray:
    """Index of the codeword of least `(v - c_k)^2 - rate * log2 p_k` for each value `[N]`, among those near it."""
    centres, prices = codebook.levels * codebook.step, -rate * np.log2(codebook.shares)
    near = _near(values, centres)
    cost = np.square(centres[near] - values[:, None]) + prices[near]
    return near[np.arange(len(values)), cost.argmin(1)]


def assign_balanced(kernel: np.ndarray, codebook: Codebook, rate: float) -> np.ndarray:
    """Indices for a kernel `[inputs, positions, outputs]`, errors of one filter made to cancel; 0 where a weight is 0.

    What a filter adds up to is wrong by `sum e x` over its weights' errors e and their inputs x. Inputs are mostly not
    centred and alike at neighbouring positions, so with e summed over positions (E_i) and over all of a filter (E)

        sum e^2 + 0.5 sum_i E_i^2 + 0.3 E^2 + rate * bits

    is made small, weight after weight, for all filters at once: no data is needed.
    """
    centres, prices = codebook.levels * codebook.step, -rate * np.log2(codebook.shares)
    chosen, places = np.zeros(kernel.shape, np.int64), kernel != 0
    chosen[places] = assign(kernel[places], codebook, rate)
    errors = np.where(places, centres[chosen] - kernel, 0.0)
    by_input, overall = errors.sum(1), errors.sum((0, 1))
    for _ in range(SWEEPS):
        for i, position in np.ndindex(kernel.shape[:2]):
            (outputs,) = places[i, position].nonzero()
            if not len(outputs):
                continue
            values, old = kernel[i, position, outputs], errors[i, position, outputs]
            others, rest = by_input[i, outputs] - old, overall[outputs] - old
            near = _near(values, centres)
            error = centres[near] - values[:, None]
            pull = (SAME_INPUT * others + ALL_INPUTS * rest)[:, None]
            cost = np.square(error) * (1 + SAME_INPUT + ALL_INPUTS) + 2 * error * pull + prices[near]
            best = (np.arange(len(values)), cost.argmin(1))
            chosen[i, position, outputs], new = near[best], error[best]
            errors[i, position, outputs] = new
            by_input[i, outputs], overall[outputs] = others + new, rest + new
    return chosen


def entropy(counts: np.ndarray) -> float:
    """Bits a symbol of the empirical distribution `counts`: `-sum p log2 p`."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares @ np.log2(shares))) if len(shares) > 1 else 0.0


def root_mean_square(values: np.ndarray) -> float:
    """Of a vector that is not empty, in double precision."""
    values = np.asarray(values, np.float64)
    largest = float(np.abs(values).max())  # taken out, as the square of the smallest numbers would be 0
    return largest * math.sqrt(float(np.mean(np.square(values / largest)))) if largest else 0.0


def _points(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different values in ascending order and how often each is there, or means and counts of bins of equal width."""
    if len(values) <= MOST_POINTS:
        points, counts = np.unique(values, return_counts=True)
        return points, counts.astype(np.float64)
    low, high = values.min(), values.max()
    place = np.minimum((values - low) * (MOST_POINTS / (high - low)) if high > low else 0 * values, MOST_POINTS - 1)
    place = place.astype(np.int64)
    counts, sums = np.bincount(place, minlength=MOST_POINTS), np.bincount(place, values, MOST_POINTS)
    return sums[counts > 0] / counts[counts > 0], counts[counts > 0].astype(np.float64)


def _cheapest(points: np.ndarray, centres: np.ndarray, shares: np.ndarray, rate: float) -> np.ndarray:
    return (np.square(points[:, None] - centres) - rate * np.log2(shares)).argmin(1)


def _near(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Indices `[N, at most 5]` of the codewords around each value, which are in ascending order."""
    nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
    width = min(2 * CANDIDATES + 1, len(centres))
    first = np.clip(nearest - CANDIDATES, 0, len(centres) - width)
    return first[:, None] + np.arange(width)
