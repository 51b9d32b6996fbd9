"""Walks the layers of a functional Keras model with the caller in control of every layer's call."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras

from utils.errors import InputError

LayerCall = Callable[[Any, tuple, dict], Any]


def run_graph(model: keras.Model, inputs: Any, call: LayerCall) -> Any:
    """The model's outputs, each layer (or bare Keras operation) evaluated as `call(layer, args, kwargs)`.

    `call=infer` is plain inference. Works eagerly and while a tf.function
    is traced. The values that flow need not be tensors: any object that is not a container to `keras.tree` passes
    from one call to the next untouched. Models inside the model are walked too.

    Raises:
        InputError: the model is neither functional nor Sequential, so that it has no static graph.
    """
    if isinstance(model, keras.Sequential):
        values = inputs
        for layer in model.layers:
            values = _call_or_walk(layer, (values,), {}, call)
        return values
    _check_is_functional(model)
    calls, outputs = _plan(model, keras.tree.map_structure(_Slot, inputs))
    for operation, args, kwargs, slots in calls:
        args, kwargs = _take((args, kwargs))
        results = keras.tree.flatten(_call_or_walk(operation, args, kwargs, call))
        for slot, result in zip(slots, results, strict=True):
            slot.value = result
    return _take(outputs)


def infer(layer: Any, args: tuple, kwargs: dict) -> Any:
    """A `LayerCall`: the layer's outputs in inference mode. (Called plainly, Keras' random image layers train.)"""
    if isinstance(layer, keras.Layer) and "training" in inspect.signature(layer.call).parameters:
        kwargs = {"training": False} | kwargs
    return layer(*args, **kwargs)


def prunable_layers(model: keras.Model) -> list[keras.Layer]:
    """The Conv2D and Dense layers in the order of the graph, a layer that is used twice counted once.

    Depthwise, separable, transposed, grouped and channels-first convolutions are left alone: they stay dense.
    """
    layers = dict.fromkeys(layer for layer in _leaf_layers(model) if is_prunable(layer))
    return list(layers)


def prunable_kernels(model: keras.Model) -> list[keras.Variable]:
    """The kernels of `prunable_layers(model)`: HWIO of a Conv2D, (in, out) of a Dense."""
    return [layer.kernel for layer in prunable_layers(model)]


def is_prunable(layer: Any) -> bool:
    """Whether the layer is a Dense or an ungrouped, channels-last Conv2D, with a kernel of its own.

    The kernel of a quantized layer, or of one with LoRA, is no variable of floats.
    """
    if isinstance(layer, keras.layers.Conv2D):
        is_linear = layer.groups == 1 and layer.data_format == "channels_last"
    else:
        is_linear = isinstance(layer, keras.layers.Dense)
    return is_linear and not layer.lora_enabled and layer.quantization_mode is None


class _Slot:
    """The place of one value of the graph, emptied after its last use: eager activations are many and large."""

    def __init__(self, value: Any = None):
        self.value = value
        self.uses = 0

    def take(self) -> Any:
        value = self.value
        self.uses -= 1
        if self.uses == 0:
            self.value = None
        return value


def _plan(model: keras.Model, inputs: Any) -> tuple[list[tuple[Any, tuple, dict, list[_Slot]]], Any]:
    """The calls that lead from the input slots to the output slots: (operation, args, kwargs, slots of its outputs)."""
    calls = []

    def recorder(operation: Any) -> Callable:
        def record(*args: Any, **kwargs: Any) -> list[_Slot]:
            for slot in _slots((args, kwargs)):
                slot.uses += 1
            outputs = [_Slot() for _ in keras.tree.flatten(operation.output)]
            calls.append((operation, args, kwargs, outputs))
            return outputs

        return record

    # The one use of a private name of Keras: it has no public way to walk a model's graph call by call.
    outputs = model._run_through_graph(inputs, operation_fn=recorder)
    for slot in _slots(outputs):
        slot.uses += 1
    return calls, outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs


def _slots(structure: Any) -> list[_Slot]:
    return [value for value in keras.tree.flatten(structure) if isinstance(value, _Slot)]


def _take(structure: Any) -> Any:
    return keras.tree.map_structure(lambda value: value.take() if isinstance(value, _Slot) else value, structure)


def _call_or_walk(layer: Any, args: tuple, kwargs: dict, call: LayerCall) -> Any:
    if isinstance(layer, keras.Model):
        return run_graph(layer, args[0], call)
    return call(layer, args, kwargs)


def _leaf_layers(model: keras.Model) -> Iterator[keras.Layer]:
    if not isinstance(model, keras.Sequential):
        _check_is_functional(model)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaf_layers(layer)
        else:
            yield layer


def _check_is_functional(model: keras.Model) -> None:
    if not isinstance(model, keras.Function):
        raise InputError(
            "the model must be a functional (or Sequential) Keras model, whose layers can be walked. "
            f"Received: {model.name!r} of class {type(model).__name__}"
        )
