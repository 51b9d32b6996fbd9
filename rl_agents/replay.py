"""Experience replay (Lin, 1992)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Transition(NamedTuple):
    """One step of a roll-out, or a batch of them with leading dimensions.

    Attributes:
        state: [S].
        action: [A], in [0, 1].
        reward: scalar.
        done: 1 where no state follows, else 0.
        next_state: [S]; of no effect where done.
    """

    state: np.ndarray
    action: np.ndarray
    reward: Any  # a number, or of a batch an array
    done: Any
    next_state: np.ndarray


class ReplayBuffer:
    """The last `capacity` transitions, as float32 arrays."""

    def __init__(self, capacity: int, state_size: int, action_size: int):
        assert capacity > 0, capacity
        widths = (state_size, action_size, 1, 1, state_size)
        self._data = Transition(*(np.zeros((capacity, width), np.float32) for width in widths))
        self._num_added = 0

    @property
    def capacity(self) -> int:
        return len(self._data.state)

    def __len__(self) -> int:
        return min(self._num_added, self.capacity)

    def rewards(self) -> np.ndarray:
        """The rewards stored, [len(self)], in no particular order."""
        return self._data.reward[: len(self), 0]

    def add(self, transition: Transition) -> None:
        """Stores one transition, in place of the oldest where the buffer is full."""
        row = self._num_added % self.capacity
        for column, value in zip(self._data, transition, strict=True):
            column[row] = value
        self._num_added += 1

    def sample(self, shape: tuple[int, ...], generator: np.random.Generator) -> Transition:
        """Transitions drawn uniformly with replacement: fields [*shape, S], [*shape, A], [*shape, 1], ..."""
        rows = generator.integers(len(self), size=shape)
        return Transition(*(column[rows] for column in self._data))

    def state(self) -> dict[str, np.ndarray]:
        """Everything stored, as arrays."""
        return {**self._data._asdict(), "num_added": np.array(self._num_added)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes back what `state` gave, from a buffer of the same capacity and sizes."""
        for name, column in self._data._asdict().items():
            assert column.shape == state[name].shape, (name, column.shape, state[name].shape)
            column[...] = state[name]
        self._num_added = int(state["num_added"])
