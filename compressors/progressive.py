"""Progressive re-solving: the layers are pruned front to back, each for the inputs that the already pruned front gives.

With X~ [rows, d] the pruned front's inputs of a layer and Y = X W0 [rows, c] the dense network's output there, the
layer's weights are argmin over W of ||Y - X~ (W * M)||^2: a later layer makes up for the errors of those before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from compressors.batch_norm import normalise_by_batch
from compressors.graph import is_prunable, prunable_kernels, run_graph
from compressors.masks import topk_mask
from compressors.pruning_path import DENSITIES, Problem, input_scores, walk
from compressors.ratios import LayerSpec, Ratios, num_removed, removed_counts
from compressors.regression import CHUNK, MAX_POSITIONS, as_matrix, input_patches, linear_outputs, regress_by_adam


class PrunedNetwork(NamedTuple):
    """What front-to-back pruning changes of a network.

    variables: path -> value of each kernel and each batch norm's moving mean and variance.
    errors: kernel path -> ||Y - X~ W||^2 / ||Y||^2 on the images, the errors of the front included.
    """

    variables: Mapping[str, tf.Tensor]
    errors: Mapping[str, float]

    def assign_to(self, model: keras.Model) -> None:
        """Sets the model's kernels and batch-norm statistics."""
        for variable in model.variables:
            if variable.path in self.variables:
                variable.assign(self.variables[variable.path])


