"""How large a network is, dense, sparse and compressed, and what each of its kernels costs."""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from export.file_sizes import BYTES_PER_WEIGHT, GZIP_FORMAT, GZIP_LEVEL
from utils.errors import InputError
from utils.keras_layers import all_layers

KERNEL_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)  # what a schedule can prune
KERNEL_ATTRIBUTES = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel")  # of any layer


def model_sizes(model: keras.Model) -> dict[str, int]:
    """Bytes of the weights of `model` in three forms, all with 32-bit floats, and how many of them are not zero.

    With n_k weights, of which z_k are not zero, in kernel k (of a layer of any class, recurrent cells included), and m
    weights in the other variables (biases, batch norm, embeddings):

        dense_bytes  = 4 * (sum n_k + m)
        sparse_bytes = sum (ceil(n_k / 8) + 4 * z_k) + 4 * m    (a bitmap and the values that are not zero)
        gzip_bytes   = length of gzip (level 6, no time stamp) of all weights as stored dense, in `model.weights` order

    Returns:
        dense_bytes, sparse_bytes, gzip_bytes, weights, nonzero_weights, kernel_weights, nonzero_kernel_weights.
    """
    kernels = {id(kernel) for kernel in all_kernels(model)}
    counts = dict.fromkeys(("weights", "nonzero_weights", "kernel_weights", "nonzero_kernel_weights"), 0)
    sparse_bytes = gzip_bytes = 0
    compressor = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_FORMAT)
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable).astype("<f4")
        nonzero = int(np.count_nonzero(values))
        counts["weights"] += values.size
        counts["nonzero_weights"] += nonzero
        if id(variable) in kernels:
            counts["kernel_weights"] += values.size
            counts["nonzero_kernel_weights"] += nonzero
            sparse_bytes += math.ceil(values.size / 8) + BYTES_PER_WEIGHT * nonzero
        else:
            sparse_bytes += BYTES_PER_WEIGHT * values.size
        gzip_bytes += len(compressor.compress(values.tobytes()))
    gzip_bytes += len(compressor.flush())
    dense_bytes = BYTES_PER_WEIGHT * counts["weights"]
    return {"dense_bytes": dense_bytes, "sparse_bytes": sparse_bytes, "gzip_bytes": gzip_bytes, **counts}


def kernel_table(
    model: keras.Model,
    prunable_paths: Sequence[str],
    target_ratios: Mapping[str, float | None],
    places: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """One row for each kernel of `prunable_paths`, in that order, as `report.json` holds them.

    A kernel of n weights is used once for each place of its layer's output (height * width of an image, 1 for a
    vector), a multiply and an add a weight, so for one image

        flops_dense = 2 * n * places,    flops_sparse = 2 * (weights that are not zero) * places,

    which holds for strided, grouped and depthwise convolutions too.

    Args:
        model: a functional or sequential model.
        prunable_paths: variable paths such as "layer1.0.conv1/kernel".
        target_ratios: path -> fraction to remove; None where the weights decide, 0 where a path is missing.
        places: path -> places of all calls of its layer together; None: those of a layer's first call.

    Raises:
        InputError: a path that is no kernel of the model, or a layer whose output has no fixed size.
    """
    layers = kernel_layers(model)
    unknown = [path for path in prunable_paths if path not in layers]
    if unknown:
        raise InputError(f"Prunable kernels must be among {', '.join(layers)}. Received: {', '.join(unknown)}")
    if places is None:
        places = {path: _output_places(layers[path]) for path in prunable_paths}
    return [_kernel_row(path, layers[path], target_ratios.get(path, 0.0), places[path]) for path in prunable_paths]


def kernel_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Kernel path -> its convolution or dense layer, in the order of the model's layers, nested models included."""
    return {layer.kernel.path: layer for layer in _leaf_layers(model) if isinstance(layer, KERNEL_LAYERS)}


def all_kernels(model: keras.Model) -> list[keras.Variable]:
    """All kernels, each once, whatever the class of their layer and however deep it lies."""
    values = (getattr(layer, name, None) for layer in all_layers(model) for name in KERNEL_ATTRIBUTES)
    return list({id(value): value for value in values if isinstance(value, keras.Variable)}.values())


def _leaf_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaf_layers(layer)
        else:
            yield layer


def _kernel_row(path: str, layer: keras.layers.Layer, target_ratio: float | None, places: int) -> dict[str, Any]:
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    nonzero = int(np.count_nonzero(kernel))
    return {
        "path": path,
        "shape": list(kernel.shape),
        "parameters": kernel.size,
        "target_ratio": target_ratio,
        "sparsity": 1.0 - nonzero / kernel.size,
        "flops_dense": 2 * kernel.size * places,
        "flops_sparse": 2 * nonzero * places,
    }


def _output_places(layer: keras.layers.Layer) -> int:
    """How many output vectors `layer` makes of one image."""
    shape = layer.output.shape
    is_channels_first = getattr(layer, "data_format", "channels_last") == "channels_first"
    places = shape[2:] if is_channels_first else shape[1:-1]
    if None in places:
        raise InputError(
            f"The layer {layer.name} must have an output of fixed size for its cost to be counted. Received: {shape}"
        )
    return math.prod(places)
