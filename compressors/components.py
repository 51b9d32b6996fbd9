"""What every item of a compression schedule is: a frozen pydantic model whose fields are its constructor arguments."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import pydantic

from compressors.parameters import ANY, Parameter, Parameters

Setting = TypeVar("Setting")


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Number = Annotated[float, pydantic.BeforeValidator(_no_bool), pydantic.Field(allow_inf_nan=False)]
NonNegative = Annotated[Number, pydantic.Field(ge=0)]
Positive = Annotated[Number, pydantic.Field(gt=0)]
Fraction = Annotated[Number, pydantic.Field(ge=0, le=1)]
Count = Annotated[int, pydantic.BeforeValidator(_no_bool), pydantic.Field(ge=0)]
PositiveCount = Annotated[int, pydantic.BeforeValidator(_no_bool), pydantic.Field(ge=1)]
# Published schedules also have `weights: name` for a list of one name.
Names = Annotated[
    list[str],
    pydantic.BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    pydantic.Field(min_length=1),
]


class When(NamedTuple):
    """The epoch that is beginning, and the range `[start, end)` of the policy that acts in it."""

    epoch: int
    start: int
    end: int
    frequency: int = 1

    @property
    def span(self) -> int:
        """Epochs from the first active one to the last: `((end - start - 1) // frequency) * frequency`."""
        return (self.end - self.start - 1) // self.frequency * self.frequency


class Target(NamedTuple):
    """One parameter that a component acts on, and what the schedule says of it (a level, a threshold, a regime)."""

    parameter: Parameter
    setting: Any

    @property
    def path(self) -> str:
        return self.parameter.path


class Component(pydantic.BaseModel):
    """One instance of a section. Frozen: all that a component must remember belongs to its policy.

    Equal arguments make equal components, whether they come from YAML, a dict or a call.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    section: ClassVar[str]

    def arguments(self) -> dict[str, Any]:
        """The constructor arguments that were given, as YAML can hold them."""
        return self.model_dump(mode="json", exclude_unset=True)


def targets_of(
    settings: Mapping[str, Any],
    parameters: Parameters,
    check: Callable[[Parameter, Any], None] = lambda parameter, setting: None,
) -> list[Target]:
    """The targets of a mapping {name or '*': setting}; '*' is every prunable kernel that no other key names.

    Args:
        check: raises InputError where the setting does not suit the parameter.

    Raises:
        InputError: the model has no such parameter, or two names mean the same one.
    """
    named = parameters.resolve_all([name for name in settings if name != ANY])
    chosen = {parameter.path: (parameter, settings[name]) for name, parameter in named.items()}
    if ANY in settings:
        for parameter in parameters.prunable():
            chosen.setdefault(parameter.path, (parameter, settings[ANY]))
    for parameter, setting in chosen.values():
        check(parameter, setting)
    return [Target(*pair) for pair in chosen.values()]
