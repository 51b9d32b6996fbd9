"""Configuration dataclasses as command-line flags: each option is written once, as a field.

A field made by `flag(...)` carries its flag's historic name, help text and allowed values:

    @dataclass(frozen=True)
    class SearchConfig:
        '''Search'''
        num_rollouts: int = flag(200, "roll-outs of the search", name="ws_nb_rlouts", minimum=1)

`define_flags` makes absl flags of such classes, `read_flags` makes the dataclasses from parsed flags.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from absl import flags as absl_flags

from utils.errors import InputError

Config = TypeVar("Config")


def flag(
    default: Any,
    help: str,
    *,
    name: str | None = None,
    choices: Sequence[str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    affects_result: bool = True,
) -> Any:
    """A dataclass field that is also a flag.

    Args:
        default: the value when the flag is not given; its type is the flag's type.
        help: one line for `--help`.
        name: the flag's name, where it differs from the field's.
        choices: the strings allowed.
        minimum, maximum: inclusive bounds of a number.
        above, below: exclusive bounds of a number.
        affects_result: False where a run may be resumed with another value (paths, logging).
    """
    metadata = dict(
        name=name, help=help, choices=choices, minimum=minimum, maximum=maximum, above=above, below=below,
        affects_result=affects_result, is_flag=True,
    )  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def flag_fields(config_class: type) -> dict[str, dataclasses.Field]:
    """Flag name -> field, in the order written."""
    return {f.metadata["name"] or f.name: f for f in dataclasses.fields(config_class) if f.metadata.get("is_flag")}


def check_config(config: Any) -> None:
    """Raises InputError for the first field of `config` whose value is not allowed."""
    for name, field in flag_fields(type(config)).items():
        problem = _problem(getattr(config, field.name), field.metadata)
        if problem:
            raise InputError(f"--{name} must be {problem}. Received: {getattr(config, field.name)!r}")


def _problem(value: Any, rule: Any) -> str | None:
    """What `value` ought to be, or None where it is fine."""
    if rule["choices"] is not None and value not in rule["choices"]:
        return "one of " + ", ".join(rule["choices"])
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    bounds = [
        (rule["minimum"], "at least", lambda v, b: v >= b),
        (rule["above"], "above", lambda v, b: v > b),
        (rule["maximum"], "at most", lambda v, b: v <= b),
        (rule["below"], "below", lambda v, b: v < b),
    ]
    if all(holds(value, bound) for bound, _, holds in bounds if bound is not None):
        return None
    return " and ".join(f"{words} {bound}" for bound, words, _ in bounds if bound is not None)


def define_flags(config_classes: Sequence[type], values: absl_flags.FlagValues) -> None:
    """Adds one flag for each field of each class to `values`."""
    define: dict[type, Callable[..., Any]] = {
        bool: absl_flags.DEFINE_bool,
        int: absl_flags.DEFINE_integer,
        float: absl_flags.DEFINE_float,
    }
    for config_class in config_classes:
        for name, field in flag_fields(config_class).items():
            make = define.get(type(field.default), absl_flags.DEFINE_string)
            make(name, field.default, field.metadata["help"], flag_values=values)


def read_flags(config_class: type[Config], values: absl_flags.FlagValues) -> Config:
    """The dataclass of `config_class` with the flags' values, checked."""
    config = config_class(**{f.name: values[name].value for name, f in flag_fields(config_class).items()})
    check_config(config)
    return config


def result_flags(config: Any) -> dict[str, Any]:
    """Flag name -> value of the flags that a run's result depends on."""
    fields = flag_fields(type(config)).items()
    return {name: getattr(config, field.name) for name, field in fields if field.metadata["affects_result"]}


def help_text(config_classes: Sequence[type]) -> str:
    """Every flag with its default, grouped by class under the first line of the class's docstring."""
    blocks = []
    for config_class in config_classes:
        lines = [(config_class.__doc__ or config_class.__name__).strip().splitlines()[0]]
        for name, field in flag_fields(config_class).items():
            default = json_like(field.default)
            choices = field.metadata["choices"]
            allowed = f" ({' | '.join(choices)})" if choices else ""
            lines.append(f"  --{name:<22} {field.metadata['help']}{allowed} [{default}]")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def json_like(value: Any) -> str:
    """A default as a user would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "unset" if value in (None, "") else str(value)
