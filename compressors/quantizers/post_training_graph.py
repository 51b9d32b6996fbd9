"""Rewrites a network, layer by layer, as one that computes with quantized weights and activations."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from compressors.quantizers.clipping import NEEDED, ClipMode, clipped_range
from compressors.quantizers.folding import Copies, is_weighted, readers_by_layer, remodelled
from compressors.quantizers.linear import Mode, linear_parameters, multiply_and_shift
from compressors.quantizers.post_training_weights import WeightSettings, quantized_weights
from compressors.quantizers.ranges import AccumulatorLimit, BatchRange, FixedRange
from compressors.quantizers.statistics import LayerStatistics, Statistics
from utils.errors import InputError

_ALL = (-math.inf, math.inf)
# What matters of an activation function's input: outside it is constant (tanh and sigmoid: nearly).
_PASSED = {
    keras.activations.relu: (0.0, math.inf),
    keras.activations.relu6: (0.0, 6.0),
    keras.activations.tanh: (-4.0, 4.0),
    keras.activations.sigmoid: (-6.0, 6.0),
}
_MOVING = (
    keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute, keras.layers.RepeatVector, keras.layers.Identity,
    keras.layers.Dropout, keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D,
    keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D, keras.layers.Cropping1D,
    keras.layers.Cropping2D, keras.layers.Cropping3D,
)  # fmt: skip
_MAX_POOLING = (
    keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D,
    keras.layers.GlobalMaxPooling1D, keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D,
)  # fmt: skip


class OutputSettings(NamedTuple):
    """How an activation is quantized; `bits` None: not at all."""

    bits: int | None
    mode: Mode
    clip: ClipMode
    n_stds: float | None
    is_half_range: bool
    multiplier_bits: int | None


class LayerSettings(NamedTuple):
    """How a layer is quantized.

    `inputs` has settings for inputs by index; inputs that it does not have and that are not quantized yet take those of
    the output, where `quantize_inputs`, or are an error, where not `is_fallback_allowed`. `is_named`: an override is
    for this layer. `float_type` is what the layer computes in, where that is not float32.
    """

    output: OutputSettings
    weights: WeightSettings
    inputs: Mapping[int, OutputSettings]
    quantize_inputs: bool
    is_fallback_allowed: bool
    is_named: bool
    float_type: str | None


def is_moving(layer: keras.Layer) -> bool:
    """Whether the layer only moves, drops or repeats values, or adds zeros: it is never a quantizer's business."""
    return isinstance(layer, _MOVING)


def is_choosing(layer: keras.Layer) -> bool:
    """Whether each output is one of the inputs, or zero, or 6 in a ReLU6: quantized inputs make quantized outputs."""
    return isinstance(layer, _MAX_POOLING) or passed_range(layer)[0] == 0


def passed_range(layer: Any) -> tuple[float, float]:
    """The range of input values that a ReLU, tanh or sigmoid passes on; everything for other layers."""
    if isinstance(layer, keras.layers.ReLU):
        is_plain = layer.negative_slope == 0 and layer.threshold == 0
        return (0.0, float(layer.max_value or math.inf)) if is_plain else _ALL
    return _PASSED.get(layer.activation, _ALL) if isinstance(layer, keras.layers.Activation) else _ALL


def quantized_model(
    model: keras.Model,
    settings: Callable[[str], LayerSettings],
    statistics: Mapping[str, LayerStatistics] | None,
    origins: Mapping[str, str],
) -> keras.Model:
    """The quantized copy of a model whose convolutions and dense layers have their activations in layers of their own.

    A quantizer comes right behind the layer whose output it is for. Where only a ReLU reads this output, the range is
    what the ReLU passes on, so that it makes no difference which of the two is first; the same for tanh and sigmoid.
    Another activation that was part of its layer is not parted from it by a quantizer. A ReLU or max pooling has one of
    its own, before it, only if its input is not quantized yet, or an override wants it quantized differently.

    Args:
        settings: by layer name.
        statistics: by layer name; None takes the range of each batch.
        origins: of `split_activations`.

    Raises:
        InputError: statistics are missing, or settings for an input.
    """
    rewriter = _Rewriter(settings, statistics, origins, readers_by_layer(model))
    return remodelled(model, rewriter, rewriter.copies, _Signal, lambda signal: signal.tensor)


class _Grid(NamedTuple):
    """The values of a quantized tensor; `scale` None: other ones in each batch."""

    settings: OutputSettings
    limits: tuple[float, float]
    scale: float | None


