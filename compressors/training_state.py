"""The state of a training, kept in memory to go back to: weights, optimizer, learning-rate scheduler."""

import copy
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

_PLAIN = (int, float, complex, str, bytes, bool, type(None), np.ndarray, np.generic)


class TrainingState:
    """A copy of everything that a training changes.

    The scheduler's state is what its `state_dict()` gives, where it has one with `load_state_dict()`; else all its
    attributes that are plain values, arrays, or lists, tuples, sets and dicts of them. A
    `keras.optimizers.schedules.LearningRateSchedule` has none: it follows the optimizer's count of iterations.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, lr_scheduler: Any = None):
        self._model, self._optimizer, self._lr_scheduler = model, optimizer, lr_scheduler
        self._weights = [np.copy(variable) for variable in model.variables]
        self._optimizer_values = [np.copy(variable) for variable in optimizer.variables]
        self._scheduler_state = _scheduler_state(lr_scheduler)

    def restore(self, with_weights: bool = True) -> None:
        """Puts everything back, or all but the model's variables."""
        if with_weights:
            _assign(self._model.variables, self._weights)
        _assign(self._optimizer.variables, self._optimizer_values)
        _restore_scheduler(self._lr_scheduler, self._scheduler_state)


def _assign(variables: list[keras.Variable], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _scheduler_state(scheduler: Any) -> Any:
    if hasattr(scheduler, "state_dict") and hasattr(scheduler, "load_state_dict"):
        return copy.deepcopy(scheduler.state_dict())
    return {
        name: copy.deepcopy(value) for name, value in getattr(scheduler, "__dict__", {}).items() if _is_plain(value)
    }


def _restore_scheduler(scheduler: Any, state: Any) -> None:
    if hasattr(scheduler, "state_dict") and hasattr(scheduler, "load_state_dict"):
        scheduler.load_state_dict(copy.deepcopy(state))
    else:
        for name, value in state.items():
            setattr(scheduler, name, copy.deepcopy(value))


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.keys())) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)
