"""The pruning paths of all layers of a network, and from them the weights of any allocation in milliseconds."""

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.input_patches import as_matrix
from compressors.pruning_path import DENSITIES, Densities, PruningPath, build_path, inverse_permutation
from compressors.ratios import LayerSpec, Ratios, removed_counts
from compressors.regression import conjugate_gradients
from compressors.second_moments import InputSample, Moment, as_tensors, damped, normalised, product
from utils.errors import InputError
from utils.files import write_atomically
from utils.npz_files import ArrayFile

_RESOLVE_ITERATIONS = 3  # trained ResNet-20, 75-95%: output error 0-2% above that after 10; without any 2-3%
_COARSE_ITERATIONS = 6  # from a large layer's fewer levels; ResNet-20, 30-97%: error 0-15% below that of all and 3


class PathTable:
    """The pruning paths and Gram matrices of all prunable layers: any allocation's weights in milliseconds.

    Between two levels the denser one is pruned on, in its own order, to the exact count, and re-solved.
    """

    def __init__(self, paths: Mapping[str, PruningPath], grams: Mapping[str, Moment], densities: Densities):
        self.paths = dict(paths)
        self.densities = np.asarray(densities)
        self.layers = [LayerSpec(name, path.shape) for name, path in self.paths.items()]
        self._tensors = [_LayerTensors.of(path, grams[name]) for name, path in self.paths.items()]

    @classmethod
    def build(
        cls,
        kernels: Sequence[keras.Variable],
        grams: Mapping[str, Moment],
        densities: Densities = DENSITIES,
        iterations: int = 6,
        score: str = "input_norm",
    ) -> "PathTable":
        """The table of these dense kernels; `grams` is from `collect_grams`, the other arguments as in `build_path`."""
        paths = {k.path: build_path(grams[k.path], k.numpy(), densities, iterations, score, k.path) for k in kernels}
        return cls(paths, grams, densities)

    def errors(self) -> Mapping[str, np.ndarray]:
        """Kernel path -> relative errors [K]."""
        return {name: path.errors for name, path in self.paths.items()}

    def solve(self, ratios: Ratios) -> list[tf.Tensor]:
        """The kernels, in the order of `layers`, with exactly `num_removed(ratio, size)` zeros that were removed.

        Ratio 0 gives the dense kernel bit for bit, ratio 1 zeros.
        """
        return self.solve_counts(tf.constant(removed_counts(self.layers, ratios), tf.int32))

    @functools.cached_property
    def solve_counts(self) -> Callable[[tf.Tensor], list[tf.Tensor]]:
        """`solve` for numbers of removed weights, int32 [L]: compiled once, and usable inside a tf.function."""

        signature = [tf.TensorSpec([len(self.layers)], tf.int32)]
        return tf.function(self.weights, input_signature=signature, autograph=False)

    def weights(self, removed: tf.Tensor) -> list[tf.Tensor]:
        """`solve_counts` not compiled: who needs one allocation only gets it sooner so."""
        return [tensors.solve(count) for tensors, count in zip(self._tensors, tf.unstack(removed), strict=True)]

    def is_of(self, kernels: Sequence[keras.Variable]) -> bool:
        """Whether the table was built from these kernels: the same layers with the same dense weights."""
        return [k.path for k in kernels] == list(self.paths) and all(
            np.array_equal(self.paths[k.path].weights(0), k.numpy()) for k in kernels
        )

    def save(self, file: str | os.PathLike) -> None:
        """Writes an .npz file, whole or not at all: a file that is there stays until the new one is complete."""
        arrays = {"densities": self.densities, "names": np.array(list(self.paths))}
        for index, path in enumerate(self.paths.values()):
            arrays |= _moment_arrays(index, self._tensors[index].gram)
            arrays |= {f"{index}.{field}": np.asarray(value) for field, value in path._asdict().items()}

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as stream:
                np.savez(stream, allow_pickle=False, **arrays)

        write_atomically(Path(file), write)

    @classmethod
    def load(cls, file: str | os.PathLike) -> "PathTable":
        """The table that `save` wrote. InputError where the file is damaged or another kind of file."""
        return cls(*read_paths(file))


def read_paths(
    file: str | os.PathLike,
) -> tuple[dict[str, PruningPath], dict[str, Moment], np.ndarray]:
    """Paths, second moments and densities of a table that `save` wrote.

    Raises:
        InputError: the file is damaged or another kind of file.
    """
    try:
        with ArrayFile(file) as arrays:
            names, densities = arrays["names"], arrays["densities"]
            _check(names.ndim == 1 and names.dtype.kind == "U" and len(set(names)) == len(names), "names")
            _check(densities.ndim == 1 and densities.dtype.kind == "f", "densities")
            paths = {str(name): _read_path(arrays, index, len(densities)) for index, name in enumerate(names)}
            grams = {name: _read_moment(arrays, index, path.shape) for index, (name, path) in enumerate(paths.items())}
            return paths, grams, densities
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"not a table of pruning paths, or damaged. Received: {os.fspath(file)} ({error})") from error


