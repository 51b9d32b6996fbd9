"""A layer's pruning path: the layer pruned step by step from dense to nearly empty, re-solved after every step.

At each level the lowest-scored survivors of the level before are removed and the rest are fitted to the dense layer's
output by masked least squares, warm-started. So the masks are nested, and one order of removal describes all of them.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from compressors.input_patches import as_matrix
from compressors.masks import lowest_mask
from compressors.ratios import num_removed
from compressors.regression import conjugate_gradients
from compressors.second_moments import (
    InputSample,
    Moment,
    as_tensors,
    damped,
    damping_of,
    diagonal,
    is_finite,
    normalised,
    output_energy,
    product,
)
from utils.errors import InputError

DENSITIES = 0.9 ** np.arange(56)  # the fraction kept at each level, dense first
Densities: TypeAlias = Sequence[float] | np.ndarray
SCORES = ("input_norm", "magnitude")
LARGE = 2**20  # weights of a layer; with more, the weights of only every COARSE-th level are kept
COARSE = 8


class PruningPath(NamedTuple):
    """One layer's weights at K levels, without the zeros.

    removal_order: [n] int32, flat indices of the kernel, first removed first; survivors of the last level by score.
    removed: [K] int64, how many of them are removed at each level, increasing.
    levels: [S] int64, the levels whose weights are kept: all, or every eighth of a large layer.
    values: [sum of n - removed over these] float32, level by level the survivors' weights, each level in removal order.
    errors: [K] float32, relative errors ||X W0 - X W||^2 / ||X W0||^2, never falling from one level to the next.
    shape: of the kernel.
    """

    removal_order: np.ndarray
    removed: np.ndarray
    levels: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    shape: tuple[int, ...]

    def weights(self, level: int) -> np.ndarray:
        """The kernel at one of the kept levels, zeros and all."""
        flat, place = np.zeros(len(self.removal_order), np.float32), list(self.levels).index(level)
        ends = np.cumsum(len(self.removal_order) - self.removed[self.levels])
        flat[self.removal_order[self.removed[level] :]] = np.split(self.values, ends[:-1])[place]
        return flat.reshape(self.shape)


def input_scores(gram: Moment, score: str) -> tf.Tensor:
    """The factor [d, 1] that makes a weight's score of its magnitude: its input's norm sqrt(H_jj), or 1.

    Weight times input norm: Sun et al. 2024, "Wanda".
    """
    if score not in SCORES:
        raise InputError(f"the path's score must be one of {', '.join(SCORES)}. Received: {score!r}")
    squares = diagonal(gram)[:, None]
    return tf.sqrt(squares) if score == "input_norm" else tf.ones_like(squares)


def build_path(
    gram: Moment,
    kernel: np.ndarray,
    densities: Densities = DENSITIES,
    iterations: int = 6,
    score: str = "input_norm",
    name: str = "a layer",
) -> PruningPath:
    """The pruning path of one layer; exactly `num_removed(1 - density, size)` weights are removed at each level.

    Args:
        gram: H = X'X [d, d] of the layer's inputs, or inputs.
        kernel: the dense kernel, HWIO or (in, out), with d inputs to each output unit.
        densities: the fractions kept, from 1 downwards.
        iterations: conjugate-gradient iterations at each level.
        score: "input_norm" or "magnitude".
        name: of the layer, for errors.

    Raises:
        InputError: the Gram matrix or the kernel is not finite, or too large for float32; or the densities do not fall
            from 1.
    """
    for what, is_right in (("weights", np.isfinite(kernel).all()), ("inputs", is_finite(gram))):
        if not is_right:
            raise InputError(f"the pruning path of {name} needs finite {what}. Received: {overflow(what)}")
    if densities[0] != 1 or np.any(np.diff(densities) >= 0) or densities[-1] < 0:
        raise InputError(f"densities must fall from 1 towards 0. Received: {densities}")
    removed = np.array([num_removed(1 - density, kernel.size) for density in densities])
    levels = np.arange(0, len(removed), COARSE if kernel.size > LARGE else 1)
    gram, matrix = normalised(as_tensors(gram)), tf.constant(as_matrix(kernel), tf.float32)
    problem = Problem(gram, matrix, tf.zeros([1, 1]), tf.zeros(()), output_energy(gram, matrix))
    check_finite(problem, name)
    steps = walk(problem, input_scores(gram, score), removed, iterations, levels)
    check_finite(steps, name)
    indices, scores, order = steps.indices.numpy(), steps.scores.numpy(), np.empty(kernel.size, np.int32)
    for first, end in itertools.pairwise([0, *removed, kernel.size]):
        order[first:end] = indices[first:end][np.argsort(scores[first:end], kind="stable")]
    del indices, scores
    survivors, values = steps.values.numpy(), np.empty(np.sum(kernel.size - removed[levels]), np.float32)
    first, places = 0, inverse_permutation(order)
    for count in removed[levels]:
        places = places[places >= count]
        values[first : first + len(places)][places - count] = survivors[first : first + len(places)]
        first += len(places)
    # A level that its few iterations leave above its optimum can be followed by one with a smaller error: the running
    # maximum keeps the errors ordered and on the safe side.
    errors = np.maximum.accumulate(np.maximum(steps.errors.numpy(), 0))
    return PruningPath(order, removed, levels, values, errors, tuple(kernel.shape))


class Problem(NamedTuple):
    """A layer to be pruned, as the quadratic ||Y - X W||^2 of its weights W around the dense ones W0 [d, c].

    gram: H = X'X [d, d], or inputs.
    kernel: W0 [d, c].
    offset: X'(Y - X W0) [d, c]; 0, as [1, 1], where Y is the dense layer's output for the same inputs X.
    base: ||Y - X W0||^2, the error of the dense kernel.
    energy: ||Y||^2, what relative errors are relative to.
    """

    gram: tf.Tensor | InputSample
    kernel: tf.Tensor
    offset: tf.Tensor
    base: tf.Tensor
    energy: tf.Tensor


def check_finite(of_layer: "Problem | Walk", name: str) -> None:
    """Raises InputError where float32 does not hold what describes the layer `name`, or what `walk` made of it."""
    values = [value for value in tf.nest.flatten(of_layer) if value.dtype.is_floating]
    if not tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values]):
        raise InputError(f"{name} cannot be fitted to the dense network's outputs. Received: {overflow('outputs')}")


def overflow(what: str) -> str:
    """What NaN and infinity come from where the network's weights are finite."""
    return f"NaN or infinity: {what} whose squares are too large for float32 (is the data normalised?), or no numbers"


