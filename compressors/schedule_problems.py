"""What is wrong with a schedule: every problem with its place, told together in plain sentences."""

import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pydantic

from utils.errors import InputError

Place = tuple[str | int, ...]
MAX_TOLD = 200
_MAX_RECEIVED = 60

# Pydantic's error type -> our sentence, filled from its context.
_SENTENCES = {
    "value_error": "{error}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "none_required": "must be null",
    "too_short": "must be at least {min_length} long, not {actual_length}",
    "too_long": "must be at most {max_length} long, not {actual_length}",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "must be a mapping"),
    "string_type": "must be text",
}

# Arguments that published schedules have under older names, too.
_OLDER_NAMES = {
    "overrides": "bits_overrides",
    "bits_weights": "wts",
    "bits_activations": "acts",
    "bits_bias": "bias",
}


class Problem(NamedTuple):
    """One thing that is wrong.

    `place` is the path of keys and list positions in the document, `line` is given where it is not the line of the
    place. `is_unread`: there is a value, but it could not be read, so that nothing else can be said of it.
    """

    place: Place
    sentence: str
    line: int | None = None
    is_unread: bool = False


@dataclass(frozen=True)
class Source:
    """Where a schedule came from: a name, and the line of each place of a file."""

    name: str = "the schedule"
    lines: Mapping[Place, int] = field(default_factory=dict)

    def spoken(self, problem: Problem) -> str:
        """Such as `line 12, pruners > mine > levels > conv1.weight: must be at most 1. Received: 1.5`."""
        line, steps = self._line(problem), " > ".join(_spoken_steps(problem.place))
        where = ", ".join(([f"line {line}"] if line else []) + ([steps] if steps else []))
        return f"{where}: {problem.sentence}" if where else problem.sentence

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Raises InputError with all problems in the order of their lines, if there are any."""
        told = list(dict.fromkeys(self.spoken(problem) for problem in sorted(problems, key=self._line)))
        if told:
            count = "1 error" if len(told) == 1 else f"{len(told)} errors"
            more = [f"and {len(told) - MAX_TOLD} more"] if len(told) > MAX_TOLD else []
            raise InputError("\n  ".join([f"{self.name}: {count}", *told[:MAX_TOLD], *more]))

    def _line(self, problem: Problem) -> int:
        """The problem's line or the nearest known around it; 0 for none."""
        if problem.line:
            return problem.line
        older = tuple(_OLDER_NAMES.get(str(step), step) for step in problem.place)
        around = (place[:length] for length in range(len(older), -1, -1) for place in (problem.place, older))
        return next((self.lines[place] for place in around if place in self.lines), 0)


def unknown(thing: str, name: Any, known: Iterable[str]) -> str:
    """A sentence about a name that is not one of the known ones, with the nearest of them."""
    known = list(known)
    if not known:
        return f"unknown {thing} {received(name)}; there is none"
    near = difflib.get_close_matches(str(name)[:_MAX_RECEIVED], known, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {thing} {received(name)}{guess} Allowed: {', '.join(known)}"


def received(value: Any) -> str:
    """A value as the user wrote it, shortened."""
    text = {None: "null", True: "true", False: "false"}[value] if isinstance(value, bool | None) else repr(value)
    return text if len(text) <= _MAX_RECEIVED else f"{text[: _MAX_RECEIVED - 3]}..."


def translated(
    error: pydantic.ValidationError, given: Any, model: type[pydantic.BaseModel], place: Place = ()
) -> list[Problem]:
    """Pydantic's errors in our words, those of one place in one sentence.

    Args:
        given: what was validated.
        model: what it was to become.
        place: where `given` is in the document.
    """
    sentences: dict[tuple[Place, str], dict[str, None]] = {}  # by place and ending; in order, each one once
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        inner, value = _find(given, location)
        ending = "" if isinstance(value, Mapping) else f". Received: {received(value)}"
        if detail["type"] == "missing":
            inner, sentence, ending = (*inner, location[-1]), "is missing", ""
        elif detail["type"] == "extra_forbidden":
            sentence, ending = unknown("argument", inner[-1], _inner_model(model, location[:-1]).model_fields), ""
        elif location[-1:] == ("[key]",):
            sentence, ending = f"its key {_sentence(detail)}", ""
        else:
            sentence = _sentence(detail)
            ending = "" if "Received" in sentence else ending
        sentences.setdefault((inner, ending), {})[sentence] = None
    return [Problem((*place, *inner), _either(list(said)) + ending) for (inner, ending), said in sentences.items()]


def _sentence(detail: Mapping[str, Any]) -> str:
    template = _SENTENCES.get(detail["type"])
    return template.format(**detail.get("ctx", {})) if template else detail["msg"].replace("Input should", "must", 1)


def _either(sentences: Sequence[str]) -> str:
    """Such as "must be null or a number": a value may suit several types, and suits none."""
    return " or ".join([sentences[0], *(sentence.removeprefix("must be ") for sentence in sentences[1:])])


def _find(given: Any, location: Sequence[str | int]) -> tuple[Place, Any]:
    """The place in `given` that pydantic's location means, and the value there.

    Left out are the steps that pydantic adds (the branches of unions); older names stand where the user wrote them.
    """
    place: list[str | int] = []
    for name in location:
        step: str | int | None = name
        if isinstance(given, Mapping) and step not in given:
            step = _OLDER_NAMES.get(str(name))
        is_item = isinstance(given, list | tuple) and isinstance(step, int) and step < len(given)
        if step is not None and (is_item or (isinstance(given, Mapping) and step in given)):
            given = given[step]
            place.append(step if is_item else str(step))
    return tuple(place), given


def _inner_model(model: type[pydantic.BaseModel], location: Sequence[str | int]) -> type[pydantic.BaseModel]:
    """The model of the value at a location in a value of `model`."""
    for step in location:
        if step in model.model_fields:
            model = next(_models_in(model.model_fields[step].annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _spoken_steps(place: Place) -> Iterator[str]:
    for at, step in enumerate(place):
        item = "policy" if place[:at] == ("policies",) else "item"
        yield f"{item} {step + 1}" if isinstance(step, int) else str(step)
