"""Layer-wise regression: after pruning, a layer's remaining weights are re-fitted to the outputs of the dense layer.

With X [rows, d] the layer's input patches and W0 [d, c] its dense kernel, the pruned kernel is
argmin over W of ||X W0 - X (W * M)||^2 for the 0/1 mask M, as He et al. 2017 and 2018 (AMC) do it for channels.
The closed form needs of X only the Gram matrix H = X'X, collected once; the classical form runs Adam on X itself.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.graph import infer, is_prunable, prunable_layers, run_graph
from compressors.second_moments import KeptInputs, Moment, damped, output_energy, product
from utils.errors import InputError

MAX_POSITIONS = 256  # output positions used of an image; the neighbours of a position say nearly the same
CHUNK = 32  # images whose patches are held at once; larger blocks leave the allocator's cache and the processor's


def as_matrix(kernel: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    """A kernel HWIO or (in, out) as [d, c], its rows in the order of the columns of `input_patches`."""
    if isinstance(kernel, np.ndarray):
        return kernel.reshape(-1, kernel.shape[-1])
    return tf.reshape(kernel, [-1, kernel.shape[-1]])


def input_patches(layer: keras.Layer, inputs: tf.Tensor, max_positions: int | None = None) -> tf.Tensor:
    """The inputs [rows, d] of each output position of a Conv2D or Dense layer: patches @ as_matrix(kernel) = outputs.

    Args:
        layer: a Dense, or an ungrouped channels-last Conv2D with any strides, dilation and padding.
        inputs: what the layer receives, [B, ..., features] or [B, H, W, C].
        max_positions: at most so many output positions of each image, on a grid; None: all. Where positions stand for
            different numbers of others, they are scaled so that X'X estimates that of all (times a constant).

    Raises:
        InputError: the layer is of another kind.
    """
    inputs = _float_inputs(layer, inputs)
    if isinstance(layer, keras.layers.Dense):
        return tf.reshape(inputs, [-1, inputs.shape[-1]])
    inputs, grid = _padded(layer, inputs), _grid(layer, inputs.shape, max_positions)
    if is_pointwise(layer) or not grid.is_regular:
        return _gathered(layer, inputs, grid)
    sizes, strides, rates = ([1, *values, 1] for values in (layer.kernel_size, grid.strides, layer.dilation_rate))
    patches = tf.image.extract_patches(_from(grid.starts, inputs), sizes, strides, rates, padding="VALID")
    return tf.reshape(patches, [-1, patches.shape[-1]])


def linear_outputs(
    layer: keras.Layer, inputs: tf.Tensor, kernel: tf.Tensor, max_positions: int | None = None
) -> tf.Tensor:
    """`input_patches(layer, inputs, max_positions) @ as_matrix(kernel)` [rows, c], mostly without the patches."""
    if is_pointwise(layer):
        return input_patches(layer, inputs, max_positions) @ as_matrix(kernel)
    inputs = _float_inputs(layer, inputs)
    grid = _grid(layer, inputs.shape, max_positions)
    if not grid.is_regular:
        return _gathered(layer, _padded(layer, inputs), grid) @ as_matrix(kernel)
    inputs, rates = _from(grid.starts, _padded(layer, inputs)), layer.dilation_rate
    outputs = tf.nn.conv2d(inputs, kernel, grid.strides, padding="VALID", dilations=rates)
    return tf.reshape(outputs, [-1, outputs.shape[-1]])


def is_pointwise(layer: keras.Layer) -> bool:
    """Whether each output position sees one input position: a Dense, or a convolution with a 1 x 1 kernel."""
    return isinstance(layer, keras.layers.Dense) or layer.kernel_size == (1, 1)


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

    compiled, sums, rows = None, {}, {path: [] for path in paths if path in kept}
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


def _float_inputs(layer: keras.Layer, inputs: tf.Tensor) -> tf.Tensor:
    """The inputs in float32: sums of squares need it where the network computes in half precision."""
    if not is_prunable(layer):
        raise InputError(
            "layer-wise regression needs a Dense or an ungrouped Conv2D layer, channels_last. "
            f"Received: {layer.name!r} of class {type(layer).__name__}"
        )
    return tf.cast(inputs, tf.float32)


def output_map(layer: keras.Layer, input_shape: tf.TensorShape) -> tuple[int, ...]:
    """The output positions of one image: (height, width) of a Conv2D, (rows,) of a Dense."""
    if isinstance(layer, keras.layers.Dense):
        return (int(np.prod(input_shape[1:-1])),)
    return tuple(
        -(-size // stride) if layer.padding == "same" else (size - extent) // stride + 1
        for size, extent, stride in zip(input_shape[1:3], _extents(layer), layer.strides, strict=True)
    )


def sampling_step(sizes: Sequence[int], max_positions: int | None) -> int:
    """Every how many-th position of a map is taken, in both directions, for at most `max_positions` of them."""
    every = 1
    while max_positions and math.prod(-(-size // every) for size in sizes) > max_positions:
        every += 1
    return every


def _extents(layer: keras.Layer) -> list[int]:
    """Height and width of what an output position sees."""
    return [(size - 1) * rate + 1 for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)]


class _Grid(NamedTuple):
    """The sampled output positions of a map, along both axes.

    places: where the windows of the positions begin in the padded inputs.
    weights: for how many positions each stands, over the mean.
    strides: the distance of places along each axis where the grid is regular.
    """

    places: tuple[np.ndarray, np.ndarray]
    weights: tuple[np.ndarray, np.ndarray]
    strides: tuple[int, int]
    is_regular: bool

    @property
    def starts(self) -> tuple[int, ...]:
        """The first place along each axis."""
        return tuple(int(places[0]) for places in self.places)


def _grid(layer: keras.Layer, input_shape: tf.TensorShape, max_positions: int | None) -> _Grid:
    """Every position, or every second one, about the centre of the map; where more are left out, with both ends.

    What padding adds is seen at the ends alone: positions there stand for themselves and not for their neighbours.
    """
    counts = output_map(layer, input_shape)
    every = sampling_step(counts, max_positions)
    numbers = [-(-count // every) for count in counts]
    is_regular = every <= 2 or min(numbers) < 4
    places, weights = [], []
    for count, number, stride in zip(counts, numbers, layer.strides, strict=True):
        if is_regular:
            positions = (count - 1 - (number - 1) * every) // 2 + every * np.arange(number)
            weight = np.ones(number)
        else:
            positions = np.rint(np.linspace(0, count - 1, number)).astype(int)
            weight = np.full(number, (count - 2) / (number - 2))
            weight[[0, -1]] = 1.0
        places.append(positions * stride)
        weights.append(weight * len(weight) / weight.sum())
    strides = tuple(every * stride for stride in layer.strides)
    return _Grid(tuple(places), tuple(weights), strides, is_regular)


def _gathered(layer: keras.Layer, inputs: tf.Tensor, grid: _Grid) -> tf.Tensor:
    """The patches [rows, d] at the positions of any grid, scaled by the roots of their weights."""
    shape = [-1]
    for axis in (0, 1):
        places, size, rate = grid.places[axis], layer.kernel_size[axis], layer.dilation_rate[axis]
        wanted = (places[:, None] + rate * np.arange(size)).ravel()
        if len(wanted) != inputs.shape[axis + 1] or np.any(np.diff(wanted) != 1):  # a slice with strides takes longer
            inputs = tf.gather(inputs, wanted, axis=axis + 1)
        shape += [len(places), size]
    if not grid.is_regular:
        roots = [
            np.sqrt(np.repeat(w, k)).astype(np.float32) for w, k in zip(grid.weights, layer.kernel_size, strict=True)
        ]
        inputs *= roots[0][:, None, None] * roots[1][:, None]
    channels = inputs.shape[-1]
    if is_pointwise(layer):
        return tf.reshape(inputs, [-1, channels])
    patches = tf.transpose(tf.reshape(inputs, [*shape, channels]), [0, 1, 3, 2, 4, 5])
    return tf.reshape(patches, [-1, math.prod(layer.kernel_size) * channels])


def _padded(layer: keras.Layer, inputs: tf.Tensor) -> tf.Tensor:
    """The inputs with the zeros of padding "same"."""
    if layer.padding == "same":
        geometry = zip(inputs.shape[1:3], _extents(layer), layer.strides, strict=True)
        pads = [_same_padding(*sizes) for sizes in geometry]
        if any(map(any, pads)):
            return tf.pad(inputs, [(0, 0), *pads, (0, 0)])
    return inputs


def _from(starts: tuple[int, ...], inputs: tf.Tensor) -> tf.Tensor:
    """The inputs without what lies above and left of the starts."""
    return inputs[:, starts[0] :, starts[1] :] if any(starts) else inputs


def _same_padding(size: int, extent: int, stride: int) -> tuple[int, int]:
    """What TensorFlow pads before and after one dimension for padding "SAME"."""
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2
