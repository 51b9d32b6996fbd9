"""The classes of `keras.optimizers.schedules` as schedulers, by their names and arguments."""

import inspect
from typing import Annotated, Any, ClassVar, Self

import keras
import pydantic

from compressors.components import Count, NonNegative, Number, Positive, PositiveCount
from compressors.lr_schedulers.base import LRScheduler
from compressors.lr_schedulers.decays import Milestones

_TYPES = {
    "initial_learning_rate": NonNegative,
    "end_learning_rate": NonNegative,
    "warmup_target": NonNegative | None,
    "warmup_steps": Count,
    "decay_steps": PositiveCount,
    "first_decay_steps": PositiveCount,
    "decay_rate": NonNegative,
    "alpha": NonNegative,
    "power": Positive,
    "t_mul": Annotated[Number, pydantic.Field(ge=1)],
    "m_mul": Positive,
    "staircase": bool,
    "cycle": bool,
    "boundaries": Annotated[Milestones, pydantic.Field(min_length=1)],
    "values": list[NonNegative],
    "name": str,
}


class KerasSchedule(LRScheduler):
    """A schedule of Keras, which counts training steps and has an initial rate of its own.

    The rate of an epoch is that of its first step, `schedule(epoch * steps_per_epoch)`.
    """

    keras_class: ClassVar[type[keras.optimizers.schedules.LearningRateSchedule]]

    @pydantic.model_validator(mode="after")
    def _suits_keras(self) -> Self:
        self._schedule()
        return self

    def rate_at(self, base: float, epoch: int, steps_per_epoch: int = 1) -> float:
        return float(self._schedule()(epoch * steps_per_epoch))

    def _schedule(self) -> keras.optimizers.schedules.LearningRateSchedule:
        return self.keras_class(**self.model_dump(exclude_unset=True))


def _component_of(keras_class: type) -> type[KerasSchedule]:
    """The component whose arguments are those of the Keras class."""
    arguments = list(inspect.signature(keras_class).parameters.values())
    fields: dict[str, Any] = {
        argument.name: (_TYPES.get(argument.name, Any), ... if argument.default is argument.empty else argument.default)
        for argument in arguments
    }
    component = pydantic.create_model(keras_class.__name__, __base__=KerasSchedule, __module__=__name__, **fields)
    component.keras_class = keras_class
    return component


KERAS_SCHEDULES: dict[str, type[LRScheduler]] = {
    name: _component_of(schedule)
    for name, schedule in vars(keras.optimizers.schedules).items()
    if inspect.isclass(schedule) and schedule is not keras.optimizers.schedules.LearningRateSchedule
}
