"""Progressive re-solving: the layers are pruned front to back, each for the inputs that the already pruned front gives.

With X~ [rows, d] the pruned front's inputs of a layer and Y = X W0 [rows, c] the dense network's output there, the
layer's weights are argmin over W of ||Y - X~ (W * M)||^2: a later layer makes up for the errors of those before it.
"""

import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import tensorflow as tf

from compressors.batch_norm import Statistics, mean_statistics, normalise, normalise_by_batch
from compressors.graph import infer, is_prunable, prunable_kernels, run_graph
from compressors.input_patches import MAX_POSITIONS, as_matrix, input_patches, is_pointwise, linear_outputs
from compressors.masks import topk_mask
from compressors.pruning_path import DENSITIES, Problem, check_finite, input_scores, walk
from compressors.ratios import LayerSpec, Ratios, num_removed, removed_counts
from compressors.regression import CHUNK, regress_by_adam
from compressors.second_moments import as_tensors, normalising_factor, scaled, shrunk

# Weights of a layer; a larger one skips every second level on its way. MobileNetV2 at 90%: two thirds of the time, the
# layers' mean error within 0.4%. On ResNet-20, where it was tried on all layers, which are smaller, it rose by 3 to 5%.
_LARGE = 2**17


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


# Kernel path -> Y = X W0 [rows, c], the dense layer's outputs before bias and activation at the sampled positions.
Targets = Mapping[str, tf.Tensor]

