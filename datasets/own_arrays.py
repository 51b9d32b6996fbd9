"""Own data in an .npz file: `x_train`, `y_train`, `x_test`, `y_test` and, if there, `x_val`, `y_val`."""

from collections.abc import Mapping, Sequence

import numpy as np

from datasets.own_labels import check_finite, class_indices, regression_targets
from datasets.own_memory import check_memory
from datasets.own_split import OwnSource
from utils.errors import InputError
from utils.npz_files import ArrayFile

_PARTS = {"train": "train", "validation": "val", "test": "test"}


def read_npz(path: str, task: str, input_shape: Sequence[int | None]) -> OwnSource:
    """The arrays of the file, checked against each other and against the network.

    Inputs keep their type, but float64 becomes float32. They get a last axis of length 1 where that is all that the
    network wants and they lack.

    Args:
        task: `classification` or `regression`.
        input_shape: of one of the network's inputs, without the batch; None fits any length.

    Raises:
        InputError: the file is no .npz, would need pickle, lacks an array, or an array is wrong.
    """
    arrays = _load(path)
    try:
        return _source(arrays, task, input_shape)
    except InputError as error:
        raise InputError(f"--own_data {path}: {error}") from error


def _source(arrays: dict[str, np.ndarray], task: str, input_shape: Sequence[int | None]) -> OwnSource:
    parts = {part: short for part, short in _PARTS.items() if f"x_{short}" in arrays}
    for short in parts.values():
        x, y = arrays[f"x_{short}"], arrays[f"y_{short}"]
        lengths = [len(array) if array.ndim else 0 for array in (x, y)]
        if lengths[0] != lengths[1] or not lengths[0]:
            raise InputError(
                f"x_{short} and y_{short} must have the same number of rows, at least one. "
                f"Received: {lengths[0]} and {lengths[1]}"
            )
    targets = {f"y_{short}": arrays[f"y_{short}"] for short in parts.values()}
    labels, names = (regression_targets(targets), ()) if task == "regression" else class_indices(targets)
    return OwnSource(
        # Taken out of `arrays`, so that what is converted is not held twice.
        samples={part: _samples(f"x_{short}", arrays.pop(f"x_{short}"), input_shape) for part, short in parts.items()},
        labels={part: labels[f"y_{short}"] for part, short in parts.items()},
        class_names=names,
    )


def _load(path: str) -> dict[str, np.ndarray]:
    """The arrays that count, by name."""
    try:
        with ArrayFile(path, deflated=True) as file:
            wanted = _wanted(path, file)
            needed = 2 * sum(file.num_bytes(name) for name in wanted)
            check_memory(needed, f"the arrays of {path}, held twice,", "save fewer samples")
            return {name: _array(path, name, file) for name in wanted}
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--own_data must be a readable .npz file. Received: {path} ({reason})") from error


def _wanted(path: str, there: Mapping[str, np.ndarray]) -> list[str]:
    validation = [f"{letter}_val" for letter in "xy"]
    wanted = ["x_train", "y_train", "x_test", "y_test", *(validation if there.keys() & set(validation) else [])]
    missing = [name for name in wanted if name not in there]
    if missing:
        raise InputError(
            f"{path} must hold x_train, y_train, x_test and y_test, and both or none of x_val and y_val. "
            f"Missing: {', '.join(missing)}. Received: {', '.join(sorted(there)) or 'no arrays'}"
        )
    return wanted


def _array(path: str, name: str, file: Mapping[str, np.ndarray]) -> np.ndarray:
    try:
        return file[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise InputError(
            f"{name} in {path} must be an array of numbers{' or strings' if name.startswith('y') else ''}. Received: "
            "Python objects, which only pickle can read, and a pickle can run any code; it is refused. Save samples of "
            "one shape with np.stack(...), labels with np.asarray(labels, dtype=int) or dtype=str"
        ) from error


def _samples(name: str, array: np.ndarray, input_shape: Sequence[int | None]) -> np.ndarray:
    """Inputs that fit the network."""
    if array.dtype.kind not in "buif" or array.ndim < 2:
        raise InputError(
            f"{name} must be real numbers [N, ...] of rank 2 or more. Received: {array.dtype} {list(array.shape)}"
        )
    own_shape = array.shape[1:]
    if len(input_shape) == array.ndim and input_shape[-1] == 1:
        array = array[..., None]
    sample_shape = array.shape[1:]
    fits = len(sample_shape) == len(input_shape) and all(
        length > 0 and wanted in (None, length) for length, wanted in zip(sample_shape, input_shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"a sample of {name} must have the network's input shape [{', '.join(map(str, input_shape))}]. "
            f"Received: {list(own_shape)}"
        )
    if array.dtype.kind == "f":
        if array.dtype.itemsize > 4:
            # What float32 cannot hold becomes infinity, which is told next.
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
        check_finite(name, array)
    return array
