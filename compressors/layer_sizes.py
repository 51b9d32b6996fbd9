"""What calibration takes of a network: how many inputs each layer sees, and what of them fits into memory."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.graph import infer, is_prunable, run_graph
from compressors.input_patches import MAX_POSITIONS, as_matrix, output_map, sampling_step
from compressors.second_moments import KeptInputs
from utils.errors import InputError

GRAM_MEMORY = 4.0  # GB
FEWEST_ROWS = 64  # of a layer's inputs
FEWEST_IMAGES = 64  # for solving layers front to back
ACTIVATIONS = 4  # of the largest size, alive at a time where a network is walked: a branch, its shortcut, their sum
_POSITIONS = (256, 128, 64, 32, 16)
_SEED = 0  # which inputs a sample has does not depend on the run, nor on the number of workers
_BYTES = 4


class LayerSizes(NamedTuple):
    """A prunable layer's kernel as a matrix [inputs, outputs], and its output positions of one image.

    maps: for each place where the layer is used, the output map of which positions may be sampled, as (height, width);
        a Dense layer has (rows,) and all of them are taken.
    """

    path: str
    inputs: int
    outputs: int
    maps: tuple[tuple[int, ...], ...]

    def rows(self, max_positions: int | None) -> tuple[int, ...]:
        """Rows of `input_patches` of one image, at each use."""
        return tuple(
            math.prod(-(-size // (sampling_step(sizes, max_positions) if len(sizes) > 1 else 1)) for size in sizes)
            for sizes in self.maps
        )


class NetworkSizes(NamedTuple):
    """The prunable layers in the order of the graph, and the bytes of an image's largest activation (float32)."""

    layers: list[LayerSizes]
    activation: int


def network_sizes(model: keras.Model, image: np.ndarray | tf.Tensor) -> NetworkSizes:
    """The sizes for images like this one [H, W, C], found by running the network on it.

    Raises:
        InputError: the model is not functional.
    """
    maps: dict[str, list[tuple[int, ...]]] = {}
    shapes: dict[str, tuple[int, int]] = {}
    largest = 0

    def call(layer, args, kwargs):
        nonlocal largest
        if is_prunable(layer):
            path = layer.kernel.path
            shapes[path] = tuple(as_matrix(layer.kernel.value).shape)
            maps.setdefault(path, []).append(output_map(layer, args[0].shape))
        outputs = infer(layer, args, kwargs)
        largest = max(largest, *(math.prod(output.shape) * _BYTES for output in keras.tree.flatten(outputs)))
        return outputs

    run_graph(model, tf.convert_to_tensor(image)[None], call)
    return NetworkSizes([LayerSizes(path, *shapes[path], tuple(found)) for path, found in maps.items()], largest)


def kept_inputs(
    sizes: NetworkSizes,
    num_images: int,
    gram_memory: float = GRAM_MEMORY,
    max_positions: int | None = MAX_POSITIONS,
    without: Collection[str] = (),
) -> dict[str, KeptInputs]:
    """Which layers keep inputs X [n, d] in place of the Gram matrix H = X'X [d, d], and which inputs.

    All of them where they are fewer than d / 2, as a Dense layer's are that sees one row of an image: that is exact,
    and solving with them costs less. Then, while all layers together need more than `gram_memory`, the one whose share
    is largest keeps a sample of half its bytes, drawn from all images and positions alike.

    Args:
        num_images: there are.
        gram_memory: GB (10^9 bytes).
        max_positions, without: as in `collect_grams`.

    Raises:
        InputError: the memory is too small, see `check_gram_memory`.
    """
    layers = [layer for layer in sizes.layers if layer.path not in without]
    check_gram_memory(((layer.inputs, layer.outputs) for layer in layers), gram_memory)
    available = [num_images * sum(layer.rows(max_positions)) for layer in layers]
    is_kept = [2 * rows < layer.inputs for layer, rows in zip(layers, available, strict=True)]
    # A row of X takes what a row of H does.
    counts = [rows if few else layer.inputs for layer, rows, few in zip(layers, available, is_kept, strict=True)]
    needs = [_BYTES * layer.inputs * count for layer, count in zip(layers, counts, strict=True)]
    while sum(needs) > gram_memory * 1e9:
        index = max((index for index, count in enumerate(counts) if count > FEWEST_ROWS), key=needs.__getitem__)
        counts[index], is_kept[index] = max(counts[index] // 2, FEWEST_ROWS), True
        needs[index] = _BYTES * layers[index].inputs * counts[index]
    return {
        layer.path: _chosen(rows, total, layer.rows(max_positions))
        for layer, rows, total, keeps in zip(layers, counts, available, is_kept, strict=True)
        if keeps
    }


def check_gram_memory(shapes: Iterable[Sequence[int]], gram_memory: float) -> None:
    """Raises InputError where kernels of these shapes need more memory (GB) even with 64 inputs of each layer."""
    widths = [math.prod(shape[:-1]) for shape in shapes]
    least = sum(_BYTES * width * min(width, FEWEST_ROWS) for width in widths) / 1e9
    if least > gram_memory:
        raise InputError(
            f"--ws_gram_memory must be at least {_rounded_up(least)} for this network. Received: {gram_memory}"
        )


def _chosen(count: int, available: int, uses: tuple[int, ...]) -> KeptInputs:
    """So many inputs, the same ones in every run and for any number of workers."""
    numbers = np.random.default_rng(_SEED).choice(available, count, replace=False, shuffle=False)
    return KeptInputs(np.sort(numbers), available, uses)


def describe(kept: Mapping[str, KeptInputs]) -> str | None:
    """One line on the layers that keep a sample of their inputs; None where none does."""
    samples = [
        f"{path} ({len(inputs.numbers):,} of {inputs.available:,})"
        for path, inputs in kept.items()
        if len(inputs.numbers) < inputs.available
    ]
    return f"a sample of inputs, to stay within --ws_gram_memory: {', '.join(samples)}" if samples else None


def solvable(
    sizes: NetworkSizes, num_images: int, memory: float = GRAM_MEMORY, max_positions: int = MAX_POSITIONS
) -> tuple[int, int]:
    """How many images, and how many output positions of each, progressive re-solving has the memory for.

    The activations of all images are alive at a time, and the dense network's outputs of all layers: each of the two
    stays within `memory` (GB) where that leaves 64 images, and as many positions as every layer needs for two rows to
    an input (or as it has).

    Returns:
        Images, at most `num_images`; positions, at most `max_positions`.
    """
    fitting = int(memory * 1e9 / (ACTIVATIONS * sizes.activation))
    images = min(num_images, max(FEWEST_IMAGES, fitting))

    def target_bytes(positions: int) -> int:
        return images * _BYTES * sum(layer.outputs * sum(layer.rows(positions)) for layer in sizes.layers)

    def is_enough(positions: int) -> bool:
        return all(
            images * sum(layer.rows(positions)) >= min(2 * layer.inputs, images * sum(layer.rows(max_positions)))
            for layer in sizes.layers
        )

    chosen = max_positions
    for positions in _POSITIONS:
        if target_bytes(chosen) <= memory * 1e9:
            break
        if positions < chosen:
            if not is_enough(positions):
                break
            chosen = positions
    return images, chosen


def _rounded_up(gigabytes: float) -> float:
    """To two digits, so that what is asked for is enough."""
    digit = 10.0 ** (math.floor(math.log10(gigabytes)) - 1)
    return float(f"{math.ceil(gigabytes / digit) * digit:.6g}")