# A layer, its targets and its pruned front's inputs -> the pruned kernel (of the layer's shape) and its relative error.
SolveLayer = Callable[[keras.Layer, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def dense_targets(model: keras.Model, images: tf.Tensor, max_positions: int | None = MAX_POSITIONS) -> Targets:
    """What the layers of the pruned network are fitted to; of a layer that is used twice, where it comes first.

    Args:
        model: the dense network, functional.
        images: [B, H, W, C].
        max_positions: output positions used of an image, see `input_patches`.
    """
    parts: dict[str, list[tf.Tensor]] = {}
    for first in range(0, len(images), CHUNK):
        found: dict[str, tf.Tensor] = {}

        def call(layer, args, kwargs, found=found):
            if is_prunable(layer) and layer.kernel.path not in found:
                found[layer.kernel.path] = linear_outputs(layer, args[0], layer.kernel.value, max_positions)
            if isinstance(layer, keras.layers.BatchNormalization):
                return normalise(layer, args[0])
            return infer(layer, args, kwargs)

        run_graph(model, tf.convert_to_tensor(images[first : first + CHUNK]), call)
        for path, outputs in found.items():
            parts.setdefault(path, []).append(outputs)
    return {path: tf.concat(parts.pop(path), 0) for path in list(parts)}  # popped: all twice would be too much


def resolve_progressively(
    model: keras.Model,
    ratios: Ratios,
    images: tf.Tensor,
    iterations: int = 6,
    score: str = "input_norm",
    max_positions: int | None = MAX_POSITIONS,
    targets: Targets | None = None,
) -> PrunedNetwork:
    """One allocation re-solved front to back in closed form: each layer walks its path with the pruned front's inputs.

    Args:
        model: the dense network, functional; it is read and not changed.
        ratios: of every prunable kernel; exactly `num_removed(ratio, size)` weights of each are removed. A layer with
            ratio 0 keeps its dense weights.
        images: a few hundred training images [B, H, W, C], preprocessed.
        iterations, score: as in `build_path`.
        max_positions: as in `collect_grams`.
        targets: `dense_targets(model, images, max_positions)`, for who has more than one allocation to solve.

    Raises:
        InputError: a ratio is missing or out of range, the model cannot be walked, or a layer's numbers are not finite.
    """
    removed = {layer.path: _removed_on_the_way(ratios[layer.path], layer.size) for layer in _checked(model, ratios)}

    def solve(layer, target, inputs):
        kernel, counts = layer.kernel.value, removed[layer.kernel.path]
        # A few hundred images are too few to fit all weights of, say, the classifier: what stays dense is not touched.
        if counts[-1] == 0:
            error = _energy(target - linear_outputs(layer, inputs, kernel, max_positions))
            return kernel, tf.math.divide_no_nan(error, _energy(target))
        problem = _problem(layer, target, inputs, max_positions)
        check_finite(problem, layer.kernel.path)
        steps = walk(problem, input_scores(problem.gram, score), counts, iterations)
        check_finite(steps, layer.kernel.path)
        # Where the moment is shrunk, the error by it can be below 0 on few images.
        return tf.reshape(steps.weights, kernel.shape), tf.maximum(steps.errors[-1], 0.0)

    return prune_front_to_back(model, images, targets or dense_targets(model, images, max_positions), solve)


def resolve_by_adam(
    model: keras.Model,
    ratios: Ratios,
    images: tf.Tensor,
    num_iterations: int,
    learning_rate: float,
    batch_size: int = 128,
    max_positions: int | None = MAX_POSITIONS,
    targets: Targets | None = None,
) -> PrunedNetwork:
    """One allocation the classical way: magnitude masks, and `regress_by_adam` layer by layer from front to back.

    Args:
        model, ratios, images, max_positions, targets: as in `resolve_progressively`.
        num_iterations: Adam steps for each layer.
        learning_rate: of Adam.
        batch_size: images of a mini-batch.
    """
    _checked(model, ratios)

    def solve(layer, target, inputs):
        kernel = layer.kernel.value
        patches = input_patches(layer, inputs, max_positions)
        mask = topk_mask(tf.abs(kernel), ratios[layer.kernel.path])
        rows = len(target) // len(inputs) * batch_size
        matrix = as_matrix(kernel)
        # Adam makes steps of its rate out of gradients that are nothing but rounding: what is dense is not touched.
        if num_removed(ratios[layer.kernel.path], mask.shape.num_elements()) > 0:
            solved = regress_by_adam(patches, target, matrix, as_matrix(mask), num_iterations, learning_rate, rows)
            matrix = _finite_or_masked(solved, matrix * as_matrix(mask), layer.kernel.path, learning_rate)
        error = _energy(target - tf.matmul(patches, matrix))
        return tf.reshape(matrix, kernel.shape), tf.math.divide_no_nan(error, _energy(target))

    return prune_front_to_back(model, images, targets or dense_targets(model, images, max_positions), solve)


def _finite_or_masked(solved: tf.Tensor, masked: tf.Tensor, name: str, learning_rate: float) -> tf.Tensor:
    """The regression's weights, or where it diverged the dense ones under their mask, which is told."""
    if tf.reduce_all(tf.math.is_finite(solved)):
        return solved
    print(
        f"warning: the regression of {name} at the rate {learning_rate:g} gave NaN or infinity: its weights are the "
        "dense ones without the removed",
        file=sys.stderr,
    )
    return masked


def prune_front_to_back(model: keras.Model, images: tf.Tensor, targets: Targets, solve: SolveLayer) -> PrunedNetwork:
    """Runs the network, pruning each prunable layer by `solve` when it is reached; the outputs of the pruned one go on.

    Batch norms estimate their statistics anew. The model itself, which is the dense network, is not changed.

    Args:
        model: functional; a layer that is used twice is solved where it comes first.
        images: [B, H, W, C].
        targets: `dense_targets` of these images.
        solve: (layer, targets, inputs) -> (kernel, relative error).
    """
    variables, errors = {}, {}
    statistics: dict[keras.layers.BatchNormalization, list[Statistics]] = {}

    def call(layer, args, kwargs):
        if isinstance(layer, keras.layers.BatchNormalization):
            outputs, of_batch = normalise_by_batch(layer, args[0])
            statistics.setdefault(layer, []).append(of_batch)
            return outputs
        if is_prunable(layer):
            path = layer.kernel.path
            if path not in variables:
                variables[path], errors[path] = solve(layer, targets[path], args[0])
            return _call_with_kernel(layer, variables[path], args[0])
        return infer(layer, args, kwargs)

    run_graph(model, tf.convert_to_tensor(images), call)
    for layer, uses in statistics.items():
        variables[layer.moving_mean.path], variables[layer.moving_variance.path] = mean_statistics(uses)
    return PrunedNetwork(variables, {path: float(error) for path, error in errors.items()})


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
    target, levels = num_removed(ratio, size), DENSITIES[:: 2 if size > _LARGE else 1]
    counts = [num_removed(1 - density, size) for density in levels]
    return [count for count in counts if count < target] + [target]


def _problem(layer: keras.Layer, targets: tf.Tensor, inputs: tf.Tensor, max_positions: int | None) -> Problem:
    """The layer's regression from the pruned front's inputs to the dense network's outputs, summed over the images."""
    matrix = as_matrix(layer.kernel.value)
    sums = [tf.zeros(())] * 4
    if 2 * len(targets) < len(matrix):  # fewer rows than make a matrix [d, d] worth its while
        patches = input_patches(layer, inputs, max_positions)
        residual = targets - tf.matmul(patches, matrix)
        offset = tf.matmul(patches, residual, transpose_a=True)
        gram = as_tensors(shrunk(patches.numpy()))
        return _normalised(Problem(gram, matrix, offset, _energy(residual), _energy(targets)))
    chunk, positions = len(inputs) if is_pointwise(layer) else CHUNK, len(targets) // len(inputs)
    for first in range(0, len(inputs), chunk):
        target = targets[first * positions : (first + chunk) * positions]
        patches = input_patches(layer, inputs[first : first + chunk], max_positions)
        residual = target - tf.matmul(patches, matrix)
        gram, offset = (tf.matmul(patches, other, transpose_a=True) for other in (patches, residual))
        terms = gram, offset, _energy(residual), _energy(target)
        sums = [total + term for total, term in zip(sums, terms, strict=True)]
    gram, offset, base, energy = sums
    return _normalised(Problem(gram, matrix, offset, base, energy))


def _normalised(problem: Problem) -> Problem:
    """The same in another unit of the inputs, whose squares fit into float32."""
    factor = normalising_factor(problem.gram)
    offset, base, energy = (factor * value for value in (problem.offset, problem.base, problem.energy))
    return Problem(scaled(problem.gram, factor), problem.kernel, offset, base, energy)


def _energy(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(values))  # eagerly `values ** 2` takes twenty times as long