def _read_path(arrays: Mapping[str, np.ndarray], index: int, num_levels: int) -> PruningPath:
    fields = {field: arrays[f"{index}.{field}"] for field in PruningPath._fields}
    for field, array in fields.items():
        kind = "f" if field in ("values", "errors") else "i"
        _check(array.ndim == 1 and array.dtype.kind == kind and len(array) > 0, f"{index}.{field}")
        _check(kind == "i" or np.isfinite(array).all(), f"{index}.{field}")
    shape = tuple(fields.pop("shape").tolist())
    path = PruningPath(**fields, shape=shape)
    size, removed, levels = len(path.removal_order), path.removed, path.levels
    _check(min(path.shape) > 0 and math.prod(path.shape) == size and len(path.shape) > 1, f"{index}.shape")
    _check(_is_rising(removed, size + 1) and len(removed) == len(path.errors) == num_levels, f"{index}.removed")
    _check(_is_rising(levels, num_levels) and levels[0] == 0 and removed[0] == 0, f"{index}.levels")
    is_in_range = 0 <= path.removal_order.min() <= path.removal_order.max() < size
    _check(is_in_range and (np.bincount(path.removal_order) == 1).all(), f"{index}.removal_order")
    _check(len(path.values) == np.sum(size - removed[levels]), f"{index}.values")
    return path


def _is_rising(numbers: np.ndarray, end: int) -> bool:
    """Whether they are in [0, end) and never fall."""
    return numbers[0] >= 0 and numbers[-1] < end and bool(np.all(numbers[:-1] <= numbers[1:]))


def _check(is_right: bool, name: str) -> None:
    if not is_right:
        raise ValueError(f"its array {name} does not go with the others")


def _moment_arrays(index: int, gram: tf.Tensor | InputSample) -> dict[str, np.ndarray]:
    if isinstance(gram, InputSample):
        return {f"{index}.inputs": np.asarray(gram.rows), f"{index}.ridge": np.asarray(gram.ridge)}
    return {f"{index}.gram": gram.numpy()}


def _read_moment(arrays: Mapping[str, np.ndarray], index: int, shape: Sequence[int]) -> Moment:
    """The second moment of the inputs of a kernel of that shape."""
    num_inputs = math.prod(shape[:-1])
    if f"{index}.inputs" not in arrays:
        gram = arrays[f"{index}.gram"]
        _check(gram.dtype == np.float32 and gram.shape == (num_inputs, num_inputs), f"{index}.gram")
        return gram
    rows, ridge = arrays[f"{index}.inputs"], arrays[f"{index}.ridge"]
    _check(rows.dtype == np.float32 and rows.ndim == 2 and rows.shape[1] == num_inputs, f"{index}.inputs")
    _check(ridge.dtype == np.float32 and ridge.shape in ((num_inputs, 1), (1, 1)), f"{index}.ridge")
    return InputSample(rows, ridge)


class _LayerTensors(NamedTuple):
    """A path as constants of the compiled solution."""

    gram: tf.Tensor | InputSample
    kernel: tf.Tensor  # dense [d, c]
    rank: tf.Tensor  # [n] the place of each weight in the removal order
    values: tf.Tensor
    removed: tf.Tensor  # [S] at the levels whose weights are kept
    starts: tf.Tensor  # [S] where in `values` a level would start if it had the removed weights too
    shape: tuple[int, ...]
    iterations: int

    @classmethod
    def of(cls, path: PruningPath, gram: Moment) -> "_LayerTensors":
        size, removed = len(path.removal_order), path.removed[path.levels]
        ends = np.cumsum(size - removed)
        return cls(
            gram=normalised(as_tensors(gram)),
            kernel=tf.constant(as_matrix(path.weights(0))),
            rank=tf.constant(inverse_permutation(path.removal_order)),
            values=tf.constant(path.values),
            removed=tf.constant(removed, tf.int32),
            starts=tf.constant(ends - size, tf.int32),
            shape=path.shape,
            iterations=_RESOLVE_ITERATIONS if len(removed) == len(path.removed) else _COARSE_ITERATIONS,
        )

    def solve(self, count: tf.Tensor) -> tf.Tensor:
        level = tf.searchsorted(self.removed, [count], side="right")[0] - 1
        kept = tf.cast(self.rank >= count, tf.float32)
        values = tf.gather(self.values, tf.maximum(self.starts[level] + self.rank, 0))
        mask, weights = tf.reshape(kept, self.kernel.shape), tf.reshape(values * kept, self.kernel.shape)
        hessian = damped(self.gram)
        residual = product(hessian, self.kernel - weights)
        weights, _ = conjugate_gradients(hessian, residual, mask, weights, self.iterations)
        return tf.reshape(weights, self.shape)
