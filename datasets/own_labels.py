"""The `y` arrays of own data as class indices or as targets of a regression."""

from collections.abc import Mapping

import numpy as np

from utils.errors import InputError

MOST_CLASSES = 1_000_000
_HINT = "labels must be class indices [N] or [N, 1], one-hot rows [N, classes], or names"


def class_indices(targets: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels `int32 [N]` by the same keys, and the classes' names by index.

    Strings are class names, sorted; one-hot rows are indices of their columns; numbers stay what they are, and their
    classes are named "0", "1" and so on up to the largest, or to the number of columns.

    Args:
        targets: arrays by their name for errors, such as `y_train`: strings, whole numbers or booleans `[N]` or
            `[N, 1]`, or one-hot `[N, C]`.

    Raises:
        InputError: an array is none of these, or is not of the others' kind.
    """
    columns = {name: _indices_or_names(name, array) for name, array in targets.items()}
    texts = [name for name, column in columns.items() if column.dtype.kind == "U"]
    if texts:
        numbers = [name for name in columns if name not in texts]
        if numbers:
            raise InputError(
                f"labels must all be names or all be numbers. Received: names in {texts[0]}, numbers in {numbers[0]}"
            )
        names = np.unique(np.concatenate(list(columns.values())))
        labels = {name: np.searchsorted(names, column).astype(np.int32) for name, column in columns.items()}
        return labels, tuple(str(name) for name in names)
    widths = {name: array.shape[1] for name, array in targets.items() if array.ndim == 2 and array.shape[1] > 1}
    if len(set(widths.values())) > 1:
        told = ", ".join(f"{width} in {name}" for name, width in widths.items())
        raise InputError(f"one-hot labels must have the same number of columns. Received: {told}")
    count = max([*widths.values(), *(int(column.max()) + 1 for column in columns.values())])
    return columns, tuple(map(str, range(count)))


def regression_targets(targets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Targets `float32 [N, k]` by the same keys, from finite numbers `[N]` or `[N, k]`.

    Raises:
        InputError: an array is of another kind, not finite, or has another k than the first one.
    """
    result = {}
    for name, array in targets.items():
        if array.dtype.kind not in "buif" or array.ndim not in (1, 2) or not array.size:
            raise InputError(
                f"{name} must be real numbers [N] or [N, k] for a regression. "
                f"Received: {array.dtype} {list(array.shape)}"
            )
        with np.errstate(over="ignore"):
            result[name] = array.astype(np.float32).reshape(len(array), -1)
        check_finite(name, result[name])
    outputs = {name: array.shape[1] for name, array in result.items()}
    if len(set(outputs.values())) > 1:
        told = ", ".join(f"{width} in {name}" for name, width in outputs.items())
        raise InputError(f"targets must have the same number of columns. Received: {told}")
    return result


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises InputError for the first row of `array [N, ...]` that holds NaN or infinity."""
    rows = 4096  # at a time, for the answer takes a byte for each number
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        finite = np.isfinite(part)
        if not finite.all():
            row = np.flatnonzero(~finite.reshape(len(part), -1).all(axis=1))[0]
            value = part[row][~finite[row]].flat[0]
            raise InputError(f"{name} must be finite float32. Received: {value} in row {start + row} (counted from 0)")


def _indices_or_names(name: str, array: np.ndarray) -> np.ndarray:
    """A column `[N]` of strings or of class indices `int32`."""
    if array.ndim not in (1, 2) or array.dtype.kind not in "USbuif":
        raise InputError(f"{_HINT}. Received: {name}, {array.dtype} {list(array.shape)}")
    is_column = array.ndim == 1 or array.shape[1] == 1
    if array.dtype.kind in "US":
        if not is_column:
            raise InputError(f"{_HINT}. Received: {name}, {array.dtype} {list(array.shape)}")
        column = array.reshape(-1)
        return np.char.decode(column, "utf-8", "backslashreplace") if array.dtype.kind == "S" else column
    return _whole_numbers(name, array.reshape(-1)) if is_column else _columns_of_ones(name, array)


def _whole_numbers(name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "b":
        return values.astype(np.int32)
    # NaN and infinity are wrong too: their remainder is NaN.
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero((values < 0) | (values >= MOST_CLASSES) | (np.remainder(values, 1) != 0))
    if len(wrong):
        raise InputError(
            f"{name} must be class indices, whole numbers from 0 to {MOST_CLASSES - 1} (numbers to be predicted need "
            f"--own_task regression). Received: {values[wrong[0]]} in row {wrong[0]} (counted from 0)"
        )
    return values.astype(np.int32)


def _columns_of_ones(name: str, rows: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero(((rows == 1).sum(axis=1) != 1) | ((rows != 0).sum(axis=1) != 1))
    if len(wrong):
        raise InputError(
            f"each row of {name} must be one-hot, a single 1 among zeros, as it has {rows.shape[1]} columns. "
            f"Received: {rows[wrong[0]].tolist()} in row {wrong[0]} (counted from 0)"
        )
    return np.argmax(rows == 1, axis=1).astype(np.int32)