class Walk(NamedTuple):
    """What `walk` found.

    weights: [d, c] of the last level.
    errors: [K] of all levels.
    values: level after level, of those asked for, the survivors' weights, in flat order.
    indices: [n] int32, flat indices: level after level those of the weights that went, at the end the survivors'.
    scores: [n] of these weights, when they went; the survivors' at the end.
    """

    weights: tf.Tensor
    errors: tf.Tensor
    values: tf.Tensor
    indices: tf.Tensor
    scores: tf.Tensor


def walk(
    problem: Problem,
    score_scale: tf.Tensor,
    removed: Sequence[int] | np.ndarray,
    iterations: int,
    kept_levels: Sequence[int] | np.ndarray = (),
) -> Walk:
    """Prunes a layer level by level: `removed` [K] says how many weights are gone at each.

    Compiled once for all shapes, with the loop over the levels in the graph, and once more for inputs in place of H.
    """
    is_kept = np.isin(np.arange(len(removed)), kept_levels)
    compiled = _compiled_walk(iterations, isinstance(problem.gram, InputSample))
    return compiled(problem, score_scale, tf.constant(removed, tf.int32), tf.constant(is_kept))


@functools.cache
def _compiled_walk(iterations: int, of_inputs: bool) -> Callable:
    matrix, scalar = tf.TensorSpec([None, None]), tf.TensorSpec([])
    gram = InputSample(matrix, tf.TensorSpec([None, 1])) if of_inputs else matrix

    @tf.function(
        input_signature=[
            Problem(gram, matrix, matrix, scalar, scalar),
            tf.TensorSpec([None, 1]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.bool),
        ]
    )
    def compiled(problem, score_scale, removed, keeps_values):
        levels, shape, size = tf.size(removed), tf.shape(problem.kernel), tf.size(problem.kernel)
        damping, hessian = damping_of(problem.gram), damped(problem.gram)
        weights, alive = problem.kernel, tf.range(size)
        errors = tf.TensorArray(tf.float32, levels)
        values, scores = (_ragged(tf.float32, levels + extra) for extra in (0, 1))
        indices = _ragged(tf.int32, levels + 1)

        def scores_of(places):
            return tf.abs(tf.gather(_flat(weights), places)) * tf.gather(_flat(score_scale), places // shape[1])

        # Selection looks at the survivors only: at most levels they are few.
        for level in tf.range(levels):
            tf.autograph.experimental.set_loop_options(shape_invariants=[(alive, tf.TensorShape([None]))])
            score = scores_of(alive)
            is_kept = lowest_mask(score, removed[level] - (size - tf.size(alive))) > 0
            indices = indices.write(level, tf.boolean_mask(alive, ~is_kept))
            scores = scores.write(level, tf.boolean_mask(score, ~is_kept))
            alive = tf.boolean_mask(alive, is_kept)
            mask = tf.reshape(tf.scatter_nd(alive[:, None], tf.ones(tf.shape(alive)), size[None]), shape)
            weights = weights * mask
            residual = problem.offset + product(hessian, problem.kernel - weights)
            weights, residual = conjugate_gradients(hessian, residual, mask, weights, iterations)
            change = problem.kernel - weights
            error = problem.base + tf.reduce_sum(change * (residual + problem.offset - damping * change))
            errors = errors.write(level, tf.math.divide_no_nan(error, problem.energy))
            asked_for = tf.cond(keeps_values[level], lambda alive=alive: alive, lambda alive=alive: alive[:0])
            values = values.write(level, tf.gather(_flat(weights), asked_for))
        indices, scores = indices.write(levels, alive), scores.write(levels, scores_of(alive))
        return Walk(weights, errors.stack(), values.concat(), indices.concat(), scores.concat())

    return compiled


def inverse_permutation(permutation: np.ndarray) -> np.ndarray:
    """The place of each index in `permutation`."""
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation), dtype=permutation.dtype)
    return inverse


def _flat(tensor: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tensor, [-1])


def _ragged(dtype: tf.DType, size: tf.Tensor) -> tf.TensorArray:
    """For vectors of different lengths."""
    return tf.TensorArray(dtype, size, infer_shape=False, element_shape=[None])
