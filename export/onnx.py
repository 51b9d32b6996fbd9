"""ONNX files, written by tf2onnx; `export.runtimes` runs them."""

from pathlib import Path

import keras
import tensorflow as tf

from utils.files import write_atomically
from utils.quiet import quiet_stderr

OPSET = 18  # of 2022: understood by every onnxruntime since 1.14


def write_onnx(model: keras.Model, path: Path, example_shape: tuple[int, ...]) -> None:
    """Writes an .onnx file that takes batches of any size; its input is called `input`, in Keras' order of axes.

    Raises:
        Exception: of tf2onnx, where the network has what ONNX has not.
    """
    import tf2onnx

    inputs = tf.TensorSpec([None, *example_shape], model.inputs[0].dtype, name="input")
    function = tf.function(lambda input: model(input, training=False))
    with quiet_stderr():
        proto, _ = tf2onnx.convert.from_function(function, input_signature=[inputs], opset=OPSET)
    write_atomically(path, lambda temporary: temporary.write_bytes(proto.SerializeToString()))
