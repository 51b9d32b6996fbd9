"""The values of a network as chunks, in one of the four kinds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from export.trim.chunks import FLAT, ChunkInfo, Models, best_axis, encode_indices, encode_numbers
from export.trim.codebook import Codebook, assign, assign_balanced, fit_codebook, root_mean_square
from export.trim.kinds import CODEBOOKS, CodebookKind
from export.trim.storage import Stored, Use, halved

OWN = -1  # the tensor has a chunk of its own
SMALLEST_SCALE = 1e-30  # well above what float32 loses


class TensorInfo(NamedTuple):
    """What the table of a file says of a variable."""

    dtype: str
    shape: tuple[int, ...]
    chunk: int | tuple[float]  # number of a shared chunk, OWN, or the value of all


class Content(NamedTuple):
    """A file's parts, besides the configuration of its network."""

    tensors: Sequence[TensorInfo]
    num_shared: int  # chunks of several variables, which come first
    chunks: Sequence[ChunkInfo]
    levels: Sequence[np.ndarray]  # of each codebook
    data: Sequence[bytes]  # of each chunk


def encode(variables: Sequence[Stored], values: str) -> Content:
    """All `variables` in the kind `values` (`kinds.VALUES`)."""
    groups: dict[tuple[str, str], list[np.ndarray]] = {}
    shapes = [(stored.values.dtype.name, stored.values.shape) for stored in variables]
    tensors = []
    for stored, (dtype, shape) in zip(variables, shapes, strict=True):
        if stored.constant is not None:
            chunk: int | tuple[float] = (stored.constant,)
        elif stored.is_kernel:
            chunk = OWN
        else:
            numbers = stored.values if values == "float32" else halved(stored.values)
            key = (numbers.dtype.name, stored.name)
            chunk = list(groups).index(key) if key in groups else len(groups)
            groups.setdefault(key, []).append(numbers.ravel())
        tensors.append(TensorInfo(dtype, shape, chunk))
    models = Models()
    chunks = [encode_numbers(np.concatenate(parts), FLAT, models) for parts in groups.values()]
    kernels = [stored for stored in variables if stored.is_kernel]
    own, levels = _encode_kernels(kernels, values, models)
    chunks += own
    return Content(tensors, len(groups), [info for info, _ in chunks], levels, [data for _, data in chunks])


def _encode_kernels(
    kernels: Sequence[Stored], values: str, models: Models
) -> tuple[list[tuple[ChunkInfo, bytes]], list[np.ndarray]]:
    """The chunk of each kernel, and the levels of the codebooks."""
    kind = CODEBOOKS.get(values)
    scaled = {} if kind is None else {n: s for n, kernel in enumerate(kernels) if (s := _scaled(kernel)) is not None}
    books, levels = ({}, []) if kind is None or not scaled else _codebooks(scaled, kind)
    chunks = []
    for number, kernel in enumerate(kernels):
        if kind is not None and number in scaled:
            chunks.append(_encode_with_codebook(kernel, *scaled[number], *books[number], kind.rate, models))
        else:
            numbers = kernel.values if values == "float32" else halved(kernel.values)
            chunks.append(encode_numbers(numbers, best_axis(kernel.values != 0), models))
    return chunks, levels


def _scaled(kernel: Stored) -> tuple[float, np.ndarray] | None:
    """Root mean square of the weights that are not 0, and all of them divided by it; None where no codebook will do."""
    numbers = kernel.values.astype(np.float64)
    nonzero = numbers[numbers != 0]
    if not (len(nonzero) and np.isfinite(nonzero).all()):
        return None
    scale = root_mean_square(nonzero)
    if scale < SMALLEST_SCALE or np.abs(nonzero).max() > np.finfo(np.float32).max / 2:
        return None
    return scale, numbers / scale


def _codebooks(
    scaled: dict[int, tuple[float, np.ndarray]], kind: CodebookKind
) -> tuple[dict[int, tuple[int, Codebook]], list[np.ndarray]]:
    """Kernel's number -> number of its codebook and the codebook; and the levels of all of them."""
    nonzero = {number: values[values != 0] for number, (_, values) in scaled.items()}
    if kind.is_shared:
        book = fit_codebook(np.concatenate(list(nonzero.values())), kind.size, kind.rate, kind.largest_level)
        return dict.fromkeys(scaled, (0, book)), [book.levels]
    books = {n: fit_codebook(values, kind.size, kind.rate, kind.largest_level) for n, values in nonzero.items()}
    return {n: (place, book) for place, (n, book) in enumerate(books.items())}, [b.levels for b in books.values()]


def _encode_with_codebook(
    kernel: Stored, scale: float, values: np.ndarray, number: int, book: Codebook, rate: float, models: Models
) -> tuple[ChunkInfo, bytes]:
    shape = values.shape
    if kernel.use is Use.LOOKED_UP:
        indices = np.zeros(shape, np.int64)
        indices[values != 0] = assign(values[values != 0], book, rate)
    elif kernel.use is Use.BY_CHANNEL:
        indices = assign_balanced(values.reshape(1, -1, shape[-2] * shape[-1]), book, rate).reshape(shape)
    else:
        by_position = values.reshape(-1, *shape[-2:]).transpose(1, 0, 2)
        indices = assign_balanced(by_position, book, rate).transpose(1, 0, 2).reshape(shape)
    info, data = encode_indices(values, indices, number, len(book.levels), best_axis(values != 0), models)
    return info, np.float32(scale * book.step).astype("<f4").tobytes() + data