@dataclasses.dataclass(eq=False)
class _Signal:
    """A tensor of the new model; without `grid` its values are not quantized.

    `quantized` is what the first reader that needed it quantized made of it.
    """

    tensor: keras.KerasTensor
    grid: _Grid | None = None
    quantized: "_Signal | None" = None

    @property
    def is_float(self) -> bool:
        return "float" in self.tensor.dtype


class _Rewriter:
    """Called for each layer of the old model, with signals of the new one."""

    def __init__(self, settings, statistics, origins, readers):
        self._settings_of, self._statistics, self._origins, self._readers = settings, statistics, origins, readers
        self._new_weights: dict[str, list[np.ndarray]] = {}
        self._added: dict[str, keras.Layer] = {}
        self.copies = Copies(self._copy, lambda layer: self._new_weights.get(layer.name) or layer.get_weights())

    def __call__(self, layer: Any, args: tuple, kwargs: dict) -> Any:
        if not isinstance(layer, keras.Layer):  # a bare operation; it has no name that settings could be given for
            return self._run(layer, args, kwargs)
        settings = self._settings(layer)
        if (is_moving(layer) or is_choosing(layer)) and settings.float_type is None:
            return self._run_choosing(layer, settings, args, kwargs)
        args, kwargs = self._with_quantized_inputs(layer, settings, args, kwargs)
        outputs = self._run(layer, args, kwargs)
        quantizer = self._output_quantizer(layer, settings, outputs)
        if is_weighted(layer):
            outputs = self._with_quantized_weights(layer, settings, args[0], outputs, quantizer)
        return outputs if quantizer is None else quantizer(outputs)

    def _settings(self, layer: keras.Layer) -> LayerSettings:
        return self._settings_of(self._origins.get(layer.name, layer.name))

    def _copy(self, layer: keras.Layer) -> keras.Layer:
        float_type = self._settings(layer).float_type
        return type(layer).from_config(layer.get_config() | ({"dtype": float_type} if float_type else {}))

    def _run(self, layer: Any, args: tuple, kwargs: dict) -> Any:
        args, kwargs = keras.tree.map_structure(lambda x: x.tensor if isinstance(x, _Signal) else x, (args, kwargs))
        outputs = self.copies(layer)(*args, **kwargs)
        if None in self._readers.get(layer.name, ()):  # outputs of the network are float32
            name = f"{layer.name}.float32"
            outputs = keras.tree.map_structure(lambda x: _as_float32(x, name), outputs)
        return keras.tree.map_structure(_Signal, outputs)

    def _run_choosing(self, layer: keras.Layer, settings: LayerSettings, args: tuple, kwargs: dict) -> _Signal:
        signal, *others = args
        own, grid, limits = settings.inputs.get(0, settings.output), signal.grid, passed_range(layer)
        if own.bits and not is_moving(layer):
            is_other_wanted = settings.is_named and grid is not None and grid.settings != own
            if grid is None or is_other_wanted or grid.limits[1] > limits[1]:
                signal = self._quantizer(layer, f"{layer.name}.quantize", own, 0, limits)(signal)
        outputs = self._run(layer, (signal, *others), kwargs)
        return _Signal(outputs.tensor, signal.grid)

    def _with_quantized_inputs(self, layer: keras.Layer, settings: LayerSettings, args: tuple, kwargs: dict) -> Any:
        is_needed = settings.output.bits and settings.quantize_inputs and layer.name not in self._origins
        if is_weighted(layer):
            is_needed = is_needed and settings.weights.is_quantized

        def quantized(index: int, signal: Any) -> Any:
            if not isinstance(signal, _Signal) or not signal.is_float:
                return signal
            name = f"{layer.name}.quantize_input_{index}"
            own = settings.inputs.get(index)
            if own:
                return self._quantizer(layer, name, own, index, _ALL)(signal) if own.bits else signal
            if not is_needed or signal.grid:
                return signal
            if not settings.is_fallback_allowed:
                raise InputError(
                    f"input {index} of layer {layer.name!r} is not quantized: give it in the layer's input_overrides, "
                    "or set inputs_quant_auto_fallback"
                )
            if signal.quantized is None:
                like_output = settings.output._replace(is_half_range=False)
                signal.quantized = self._quantizer(layer, name, like_output, index, _ALL)(signal)
            return signal.quantized

        signals = keras.tree.flatten((args, kwargs))
        made = [quantized(index, signal) for index, signal in enumerate(signals)]
        return keras.tree.pack_sequence_as((args, kwargs), made)

    def _with_quantized_weights(
        self,
        layer: keras.Layer,
        settings: LayerSettings,
        signal: _Signal,
        outputs: _Signal,
        quantizer: "_Quantizer | None",
    ) -> _Signal:
        input_scale = signal.grid and signal.grid.scale
        output_scale = quantizer and quantizer.grid.scale
        # A layer that is used twice has the weights that suit its first use.
        new = quantized_weights(layer, settings.weights, input_scale, output_scale)
        self._new_weights.setdefault(layer.name, new.values)
        if new.accumulator_steps is None or settings.weights.accumulator_bits == 32:
            return outputs
        name, bits = f"{layer.name}.accumulator", settings.weights.accumulator_bits
        limit = self._add(AccumulatorLimit(bits, name=name, dtype="float32"))
        limited = limit(outputs.tensor)
        limit.steps.assign(np.broadcast_to(new.accumulator_steps, limit.steps.shape))
        return _Signal(limited)

    def _output_quantizer(self, layer: keras.Layer, settings: LayerSettings, outputs: Any) -> "_Quantizer | None":
        if settings.output.bits is None or not isinstance(outputs, _Signal) or not outputs.is_float:
            return None
        readers = self._readers[layer.name]
        reader = readers[0] if len(readers) == 1 else None
        low, high = passed_range(reader)
        if low != 0 and getattr(reader, "name", None) in self._origins:
            return None
        if settings.output.is_half_range:
            low = max(low, 0.0)
        return self._quantizer(layer, f"{layer.name}.quantize", settings.output, None, (low, high))

    def _quantizer(
        self, layer: keras.Layer, name: str, settings: OutputSettings, index: int | None, limits: tuple[float, float]
    ) -> "_Quantizer":
        """That of an input, by index, or of the output, None."""
        assert settings.bits is not None, "it is to be quantized"
        if self._statistics is None:
            batch = (settings.bits, settings.mode, settings.clip, settings.n_stds, limits)
            return _Quantizer(self._add(BatchRange(*batch, name=name, dtype="float32")), _Grid(settings, limits, None))
        scale, zero_point = _parameters(self._statistics_of(layer, index), settings, limits, layer.name)
        fixed = FixedRange(settings.bits, settings.mode, scale, zero_point, name=name, dtype="float32")
        return _Quantizer(self._add(fixed), _Grid(settings, limits, scale))

    def _add(self, layer: keras.Layer) -> keras.Layer:
        """The layer, or the one of its name that was added when the layer it is for was used before."""
        return self._added.setdefault(layer.name, layer)

    def _statistics_of(self, layer: keras.Layer, index: int | None) -> Statistics:
        name = layer.name if layer.name in self._statistics else self._origins.get(layer.name, layer.name)
        if name not in self._statistics:
            raise InputError(f"model_activation_stats has no layer {name!r}")
        inputs, output = self._statistics[name]
        if index is not None and index not in inputs:
            raise InputError(f"model_activation_stats has no input {index} of layer {name!r}")
        return output if index is None else inputs[index]


