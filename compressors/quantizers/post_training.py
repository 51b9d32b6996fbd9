"""Quantization of a finished network, without training (the post-training quantizer of Distiller)."""

import difflib
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal

import keras
import pydantic
import tensorflow as tf

from compressors.components import Count, Positive, PositiveCount
from compressors.parameters import layer_name, leaf_layers
from compressors.quantizers.clipping import ClipMode
from compressors.quantizers.folding import (
    check_names,
    fold_batch_norm,
    folded_norms,
    is_weighted,
    split_activations,
)
from compressors.quantizers.linear import Mode
from compressors.quantizers.overrides import FLOAT_BITS, Bits, Override, OverridesByName, check_possible, rename
from compressors.quantizers.post_training_graph import (
    LayerSettings,
    OutputSettings,
    is_choosing,
    is_moving,
    quantized_model,
)
from compressors.quantizers.post_training_weights import WeightSettings
from compressors.quantizers.statistics import LayerStatistics, collect, read_statistics
from utils.errors import InputError

_POSSIBLE_BITS = range(2, 25)


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Modes(_Model):
    """The modes of activations and of weights; one name stands for both."""

    activations: Mode
    weights: Mode

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_one(cls, values: Any) -> Any:
        return {"activations": values, "weights": values} if isinstance(values, str) else values


MultiplierBits = Annotated[PositiveCount, pydantic.Field(ge=2, le=31)]


class InputOverride(_Model):
    """What is different in one input of a layer; with `from_output` nothing, but that it is quantized in any case."""

    from_output: bool = False
    bits_activations: Bits = None
    mode: Mode | None = None
    clip_acts: ClipMode | None = None
    clip_n_stds: Positive | None = None


class PostTrainOverride(Override):
    """What is different in some layers; what is not given, or null except for bits, stays as it is by default.

    `fake` computes with float weights and quantizes the output. `quantize_inputs` false leaves inputs that are not
    quantized yet as they are.
    """

    mode: Modes | None = None
    clip_acts: ClipMode | None = None
    clip_n_stds: Positive | None = None
    clip_half_range: bool | None = None
    per_channel_wts: bool | None = None
    scale_approx_mult_bits: MultiplierBits | None = None
    inputs_quant_auto_fallback: bool | None = None
    fp16: bool | None = None
    fpq_module: Literal[16, 32, "16", "32"] | None = None
    fake: bool = False
    quantize_inputs: bool = True
    input_overrides: dict[Count, InputOverride] = {}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _rename_inputs(cls, values: Any) -> Any:
        older = {"input_quantization_settings": "input_overrides", "bits_parameters": "bits_weights"}
        return rename(values, older) if isinstance(values, dict) else values


