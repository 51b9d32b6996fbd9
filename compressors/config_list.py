"""The configuration lists of the pruner API: which layers are pruned, and how (NNI's meaning of the keys)."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import keras
import pydantic

from compressors.components import Count, Names, Number, PositiveCount
from compressors.kernels import KernelLayer, Kernels, find_kernels
from compressors.schedule_problems import Place, Problem, Source, received, translated
from utils.errors import InputError

DEFAULT = "default"
SOURCE = Source("config_list")
Sparsity = Annotated[Number, pydantic.Field(ge=0, lt=1)]


class Entry(pydantic.BaseModel):
    """One entry of a configuration list.

    Args:
        op_types: classes of layers; `default` is every layer with a kernel. A string or a list. None: `default`, or any
            layer of `op_names`.
        op_names: names of layers, alone or with those of the models around them. None: any.
        exclude: leaves the layers alone, whatever earlier entries say.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    op_types: Names | None = None
    op_names: Names | None = None
    exclude: bool = False


class LevelEntry(Entry):
    """`sparsity`: the share of each layer's weights that is removed, in [0, 1)."""

    sparsity: Sparsity


class AgpEntry(Entry):
    """From `initial_sparsity` at `start_epoch` to `final_sparsity` at `end_epoch`, in steps of `frequency` epochs."""

    final_sparsity: Sparsity
    initial_sparsity: Sparsity = 0.0
    start_epoch: Count = 0
    end_epoch: Count
    frequency: PositiveCount = 1

    @pydantic.model_validator(mode="after")
    def _goes_on(self) -> Self:
        if self.end_epoch < self.start_epoch:
            raise ValueError(f"end_epoch must be at least start_epoch={self.start_epoch}. Received: {self.end_epoch}")
        if self.final_sparsity < self.initial_sparsity:
            raise ValueError(
                f"final_sparsity must be at least initial_sparsity={self.initial_sparsity}. "
                f"Received: {self.final_sparsity}"
            )
        return self

    def sparsity_at(self, epoch: int) -> float:
        """`s_f + (s_i - s_f) * (1 - (e - start) / (end - start))**3`, 0 before `start_epoch` (Zhu & Gupta 2017).

        e is `epoch` as it was at the last update: `start_epoch` plus a multiple of `frequency`. From `end_epoch` on it
        is `final_sparsity`.
        """
        if epoch < self.start_epoch:
            return 0.0
        if epoch >= self.end_epoch:
            return self.final_sparsity
        since = (epoch - self.start_epoch) // self.frequency * self.frequency
        left = 1.0 - since / (self.end_epoch - self.start_epoch)
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * left**3


class LotteryEntry(LevelEntry):
    """`prune_iterations` rounds that end at `sparsity`."""

    prune_iterations: PositiveCount


AnyEntry = TypeVar("AnyEntry", bound=Entry)


class Choice(NamedTuple):
    """What is pruned: kernels by name, each with its layer and its entry; and warnings for the user."""

    kernels: dict[str, keras.Variable]
    layers: dict[str, KernelLayer]
    entries: dict[str, Any]
    warnings: list[str]


def choose(model: keras.Model, config_list: Sequence[Mapping[str, Any]], entry_class: type[AnyEntry]) -> Choice:
    """Reads the list and applies it to the model's layers: of the entries that fit a layer, the last one counts.

    Raises:
        InputError: the list or the model is not as it must be; all problems of the list are told at once.
    """
    entries = _read(config_list, entry_class)
    found = find_kernels(model)
    SOURCE.refuse(problem for at, entry in enumerate(entries) for problem in _name_problems(at, entry, found))
    choice = Choice({}, {}, {}, [])
    for layer in found.layers:
        entry = _last_fitting(entries, layer.op_type, (layer.name, layer.nested_name), layer.is_opt_in)
        if entry is not None and not entry.exclude:
            for name, kernel in layer.kernels.items():
                choice.kernels[name], choice.layers[name], choice.entries[name] = kernel, layer, entry
    passed_over = [
        f"{name} ({layer.reason})"
        for name, layer in found.unprunable.items()
        if (entry := _last_fitting(entries, layer.op_type, (layer.name, name), is_opt_in=False)) is not None
        and not entry.exclude
        and (layer.has_matrix or layer.op_type in (entry.op_types or ()) or entry.op_names)
    ]
    if passed_over:
        choice.warnings.append(f"these layers cannot be pruned and stay as they are: {', '.join(passed_over)}")
    if not choice.kernels:
        raise InputError(f"config_list chooses no layer of {model.name!r}. It has: {_layer_list(found)}")
    return choice


def _read(config_list: Sequence[Mapping[str, Any]], entry_class: type[AnyEntry]) -> list[AnyEntry]:
    if isinstance(config_list, Mapping | str) or not isinstance(config_list, Sequence):
        raise InputError(f"config_list must be a list of dicts. Received: {received(config_list)}")
    if not config_list:
        raise InputError("config_list must have at least one entry. Received: an empty list")
    entries: list[Any] = []
    problems: list[Problem] = []
    for at, given in enumerate(config_list):
        if not isinstance(given, Mapping):
            problems.append(Problem((at,), f"must be a dict. Received: {received(given)}"))
            continue
        # An entry that only excludes needs no sparsity.
        wanted = Entry if given.get("exclude") is True and not set(given) - set(Entry.model_fields) else entry_class
        try:
            entries.append(wanted.model_validate(dict(given)))
        except pydantic.ValidationError as error:
            problems += translated(error, given, wanted, (at,))
    SOURCE.refuse(problems)
    return entries


def _last_fitting(entries: Sequence[AnyEntry], op_type: str, names: Sequence[str], is_opt_in: bool) -> AnyEntry | None:
    fitting = [entry for entry in entries if _fits(entry, op_type, names, is_opt_in)]
    return fitting[-1] if fitting else None


def _fits(entry: Entry, op_type: str, names: Sequence[str], is_opt_in: bool) -> bool:
    if entry.op_names is not None and not set(entry.op_names) & set(names):
        return False
    if entry.op_types is None:
        return entry.op_names is not None or not is_opt_in
    return op_type in entry.op_types or (DEFAULT in entry.op_types and not is_opt_in)


def _name_problems(at: int, entry: Entry, found: Kernels) -> list[Problem]:
    """What an entry names and the model does not have."""
    problems = []
    types = [DEFAULT, *found.op_types]
    for op_type in entry.op_types or ():
        if op_type not in types:
            problems.append(_unknown((at, "op_types"), op_type, types))
    known = [*found.unprunable, *(what.name for what in found.unprunable.values())]
    names = [layer.name for layer in found.layers] + known
    for name in entry.op_names or ():
        if name not in names and name not in [layer.nested_name for layer in found.layers]:
            problems.append(_unknown((at, "op_names"), name, list(dict.fromkeys(names))))
    return problems


def _unknown(place: Place, name: str, known: Sequence[str]) -> Problem:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return Problem(place, f"the model has no {name!r}; {guess}It has: {', '.join(known)}")


def _layer_list(found: Kernels) -> str:
    return ", ".join(f"{layer.nested_name} ({layer.op_type})" for layer in found.layers)
