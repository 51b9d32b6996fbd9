"""Gram matrices and pruning paths by several workers: each takes a share of the images, then of the layers."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from compressors.path_table import PathTable
from compressors.pruning_path import DENSITIES, build_path
from compressors.regression import as_matrix, collect_grams
from utils.workers import Workers


def shared_grams(model: keras.Model, images: np.ndarray, workers: Workers) -> dict[str, np.ndarray]:
    """`collect_grams` over all images [N, ...], every worker's share summed: kernel path -> H [d, d]."""
    if workers.size == 1:
        return collect_grams(model, [images])
    first, end = len(images) * workers.rank // workers.size, len(images) * (workers.rank + 1) // workers.size
    # Where there are more workers than images, one image is enough to know the matrices' names and sizes.
    grams = collect_grams(model, [images[first : max(end, first + 1)]])
    share = 1.0 if end > first else 0.0
    return {path: workers.sum([tf.constant(gram * share)])[0].numpy() for path, gram in grams.items()}


def build_paths(
    kernels: Sequence[keras.Variable], grams: Mapping[str, np.ndarray], score: str, workers: Workers
) -> PathTable:
    """The table of these kernels' pruning paths, each built by one worker and given to the others."""
    owners = share_out([path_cost(kernel) for kernel in kernels], workers.size)
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


def path_cost(kernel: keras.Variable) -> float:
    """Multiplications of one product of a Gram matrix [d, d] and a kernel [d, c], of which a path takes hundreds."""
    inputs, outputs = as_matrix(kernel.numpy()).shape
    return float(inputs) ** 2 * outputs


def share_out(costs: Sequence[float], size: int) -> list[int]:
    """A worker for each cost: the dearest first, each to whom has least so far (Graham 1969), ties to the lowest rank.

    The most that a worker gets is below 4/3 of the least possible.
    """
    loads, owners = [0.0] * size, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        owners[index] = min(range(size), key=loads.__getitem__)
        loads[owners[index]] += costs[index]
    return owners