# A layer, its dense and its pruned front's inputs -> the pruned kernel (of the layer's shape) and its relative error.
SolveLayer = Callable[[keras.Layer, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def resolve_progressively(
    model: keras.Model,
    ratios: Ratios,
    images: tf.Tensor,
    iterations: int = 6,
    score: str = "input_norm",
    max_positions: int | None = MAX_POSITIONS,
) -> PrunedNetwork:
    """One allocation re-solved front to back in closed form: each layer walks its path with the pruned front's inputs.

    Args:
        model: the dense network, functional; it is read and not changed.
        ratios: of every prunable kernel; exactly `num_removed(ratio, size)` weights of each are removed. A layer with
            ratio 0 keeps its dense weights.
        images: a few hundred training images [B, H, W, C], preprocessed.
        iterations, score: as in `build_path`.
        max_positions: as in `collect_grams`.

    Raises:
        InputError: a ratio is missing or out of range, or the model cannot be walked.
    """
    removed = {layer.path: _removed_on_the_way(ratios[layer.path], layer.size) for layer in _checked(model, ratios)}

    def solve(layer, dense_inputs, pruned_inputs):
        kernel, counts = layer.kernel.value, removed[layer.kernel.path]
        problem = _problem(layer, dense_inputs, pruned_inputs, max_positions)
        # A few hundred images are too few to fit all weights of, say, the classifier: what stays dense is not touched.
        if counts[-1] == 0:
            return kernel, tf.math.divide_no_nan(problem.base, problem.energy)
        steps = walk(problem, input_scores(problem.gram, score), counts, iterations)
        return tf.reshape(steps.weights, kernel.shape), steps.errors[-1]

    return prune_front_to_back(model, images, solve)


def resolve_by_adam(
    model: keras.Model,
    ratios: Ratios,
    images: tf.Tensor,
    num_iterations: int,
    learning_rate: float,
    batch_size: int = 128,
    max_positions: int | None = MAX_POSITIONS,
) -> PrunedNetwork:
    """One allocation the classical way: magnitude masks, and `regress_by_adam` layer by layer from front to back.

    Args:
        model, ratios, images, max_positions: as in `resolve_progressively`.
        num_iterations: Adam steps for each layer.
        learning_rate: of Adam.
        batch_size: images of a mini-batch.
    """
    _checked(model, ratios)

    def solve(layer, dense_inputs, pruned_inputs):
        kernel = layer.kernel.value
        targets = linear_outputs(layer, dense_inputs, kernel, max_positions)
        patches = input_patches(layer, pruned_inputs, max_positions)
        mask = topk_mask(tf.abs(kernel), ratios[layer.kernel.path])
        rows = len(targets) // len(dense_inputs) * batch_size
        matrix = as_matrix(kernel)
        if ratios[layer.kernel.path] > 0:
            matrix = regress_by_adam(patches, targets, matrix, as_matrix(mask), num_iterations, learning_rate, rows)
        error = tf.reduce_sum((targets - tf.matmul(patches, matrix)) ** 2)
        return tf.reshape(matrix, kernel.shape), tf.math.divide_no_nan(error, tf.reduce_sum(targets**2))

    return prune_front_to_back(model, images, solve)


def prune_front_to_back(model: keras.Model, images: tf.Tensor, solve: SolveLayer) -> PrunedNetwork:
    """Runs dense and pruned network side by side, and prunes each prunable layer by `solve` when it is reached.

    Where the dense branch normalises with the stored batch-norm statistics, the pruned branch re-estimates its own.
    The model itself, which is the dense network, is not changed.

    Args:
        model: functional; a layer that is used twice is solved where it comes first.
        images: [B, H, W, C].
        solve: (layer, dense inputs, pruned inputs) -> (kernel, relative error).
    """
    variables, errors = {}, {}

    def call(layer, args, kwargs):
        dense_args, dense_kwargs = _branch("dense", args, kwargs)
        pruned_args, pruned_kwargs = _branch("pruned", args, kwargs)
        dense = layer(*dense_args, **dense_kwargs)
        if is_prunable(layer):
            path = layer.kernel.path
            if path not in variables:
                variables[path], errors[path] = solve(layer, dense_args[0], pruned_args[0])
            return Pair(dense, _call_with_kernel(layer, variables[path], pruned_args[0]))
        if isinstance(layer, keras.layers.BatchNormalization):
            pruned, statistics = normalise_by_batch(layer, pruned_args[0])
            variables[layer.moving_mean.path] = statistics.mean
            variables[layer.moving_variance.path] = statistics.variance
            return Pair(dense, pruned)
        return Pair(dense, layer(*pruned_args, **pruned_kwargs))

    images = tf.convert_to_tensor(images)
    run_graph(model, Pair(images, images), call)
    return PrunedNetwork(variables, {path: float(error) for path, error in errors.items()})


@dataclass(frozen=True, eq=False)
class Pair:
    """A value of the dense network and the same value of the pruned one. (No tuple: Keras would look inside.)"""

    dense: Any
    pruned: Any


def _branch(name: str, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The arguments with one value of each Pair."""
    return keras.tree.map_structure(
        lambda value: getattr(value, name) if isinstance(value, Pair) else value, (args, kwargs)
    )


def _call_with_kernel(layer: keras.Layer, kernel: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
    """The layer's outputs with another kernel in place of its own."""
    values = [
        [kernel if variable is layer.kernel else variable.value for variable in variables]
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    ]
    return layer.stateless_call(*values, inputs)[0]


def _checked(model: keras.Model, ratios: Ratios) -> list[LayerSpec]:
    """The prunable layers, where `ratios` are theirs."""
    layers = [LayerSpec(kernel.path, tuple(kernel.shape)) for kernel in prunable_kernels(model)]
    removed_counts(layers, ratios)
    return layers


def _removed_on_the_way(ratio: float, size: int) -> list[int]:
    """The numbers removed at the levels of the path that are denser than 1 - ratio, and at the ratio itself."""
    target = num_removed(ratio, size)
    counts = [num_removed(1 - density, size) for density in DENSITIES]
    return [count for count in counts if count < target] + [target]


def _problem(layer: keras.Layer, dense: tf.Tensor, pruned: tf.Tensor, max_positions: int | None) -> Problem:
    """The layer's regression from the pruned front's inputs to the dense network's outputs, summed over the images."""
    kernel, matrix = layer.kernel.value, as_matrix(layer.kernel.value)
    sums = [tf.zeros(())] * 4
    for first in range(0, len(dense), CHUNK):
        targets = linear_outputs(layer, dense[first : first + CHUNK], kernel, max_positions)
        patches = input_patches(layer, pruned[first : first + CHUNK], max_positions)
        residual = targets - tf.matmul(patches, matrix)
        gram, offset = (tf.matmul(patches, other, transpose_a=True) for other in (patches, residual))
        terms = gram, offset, tf.reduce_sum(residual**2), tf.reduce_sum(targets**2)
        sums = [total + term for total, term in zip(sums, terms, strict=True)]
    gram, offset, base, energy = sums
    return Problem(gram, matrix, offset, base, energy)
