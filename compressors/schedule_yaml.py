"""Schedule files: read strictly, and checked against the model that they are for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras

from compressors.components import Component
from compressors.extensions import Extension
from compressors.parameters import ANY, Parameters
from compressors.policy_specs import PolicySpec
from compressors.pruners import Pruner
from compressors.quantizers import Quantizer
from compressors.regularizers import Regularizer
from compressors.schedule import REGISTRIES, Schedule
from compressors.schedule_document import Registries
from compressors.schedule_problems import Place, Problem, Source
from compressors.yaml_document import read_document
from utils.errors import InputError

# The arguments that name parameters or layers: mappings by name, or lists.
_NAMING = ("thresholds", "levels", "sensitivities", "reg_regims", "weights", "overrides")
_NUMBER_KEYED = ("input_overrides",)


def read_schedule(path: str | Path, known: Registries = REGISTRIES) -> Schedule:
    """The schedule of a YAML file.

    Args:
        known: section -> class name -> class; ours by default.

    Raises:
        InputError: lists all that is wrong, each with its line, its place and what is allowed.
    """
    document = read_document(path, _NUMBER_KEYED)
    return Schedule.from_dict(document.data, Source(str(path), document.lines), known, document.problems)


def check_against(schedule: Schedule, model: keras.Model, num_epochs: int | None = None) -> list[str]:
    """Warnings of what the schedule will not do, in a training of `num_epochs` epochs.

    Raises:
        InputError: lists all that does not suit the model, each with its place.
    """
    parameters = Parameters(model)
    found = [
        Problem((*place, *inner), sentence)
        for place, component in schedule.components()
        for inner, sentence in _complaints(component, _question(component, parameters, model))
    ]
    for at, policy in enumerate(schedule.policies):
        if getattr(policy.args, "levels", None) is not None:
            place = ("policies", at, policy.kind, "args")
            acting = schedule.acting(policy)
            complaints = _complaints(acting, _question(acting, parameters, model))
            found += [Problem((*place, *inner), sentence) for inner, sentence in complaints]
    schedule.source.refuse(found)
    return [schedule.source.spoken(problem) for problem in (*_lost_zeros(schedule), *_too_late(schedule, num_epochs))]


def _lost_zeros(schedule: Schedule) -> Iterator[Problem]:
    is_pruned = any(policy.kind == "pruner" for policy in schedule.policies)
    for name, quantizer in schedule.quantizers.items():
        if is_pruned and not quantizer.keeps_zeros:
            sentence = f"{type(quantizer).__name__} has no zero among its values: pruned weights do not stay zero"
            yield Problem(("quantizers", name), sentence)


def _too_late(schedule: Schedule, num_epochs: int | None) -> Iterator[Problem]:
    if num_epochs is None:
        return
    for at, policy in enumerate(schedule.policies):
        if sentence := _say_too_late(policy, num_epochs):
            yield Problem(("policies", at), f"{policy.kind} {policy.instance_name!r} {sentence}")


def _question(component: Component, parameters: Parameters, model: keras.Model) -> Callable[[Any], Any]:
    """What raises InputError for a component of that kind that does not suit the model."""
    if isinstance(component, Pruner | Regularizer):
        return lambda component: component.targets(parameters)
    if isinstance(component, Quantizer | Extension):
        return lambda component: component.check(model)
    return lambda component: None


def _complaints(component: Component, ask: Callable[[Component], Any]) -> Iterator[tuple[Place, str]]:
    """What is wrong with each name that the component has; where each is right, with all of them together."""
    alone = [
        (place, component.model_copy(update={field: one}))
        for field in _NAMING
        for place, one in _one_by_one(field, getattr(component, field, None))
    ]
    wrong = [(place, sentence) for place, one in alone if (sentence := _refusal(one, ask))]
    yield from wrong
    if not wrong and (sentence := _refusal(component, ask)):
        yield (), sentence


def _one_by_one(field: str, names: Any) -> Iterator[tuple[Place, Any]]:
    """The place of each name and what the field would be with this name alone; `*` means what others leave over."""
    if isinstance(names, dict):
        yield from (((field, name), {name: setting}) for name, setting in names.items() if name != ANY)
    elif isinstance(names, list | tuple):
        yield from (((field, at), [name]) for at, name in enumerate(names))


def _refusal(component: Component, ask: Callable[[Component], Any]) -> str:
    try:
        ask(component)
    except InputError as error:
        return str(error)
    return ""


def _say_too_late(policy: PolicySpec, num_epochs: int) -> str:
    timing = policy.timing
    if timing.start >= num_epochs:
        return f"never acts: it starts in epoch {timing.start}, and the training has {num_epochs}, from 0 on"
    if policy.kind == "pruner" and timing.active_epochs[-1] >= num_epochs:
        return f"does not come to its end in epoch {timing.active_epochs[-1]}: the training has {num_epochs}, from 0 on"
    return ""
