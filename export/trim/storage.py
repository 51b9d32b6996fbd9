"""How each variable of a network is stored: in a chunk of its own, together with others, or as one constant."""

import enum
from typing import NamedTuple

import keras
import numpy as np

from export.trim.kinds import CODED_BYTES
from utils.errors import InputError
from utils.keras_layers import all_layers

FLOATS = ("float64", "float32", "float16", "bfloat16")


class Use(enum.Enum):
    """What happens with the products of a kernel's weights and their inputs."""

    SUMMED = "summed"  # over all but the last axis: a convolution, a dense layer
    BY_CHANNEL = "by channel"  # over all but the last two: a depthwise convolution
    LOOKED_UP = "looked up"  # not at all: an embedding


class Stored(NamedTuple):
    """A variable's values as they go into the file."""

    path: str
    name: str
    values: np.ndarray  # of the variable's own type
    constant: float | None = None  # all values are this; nothing else is kept of them
    use: Use = Use.SUMMED

    @property
    def is_kernel(self) -> bool:
        """Whether it has a chunk of its own, and in the forms that lose something, few different values."""
        return self.constant is None and self.values.ndim >= 2 and self.values.dtype.name in FLOATS


def stored_variables(model: keras.Model, is_exact: bool) -> list[Stored]:
    """The variables of `model` in the order of `model.variables`, without those of metrics.

    Args:
        is_exact: nothing is changed. Else a batch norm becomes the scale and shift that it is at inference.

    Raises:
        InputError: a variable that holds no numbers.
    """
    changed = {} if is_exact else _folded_batch_norms(model)
    uses = _special_uses(model)
    result = []
    for variable in model.variables:
        dtype = keras.backend.standardize_dtype(variable.dtype)
        if dtype not in CODED_BYTES:
            raise InputError(
                f"A variable of a trim file must be one of {', '.join(CODED_BYTES)}. Received: {variable.path}: {dtype}"
            )
        values = changed.get(id(variable))
        constant = values if isinstance(values, float) else None
        if constant is not None:
            array = np.full(tuple(variable.shape), constant, dtype)
        else:
            array = np.asarray(keras.ops.convert_to_numpy(variable) if values is None else values)
        result.append(Stored(variable.path, variable.name, array, constant, uses.get(id(variable), Use.SUMMED)))
    return result


def _special_uses(model: keras.Model) -> dict[int, Use]:
    """Variable's id -> use, of those that are not summed over all but their last axis."""
    uses: dict[int, Use] = {}
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.Embedding):
            uses |= {id(variable): Use.LOOKED_UP for variable in layer.weights}
        elif isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D):
            uses[id(layer.kernel)] = Use.BY_CHANNEL
        elif isinstance(layer, keras.layers.SeparableConv1D | keras.layers.SeparableConv2D):
            uses[id(layer.depthwise_kernel)] = Use.BY_CHANNEL
    return uses


def halved(values: np.ndarray) -> np.ndarray:
    """`values` as float16 where that is nearly the same, else as they are: numbers too large or small, and scalars.

    Nearly: each is changed by at most 1/2048 of itself and, beyond that, 1/16384 of their root mean square.
    """
    if values.dtype.name not in ("float32", "float64") or not values.ndim:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        half = values.astype(np.float16)
        exact, changed = values.astype(np.float64), half.astype(np.float64)
        size = np.sqrt(np.mean(np.square(exact))) if exact.size else 0.0
        is_near = np.abs(changed - exact) <= np.abs(exact) * 2.0**-11 + size * 2.0**-14
        is_same = (changed == exact) | (np.isnan(changed) & np.isnan(exact))
    return half if (is_near | is_same).all() else values


def _folded_batch_norms(model: keras.Model) -> dict[int, np.ndarray | float]:
    """Variable's id -> new values, for each batch norm that has scale and shift.

        s = gamma / sqrt(variance + epsilon),   t = beta - mean s,

    become gamma and beta; mean becomes 0 and variance 1 - epsilon, which need no place. At inference it is the same.
    """
    changed: dict[int, np.ndarray | float] = {}
    for layer in all_layers(model):
        if not (isinstance(layer, keras.layers.BatchNormalization) and layer.scale and layer.center):
            continue
        variables = layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance
        gamma, beta, mean, variance = (np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in variables)
        if layer.epsilon >= 1.0 or any(id(v) in changed for v in variables):
            continue
        with np.errstate(all="ignore"):
            scale = gamma / np.sqrt(variance + layer.epsilon)
            shift = beta - mean * scale
        if np.isfinite(scale).all() and np.isfinite(shift).all():
            dtype = layer.gamma.dtype
            new = scale.astype(dtype), shift.astype(dtype), 0.0, 1.0 - layer.epsilon
            changed |= {id(v): value for v, value in zip(variables, new, strict=True)}
    return changed
