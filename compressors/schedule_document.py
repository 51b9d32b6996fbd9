"""From a schedule's document to components and policies: every argument, name and rule is checked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pydantic

from compressors.components import Component
from compressors.policy_specs import ARGUMENTS, SECTION_OF, Arguments, Kind, PolicySpec, Timing
from compressors.schedule_problems import Place, Problem, received, translated, unknown

Registries = Mapping[str, Mapping[str, type[Component]]]
Sections = Mapping[str, Mapping[str, Component | None]]
SECTIONS = tuple(SECTION_OF.values())
VERSION = 1
_ONE_AT_MOST = ("quantizers", "lr_schedulers")


class Draft(NamedTuple):
    """A policy as far as it could be read: None for what is wrong."""

    kind: Kind
    instance_name: str | None
    args: Arguments | None
    timing: Timing | None


class DocumentReader:
    """Makes components and policies of a document, and notes what is wrong instead of stopping there.

    Args:
        known: section -> class name -> class.
        problems: those that are known already; of a value that could not be read nothing more is noted.
    """

    def __init__(self, known: Registries, problems: Sequence[Problem] = ()):
        self._known = known
        self._unread = {problem.place for problem in problems if problem.is_unread}
        self.problems = list(problems)

    def read(self, document: Any) -> tuple[dict[str, dict[str, Component | None]], list[Draft | None]]:
        """Section -> name -> component, and the policies; None where something is wrong."""
        allowed = ("version", *SECTIONS, "policies")
        if not self._is_mapping(document, (), f"must be a mapping of {', '.join(allowed)}"):
            return {}, []
        self._refuse_others(document, allowed, (), "section")
        version = document.get("version", VERSION)
        if isinstance(version, bool) or version != VERSION:
            self._note(("version",), f"must be {VERSION} or absent. Received: {received(version)}")
        sections = {section: self._section(section, document.get(section)) for section in SECTIONS}
        policies = document.get("policies")
        if not isinstance(policies, list | tuple | None):
            self._note(("policies",), f"must be a list. Received: {received(policies)}")
            policies = None
        return sections, [self._policy(policy, ("policies", at)) for at, policy in enumerate(policies or ())]

    def _section(self, section: str, items: Any) -> dict[str, Component | None]:
        if items is None or not self._is_mapping(items, (section,), "must be a mapping of names to instances"):
            return {}
        return {name: self._component(section, name, item) for name, item in items.items()}

    def _component(self, section: str, name: Any, item: Any) -> Component | None:
        place, classes = (section, name), self._known[section]
        if not isinstance(name, str):
            return self._note((section, str(name)), f"the name must be text. Received: {received(name)}")
        if not self._is_mapping(item, place, "must be a mapping of class and its arguments"):
            return None
        if "class" not in item:
            return self._note((*place, "class"), f"is missing. Allowed: {', '.join(self._usable(section))}")
        class_name = item["class"]
        if not isinstance(class_name, str) or class_name not in classes:
            return self._note((*place, "class"), self._say_unknown_class(section, class_name))
        return self._valid(classes[class_name], {key: item[key] for key in item if key != "class"}, place)

    def _say_unknown_class(self, section: str, name: Any) -> str:
        for other, classes in self._known.items():
            if isinstance(name, str) and name in classes:
                return f"{name} belongs in the section {other}, not in {section}"
        return unknown("class", name, self._usable(section))

    def _usable(self, section: str) -> list[str]:
        return [name for name, component in self._known[section].items() if component.is_usable]

    def _policy(self, policy: Any, place: Place) -> Draft | None:
        a_kind = f"one of {', '.join(SECTION_OF)}"
        if not self._is_mapping(policy, place, f"must be a mapping of {a_kind} and its epochs"):
            return None
        self._refuse_others(policy, (*SECTION_OF, *Timing.model_fields), place, "key")
        timing = self._valid(Timing, {key: policy[key] for key in policy if key in Timing.model_fields}, place)
        kinds: list[Kind] = [key for key in policy if key in SECTION_OF]
        if len(kinds) != 1:
            return self._note(place, f"must have exactly {a_kind}. Received: {', '.join(kinds) or 'none of them'}")
        start = policy.get("starting_epoch")
        if timing is None and kinds[0] == "quantizer" and type(start) is int and start > 0:
            self._note((*place, "starting_epoch"), _say_late_quantizer(start))
        return Draft(kinds[0], *self._instance(kinds[0], policy[kinds[0]], (*place, kinds[0])), timing)

    def _instance(self, kind: Kind, body: Any, place: Place) -> tuple[str | None, Arguments | None]:
        """The instance's name and the arguments of a policy."""
        if not self._is_mapping(body, place, "must be a mapping of instance_name and args"):
            return None, None
        self._refuse_others(body, ("instance_name", "args"), place, "key")
        name, args = body.get("instance_name"), body.get("args")
        if not isinstance(name, str):
            name = self._note(
                (*place, "instance_name"),
                f"must be the name of one of the {SECTION_OF[kind]}. Received: {received(name)}",
            )
        if kind in ARGUMENTS:
            return name, self._valid(ARGUMENTS[kind], {} if args is None else args, (*place, "args"))
        if args not in (None, {}):
            self._note((*place, "args"), f"must be absent: policies of this kind take none. Received: {received(args)}")
        return name, None

    def _valid(self, model: type[pydantic.BaseModel], given: Any, place: Place) -> Any:
        try:
            return model.model_validate(given)
        except pydantic.ValidationError as error:
            for problem in translated(error, given, model, place):
                self._note(problem.place, problem.sentence)
            return None

    def _is_mapping(self, value: Any, place: Place, sentence: str) -> bool:
        if not isinstance(value, Mapping):
            self._note(place, f"{sentence}. Received: {received(value)}")
        return isinstance(value, Mapping)

    def _refuse_others(self, mapping: Mapping[Any, Any], allowed: Sequence[str], place: Place, thing: str) -> None:
        for key in mapping:
            if key not in allowed:
                self._note((*place, key), unknown(thing, key, allowed))

    def _note(self, place: Place, sentence: str) -> Any:
        """Notes what is wrong; gives None, what stands for a thing that could not be read."""
        if not any(place[:length] in self._unread for length in range(len(place) + 1)):
            self.problems.append(Problem(place, sentence))
        return None


