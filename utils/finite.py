"""Variables that hold numbers which are none: NaN or infinity."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf


def all_finite(variables: Sequence[keras.Variable]) -> tf.Tensor:
    """Whether no number of any variable is NaN or infinite, bool []; whole numbers always are finite."""
    values = [variable.value for variable in variables]
    checks = [tf.reduce_all(tf.math.is_finite(value)) for value in values if value.dtype.is_floating]
    return tf.reduce_all(checks) if checks else tf.constant(True)


def not_finite(variables: Sequence[keras.Variable]) -> str:
    """What is wrong with the first variable that holds NaN or infinity; empty where none does."""
    for variable in variables:
        if keras.backend.is_float_dtype(variable.dtype):
            array = np.asarray(variable.value, np.float32)
            wrong = array[~np.isfinite(array)]
            if len(wrong):
                return f"{wrong[0]} in {variable.path} ({len(wrong)} of its {array.size} numbers)"
    return ""
