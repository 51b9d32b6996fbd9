"""What every item of a compression schedule is: a frozen pydantic model whose fields are its constructor arguments."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import pydantic

from compressors.parameters import ANY, Parameter, Parameters
from utils.errors import InputError

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
    is_usable: ClassVar[bool] = True  # False: known only to be refused with a reason

    def arguments(self) -> dict[str, Any]:
        """The constructor arguments that were given, as YAML can hold them."""
        return self.model_dump(mode="json", exclude_unset=True)


def targets_of(
    settings: Mapping[str, Any],
    parameters: Parameters,
    read: Callable[[Parameter, Any], Any] = lambda parameter, setting: setting,
) -> list[Target]:
    """The targets of a mapping {name or '*': setting}; '*' is every prunable kernel that no other key names.

    Args:
        read: (parameter, setting) -> the target's setting; raises InputError where it does not suit the parameter. Of
            '*' such kernels are left out, unless none is left.

    Raises:
        InputError: the model has no such parameter, two names mean the same one, or a setting does not suit.
    """
    named = parameters.resolve_all([name for name in settings if name != ANY])
    targets = [Target(parameter, read(parameter, settings[name])) for name, parameter in named.items()]
    if ANY not in settings:
        return targets
    known, others, refusal = {target.path for target in targets}, [], None
    for parameter in parameters.prunable():
        if parameter.path not in known:
            try:
                others.append(Target(parameter, read(parameter, settings[ANY])))
            except InputError as error:
                refusal = error
    if refusal and not others:
        raise refusal
    return targets + others
