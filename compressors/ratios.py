"""Sparsity over layers: which fraction of each prunable kernel is removed, so that an overall ratio is reached.

Every protocol has one contract: `f(layers, ratio, ..., dense=(), max_layer_ratio=1.0) -> Ratios`, where

- `layers` are all prunable kernels, and `ratio` in [0, 1] is the fraction removed of all their weights together;
- `dense` are the paths that stay dense (ratio 0): their weights are kept, so they use up part of the budget;
- `max_layer_ratio` caps the ratio of each layer (the sparsest level of a pruning path, for instance).

The parameter budget is `floor((1 - ratio) * total)` weights kept. A mask keeps `n_l - floor(r_l * n_l)` weights of its
layer, over all layers exactly the budget: the overall sparsity is at least `ratio`, by less than one weight.
An unreachable ratio is an InputError that says the largest reachable one.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from utils.errors import InputError

Ratios = Mapping[str, float]


class LayerSpec(NamedTuple):
    """A prunable kernel: its variable's path and its shape, HWIO or (in, out)."""

    path: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


# Rounding: the one rule by which a ratio becomes a number of weights.


def num_removed(ratio: float, size: int) -> int:
    """`floor(ratio * size)`, ratio in [0, 1].

    A product below an integer by less than 1e-12 of the size counts as that integer: in floats 0.29 * 100 is
    28.999999999999996 and (1 - 0.9) * 10 is 0.9999999999999998, but 29 and 1 are meant.
    """
    if not 0 <= ratio <= 1:
        raise InputError(f"a ratio must be in [0, 1]. Received: {ratio}")
    return min(math.floor(ratio * size + 1e-12 * size), size)


def removed_counts(layers: Sequence[LayerSpec], ratios: Ratios) -> np.ndarray:
    """The number of weights removed of each layer: int64 [L]. `ratios` names every layer and nothing else."""
    if problem := set(ratios) ^ {layer.path for layer in layers}:
        raise InputError(f"ratios must name the prunable kernels. Received: too many or too few, {min(problem)!r}")
    return _floors(np.array([ratios[layer.path] for layer in layers]), _sizes(layers))


def kept_weights(layers: Sequence[LayerSpec], ratios: Ratios) -> int:
    """The number of weights kept over all layers."""
    return int(_sizes(layers).sum() - removed_counts(layers, ratios).sum())


def overall_ratio(layers: Sequence[LayerSpec], ratios: Ratios) -> float:
    """The fraction of all weights that is removed, in [0, 1]."""
    return float(removed_counts(layers, ratios).sum() / _sizes(layers).sum())


def parameter_budget(layers: Sequence[LayerSpec], ratio: float) -> int:
    """The number of weights kept at an overall ratio: `floor((1 - ratio) * total)`."""
    if not 0 <= ratio <= 1:
        raise InputError(f"the overall pruning ratio must be in [0, 1]. Received: {ratio}")
    return num_removed(1 - ratio, int(_sizes(layers).sum()))


def largest_reachable_ratio(
    layers: Sequence[LayerSpec], dense: Collection[str] = (), max_layer_ratio: float = 1.0
) -> float:
    """The overall ratio with every layer that is not dense at `max_layer_ratio`."""
    return float(_most_removed(layers, dense, max_layer_ratio).sum() / _sizes(layers).sum())


# The protocols.


def uniform(
    layers: Sequence[LayerSpec], ratio: float, dense: Collection[str] = (), max_layer_ratio: float = 1.0
) -> Ratios:
    """The same ratio for each layer that is not dense."""
    removed = _removed_target(layers, ratio, dense, max_layer_ratio)
    return _fill(layers, removed, np.ones(len(layers)), _caps(layers, dense, max_layer_ratio))


def heurist(
    layers: Sequence[LayerSpec], ratio: float, dense: Collection[str] = (), max_layer_ratio: float = 1.0
) -> Ratios:
    """`r_l = c * log(n_l)`, more of a larger layer, clipped to 0.99 with the rest spread over the layers with room.

    A ratio that 0.99 everywhere does not reach lifts the clip to `max_layer_ratio`. Source: PocketFlow's "heurist".
    """
    removed = _removed_target(layers, ratio, dense, max_layer_ratio)
    clip = min(0.99, max_layer_ratio)
    if removed > _most_removed(layers, dense, clip).sum():
        clip = max_layer_ratio
    return _fill(layers, removed, np.log(_sizes(layers)), _caps(layers, dense, clip))


def erk(layers: Sequence[LayerSpec], ratio: float, dense: Collection[str] = (), max_layer_ratio: float = 1.0) -> Ratios:
    """Erdos-Renyi-Kernel: density `1 - r_l = min(1, c * sum(shape) / prod(shape))`, plain Erdos-Renyi for (in, out).

    What the cap at density 1 leaves over goes to the other layers. Source: Evci et al. 2020, "Rigging the Lottery".
    """
    removed = _removed_target(layers, ratio, dense, max_layer_ratio)
    sizes, caps = _sizes(layers), _caps(layers, dense, max_layer_ratio)
    weights = np.array([sum(layer.shape) for layer in layers]) / sizes
    densities = water_fill(weights, sizes, sizes.sum() - removed, low=1 - caps, high=np.ones(len(layers)))
    return _meet(layers, removed, 1 - densities, caps)


