"""LiteRT (TensorFlow Lite) files, written by TensorFlow's converter; `export.runtimes` runs them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from utils.files import write_atomically
from utils.quiet import quiet_stderr

KINDS = ("float32", "sparse", "int8", "full-int8", "float16")
CALIBRATION_IMAGES = 200  # for the ranges of activations


def write_litert(
    model: keras.Model, path: Path, kind: str, example_shape: tuple[int, ...], calibration: np.ndarray
) -> None:
    """Writes a .tflite file for one example at a time.

    Args:
        kind: "float32"; "sparse": only non-zero weights and their places; "int8": weights in 8 bits, one scale a
            channel, activations quantized as they come (dynamic range); "full-int8": activations too, in ranges
            measured on `calibration`, inputs and outputs still floats; "float16": weights in 16 bits.
        calibration: training examples [N, ...].

    Raises:
        Exception: of TensorFlow's converter, where the network has what the format has not.
    """
    content = convert(model, kind, example_shape, calibration)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def convert(model: keras.Model, kind: str, example_shape: tuple[int, ...], calibration: np.ndarray) -> bytes:
    """The content of the file that `write_litert` writes."""
    assert kind in KINDS
    inputs = tf.TensorSpec([1, *example_shape], model.inputs[0].dtype, name="input")
    function = tf.function(lambda input: model(input, training=False)).get_concrete_function(inputs)
    # Calibration fails on a graph that reads variables.
    frozen = convert_variables_to_constants_v2(function)
    with quiet_stderr():  # which says that variables should be given; there are none left
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if kind == "sparse":
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    elif kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "full-int8":
        converter.representative_dataset = _one_by_one(calibration[:CALIBRATION_IMAGES])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with quiet_stderr():
        return converter.convert()


def _one_by_one(examples: np.ndarray) -> Callable[[], Iterator[list[np.ndarray]]]:
    return lambda: ([examples[i : i + 1]] for i in range(len(examples)))