class PostTrainLinearQuantizer(OverridesByName):
    """Linear quantization of weights and of every layer's output.

    Batch norms are folded into the layers before them first. The range of weights is the one that they have, with
    `per_channel_wts` in each output channel; convolutions and dense layers have weights that are quantized. The range
    of an activation comes from `model_activation_stats`, or else is measured on the batches that `prepare` is given, or
    else is that of each batch at run time; `clip_acts` says how much of it to keep (see `clipped_range`).

    Args:
        bits_activations, bits_parameters: 2 to 24; null or 32: not quantized.
        bits_accum: of the integer in which a convolution or dense layer sums up; it saturates. Where weights or inputs
            are float there is none.
        mode: one for both, or {activations: .., weights: ..}.
        clip_n_stds: for N_STD.
        clip_half_range: only the positive half of each output's range is kept, as it always is before a ReLU.
        no_clip_layers: names of layers that have `clip_acts` NONE.
        model_activation_stats: path of a YAML file (see `read_statistics`), or a mapping with such a file's content.
        fp16, fpq_module: all is computed in float16 (fpq_module 32: float32), nothing is quantized, and the network's
            outputs are float32.
        scale_approx_mult_bits: scales are integers of so many bits divided by powers of two.
        inputs_quant_auto_fallback: false makes it an error if a layer's input is not quantized and its
            `input_overrides` do not say how; true quantizes it like the layer's output.
    """

    is_for_training: ClassVar[bool] = False

    bits_activations: Bits = 8
    bits_parameters: Bits = 8
    bits_accum: Annotated[PositiveCount, pydantic.Field(ge=2, le=FLOAT_BITS)] = FLOAT_BITS
    overrides: dict[str, PostTrainOverride] = {}  # type: ignore[assignment]  # nobody writes into the mapping
    mode: Modes = Modes(activations="SYMMETRIC", weights="SYMMETRIC")
    clip_acts: ClipMode = "NONE"
    clip_n_stds: Positive | None = None
    clip_half_range: bool = False
    no_clip_layers: tuple[str, ...] = ()
    per_channel_wts: bool = False
    model_activation_stats: str | dict[str, Any] | None = None
    fp16: bool = False
    fpq_module: Literal[16, 32, "16", "32"] | None = None
    scale_approx_mult_bits: MultiplierBits | None = None
    inputs_quant_auto_fallback: bool = True

    @pydantic.model_validator(mode="after")
    def _is_possible(self) -> "PostTrainLinearQuantizer":
        for override in (PostTrainOverride(), *self.overrides.values()):
            settings = self._resolved(override, is_named=False, is_clipped=True)
            check_possible("bits_parameters", settings.weights.bits, _POSSIBLE_BITS)
            check_possible("bits_bias", settings.weights.bias_bits, _POSSIBLE_BITS)
            for output in (settings.output, *settings.inputs.values()):
                check_possible("bits_activations", output.bits, _POSSIBLE_BITS)
                if output.clip == "N_STD" and output.n_stds is None:
                    raise ValueError("clip_n_stds must be given with clip_acts N_STD")
        return self

    def settings_of(self, name: str) -> LayerSettings:
        """How the layer of that name is quantized, as far as it has what is."""
        override = self.override_of(name)
        assert override is None or isinstance(override, PostTrainOverride)
        is_clipped = layer_name(name) not in map(layer_name, self.no_clip_layers)
        return self._resolved(override or PostTrainOverride(), override is not None, is_clipped)

    def check(self, model: keras.Model) -> None:
        check_names(model)
        self.check_overrides(model)
        layers = {layer_name(layer.name): layer for layer in leaf_layers(model)}
        for name in map(layer_name, self.no_clip_layers):
            if name not in layers:
                near = ", ".join(difflib.get_close_matches(name, layers, n=3, cutoff=0.3))
                raise InputError(f"no_clip_layers: the model has no layer {name!r}; the nearest are {near or 'none'}")
        for name, layer in layers.items():
            inputs, count = self.settings_of(name).inputs, len(keras.tree.flatten(layer.input))
            if any(index >= count for index in inputs):
                raise InputError(f"input_overrides of layer {name!r}, which has {count} inputs. Received: {[*inputs]}")
        if not self.layers(model):
            raise InputError(f"{type(self).__name__} has nothing to quantize in {model.name!r} with the bits given")
        self._check_statistics(model)

    def layers(self, model: keras.Model) -> dict[str, str]:
        described = {layer.name: self._describe(layer) for layer in _remaining_layers(model)}
        return {name: description for name, description in described.items() if description}

    def prepare(self, model: keras.Model, batches: Callable[[], tf.data.Dataset] | None = None) -> keras.Model:
        self.check(model)
        folded, origins = split_activations(fold_batch_norm(model))
        statistics = self._given_statistics(model)
        settings = [self.settings_of(layer.name) for layer in leaf_layers(model)]
        if statistics is None and any(each.output.bits for each in settings):
            if batches is None:
                self._check_needs_no_scales(settings)
            else:
                statistics = collect(folded, batches)
        return quantized_model(folded, self.settings_of, statistics, origins)

    def finish(self, model: keras.Model) -> keras.Model:
        return model

    def _resolved(self, override: PostTrainOverride, is_named: bool, is_clipped: bool) -> LayerSettings:
        def of(field: str) -> Any:
            value = getattr(override, field)
            return getattr(self, field) if value is None else value

        def bits(field: str, default: int | None) -> int | None:
            return getattr(override, field) if field in override.model_fields_set else default

        if of("fp16") and str(of("fpq_module") or 16) != "16":
            raise ValueError("fp16 must not be true where fpq_module is 32")
        float_bits = 16 if of("fp16") else int(of("fpq_module") or 0)
        is_float = float_bits and not override.fake
        output = OutputSettings(
            None if is_float else bits("bits_activations", self.bits_activations),
            of("mode").activations,
            of("clip_acts") if is_clipped else "NONE",
            of("clip_n_stds"),
            of("clip_half_range"),
            of("scale_approx_mult_bits"),
        )
        are_weights_float = is_float or override.fake
        weights = WeightSettings(
            None if are_weights_float else bits("bits_weights", self.bits_parameters),
            of("mode").weights,
            of("per_channel_wts"),
            None if are_weights_float else override.bits_bias,
            self.bits_accum,
            of("scale_approx_mult_bits"),
        )
        return LayerSettings(
            output,
            weights,
            {index: _of_input(given, output) for index, given in override.input_overrides.items()},
            override.quantize_inputs,
            of("inputs_quant_auto_fallback"),
            is_named,
            "float16" if float_bits == 16 else None,
        )

    def _describe(self, layer: keras.Layer) -> str:
        settings = self.settings_of(layer.name)
        weights = settings.weights
        parts = [settings.float_type] if settings.float_type else []
        if is_weighted(layer) and weights.bits:
            parts.append(f"weights {weights.bits} bits{' per channel' * weights.is_per_channel}")
        if is_weighted(layer) and layer.use_bias and weights.bias_bits:
            parts.append(f"bias {weights.bias_bits} bits")
        if settings.output.bits and not is_moving(layer):
            parts.append(f"activations {settings.output.bits} bits")
        return ", ".join(parts)

    def _given_statistics(self, model: keras.Model) -> dict[str, LayerStatistics] | None:
        """Those of the arguments, with the outputs of folded batch norms for those of the layers before."""
        if self.model_activation_stats is None:
            return None
        found = read_statistics(self.model_activation_stats)
        named = {layer.name: layer_name(layer.name) for layer in leaf_layers(model)}
        statistics = {name: found[plain] for name, plain in named.items() if plain in found}
        for name, norm in folded_norms(model).items():
            if name in statistics and norm.name in statistics:
                statistics[name] = statistics[name]._replace(output=statistics[norm.name].output)
        return statistics

    def _check_statistics(self, model: keras.Model) -> None:
        statistics = self._given_statistics(model)
        needed = [layer for layer in _remaining_layers(model) if self.settings_of(layer.name).output.bits]
        needed = [layer.name for layer in needed if not is_moving(layer) and not is_choosing(layer)]
        missing = [name for name in needed if statistics is not None and name not in statistics]
        if missing:
            raise InputError(f"model_activation_stats has nothing of the layers {', '.join(missing)}")

    def _check_needs_no_scales(self, settings: Iterable[LayerSettings]) -> None:
        if self.bits_accum < FLOAT_BITS or any(each.output.multiplier_bits for each in settings):
            raise InputError(
                "bits_accum below 32 and scale_approx_mult_bits need ranges that do not change: model_activation_stats "
                "must be given, or batches to measure them on. Received: neither"
            )


def _remaining_layers(model: keras.Model) -> list[keras.Layer]:
    """All but inputs and the batch norms that are folded."""
    norms = {norm.name for norm in folded_norms(model).values()}
    layers = [layer for layer in leaf_layers(model) if not isinstance(layer, keras.layers.InputLayer)]
    return [layer for layer in layers if layer.name not in norms]


def _of_input(given: InputOverride, output: OutputSettings) -> OutputSettings:
    output = output._replace(is_half_range=False)
    if given.from_output:
        return output
    return output._replace(
        bits=given.bits_activations if "bits_activations" in given.model_fields_set else output.bits,
        mode=given.mode or output.mode,
        clip=given.clip_acts or output.clip,
        n_stds=given.clip_n_stds or output.n_stds,
    )