def lamp(
    layers: Sequence[LayerSpec],
    ratio: float,
    weights: Mapping[str, np.ndarray],
    dense: Collection[str] = (),
    max_layer_ratio: float = 1.0,
) -> Ratios:
    """Layer-adaptive magnitude: global ranking of `w_u**2 / sum(w_v**2 over the v of its layer with |w_v| >= |w_u|)`.

    `weights` maps each path to its kernel. Source: Lee et al. 2021, "Layer-adaptive sparsity ..."
    """
    scores = {}
    for layer in layers:
        squares = np.sort(np.square(weights[layer.path], dtype=np.float64), axis=None)
        remaining = np.cumsum(squares[::-1])[::-1]
        scores[layer.path] = np.divide(squares, remaining, out=np.zeros_like(squares), where=remaining > 0)
    return global_ranking(layers, ratio, scores, dense, max_layer_ratio)


def global_ranking(
    layers: Sequence[LayerSpec],
    ratio: float,
    scores: Mapping[str, np.ndarray],
    dense: Collection[str] = (),
    max_layer_ratio: float = 1.0,
) -> Ratios:
    """The lowest scores over all layers go; with `|w|` as scores, global magnitude pruning.

    `scores` maps each path to an array of the kernel's size. Of each layer only the lowest scores up to its cap
    compete, so what a capped layer may not lose is lost by the others. Of equal scores the first layer's go first.
    """
    removed = _removed_target(layers, ratio, dense, max_layer_ratio)
    rooms = _most_removed(layers, dense, max_layer_ratio)
    candidates = [np.sort(scores[layer.path], axis=None)[:room] for layer, room in zip(layers, rooms, strict=True)]
    assert [len(lowest) for lowest in candidates] == list(rooms), "one score for each weight"
    owners = np.repeat(np.arange(len(layers)), rooms)
    lowest = np.argsort(np.concatenate(candidates), kind="stable")[:removed]
    return _from_counts(layers, np.bincount(owners[lowest], minlength=len(layers)))


def dp_allocation(
    layers: Sequence[LayerSpec],
    ratio: float,
    densities: np.ndarray,
    errors: Mapping[str, np.ndarray],
    dense: Collection[str] = (),
    cells: int = 10_000,
) -> Ratios:
    """The levels of the layers' pruning paths that minimise the sum of errors under the parameter budget.

    A knapsack by dynamic programming over `cells` equal parts of the budget, exact where the budget has no more weights
    than cells. Costs are counted above what a layer's sparsest level keeps and rounded up, so every reachable budget
    is reached and none is exceeded. What the rounding leaves over is then spent where it lowers the errors most, the
    error taken as linear between two levels.

    Args:
        densities: [K], the kept fraction at each level, falling from 1.
        errors: path -> [K], a layer's error at each level; for each layer that is not dense.
        cells: the resolution of the budget.
    """
    removed = _removed_target(layers, ratio, dense, 1 - densities[-1])
    free = [layer for layer in layers if layer.path not in dense]
    shape = (len(free), len(densities))
    table = np.array([errors[layer.path] for layer in free], np.float64).reshape(shape)
    kept = np.array([layer.size - num_removed(1 - density, layer.size) for layer in free for density in densities])
    kept = kept.reshape(shape).astype(np.int64)
    budget = sum(layer.size for layer in free) - removed
    levels = _cheapest_levels(kept, table, budget, cells)
    kept_now = _spend(kept, table, levels, budget)
    counts = {layer.path: layer.size - count for layer, count in zip(free, kept_now, strict=True)}
    return _from_counts(layers, [counts.get(layer.path, 0) for layer in layers])


