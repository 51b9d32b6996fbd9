"""Gram matrices and pruning paths by several workers: each takes a share of the images, then of the layers."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from compressors.input_patches import as_matrix
from compressors.path_table import PathTable
from compressors.pruning_path import DENSITIES, build_path
from compressors.regression import collect_grams, collect_parts
from compressors.second_moments import InputSample, KeptInputs, Moment
from utils.workers import Workers


def shared_grams(
    model: keras.Model, images: np.ndarray, workers: Workers, kept: Mapping[str, KeptInputs] | None = None
) -> dict[str, Moment]:
    """`collect_grams` over all images [N, ...], kernel path -> H [d, d], or inputs where `kept` says so.

    Every worker takes a share of the images; matrices are summed, inputs put one behind the other.
    """
    kept = kept or {}
    if workers.size == 1:
        return collect_grams(model, [images], kept=kept)
    first, end = len(images) * workers.rank // workers.size, len(images) * (workers.rank + 1) // workers.size
    # Where there are more workers than images, one image is enough to know the matrices' names and sizes.
    share = 1.0 if end > first else 0.0
    parts = collect_parts(
        model, [images[first : max(end, first + 1)]], kept, first_image=first if share else len(images)
    )
    grams = {}
    for path, part in parts.items():
        if path in kept:
            grams[path] = kept[path].sample(np.concatenate(workers.all_gather(part)))
        else:
            grams[path] = workers.sum([tf.constant(part * share)])[0].numpy()
    return grams


def build_paths(
    kernels: Sequence[keras.Variable], grams: Mapping[str, Moment], score: str, workers: Workers
) -> PathTable:
    """The table of these kernels' pruning paths, each built by one worker and given to the others."""
    owners = share_out([path_cost(kernel, grams[kernel.path]) for kernel in kernels], workers.size)
    mine = {
        kernel.path: build_path(grams[kernel.path], kernel.numpy(), score=score)
        for kernel, owner in zip(kernels, owners, strict=True)
        if owner == workers.rank
    }
    paths = {
        kernel.path: workers.broadcast(mine.get(kernel.path), root=owner)
        for kernel, owner in zip(kernels, owners, strict=True)
    }
    return PathTable(paths, grams, DENSITIES)


def path_cost(kernel: keras.Variable, gram: Moment) -> float:
    """Multiplications of a product of H and a kernel [d, c], of which a path takes hundreds: ddc, of inputs 2ndc."""
    inputs, outputs = as_matrix(kernel.value).shape
    rows = 2 * len(gram.rows) if isinstance(gram, InputSample) else inputs
    return float(inputs) * rows * outputs


def share_out(costs: Sequence[float], size: int) -> list[int]:
    """A worker for each cost: the dearest first, each to whom has least so far (Graham 1969), ties to the lowest rank.

    The most that a worker gets is below 4/3 of the least possible.
    """
    loads, owners = [0.0] * size, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        owners[index] = min(range(size), key=loads.__getitem__)
        loads[owners[index]] += costs[index]
    return owners
