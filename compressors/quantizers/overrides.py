"""How many bits each layer has: the defaults of a quantizer and its overrides for layers by name."""

import difflib
import re
from typing import Annotated, Any, ClassVar, NamedTuple

import keras
import pydantic

from compressors.components import PositiveCount
from compressors.parameters import layer_name, leaf_layers
from compressors.quantizers.base import Quantizer
from utils.errors import InputError

FLOAT_BITS = 32  # means the same as null: not quantized

Bits = Annotated[
    Annotated[PositiveCount, pydantic.Field(le=FLOAT_BITS)] | None,
    pydantic.AfterValidator(lambda bits: None if bits == FLOAT_BITS else bits),
]


class LayerBits(NamedTuple):
    """The bits of a layer's weights, output and bias; None: not quantized."""

    weights: int | None
    activations: int | None
    bias: int | None

    def __str__(self) -> str:
        return ", ".join(f"{what} {bits} bit{'s' * (bits > 1)}" for what, bits in self._asdict().items() if bits)


class Override(pydantic.BaseModel):
    """What is different in some layers; what is not given stays at the quantizer's default.

    `wts`, `acts` and `bias` are the older names of the three fields.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    bits_weights: Bits = None
    bits_activations: Bits = None
    bits_bias: Bits = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        older = {"wts": "bits_weights", "acts": "bits_activations", "bias": "bits_bias"}
        return rename(values, older) if isinstance(values, dict) else values


class OverridesByName(Quantizer):
    """A quantizer with `overrides`, or by its older name `bits_overrides`.

    Each key is a regular expression for whole layer names; the first that matches a layer holds for it, in the order
    written.
    """

    overrides: dict[str, Override] = {}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return rename(values, {"bits_overrides": "overrides"}) if isinstance(values, dict) else values

    @pydantic.field_validator("overrides", mode="before")
    @classmethod
    def _none_is_empty(cls, overrides: Any) -> Any:
        return {} if overrides is None else overrides

    @pydantic.field_validator("overrides")
    @classmethod
    def _are_expressions(cls, overrides: dict[str, Override]) -> dict[str, Override]:
        for key in overrides:
            try:
                _expressions(key)
            except re.error as error:
                raise ValueError(f"must have regular expressions as keys. Received: {key!r} ({error})") from None
        return overrides

    def override_of(self, name: str) -> Override | None:
        """What is different in the layer of that name."""
        return next((override for key, override in self.overrides.items() if is_match(key, name)), None)

    def check_overrides(self, model: keras.Model) -> None:
        """Raises InputError for an override that matches no layer."""
        layers = (layer for layer in leaf_layers(model) if not isinstance(layer, keras.layers.InputLayer))
        names = [layer_name(layer.name) for layer in layers]
        for key in self.overrides:
            if not any(is_match(key, name) for name in names):
                near = difflib.get_close_matches(layer_name(key), names, n=3, cutoff=0.3)
                hint = f"the nearest are {', '.join(near)}" if near else f"the model has {len(names)} layers"
                raise InputError(f"overrides: the model has no layer that matches {key!r}; {hint}")


class BitsByLayer(OverridesByName):
    """The arguments that all quantizers for training share.

    With `quantize_bias`, an older argument, a bias has as many bits as its layer's weights where `bits_bias` does not
    say otherwise.
    """

    bits_activations: Bits = None
    bits_weights: Bits = None
    bits_bias: Bits = None
    quantize_bias: bool = False

    possible_weight_bits: ClassVar[range] = range(1, FLOAT_BITS)
    possible_activation_bits: ClassVar[range] = range(1, FLOAT_BITS)

    @pydantic.model_validator(mode="after")
    def _are_possible(self) -> "BitsByLayer":
        for bits in self._given:
            check_possible("bits_weights", bits.bits_weights, self.possible_weight_bits)
            check_possible("bits_bias", bits.bits_bias, self.possible_weight_bits)
            check_possible("bits_activations", bits.bits_activations, self.possible_activation_bits)
        return self

    def is_any_quantized(self) -> bool:
        """Whether bits are given for anything."""
        return any(bits.bits_weights or bits.bits_bias or bits.bits_activations for bits in self._given)

    def bits_of(self, name: str) -> LayerBits:
        """The bits of the layer of that name, whatever it is."""
        override = self.override_of(name) or Override()
        weights, activations, bias = (
            getattr(override if field in override.model_fields_set else self, field)
            for field in ("bits_weights", "bits_activations", "bits_bias")
        )
        if self.quantize_bias and "bits_bias" not in self.model_fields_set | override.model_fields_set:
            bias = weights
        return LayerBits(weights, activations, bias)

    @property
    def _given(self) -> "tuple[BitsByLayer | Override, ...]":
        return self, *self.overrides.values()


def is_match(key: str, name: str) -> bool:
    r"""Whether the regular expression matches the whole layer name; `module` components count in neither.

    A letter, digit or `\.` before a `*` may also begin a name, as in a shell: the documentation of the published
    schedules has `block1.conv*` for `block1.conv1` and `block1.conv2`, and means it so; as a regular expression alone
    it would match `block1.con` and `block1.convv` and neither of these two.
    """
    return any(expression.fullmatch(layer_name(name)) for expression in _expressions(key))


def rename(values: dict[str, Any], newer_names: dict[str, str]) -> dict[str, Any]:
    """The same with newer names in place of older ones, in the same order.

    Raises:
        ValueError: one thing is given under both names.
    """
    for old, new in newer_names.items():
        if old in values and new in values:
            raise ValueError(f"must not have both {old} and {new}, which mean the same")
    return {newer_names.get(name, name): value for name, value in values.items()}


def _expressions(key: str) -> list[re.Pattern]:
    """The key as a regular expression, and as a shell's."""
    key = re.sub(r"(^|(?<=[.(|]))module\\?\.", "", key)
    return [re.compile(key), re.compile(re.sub(r"((?<!\\)\w|\\\.)\*", r"\1.*", key))]


def check_possible(field: str, bits: int | None, possible: range) -> None:
    """Raises ValueError for a number of bits that a quantizer cannot have."""
    if bits is not None and bits not in possible:
        allowed = f"from {possible.start} to {possible.stop - 1}, or null for no quantization"
        raise ValueError(f"{field} must be {allowed}. Received: {bits}")
