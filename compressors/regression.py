"""Layer-wise regression: after pruning, a layer's remaining weights are re-fitted to the outputs of the dense layer.

With X [rows, d] the layer's input patches and W0 [d, c] its dense kernel, the pruned kernel is
argmin over W of ||X W0 - X (W * M)||^2 for the 0/1 mask M, as He et al. 2017 and 2018 (AMC) do it for channels.
The closed form needs of X only the Gram matrix H = X'X, collected once; the classical form runs Adam on X itself.
"""

from collections.abc import Collection, Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf

from compressors.graph import infer, is_prunable, prunable_layers, run_graph
from compressors.input_patches import MAX_POSITIONS, input_patches
from compressors.second_moments import KeptInputs, Moment, damped, output_energy, product
from utils.errors import InputError

CHUNK = 32  # images whose patches are held at once; larger blocks leave the allocator's cache and the processor's


def collect_grams(
    model: keras.Model,
    batches: Iterable[np.ndarray | tf.Tensor],
    max_positions: int | None = MAX_POSITIONS,
    without: Collection[str] = (),
    kept: Mapping[str, KeptInputs] | None = None,
) -> dict[str, Moment]:
    """H = X'X of every prunable layer from one pass of the network in inference mode.

    About 300 images give the pruning paths what they need; more changed nothing that could be measured.

    Args:
        model: a functional model with one input.
        batches: image batches [B, H, W, C] of one image shape; batches of any size, walked in chunks.
        max_positions: output positions used of an image, see `input_patches`.
        without: kernel paths that no Gram matrix is wanted of.
        kept: the layers that keep inputs in place of the matrix, and which, see `kept_inputs`.

    Returns:
        kernel path -> [d, d] float32, or the inputs as an `InputSample`. A layer used in several places sums over them.

    Raises:
        InputError: the model is not functional, or there is no image.
    """
    kept = kept or {}
    found = collect_parts(model, batches, kept, max_positions, without)
    return {path: kept[path].sample(part) if path in kept else part for path, part in found.items()}


def collect_parts(
    model: keras.Model,
    batches: Iterable[np.ndarray | tf.Tensor],
    kept: Mapping[str, KeptInputs],
    max_positions: int | None = MAX_POSITIONS,
    without: Collection[str] = (),
    first_image: int = 0,
) -> dict[str, np.ndarray]:
    """What some of the images give to `collect_grams`: H [d, d] of a layer, or of one in `kept` its rows [n, d].

    Args:
        first_image: the number of the first image here among all that `kept` counts.
    """
    layers = [layer for layer in prunable_layers(model) if layer.kernel.path not in without]
    paths = [layer.kernel.path for layer in layers]

    def collected(images: tf.Tensor, numbers: dict[str, list[tf.Tensor]]) -> dict[str, tf.Tensor]:
        found: dict[str, list[tf.Tensor]] = {path: [] for path in paths}

        def call(layer, args, kwargs):
            if is_prunable(layer) and (path := layer.kernel.path) in found:
                patches = input_patches(layer, args[0], max_positions)
                if path in kept:
                    found[path].append(tf.gather(patches, numbers[path][len(found[path])]))
                else:
                    found[path].append(tf.matmul(patches, patches, transpose_a=True))
            return infer(layer, args, kwargs)

        run_graph(model, images, call)
        return {path: tf.concat(parts, 0) if path in kept else tf.add_n(parts) for path, parts in found.items()}

    compiled = None
    sums: dict[str, tf.Tensor] = {}
    rows: dict[str, list[np.ndarray]] = {path: [] for path in paths if path in kept}
    for batch in batches:
        for first in range(0, len(batch), CHUNK):
            chunk = tf.convert_to_tensor(batch[first : first + CHUNK])
            numbers = {path: kept[path].among(first_image, len(chunk)) for path in rows}
            first_image += len(chunk)
            if compiled is None:
                spec = tf.TensorSpec([None, *chunk.shape[1:]], chunk.dtype)
                choices = {path: [tf.TensorSpec([None], tf.int32)] * len(uses) for path, uses in numbers.items()}
                compiled = tf.function(collected, [spec, choices], autograph=False)
            for path, value in compiled(chunk, numbers).items():
                if path in kept:
                    rows[path].append(value.numpy())
                else:
                    sums[path] = sums[path] + value if path in sums else value
    if compiled is None:
        raise InputError("the Gram matrices need at least one image. Received: no batch")
    return {path: np.concatenate(rows.pop(path)) if path in kept else sums.pop(path).numpy() for path in paths}


