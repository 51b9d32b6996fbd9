"""What a network's weights take, stored in each way, and what they could take at least."""

import math
from typing import Any

import keras
import numpy as np

from export.file_sizes import BYTES_PER_WEIGHT
from export.sizes import all_kernels
from export.trim import ideal_bytes
from export.trim.bounds import int8_codes
from utils.keras_layers import all_layers

KINDS = ("float32", "float16", "int8", "codebook-256", "codebook-16")
BYTES_OF_OTHERS = {"float32": 4, "int8": 4}  # of a bias or batch norm weight; of the other kinds 2


def layer_rows(model: keras.Model) -> list[dict[str, Any]]:
    """One row for each kernel: parameters, weights that are not zero, and bytes dense, as a bitmap, and ideally.

    With n weights, z of them not zero: dense 4n, bitmap ceil(n / 8) + 4z; ideal as `export.trim.ideal_bytes` says.
    """
    rows = []
    for variable in all_kernels(model):
        kernel = keras.ops.convert_to_numpy(variable).astype(np.float32)
        nonzero = int(np.count_nonzero(kernel))
        rows.append(
            {
                "path": variable.path,
                "parameters": kernel.size,
                "nonzero": nonzero,
                "dense_bytes": BYTES_PER_WEIGHT * kernel.size,
                "bitmap_bytes": math.ceil(kernel.size / 8) + BYTES_PER_WEIGHT * nonzero,
                "ideal_bytes": {kind: ideal_bytes(kernel, kind) for kind in KINDS},
            }
        )
    return rows


def network_ideal_bytes(model: keras.Model, kind: str) -> int:
    """The ideal bytes of all kernels, and 4 for each other weight, or 2 where the kind shortens those too.

    A batch norm counts as a scale and a shift of each channel, which is all that inference needs of it.
    """
    kernels = all_kernels(model)
    norms = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    counted = {id(variable) for variable in [*kernels, *(weight for norm in norms for weight in norm.weights)]}
    others = sum(math.prod(variable.shape) for variable in model.weights if id(variable) not in counted)
    others += sum(2 * norm.moving_mean.shape[0] for norm in norms)
    ideal = sum(ideal_bytes(keras.ops.convert_to_numpy(kernel).astype(np.float32), kind) for kernel in kernels)
    return ideal + BYTES_OF_OTHERS.get(kind, 2) * others


def network_nonzero(model: keras.Model, kind: str) -> int:
    """How many weights of kernels are not zero once they are stored; rounding makes some of them 0."""
    return sum(int(np.count_nonzero(_stored(keras.ops.convert_to_numpy(k), kind))) for k in all_kernels(model))


def _stored(kernel: np.ndarray, kind: str) -> np.ndarray:
    if kind == "int8":
        return int8_codes(kernel.astype(np.float64))
    return kernel.astype(np.float16) if kind == "float16" else kernel
