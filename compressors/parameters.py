"""The parameters of a model under the names that schedules use: Keras paths or PyTorch's."""

import difflib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras

from compressors.graph import is_prunable
from utils.errors import InputError

ANY = "*"
CONV, DEPTHWISE, DENSE, OTHER = "conv", "depthwise", "dense", "other"
_SPOKEN = {"kernel": "weight", "gamma": "weight", "beta": "bias"}


class Parameter(NamedTuple):
    """A trainable variable of a model.

    `kind` is CONV for a kernel HWIO, DEPTHWISE for one HWI1 of a depthwise convolution, DENSE for one (in, out), OTHER
    for biases, batch norm's scales and whatever else is trained.
    """

    path: str
    shape: tuple[int, ...]
    kind: str
    layer: str
    is_prunable: bool

    @property
    def size(self) -> int:
        size = 1
        for length in self.shape:
            size *= length
        return size


def layer_name(name: str) -> str:
    """A layer's name without its `module` components: `module.layer1.0.conv1` -> `layer1.0.conv1`."""
    return ".".join(part for part in name.split(".") if part != "module")


class Parameters:
    """Looks up a model's trainable variables by name.

    Raises:
        InputError: two variables of the model have the same path.
    """

    def __init__(self, model: keras.Model):
        self._all: dict[str, Parameter] = {}
        self.variables: dict[str, keras.Variable] = {}
        for layer in leaf_layers(model):
            for variable in layer.trainable_variables:
                if self.variables.setdefault(variable.path, variable) is not variable:
                    raise InputError(f"the model has two variables {variable.path!r}; name their layers differently")
                self._all[variable.path] = Parameter(
                    variable.path, tuple(variable.shape), _kind(layer, variable), layer.name,
                    is_prunable(layer) and variable is layer.kernel,
                )  # fmt: skip
        self._named = _by_name(list(self))

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._all.values())

    def __getitem__(self, path: str) -> Parameter:
        return self._all[path]

    def prunable(self) -> list[Parameter]:
        """The kernels that pruning acts on by default: convolutions and dense layers, not depthwise ones."""
        return [parameter for parameter in self if parameter.is_prunable]

    def find(self, name: str) -> Parameter | None:
        """The parameter of that name: `conv1/kernel`, or `module.conv1.weight`.

        Of a path the last names are enough where no other path ends in them: `fc.weight` finds `sequential/fc/kernel`.
        """
        return self._all.get(name) or self._named.get(_dotted(name))

    def resolve_all(self, names: Sequence[str]) -> dict[str, Parameter]:
        """Name -> parameter, for all names.

        Raises:
            InputError: names without a parameter, each with those nearest to it; or two names of one parameter.
        """
        found = {name: parameter for name in names if (parameter := self.find(name)) is not None}
        missing = [name for name in names if name not in found]
        if missing:
            raise InputError("; ".join(self._say_missing(name) for name in missing))
        first: dict[str, str] = {}
        for name, parameter in found.items():
            if first.setdefault(parameter.path, name) != name:
                raise InputError(f"{first[parameter.path]!r} and {name!r} are the same parameter, {parameter.path}")
        return found

    def _say_missing(self, name: str) -> str:
        is_path = "/" in name
        asked, known = (name, list(self._all)) if is_path else (_dotted(name), [*map(spoken_name, self._all)])
        near = difflib.get_close_matches(asked, known, n=3, cutoff=0.3)
        hint = f"the nearest are {', '.join(near)}" if near else f"the model has {len(self._all)} parameters"
        return f"the model has no parameter {name!r}; {hint}"


def spoken_name(path: str) -> str:
    """A Keras path in the published schedules' spelling: `layer1.0.conv1/kernel` -> `layer1.0.conv1.weight`."""
    layer, dot, variable = _dotted(path).rpartition(".")
    return f"{layer}{dot}{_SPOKEN.get(variable, variable)}"


def leaf_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """All layers that are not models themselves."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaf_layers(layer)
        else:
            yield layer


def _by_name(parameters: Sequence[Parameter]) -> dict[str, Parameter | None]:
    """Parameters by their whole paths and by the ends of these, in dots; None for an end that several have."""
    ends: dict[str, Parameter | None] = {}
    for parameter in parameters:
        parts = parameter.path.split("/")
        for start in range(1, len(parts) - 1):
            for name in _spellings("/".join(parts[start:])):
                ends[name] = None if name in ends else parameter
    return ends | {name: parameter for parameter in parameters for name in _spellings(parameter.path)}


def _spellings(path: str) -> set[str]:
    return {_dotted(path), spoken_name(path)}


def _dotted(name: str) -> str:
    return layer_name(name.replace("/", "."))


def _kind(layer: keras.Layer, variable: keras.Variable) -> str:
    if variable is not getattr(layer, "kernel", None):
        return OTHER
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return DEPTHWISE
    if isinstance(layer, keras.layers.Conv2D):
        return CONV
    return DENSE if isinstance(layer, keras.layers.Dense) else OTHER