def conjugate_gradients(
    damped_gram: Moment, residual: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor, iterations: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Improves every column of W within its mask: `iterations` steps of conjugate gradients on the normal equations.

    Args:
        damped_gram: Hd, [d, d] or inputs.
        residual: T - Hd W [d, c], unmasked, where T is Hd W0 (or, with other inputs than the target's, X'Y).
        mask: [d, c], 1 where a weight is kept.
        weights: W [d, c], zero outside the mask.
        iterations: an int is unrolled into the graph, a tensor becomes a loop.

    Returns:
        The new weights and their residual T - Hd W, so that an error needs no further matrix product.
    """
    gradient = mask * residual
    direction, square = gradient, tf.reduce_sum(gradient * gradient, 0)
    for _ in range(iterations):
        image = product(damped_gram, direction)
        # direction is zero outside the mask, and so is its part of the sum; 0/0 is a column that is solved or empty.
        step = tf.math.divide_no_nan(square, tf.reduce_sum(direction * image, 0))
        weights += step * direction
        residual -= step * image
        gradient = mask * residual
        square, previous = tf.reduce_sum(gradient * gradient, 0), square
        direction = gradient + tf.math.divide_no_nan(square, previous) * direction
    return weights, residual


@tf.function(reduce_retracing=True)
def masked_least_squares(
    gram: Moment, kernel: tf.Tensor, mask: tf.Tensor, start: tf.Tensor, iterations: tf.Tensor
) -> tf.Tensor:
    """argmin over W of ||X W0 - X (W * M)||^2, damped, for all columns at once by conjugate gradients.

    Args:
        gram: H = X'X [d, d], or inputs.
        kernel: W0 [d, c].
        mask: M [d, c] of zeros and ones.
        start: [d, c], where the iteration begins.
        iterations: scalar int32 tensor; the exact solution needs at most d, a good one about 10.
    """
    hessian, start = damped(gram), start * mask
    return conjugate_gradients(hessian, product(hessian, kernel - start), mask, start, iterations)[0]


@tf.function(reduce_retracing=True)
def relative_error(gram: Moment, kernel: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """||X W0 - X W||^2 / ||X W0||^2 from H = X'X; 0 where the dense layer's output is 0 everywhere."""
    return tf.math.divide_no_nan(output_energy(gram, kernel - weights), output_energy(gram, kernel))


@tf.function(
    input_signature=[tf.TensorSpec([None, None])] * 4
    + [tf.TensorSpec([], tf.int32), tf.TensorSpec([]), tf.TensorSpec([], tf.int32)]
)
def regress_by_adam(
    inputs: tf.Tensor,
    targets: tf.Tensor,
    kernel: tf.Tensor,
    mask: tf.Tensor,
    num_iterations: tf.Tensor,
    learning_rate: tf.Tensor,
    batch_rows: tf.Tensor,
) -> tf.Tensor:
    """Adam (Kingma & Ba 2015) on the layer's output error ||Y - X~ (W * M)||^2 / ||Y||^2 of mini-batches of rows.

    The classical regression; `masked_least_squares` finds its limit at a fraction of the cost. Compiled once.

    Args:
        inputs: X~ [rows, d], the patches of the inputs that the layer has in the pruned network.
        targets: Y [rows, c], the dense layer's outputs, before bias and activation.
        kernel: [d, c], where the iteration begins (times the mask).
        mask: M [d, c] of zeros and ones.
        num_iterations: steps; step i takes the i-th `batch_rows` rows, again from the first when they are used up.
        learning_rate: of Adam, with its usual decay rates 0.9 and 0.999.
        batch_rows: rows of a mini-batch; all rows where there are fewer.

    Returns:
        The weights [d, c], zero outside the mask.
    """
    weights = kernel * mask
    mean, square = tf.zeros_like(weights), tf.zeros_like(weights)
    num_batches = tf.maximum(tf.shape(inputs)[0] // batch_rows, 1)
    for iteration in tf.range(num_iterations):
        first = iteration % num_batches * batch_rows
        x, y = inputs[first : first + batch_rows], targets[first : first + batch_rows]
        gradient = 2 * mask * tf.matmul(x, tf.matmul(x, weights) - y, transpose_a=True)
        gradient = tf.math.divide_no_nan(gradient, tf.reduce_sum(y * y))
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient * gradient
        step = tf.cast(iteration + 1, tf.float32)
        weights -= learning_rate * (mean / (1 - 0.9**step)) / (tf.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return weights
