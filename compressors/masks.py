"""Which weights are removed: exact magnitude masks, and the state that lets a removed weight come back.

The forward pass never multiplies by a mask. A removed weight is 0 in the kernel itself, and stays 0 because its
gradient is masked (`mask_gradients`) and the kernel is masked again after the optimizer's step (`apply`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from compressors.ratios import LayerSpec, Ratios, num_removed, removed_counts
from utils.errors import InputError

ScoreFn = Callable[[tf.Tensor], tf.Tensor]


def magnitude(weights: tf.Tensor) -> tf.Tensor:
    """The score `|w|`."""
    return tf.abs(weights)


def lowest_mask(scores: tf.Tensor, removed: tf.Tensor) -> tf.Tensor:
    """The float32 mask of the shape of `scores` with 0 for the `removed` (int32 scalar) lowest scores, for traced code.

    Of equal scores those of lowest flat index are removed first. NaN counts as infinite: of a network that diverges
    within a compiled call the counts stay exact until the call's end, where it is told.
    """
    flat = tf.reshape(scores, [-1])
    flat = tf.where(tf.math.is_nan(flat), tf.constant(np.inf, flat.dtype), flat)
    # The largest score removed is found by selection in O(n); sorting costs eight times as much.
    threshold = tf.raw_ops.NthElement(input=flat, n=tf.maximum(removed - 1, 0))
    above = flat > threshold
    # Of the scores equal to the threshold, the last `spared` stay.
    spared = tf.size(flat) - removed - tf.math.count_nonzero(above, dtype=tf.int32)
    ties = tf.where(tf.equal(flat, threshold))
    last_ties = ties[tf.shape(ties)[0] - spared :]
    mask = tf.tensor_scatter_nd_update(tf.cast(above, tf.float32), last_ties, tf.ones([spared]))
    return tf.reshape(mask, tf.shape(scores))


def topk_mask(scores: tf.Tensor, ratio: float) -> tf.Tensor:
    """The float32 mask of the shape of `scores` with exactly `floor(ratio * size)` zeros, at the lowest scores.

    Of equal scores those of lowest flat index are removed first; ratio 0 removes nothing, 1 everything. For eager code.

    Raises:
        InputError: a score is NaN, or the ratio is not in [0, 1].
    """
    scores = tf.convert_to_tensor(scores, tf.float32)
    if tf.reduce_any(tf.math.is_nan(scores)):
        raise InputError("scores must be numbers. Received: NaN")
    return lowest_mask(scores, tf.constant(num_removed(ratio, int(tf.size(scores)))))


def optimizer_slots(
    optimizer: keras.optimizers.Optimizer, kernels: Sequence[keras.Variable]
) -> list[list[tf.Variable]]:
    """For each kernel the optimizer's variables of its shape that belong to it: momenta and the like.

    Keras names a slot `<kernel path, "/" as "_">_<slot>` (`Optimizer.add_variable_from_reference`) and gives no other
    public link from a kernel to its slots. Where the names of two kernels begin alike the longer one owns the slot.
    """
    stems = {f"{kernel.path.replace('/', '_')}_": index for index, kernel in enumerate(kernels)}
    slots: list[list[Any]] = [[] for _ in kernels]
    for variable in optimizer.variables:
        owner = max((stem for stem in stems if variable.name.startswith(stem)), key=len, default=None)
        if owner is not None and variable.shape == kernels[stems[owner]].shape:
            slots[stems[owner]].append(variable.value)
    return slots


class MaskSet:
    """One mask and one dense backup for each prunable kernel.

    A masked weight keeps its last value in the backup, and is scored by it: a later update can revive it. Masks and
    backups are variables, so no compiled function is traced again when masks or ratios change.

    Args:
        kernels: the prunable kernels, of any floating-point type.
        names: what they are called in `layers`, `ratios()` and `state()`, all different; None: their paths.
    """

    def __init__(self, kernels: Sequence[keras.Variable], names: Sequence[str] | None = None):
        self.kernels = tuple(kernels)
        paths = [kernel.path for kernel in self.kernels] if names is None else list(names)
        if len(set(paths)) < len(paths):
            raise InputError(f"prunable kernels must have distinct paths. Received: {sorted(paths)}")
        named = zip(paths, self.kernels, strict=True)
        self.layers = tuple(LayerSpec(path, tuple(kernel.shape)) for path, kernel in named)
        self.masks = tuple(tf.Variable(tf.ones_like(kernel.value), trainable=False) for kernel in self.kernels)
        self.backups = tuple(tf.Variable(kernel.value, trainable=False) for kernel in self.kernels)
        self._mask_of = {id(kernel): mask for kernel, mask in zip(self.kernels, self.masks, strict=True)}

    @property
    def trace_count(self) -> int:
        """How often masks were selected by a new program: once for each score, way and set of optimizer slots."""
        return self._update.experimental_get_tracing_count()

    def update(
        self,
        ratios: Ratios,
        score_fn: ScoreFn = magnitude,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        """Selects the masks anew: of each kernel exactly `floor(ratio * size)` weights of the lowest score are masked.

        Args:
            ratios: the fraction removed of every prunable kernel, by path.
            score_fn: traced; dense weights -> scores of the same shape.
            optimizer: its slots of the newly masked weights are zeroed.

        Raises:
            InputError: `ratios` are wrong, or a score is NaN (then nothing is changed).
        """
        self._select(removed_counts(self.layers, ratios), score_fn, optimizer, is_nested=False)

    def select(self, counts: Mapping[str, int], optimizer: keras.optimizers.Optimizer | None = None) -> None:
        """Masks exactly `counts[path]` weights of each kernel, nested: those masked so far go first, then the smallest.

        So from one call to the next with higher counts, survivors are lost and never regained. With a lower count the
        masked weights of the largest backups come back.

        Args:
            counts: the number of weights masked of every prunable kernel, by path, from 0 to its size.
            optimizer: its slots of the newly masked weights are zeroed.

        Raises:
            InputError: a kernel is missing, a count is out of range, or a weight is NaN (then nothing is changed).
        """
        for path, size in {layer.path: layer.size for layer in self.layers}.items():
            if not 0 <= counts.get(path, -1) <= size:
                raise InputError(f"the count of {path} must be from 0 to {size}. Received: {counts.get(path, 'none')}")
        self._select([counts[layer.path] for layer in self.layers], magnitude, optimizer, is_nested=True)

    def _select(
        self,
        counts: Sequence[int] | np.ndarray,
        score_fn: ScoreFn,
        optimizer: keras.optimizers.Optimizer | None,
        *,
        is_nested: bool,
    ) -> None:
        is_nan = self._update(tf.constant(counts, tf.int32), score_fn, self._slots(optimizer), is_nested).numpy()
        if is_nan.any():
            raise InputError(f"scores must be numbers. Received: NaN in {self.layers[is_nan.argmax()].path}")

    def adopt_kernels(self) -> None:
        """Takes the kernels as they are: masked where they are 0, and what was masked before is forgotten."""
        for kernel, mask, backup in zip(self.kernels, self.masks, self.backups, strict=True):
            mask.assign(tf.cast(kernel.value != 0, mask.dtype))
            backup.assign(kernel.value)

    def mask_gradients(
        self, grads: Sequence[tf.Tensor | None], variables: Sequence[keras.Variable]
    ) -> list[tf.Tensor | None]:
        """Gradients with those of masked weights 0, for traced code; `variables` are the gradients' own."""
        masks = [self._mask_of.get(id(variable)) for variable in variables]
        return [grad if grad is None or mask is None else grad * mask for grad, mask in zip(grads, masks, strict=True)]

    def apply(self) -> None:
        """`kernel <- kernel * mask`, for traced code: after the optimizer's step, whose weight decay knows no masks."""
        for kernel, mask in zip(self.kernels, self.masks, strict=True):
            kernel.assign(kernel.value * mask)

    def ratios(self) -> dict[str, float]:
        """The fraction masked of each kernel, by path."""
        masks = zip(self.layers, self.masks, strict=True)
        return {layer.path: (layer.size - np.count_nonzero(mask)) / layer.size for layer, mask in masks}

    def sparsity(self) -> float:
        """The fraction masked of all prunable weights."""
        kept = sum(np.count_nonzero(mask) for mask in self.masks)
        return 1 - kept / sum(layer.size for layer in self.layers)

    def state(self) -> dict[str, np.ndarray]:
        """A copy of masks and backups: "<path>/mask" and "<path>/backup" -> of the kernel's shape and type."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes masks and backups from `state()`; the kernels are left alone, they are the checkpoint's own.

        Raises:
            InputError: `state` is of another network; it names the first variable that differs.
        """
        variables = self._variables()
        for name in [*variables, *(name for name in state if name not in variables)]:
            expected = tuple(variables[name].shape) if name in variables else "no such variable"
            received = tuple(np.shape(state[name])) if name in state else "no such variable"
            if expected != received:
                raise InputError(f"{name} must be {expected}. Received: {received}")
        for name, variable in variables.items():
            variable.assign(state[name])

    def _variables(self) -> dict[str, tf.Variable]:
        named: dict[str, tf.Variable] = {}
        for layer, mask, backup in zip(self.layers, self.masks, self.backups, strict=True):
            named |= {f"{layer.path}/mask": mask, f"{layer.path}/backup": backup}
        return named

    def _slots(self, optimizer: keras.optimizers.Optimizer | None) -> list[list[tf.Variable]]:
        return [[] for _ in self.kernels] if optimizer is None else optimizer_slots(optimizer, self.kernels)

    def _latest_weights(self) -> list[tf.Tensor]:
        """The dense weights: the kernel's where unmasked, the backup's where masked.

        A masked weight that is not 0 was assigned by others, such as `load_weights`: it is newer than the backup.
        """
        triples = zip(self.masks, self.kernels, self.backups, strict=True)
        return [tf.where((mask > 0) | (kernel.value != 0), kernel.value, backup) for mask, kernel, backup in triples]

    @tf.function
    def _update(
        self, removed: tf.Tensor, score_fn: ScoreFn, slots: list[list[tf.Variable]], is_nested: bool
    ) -> tf.Tensor:
        """Writes the masks with `removed` [L] zeros, unless a score is NaN; returns bool [L], where one is."""
        weights = self._latest_weights()
        scores = [score_fn(dense) for dense in weights]
        if is_nested:  # below all survivors, and among themselves in order
            scores = [tf.where(m > 0, score, -1 / score) for m, score in zip(self.masks, scores, strict=True)]
        is_nan = tf.stack([tf.reduce_any(tf.math.is_nan(score)) for score in scores])
        if not tf.reduce_any(is_nan):
            masks = [lowest_mask(score, removed[index]) for index, score in enumerate(scores)]
            self._write([tf.cast(m, dense.dtype) for m, dense in zip(masks, weights, strict=True)], weights, slots)
        return is_nan

    def _write(self, masks: list[tf.Tensor], weights: list[tf.Tensor], slots: list[list[tf.Variable]]) -> None:
        for index, (mask, dense) in enumerate(zip(masks, weights, strict=True)):
            for slot in slots[index]:
                slot.assign(tf.where(mask < self.masks[index], tf.zeros_like(slot), slot))
            self.masks[index].assign(mask)
            self.backups[index].assign(dense)
            self.kernels[index].assign(dense * mask)
