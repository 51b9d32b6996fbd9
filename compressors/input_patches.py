"""What a layer sees at its output positions, as rows of numbers: all positions, or a sample of a large map's."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.graph import is_prunable
from utils.errors import InputError

MAX_POSITIONS = 256  # output positions used of an image; the neighbours of a position say nearly the same


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
