"""The kernels of any built Keras model, subclassed ones included, and which layers they belong to."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras

from utils.errors import InputError

KERNEL_ATTRIBUTES = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel")
OPT_IN_ATTRIBUTES = {"Embedding": ("embeddings",)}  # class -> what is pruned where the class is asked for by name


class KernelLayer(NamedTuple):
    """A layer with weights that can be removed.

    name: the layer's own name.
    nested_name: with the names of the models and layers around it, as in `encoder/fc`.
    op_type: the name of its class, such as `Conv2D`.
    kernels: name -> kernel, such as `encoder/fc/kernel`. (A variable's path would begin with the model's name, which
        is another one each time that an unnamed model is made, and is left out of one that was loaded.)
    """

    name: str
    nested_name: str
    op_type: str
    kernels: dict[str, keras.Variable]

    @property
    def is_opt_in(self) -> bool:
        """Whether the layer is pruned only where its class or its name is asked for."""
        return self.op_type in OPT_IN_ATTRIBUTES


class UnprunableLayer(NamedTuple):
    """A layer with weights but no kernel that could be pruned, and why."""

    name: str
    op_type: str
    reason: str
    has_matrix: bool


class Kernels(NamedTuple):
    """All layers of a model that have weights."""

    layers: list[KernelLayer]
    unprunable: dict[str, UnprunableLayer]  # by nested name
    op_types: list[str]  # the classes of both


def find_kernels(model: keras.Model) -> Kernels:
    """Looks through all layers of the model, at any depth; what is shared is found once, where it comes first.

    Raises:
        InputError: the object is no Keras model, it is not built yet, or none of its layers has a kernel.
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"the model must be a keras.Model. Received: {type(model).__name__}")
    if not model.built or not (model.variables or all(layer.built for layer in _sublayers(model))):
        raise InputError(
            f"the model must be built: call it on a batch, or model.build(input_shape), first. Received: {model.name!r}"
        )
    found: list[tuple[keras.Layer, str, list[keras.Variable]]] = []
    unprunable, op_types = {}, []
    taken: set[int] = set()
    for layer, nested_name in _layers(model, ""):
        op_type = type(layer).__name__
        own = _own_variables(layer)
        if not own:
            continue
        op_types.append(op_type)
        attributes = OPT_IN_ATTRIBUTES.get(op_type, KERNEL_ATTRIBUTES)
        holders = _sublayers(layer) if isinstance(layer, keras.layers.RNN) else [layer]
        kernels = [
            value for holder in holders for name in attributes if _is_kernel(value := getattr(holder, name, None))
        ]
        if kernels:
            new = [kernel for kernel in kernels if id(kernel) not in taken]
            taken.update(map(id, new))
            if new:
                found.append((layer, nested_name, new))
        else:
            has_matrix = any(len(variable.shape) > 1 and variable.trainable for variable in own)
            unprunable[nested_name] = UnprunableLayer(layer.name, op_type, _reason(layer, op_type), has_matrix)
    if not found:
        raise InputError(
            f"the model must have a layer with a kernel, such as Conv2D or Dense. Received: {model.name!r} with "
            f"{', '.join(dict.fromkeys(op_types)) or 'no layer that has weights'}"
        )
    names = _names([(nested, kernel) for _, nested, kernels in found for kernel in kernels])
    layers = [
        KernelLayer(layer.name, nested, type(layer).__name__, {names[id(kernel)]: kernel for kernel in kernels})
        for layer, nested, kernels in found
    ]
    return Kernels(layers, unprunable, list(dict.fromkeys(op_types)))


def _layers(owner: keras.Layer, prefix: str) -> Iterator[tuple[keras.Layer, str]]:
    """Every layer below `owner` with its nested name, in the order in which they were made; a cell is its RNN's."""
    for layer in _sublayers(owner, recursive=False):
        name = f"{prefix}{layer.name}"
        yield layer, name
        if not isinstance(layer, keras.layers.RNN):
            yield from _layers(layer, f"{name}/")


def _sublayers(layer: keras.Layer, recursive: bool = True) -> list[keras.Layer]:
    # Keras has no public way to the layers inside a layer that is no model.
    return layer._flatten_layers(include_self=False, recursive=recursive)


def _own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The layer's variables that are no sublayer's; of an RNN its cells' too."""
    if isinstance(layer, keras.layers.RNN):
        return list(layer.variables)
    inner = {id(variable) for sublayer in _sublayers(layer) for variable in sublayer.variables}
    return [variable for variable in layer.variables if id(variable) not in inner]


def _is_kernel(value: object) -> bool:
    return isinstance(value, keras.Variable) and "float" in keras.backend.standardize_dtype(value.dtype)


def _reason(layer: keras.Layer, op_type: str) -> str:
    if getattr(layer, "lora_enabled", False):
        return f"{op_type} with LoRA"
    if getattr(layer, "quantization_mode", None):
        return f"quantized {op_type}"
    return f"{op_type} has no kernel"


def _names(kernels: Sequence[tuple[str, keras.Variable]]) -> dict[int, str]:
    """id of a kernel -> the nested name of its layer and its own; where several would have the same, numbered."""
    names: dict[int, str] = {}
    used: Counter[str] = Counter()
    for nested_name, kernel in kernels:
        name = f"{nested_name}/{kernel.name}"
        used[name] += 1
        names[id(kernel)] = name if used[name] == 1 else f"{name}#{used[name]}"
    return names