def _cheapest_levels(kept: np.ndarray, errors: np.ndarray, budget: int, cells: int) -> np.ndarray:
    """The level [L] of each layer with the least sum of errors [L, K] and at most `budget` of `kept` [L, K]."""
    extra = kept - kept[:, -1:]
    spare = budget - kept[:, -1].sum()
    assert spare >= 0, "a reachable budget"
    cells = min(cells, spare)
    costs = -(-extra * cells // max(spare, 1))
    best, choices = np.zeros(cells + 1), []
    for layer in range(len(kept)):
        values = np.full((kept.shape[1], cells + 1), np.inf)
        for level in np.flatnonzero(extra[layer] <= spare):
            cost = costs[layer, level]
            values[level, cost:] = best[: cells + 1 - cost] + errors[layer, level]
        choices.append(values.argmin(0))
        best = values.min(0)
    at, levels = cells, np.zeros(len(kept), np.int64)
    for layer in reversed(range(len(kept))):
        levels[layer] = choices[layer][at]
        at -= costs[layer, levels[layer]]
    return levels


def _spend(kept: np.ndarray, errors: np.ndarray, levels: np.ndarray, budget: int) -> np.ndarray:
    """Weights kept [L]: those at `levels`, then the rest of the budget towards denser levels, best gain per weight."""
    kept_now, levels = kept[np.arange(len(kept)), levels], levels.copy()
    while (left := budget - kept_now.sum()) > 0:
        open_layers = np.flatnonzero(levels > 0)
        at = levels[open_layers]
        gains = errors[open_layers, at] - errors[open_layers, at - 1]
        rises = kept[open_layers, at - 1] - kept[open_layers, at]
        best = open_layers[np.argmax(gains / np.maximum(rises, 1e-9))]
        levels[best] -= 1
        kept_now[best] += min(kept[best, levels[best]] - kept_now[best], left)
    return kept_now


# What the protocols share.


def water_fill(weights: np.ndarray, sizes: np.ndarray, total: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """`x_l = clip(c * weights_l, low_l, high_l)` with the one c for which `sum(x_l * sizes_l) = total`.

    All arrays are [L]; weights are at least 0, and `total` lies between the totals of `low` and `high`. So what a bound
    cuts off is spread over the entries with room. The total is piecewise linear in c with kinks where an entry meets
    a bound: c follows from the totals at the kinks.
    """
    some = weights > 0
    kinks = np.unique(np.concatenate([[0.0], low[some] / weights[some], high[some] / weights[some]]))
    filled = np.clip(kinks[:, None] * weights, low, high)
    return np.clip(np.interp(total, filled @ sizes, kinks) * weights, low, high)


def _fill(layers: Sequence[LayerSpec], removed: int, weights: np.ndarray, caps: np.ndarray) -> Ratios:
    """Ratios in proportion to `weights` [L] under `caps` [L], with `removed` weights removed in all."""
    return _meet(layers, removed, water_fill(weights, _sizes(layers), removed, np.zeros(len(caps)), caps), caps)


def _meet(layers: Sequence[LayerSpec], removed: int, ratios: np.ndarray, caps: np.ndarray) -> Ratios:
    """`ratios` [L] with what the floor of each layer misses, less than L weights, taken from the largest with room.

    There a weight changes the ratio least; the other layers keep their ratio to the last bit.
    """
    if removed == 0:  # exactly: what is left of a rounding would be a layer with a mask
        return dict.fromkeys((layer.path for layer in layers), 0.0)
    sizes = _sizes(layers)
    ratios = np.clip(ratios, 0.0, caps)
    counts = _floors(ratios, sizes)
    rooms = _floors(caps, sizes) - counts
    missing = removed - counts.sum()
    for layer in np.argsort(-sizes, kind="stable"):
        taken = min(missing, rooms[layer])
        if taken > 0:
            ratios[layer] = (counts[layer] + taken) / sizes[layer]
            missing -= taken
    assert missing == 0, "the budget is met exactly"
    return {layer.path: float(r) for layer, r in zip(layers, ratios, strict=True)}


def _from_counts(layers: Sequence[LayerSpec], counts: Sequence[int] | np.ndarray) -> Ratios:
    return {layer.path: int(count) / layer.size for layer, count in zip(layers, counts, strict=True)}


def _floors(ratios: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.array([num_removed(ratio, int(size)) for ratio, size in zip(ratios, sizes, strict=True)], np.int64)


def _sizes(layers: Sequence[LayerSpec]) -> np.ndarray:
    return np.array([layer.size for layer in layers], np.int64)


def _caps(layers: Sequence[LayerSpec], dense: Collection[str], max_layer_ratio: float) -> np.ndarray:
    return np.array([0.0 if layer.path in dense else max_layer_ratio for layer in layers])


def _most_removed(layers: Sequence[LayerSpec], dense: Collection[str], max_layer_ratio: float) -> np.ndarray:
    """The number of weights [L] that may be removed of each layer."""
    if unknown := set(dense) - {layer.path for layer in layers}:
        raise InputError(f"the layers that stay dense must be prunable kernels. Received: {min(unknown)!r}")
    return _floors(_caps(layers, dense, max_layer_ratio), _sizes(layers))


def _removed_target(layers: Sequence[LayerSpec], ratio: float, dense: Collection[str], max_layer_ratio: float) -> int:
    """The number of weights to remove over all layers; an InputError where `ratio` is not allowed or not reachable."""
    removed = int(_sizes(layers).sum()) - parameter_budget(layers, ratio)
    if removed > _most_removed(layers, dense, max_layer_ratio).sum():
        # Rounded down: the number printed must itself be reachable.
        largest = math.floor(largest_reachable_ratio(layers, dense, max_layer_ratio) * 1e6) / 1e6
        raise InputError(
            f"the overall pruning ratio must be at most {largest}, the largest reachable with "
            f"{len(dense)} layers kept dense and at most {max_layer_ratio:.6f} of each other removed. Received: {ratio}"
        )
    return removed
