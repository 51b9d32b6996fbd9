"""Gram matrices and pruning paths, shared: by several workers, each building a part, and by several runs, in a file."""

import contextlib
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.input_patches import as_matrix
from compressors.path_table import PathTable, read_paths
from compressors.pruning_path import DENSITIES, build_path
from compressors.regression import collect_grams, collect_parts
from compressors.second_moments import InputSample, KeptInputs, Moment
from learners.variables import named_arrays
from utils.errors import InputError
from utils.files import make_directory, write_atomically
from utils.lock import FileLock
from utils.npz_files import ArrayFile
from utils.workers import Workers, digest, from_first

_ORIGIN = "origin"  # the member of the .npz file that says what the paths in it were made from


class SharedPaths(NamedTuple):
    """A table of pruning paths, the seconds it took (waiting not counted), and whether the file had it."""

    table: PathTable
    seconds: float
    was_there: bool


def shared_grams(
    model: keras.Model, images: np.ndarray, workers: Workers, kept: Mapping[str, KeptInputs] | None = None
) -> dict[str, Moment]:
    """`collect_grams` over all images [N, ...], kernel path -> H [d, d], or inputs where `kept` says so.

    Every worker takes a share of the images; matrices are summed, inputs put one behind the other.
    """
    kept = kept or {}
    if workers.size == 1:
        return collect_grams(model, [images], kept=kept)
    first, end = len(images) * workers.rank // workers.size, len(images) * (workers.rank + 1) // workers.size
    # Where there are more workers than images, one image is enough to know the matrices' names and sizes.
    share = 1.0 if end > first else 0.0
    parts = collect_parts(
        model, [images[first : max(end, first + 1)]], kept, first_image=first if share else len(images)
    )
    grams: dict[str, Moment] = {}
    for path, part in parts.items():
        if path in kept:
            grams[path] = kept[path].sample(np.concatenate(workers.all_gather(part)))
        else:
            grams[path] = workers.sum([tf.constant(part * share)])[0].numpy()
    return grams


def build_paths(
    kernels: Sequence[keras.Variable], grams: Mapping[str, Moment], score: str, workers: Workers
) -> PathTable:
    """The table of these kernels' pruning paths, each built by one worker and given to the others."""
    owners = share_out([path_cost(kernel, grams[kernel.path]) for kernel in kernels], workers.size)
    mine = {
        kernel.path: build_path(grams[kernel.path], kernel.numpy(), score=score, name=kernel.path)
        for kernel, owner in zip(kernels, owners, strict=True)
        if owner == workers.rank
    }
    paths = {
        kernel.path: workers.broadcast(mine.get(kernel.path), root=owner)
        for kernel, owner in zip(kernels, owners, strict=True)
    }
    return PathTable(paths, grams, DENSITIES)


def path_cost(kernel: keras.Variable, gram: Moment) -> float:
    """Multiplications of a product of H and a kernel [d, c], of which a path takes hundreds: ddc, of inputs 2ndc."""
    inputs, outputs = as_matrix(kernel.value).shape
    rows = 2 * len(gram.rows) if isinstance(gram, InputSample) else inputs
    return float(inputs) * rows * outputs


def share_out(costs: Sequence[float], size: int) -> list[int]:
    """A worker for each cost: the dearest first, each to whom has least so far (Graham 1969), ties to the lowest rank.

    The most that a worker gets is below 4/3 of the least possible.
    """
    loads, owners = [0.0] * size, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        owners[index] = min(range(size), key=loads.__getitem__)
        loads[owners[index]] += costs[index]
    return owners


def paths_origin(model: keras.Model, images: np.ndarray, kept: Mapping[str, KeptInputs], score: str) -> str:
    """A short hash of all that Gram matrices and paths depend on: the network, the images, how they are used.

    Args:
        images: the calibration images [N, ...].
        kept: the layers that keep inputs in place of the matrix, and which.
        score: as in `build_path`.
    """
    chosen = {f"kept/{path}": inputs.numbers for path, inputs in kept.items()}
    rules = {"densities": np.asarray(DENSITIES), "score": np.array(score)}
    weights = [v for v in model.variables if keras.backend.is_float_dtype(v.dtype)]  # not what random numbers come from
    return digest({**named_arrays(weights), **chosen, **rules, "images": np.asarray(images)})


def shared_table(
    file: Path,
    kernels: Sequence[keras.Variable],
    origin: str,
    build: Callable[[], PathTable],
    workers: Workers,
    say: Callable[[str], None] = lambda line: None,
) -> SharedPaths:
    """The table of `file` where it is of this origin, else the one that `build` gives, which then lies there.

    Of several runs that begin together one builds, and the others wait for it; where it dies the next one builds.

    Args:
        kernels: of the dense network.
        origin: from `paths_origin`.
        say: is told where there is something to wait for.

    Raises:
        InputError: the file is no table of pruning paths, or damaged.
    """

    def in_file() -> SharedPaths | None:
        started = time.perf_counter()
        found = from_first(workers, lambda: _read(file, origin))
        table = None if found is None else PathTable(*found)
        if table is None or not table.is_of(kernels):
            return None
        return SharedPaths(table, time.perf_counter() - started, True)

    if (known := in_file()) is not None:
        return known
    with _one_at_a_time(file, say) if workers.is_first else contextlib.nullcontext():
        if (known := in_file()) is not None:
            return known
        started = time.perf_counter()
        table = build()
        if workers.is_first:
            _save(table, file, origin)
        return SharedPaths(table, time.perf_counter() - started, False)


def check_paths_file(file: Path) -> None:
    """Raises InputError for a file that is no table of pruning paths and must not be written over."""
    if file.suffix != ".npz":
        raise InputError(f"--ws_paths must end in .npz. Received: {str(file)!r}")
    if file.exists():
        _read_origin(file)


def _read(file: Path, origin: str) -> tuple | None:
    """What `read_paths` gives; None where there is no file, or one of another origin."""
    if not file.exists() or _read_origin(file) != origin:
        return None
    return read_paths(file)


def _read_origin(file: Path) -> str | None:
    """What the paths in the file were made from; None where it does not say, as that of a run of its own."""
    try:
        with ArrayFile(file) as arrays:
            if "densities" not in arrays:
                raise ValueError("it has no densities")
            return str(arrays[_ORIGIN]) if _ORIGIN in arrays else None
    except (OSError, ValueError) as error:
        raise InputError(
            f"--ws_paths must be a table of pruning paths of ours, or a file that is not there yet; delete one that is "
            f"damaged. Received: {file} ({error})"
        ) from error


def _save(table: PathTable, file: Path, origin: str) -> None:
    """Writes the table and its origin, whole or not at all."""

    def write(temporary: Path) -> None:
        table.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive, archive.open(f"{_ORIGIN}.npy", "w") as stream:
            np.lib.format.write_array(stream, np.array(origin), allow_pickle=False)

    write_atomically(file, write)


@contextlib.contextmanager
def _one_at_a_time(file: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Within it no other run builds the paths of this file. The lock beside it is free again when its holder dies."""
    make_directory(file.parent)
    lock = FileLock(file.with_name(f"{file.name}.lock"))
    if not lock.take():
        say(f"another run is building the pruning paths {file}; waiting for it")
        lock.take(wait=True)
    try:
        yield
    finally:
        lock.free()
