"""Groups of a kernel's weights: their norms, and values of groups spread over the weights.

A group is a block of the kernel, HWIO or (in, out); the group types differ in nothing but the block's shape:

| group            | one group                         | its shape                            | order of the groups |
|------------------|-----------------------------------|--------------------------------------|---------------------|
| `Filters`, `3D`  | one output channel `[:, :, :, o]` | (H, W, I, 1)                         | o                   |
| `Channels`       | one input channel `[:, :, i, :]`  | (H, W, 1, O)                         | i                   |
| `2D`             | one spatial kernel `[:, :, i, o]` | (H, W, 1, 1)                         | i * O + o           |
| `4D`             | the whole layer                   | the kernel's                         |                     |
| `Rows`           | one output unit `[:, o]`          | (in, 1)                              | o                   |
| `Cols`           | one input unit `[i, :]`           | (1, out)                             | i                   |
| `Blocks`         | block_shape [repetitions, depth, height, width] | (height, width, depth, repetitions) | row-major |
"""

import math
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from compressors.parameters import CONV, DENSE, DEPTHWISE, Parameter
from utils.errors import InputError

Group = Literal["2D", "3D", "4D", "Filters", "Channels", "Rows", "Cols", "Blocks"]
Reduction = Literal["l1", "l2", "mean_abs", "max", "sum"]
Criterion = Literal["Mean_Abs", "Max"]
BlockShape = tuple[int, int, int, int]

_ALLOWED = {
    CONV: ("2D", "3D", "4D", "Filters", "Channels", "Blocks"),
    DEPTHWISE: ("2D", "3D", "4D", "Filters", "Channels"),
    DENSE: ("Rows", "Cols", "4D"),
}


def check_group(parameter: Parameter, group: str, block_shape: BlockShape | None = None) -> str:
    """The name of the group for the functions below: `group` itself, but `2D` for the filters of a depthwise kernel.

    A depthwise kernel HWIM has one output channel for each `[:, :, i, m]`.

    Raises:
        InputError: the parameter has no such groups (a bias has none), or blocks do not divide it.
    """
    allowed = _ALLOWED.get(parameter.kind, ())
    if group not in allowed:
        limit = f"must be one of {', '.join(allowed)}" if allowed else "is not possible: it is no kernel"
        raise InputError(f"the group of {parameter.path}, of shape {parameter.shape}, {limit}. Received: {group!r}")
    if parameter.kind == DEPTHWISE and group in ("3D", "Filters"):
        return "2D"
    if group == "Blocks" and not _divides(block_shape, parameter.shape):
        raise InputError(
            f"block_shape [repetitions, depth, height, width] must divide the shape (height, width, in, out) of "
            f"{parameter.path}, {parameter.shape}. Received: {block_shape}"
        )
    return group


def num_groups(shape: Sequence[int], group: str, block_shape: BlockShape | None = None) -> int:
    """How many groups a kernel of this shape has."""
    return math.prod(shape) // math.prod(_block(shape, group, block_shape))


def group_values(
    weights: tf.Tensor, group: str, reduction: Reduction, block_shape: BlockShape | None = None
) -> tf.Tensor:
    """One value for each group, `[G]` (traced): sum |w|, sqrt(sum w^2), mean |w|, max |w| or sum w.

    The gradient of `l2` at a group of zeros is 0.
    """
    lengths, inside = _split(weights.shape, group, block_shape)
    return tf.reshape(_REDUCTIONS[reduction](tf.reshape(weights, lengths), inside), [-1])


def spread(values: tf.Tensor, shape: Sequence[int], group: str, block_shape: BlockShape | None = None) -> tf.Tensor:
    """The tensor of this shape in which every weight has the value of its group; values are `[G]` (traced)."""
    lengths, inside = _split(shape, group, block_shape)
    thin = [1 if axis in inside else length for axis, length in enumerate(lengths)]
    return tf.reshape(tf.broadcast_to(tf.reshape(values, thin), lengths), shape)


def threshold_mask(
    weights: tf.Tensor, group: str, threshold: tf.Tensor | float, criterion: Criterion = "Mean_Abs"
) -> tf.Tensor:
    """The float32 mask that removes the groups whose mean |w| (`Max`: max |w|) is at most the threshold (traced)."""
    values = group_values(weights, group, "mean_abs" if criterion == "Mean_Abs" else "max")
    return spread(tf.cast(values > threshold, tf.float32), weights.shape, group)


def _divides(block_shape: BlockShape | None, shape: Sequence[int]) -> bool:
    if block_shape is None:
        return False
    return not any(length % part for length, part in zip(shape, _block(shape, "Blocks", block_shape), strict=True))


def _block(shape: Sequence[int], group: str, block_shape: BlockShape | None) -> tuple[int, ...]:
    """The shape of one group."""
    *spatial, inputs, outputs = shape
    if group == "Blocks":
        assert block_shape is not None, "blocks have a shape"
        repetitions, *depth_first = block_shape
        return (*depth_first[1:], depth_first[0], repetitions)
    return {
        "Filters": (*spatial, inputs, 1),
        "3D": (*spatial, inputs, 1),
        "Rows": (inputs, 1),
        "Channels": (*spatial, 1, outputs),
        "Cols": (1, outputs),
        "2D": (*spatial, 1, 1),
        "4D": tuple(shape),
    }[group]


def _split(shape: Sequence[int], group: str, block_shape: BlockShape | None) -> tuple[list[int], list[int]]:
    """The shape whose every axis runs either over groups or inside of one, and the axes of the latter kind.

    Neighbours of one kind are merged: TensorFlow is many times slower with axes that are not.
    """
    axes: list[list] = []
    for length, part in zip(shape, _block(shape, group, block_shape), strict=True):
        for size, is_inside in ((length // part, False), (part, True)):
            if axes and axes[-1][1] == is_inside:
                axes[-1][0] *= size
            elif size > 1:
                axes.append([size, is_inside])
    return [size for size, _ in axes], [axis for axis, (_, is_inside) in enumerate(axes) if is_inside]


def _l2(weights: tf.Tensor, axes: list[int]) -> tf.Tensor:
    squares = tf.reduce_sum(tf.square(weights), axes)
    is_zero = tf.equal(squares, 0)
    # The square root must not see a 0 at all: its gradient there is infinite, and 0 * inf is NaN.
    return tf.where(is_zero, 0.0, tf.sqrt(tf.where(is_zero, 1.0, squares)))


_REDUCTIONS = {
    "l1": lambda weights, axes: tf.reduce_sum(tf.abs(weights), axes),
    "l2": _l2,
    "mean_abs": lambda weights, axes: tf.reduce_mean(tf.abs(weights), axes),
    "max": lambda weights, axes: tf.reduce_max(tf.abs(weights), axes),
    "sum": tf.reduce_sum,
}
