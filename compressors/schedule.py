"""A compression schedule as data: the components by name, and the policies that say when each of them acts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import yaml

from compressors.components import Component
from compressors.extensions import EXTENSIONS, Extension
from compressors.lr_schedulers import LR_SCHEDULERS, LRScheduler
from compressors.policy_specs import SECTION_OF, PolicySpec, PruningArguments, RegularizationArguments, Timing
from compressors.pruners import PRUNERS, Pruner
from compressors.quantizers import QUANTIZERS, Quantizer
from compressors.regularizers import REGULARIZERS, Regularizer
from compressors.schedule_document import SECTIONS, VERSION, DocumentReader, Registries, broken_rules
from compressors.schedule_problems import Place, Problem, Source

__all__ = [
    "REGISTRIES",
    "SECTIONS",
    "SECTION_OF",
    "PolicySpec",
    "PruningArguments",
    "RegularizationArguments",
    "Schedule",
    "Timing",
]

REGISTRIES: Registries = {
    "pruners": PRUNERS,
    "regularizers": REGULARIZERS,
    "quantizers": QUANTIZERS,
    "lr_schedulers": LR_SCHEDULERS,
    "extensions": EXTENSIONS,
}


@dataclass(frozen=True)
class Schedule:
    """What is done to a network while it is trained, and when. Policies act in the order written.

    Args:
        source: where it was read; no part of equality.

    Raises:
        InputError: a policy names no instance or breaks a rule, or a section has more instances than it may.
    """

    pruners: Mapping[str, Pruner] = field(default_factory=dict)
    regularizers: Mapping[str, Regularizer] = field(default_factory=dict)
    quantizers: Mapping[str, Quantizer] = field(default_factory=dict)
    lr_schedulers: Mapping[str, LRScheduler] = field(default_factory=dict)
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    policies: tuple[PolicySpec, ...] = ()
    source: Source = field(default=Source(), compare=False, repr=False)

    def __post_init__(self) -> None:
        sections = {section: getattr(self, section) for section in SECTIONS}
        self.source.refuse(list(broken_rules(sections, self.policies)))

    def components(self) -> Iterator[tuple[Place, Component]]:
        """All instances with the place of each: its section and name."""
        for section in SECTIONS:
            for name, component in getattr(self, section).items():
                yield (section, name), component

    def component(self, policy: PolicySpec) -> Component:
        """The instance that a policy names."""
        return getattr(self, SECTION_OF[policy.kind])[policy.instance_name]

    def acting(self, policy: PolicySpec) -> Component:
        """The instance as the policy uses it: with the policy's own `levels`, if it has any."""
        component = self.component(policy)
        levels = getattr(policy.args, "levels", None)
        return component if levels is None else type(component)(**{**component.arguments(), "levels": levels})

    @property
    def warnings(self) -> tuple[str, ...]:
        """Instances that no policy uses; a quantizer of finished networks needs none."""
        used = {(SECTION_OF[policy.kind], policy.instance_name) for policy in self.policies}
        idle = [
            place
            for place, component in self.components()
            if place not in used and getattr(component, "is_for_training", True)
        ]
        return tuple(self.source.spoken(Problem(place, "no policy uses it")) for place in idle)

    def to_dict(self) -> dict[str, Any]:
        """The document that `from_dict` makes an equal schedule of; plain enough for YAML and JSON."""
        document: dict[Any, Any] = {"version": VERSION}
        for (section, name), component in self.components():
            item = {"class": type(component).__name__, **component.arguments()}
            document.setdefault(section, {})[name] = item
        return {**document, "policies": [_policy_document(policy) for policy in self.policies]}

    def to_yaml(self) -> str:
        """The document as a schedule file."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=110)

    @classmethod
    def from_dict(
        cls,
        document: Any,
        source: str | Source = "the schedule",
        known: Registries = REGISTRIES,
        problems: Sequence[Problem] = (),
    ) -> Self:
        """The schedule of a document, as a schedule file holds it.

        Args:
            source: what errors call it.
            known: section -> class name -> class; ours by default.
            problems: those found while the document was read, told with the rest.

        Raises:
            InputError: lists all that is wrong, each with its place and what is allowed.
        """
        source = Source(source) if isinstance(source, str) else source
        reader = DocumentReader(known, problems)
        sections, policies = reader.read(document)
        source.refuse([*reader.problems, *broken_rules(sections, policies)])
        specs = tuple(PolicySpec(**policy._asdict()) for policy in policies if policy is not None)
        whole: dict[str, Any] = dict(sections)  # without a problem there is nothing missing
        return cls(**whole, policies=specs, source=source)


def _policy_document(policy: PolicySpec) -> dict[str, Any]:
    args = policy.args.model_dump(mode="json", exclude_defaults=True) if policy.args else {}
    body = {"instance_name": policy.instance_name, **({"args": args} if args else {})}
    return {policy.kind: body, **policy.timing.model_dump(mode="json", exclude_none=True)}