class _Quantizer(NamedTuple):
    """Makes a quantized signal of another."""

    layer: keras.Layer
    grid: _Grid

    def __call__(self, signal: _Signal) -> _Signal:
        return _Signal(self.layer(signal.tensor), self.grid)


def _parameters(
    statistics: Statistics, settings: OutputSettings, limits: tuple[float, float], name: str
) -> tuple[float, float]:
    """Scale and zero point."""
    missing = [needed for needed in NEEDED[settings.clip] if getattr(statistics, needed) is None]
    if missing:
        raise InputError(
            f"clip_acts {settings.clip} of layer {name!r} needs {' and '.join(missing)} in model_activation_stats"
        )
    assert settings.bits is not None, "it is to be quantized"
    is_rectified = limits[0] == 0.0
    ends = clipped_range(
        statistics.within(*limits), settings.bits, settings.mode, settings.clip, settings.n_stds, is_rectified
    )
    scale, zero_point = map(float, linear_parameters(*ends, settings.bits, settings.mode))
    if settings.multiplier_bits:
        # What integer hardware multiplies by is the number of steps in 1.
        scale = float(1.0 / multiply_and_shift(1.0 / scale, settings.multiplier_bits))
    return scale, zero_point


def _as_float32(tensor: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.Identity(dtype="float32", name=name)(tensor) if tensor.dtype == "float16" else tensor
