"""A copy of a model, for work that must not touch the original: flat, in float32, no two layers of one name."""

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from compressors.graph import is_prunable, run_graph
from utils.errors import InputError


class WorkingCopy(NamedTuple):
    """`model` computes what the original does, and shares nothing with it.

    Models inside the original are dissolved into their layers. Layers that share a name are renamed, and layers in half
    precision compute in float32. `pairs` are the original's layers, each with its copy, in the order of the graph.
    """

    model: keras.Model
    pairs: list[tuple[keras.Layer, keras.Layer]]

    def kernels(self) -> dict[str, keras.Variable]:
        """Path of each prunable kernel of the copy -> the original's kernel."""
        return {copy.kernel.path: layer.kernel for layer, copy in self.pairs if is_prunable(copy)}

    def give_back(self) -> None:
        """Gives the original the copy's prunable kernels and batch-norm statistics: all or, interrupted, none."""
        changed = []
        for layer, copy in self.pairs:
            names = ("kernel",) * is_prunable(copy)
            if isinstance(copy, keras.layers.BatchNormalization):
                names = ("moving_mean", "moving_variance")
            changed += [(getattr(layer, name), getattr(copy, name).value) for name in names]
        before = [(variable, variable.numpy()) for variable, _ in changed]
        try:
            _assign(changed)
        except BaseException:
            _assign(before)
            raise


def working_copy(model: keras.Model) -> WorkingCopy:
    """Copies a functional or Sequential model of one input and one output, with its weights.

    No random state is disturbed.

    Raises:
        InputError: the model cannot be walked, or a layer cannot be made again from its configuration.
    """
    inputs = keras.Input(shape=model.inputs[0].shape[1:], dtype=model.inputs[0].dtype)
    copies: dict[int, tuple[Any, Any]] = {}
    names: set[str] = set()

    def call(operation, args, kwargs):
        if id(operation) not in copies:
            copies[id(operation)] = operation, _copy(operation, names)
        return copies[id(operation)][1](*args, **kwargs)

    with _same_random_numbers():
        outputs = run_graph(model, inputs, call)
        pairs = [pair for pair in copies.values() if isinstance(pair[0], keras.Layer)]
        for layer, copy in pairs:
            copy.set_weights(layer.get_weights())
            if isinstance(copy, keras.layers.Normalization):
                copy.finalize_state()
    found = WorkingCopy(keras.Model(inputs, keras.tree.flatten(outputs)[0]), pairs)
    times = Counter(variable.path for variable in found.model.variables)
    if several := [path for path in found.kernels() if times[path] > 1]:
        raise InputError(f"every variable must have a path of its own. Received: two of {several[0]!r}")
    return found


def _copy(operation: Any, names: set[str]) -> Any:
    """A new layer or operation of the same configuration, but for type and name, which is then one of `names`."""
    name, count = operation.name, 1
    while name in names:
        count += 1
        name = f"{operation.name}.{count}"
    names.add(name)
    new = {"name": name}
    if getattr(operation, "compute_dtype", None) in ("float16", "bfloat16", "float64"):
        new["dtype"] = "float32"
    # Keras makes no Lambda from a configuration, since that may come from a file.
    if isinstance(operation, keras.layers.Lambda):
        return keras.layers.Lambda(operation.function, mask=operation.mask, arguments=operation.arguments, **new)
    try:
        config = operation.get_config()
        return type(operation).from_config(config | {key: new[key] for key in ("name", *(new.keys() & config.keys()))})
    except Exception as error:
        raise InputError(
            f"layer {operation.name!r} of class {type(operation).__name__} cannot be copied: its get_config must give "
            f"what its constructor takes. Received: {error}"
        ) from error


def _assign(values: list[tuple[keras.Variable, Any]]) -> None:
    for variable, value in values:
        variable.assign(value)


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Afterwards Python's generator, from which Keras draws the seeds of new layers, stands where it was."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
