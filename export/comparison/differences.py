"""What differs between the configurations of runs, and what is the same."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Differences(NamedTuple):
    """The flags of several configurations, in the order of the first one that has them.

    varying: those that have not one value only; a run that has no such flag does not make it vary.
    same: flag -> value of those that all runs have with that one value.
    partial: flag -> value of those that some runs lack (of another learner or version) and the others agree on.
    """

    varying: list[str]
    same: dict[str, Any]
    partial: dict[str, Any]


def find_differences(configs: Sequence[Mapping[str, Any]]) -> Differences:
    """Sorts the flags of `configs` into those that vary, are the same, and are the same where they are."""
    found = Differences([], {}, {})
    for name in dict.fromkeys(name for config in configs for name in config):
        values = [config[name] for config in configs if name in config]
        if len({canonical(value) for value in values}) > 1:
            found.varying.append(name)
        else:
            (found.same if len(values) == len(configs) else found.partial)[name] = values[0]
    return found


def canonical(value: Any) -> str:
    """One text for equal JSON values and another for different ones; 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=True)
