"""The roll-out environment: states of the layers, actions to pruning ratios, rewards. NumPy only.

One roll-out visits the layers front to back; the agent gives each one action in [0, 1], where 0.5 stands for a
reference ratio.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from compressors.ratios import LayerSpec, Ratios, num_removed, parameter_budget
from utils.errors import InputError

REWARD_TYPES = ("single-obj", "multi-obj")


@dataclass(frozen=True)
class RatioConfig:
    """What the allocation must reach.

    Attributes:
        prune_ratio: the target r, the fraction of all prunable weights removed, in [0, 1].
        reward_type: `single-obj` holds the parameter budget floor((1 - r) * total) and rewards accuracy;
            `multi-obj` holds no budget and rewards accuracy * log(1 + overall ratio).
        keep_ends_dense: whether the first and the last layer keep all their weights, whatever the action.
        max_layer_ratio: no layer is pruned above this (a pruning path's sparsest level).
        dense: paths of more layers that keep all their weights.
    """

    prune_ratio: float
    reward_type: str = "single-obj"
    keep_ends_dense: bool = True
    max_layer_ratio: float = 1.0
    dense: Collection[str] = ()

    def __post_init__(self):
        for name in ("prune_ratio", "max_layer_ratio"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} must be in [0, 1]. Received: {getattr(self, name)}")
        if self.reward_type not in REWARD_TYPES:
            raise InputError(f"reward_type must be one of {', '.join(REWARD_TYPES)}. Received: {self.reward_type!r}")


def action_to_ratio(action: float, low: float, middle: float, high: float) -> float:
    """Piecewise linear through (0, low), (0.5, middle), (1, high), clipped to [low, high].

    `low` may lie above `middle`, where the budget asks for more than the reference; then every action up to the one
    that the upper piece maps to `low` gives `low`.
    """
    start, end, share = (low, middle, 2.0 * action) if action <= 0.5 else (middle, high, 2.0 * action - 1.0)
    return min(max(start + share * (end - start), low), high)


def ratio_to_action(ratio: float, low: float, middle: float, high: float) -> float:
    """The inverse of `action_to_ratio` at the nearest ratio it can give; 0.5 where every action would do."""
    ratio = min(max(ratio, low), high)
    if low < middle and ratio < middle:
        return 0.5 * (ratio - low) / (middle - low)
    if middle < high and ratio > middle:
        return 0.5 + 0.5 * (ratio - middle) / (high - middle)
    return 0.5


def reward(reward_type: str, accuracy: float, overall_ratio: float) -> float:
    """accuracy (`single-obj`) or accuracy * log(1 + overall ratio) (`multi-obj`)."""
    return accuracy if reward_type == "single-obj" else accuracy * math.log1p(overall_ratio)


class RolloutEnv:
    """States, actions and rewards of one roll-out over the prunable layers.

    The state of layer l of L, [L + 7]: one-hot layer index (L), kernel shape padded to 4 with ones in front, its number
    of weights, the weights left in the layers before it, the weights in the layers after it; each column divided by its
    largest value. After the last layer the state is all zeros.

    The ratio is piecewise linear in the action: 0.5 is the reference m, 0 three times its density, 1 a third of it, so
    from max(0, 1 - 3 (1 - m)) through m to 1 - (1 - m) / 3. With `single-obj`, the lower end is raised wherever the
    layers still to come could otherwise not reach the target. Counts are whole weights: a layer of n weights at ratio s
    loses floor(s * n), and the overall number kept never exceeds the budget.

    Args:
        layers: all prunable kernels, front to back.
        config: what the allocation must reach.
        reference: each layer's ratio at action 0.5, of an allocation that meets the target; the target itself if None.
    """

    def __init__(self, layers: Sequence[LayerSpec], config: RatioConfig, reference: Ratios | None = None):
        assert layers, "at least one layer"
        self.layers = tuple(layers)
        self._config = config
        middle = [config.prune_ratio if reference is None else reference[layer.path] for layer in layers]
        self._high = _highest_ratios(layers, middle, config)
        self._middle = [min(ratio, high) for ratio, high in zip(middle, self._high, strict=True)]
        self._most_removed = _counts(layers, self._high)
        self._must_remove = _must_remove(layers, config, config.prune_ratio)
        if self._must_remove > sum(self._most_removed):
            assert reference is None, "a reference that meets the target leaves it reachable"
            dense = ["first and last layer"] * config.keep_ends_dense + [f"{len(config.dense)} named layers"]
            kept = " and ".join(dense if config.dense else dense[:-1])
            raise InputError(
                f"prune_ratio must be at most {_largest_target(layers, config):.4f}, the largest the search reaches"
                f"{f' with {kept} dense' if kept else ''}. Received: {config.prune_ratio}"
            )
        self._features = _static_features(layers)
        self.reset()

    @property
    def state_size(self) -> int:
        """S = L + 7."""
        return self._features.shape[1]

    def reset(self) -> np.ndarray:
        """Starts a roll-out and returns the first layer's state, [S] float32."""
        self._ratios: list[float] = []
        self._num_removed = 0
        return self._state()

    def step(self, action: float) -> tuple[np.ndarray, bool]:
        """Prunes the current layer by `action` in [0, 1]; returns the next state, [S], and whether it was the last."""
        assert 0.0 <= action <= 1.0, action
        index = len(self._ratios)
        size, needed = self.layers[index].size, self._needed()
        ratio = action_to_ratio(float(action), *self._bounds())
        if num_removed(ratio, size) < needed:  # the fraction is enough, its floor is one weight short
            ratio = needed / size
        self._ratios.append(ratio)
        self._num_removed += num_removed(ratio, size)
        return self._state(), len(self._ratios) == len(self.layers)

    def action_for(self, ratio: float) -> float:
        """The action in [0, 1] whose ratio for the current layer is nearest to `ratio`.

        As the lower end it depends on the steps so far: replay an allocation with `action_for` and `step` in turn.
        """
        return ratio_to_action(ratio, *self._bounds())

    def ratios(self) -> Ratios:
        """The finished roll-out's ratio of each layer."""
        return {layer.path: ratio for layer, ratio in zip(self.layers, self._ratios, strict=True)}

    def _bounds(self) -> tuple[float, float, float]:
        """The current layer's ratios at actions 0, 0.5 and 1."""
        index = len(self._ratios)
        middle, high = self._middle[index], self._high[index]
        low = max(0.0, 1.0 - 3.0 * (1.0 - middle), self._needed() / self.layers[index].size)
        return min(low, high), middle, high

    def _needed(self) -> int:
        """Fewest weights that the current layer must lose so that the layers after it can still reach the target."""
        return max(0, self._must_remove - self._num_removed - sum(self._most_removed[len(self._ratios) + 1 :]))

    def _state(self) -> np.ndarray:
        index = len(self._ratios)
        if index == len(self.layers):
            return np.zeros(self.state_size, np.float32)
        sizes = [layer.size for layer in self.layers]
        state = self._features[index].copy()
        state[-2] = (sum(sizes[:index]) - self._num_removed) / (sum(sizes[:-1]) or 1)
        return state


def _highest_ratios(layers: Sequence[LayerSpec], middle: Sequence[float], config: RatioConfig) -> list[float]:
    """The ratio at action 1: 1 - (1 - m) / 3, at most `max_layer_ratio`, 0 for layers that stay dense."""
    high = [min(1.0 - (1.0 - ratio) / 3.0, config.max_layer_ratio) for ratio in middle]
    if config.keep_ends_dense:
        high[0] = high[-1] = 0.0
    return [0.0 if layer.path in config.dense else ratio for layer, ratio in zip(layers, high, strict=True)]


def _counts(layers: Sequence[LayerSpec], ratios: Sequence[float]) -> list[int]:
    return [num_removed(ratio, layer.size) for layer, ratio in zip(layers, ratios, strict=True)]


def _must_remove(layers: Sequence[LayerSpec], config: RatioConfig, target: float) -> int:
    """Weights to remove so that no more than the budget stays; 0 where none is held."""
    if config.reward_type == "multi-obj":
        return 0
    return sum(layer.size for layer in layers) - parameter_budget(layers, target)


def _largest_target(layers: Sequence[LayerSpec], config: RatioConfig) -> float:
    """The largest reachable target, rounded down to four decimals."""
    for steps in range(int(config.prune_ratio * 10_000), -1, -1):
        target = steps / 10_000
        most = _counts(layers, _highest_ratios(layers, [target] * len(layers), config))
        if _must_remove(layers, config, target) <= sum(most):
            return target
    raise AssertionError("ratio 0 removes nothing")


def _static_features(layers: Sequence[LayerSpec]) -> np.ndarray:
    """The columns of all states that no action changes, [L, L + 7]; the weights left before (column -2) are 0."""
    count, sizes = len(layers), [layer.size for layer in layers]
    features = np.zeros((count, count + 7))
    features[:, :count] = np.eye(count)
    for index, layer in enumerate(layers):
        assert len(layer.shape) <= 4, layer
        features[index, count : count + 4] = (1,) * (4 - len(layer.shape)) + tuple(layer.shape)
        features[index, count + 4] = sizes[index]
        features[index, count + 6] = sum(sizes[index + 1 :])
    largest = features.max(axis=0)
    return (features / np.where(largest > 0.0, largest, 1.0)).astype(np.float32)
