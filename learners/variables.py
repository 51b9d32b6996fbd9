"""A network's variables by their paths: taken out, and put back if they are the same network's."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from utils.errors import InputError


def named_arrays(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    """Variable path -> value."""
    return {variable.path: np.asarray(variable.value) for variable in variables}


def restore_variables(variables: Sequence[keras.Variable], arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Assigns all variables or none; InputError as `check_variables`."""
    check_variables(variables, arrays, source)
    for variable in variables:
        variable.assign(arrays[variable.path])


def check_variables(variables: Sequence[keras.Variable], arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Raises InputError where names or shapes differ; the first three differences are named."""
    wanted = {variable.path: tuple(variable.shape) for variable in variables}
    found = {path: array.shape for path, array in arrays.items()}
    paths = list(wanted) + [path for path in found if path not in wanted]
    different = [
        f"{path}: {found.get(path, 'missing')} there, {wanted.get(path, 'missing')} here"
        for path in paths
        if found.get(path) != wanted.get(path)
    ]
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        hint = _hint_of_classes(variables, found)
        raise InputError(f"{source} holds another network. {'; '.join(different[:3])}{more}{hint}")


def _hint_of_classes(variables: Sequence[keras.Variable], found: Mapping[str, tuple[int, ...]]) -> str:
    """What to do where nothing but the last layer differs, and of that nothing but the number of outputs."""
    wanted = {variable.path: tuple(variable.shape) for variable in variables}
    different = [path for path in wanted if found.get(path) != wanted[path]]
    is_last = {path.rpartition("/")[0] for path in different} == {variables[-1].path.rpartition("/")[0]}
    if not is_last or wanted.keys() != found.keys() or any(found[path][:-1] != wanted[path][:-1] for path in different):
        return ""
    path = variables[-1].path
    return (
        f". It has {found[path][-1]} classes, not {wanted[path][-1]}: with a net script at ILSVRC-12 "
        "--keras_weights FILE --keras_weights_body_only keeps all but the classifier"
    )