def broken_rules(sections: Sections, policies: Sequence[PolicySpec | Draft | None]) -> Iterator[Problem]:
    """What is wrong between components and policies that are right by themselves."""
    for section in _ONE_AT_MOST:
        names = list(sections.get(section, ()))
        for name in names[1:]:
            yield Problem((section, name), f"must not be there: {section} may have one instance, {names[0]!r}")
    for at, policy in enumerate(policies):
        if policy is not None:
            instances = sections.get(SECTION_OF[policy.kind], {})
            yield from _broken_policy_rules(policy, instances, ("policies", at))
    of_quantizers = [at for at, policy in enumerate(policies) if policy is not None and policy.kind == "quantizer"]
    for at in of_quantizers[1:]:
        yield Problem(("policies", at), f"must not be there: policy {of_quantizers[0] + 1} quantizes already")


def _broken_policy_rules(
    policy: PolicySpec | Draft, instances: Mapping[str, Component | None], place: Place
) -> Iterator[Problem]:
    kind, name, args, timing = policy.kind, policy.instance_name, policy.args, policy.timing
    if name is not None and name not in instances:
        yield Problem((*place, kind, "instance_name"), unknown(kind, name, instances))
    instance = None if name is None else instances.get(name)
    if (
        instance is not None
        and getattr(args, "levels", None) is not None
        and "levels" not in type(instance).model_fields
    ):
        sentence = f"must be absent: {name!r} has no levels, it is a {type(instance).__name__}"
        yield Problem((*place, kind, "args", "levels"), sentence)
    if kind == "quantizer" and timing is not None and timing.start != 0:
        first = "starting_epoch" if timing.epochs is None else "epochs"
        yield Problem((*place, first), _say_late_quantizer(timing.start))


def _say_late_quantizer(start: int) -> str:
    return f"must start at epoch 0 for a quantizer. Received: {start}"
