"""TensorFlow's SavedModel: a folder that TensorFlow Serving and TensorFlow itself run without Keras."""

import os
import shutil
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from utils.errors import RunError, first_line
from utils.quiet import quiet_stderr


class _Served(tf.Module):
    """The network as one function of a batch; Keras' own export keeps every variable twice."""

    def __init__(self, model: keras.Model, example_shape: tuple[int, ...]):
        super().__init__()
        self.kept = [variable.value for variable in model.variables]
        inputs = tf.TensorSpec([None, *example_shape], model.inputs[0].dtype, name="input")
        self.serve = tf.function(lambda input: model(input, training=False), input_signature=[inputs])


def write_saved_model(model: keras.Model, path: Path, example_shape: tuple[int, ...]) -> None:
    """Writes the folder `path`, whole or not at all; its signature `serving_default` takes `input` [B, ...].

    Raises:
        OSError, RunError: the disk is full or refuses to be written.
    """
    temporary, old = (path.with_name(f".{path.name}.{word}") for word in ("partial", "old"))
    for rest in (temporary, old):
        shutil.rmtree(rest, ignore_errors=True)
    served = _Served(model, example_shape)
    served.serve.get_concrete_function()  # what goes wrong after this is the disk's
    try:
        with quiet_stderr():
            options = tf.saved_model.SaveOptions(save_debug_info=False)
            tf.saved_model.save(served, os.fspath(temporary), {"serving_default": served.serve}, options)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    except tf.errors.OpError as error:
        raise RunError(f"cannot write {path}: {first_line(error)}") from error
    finally:
        for rest in (temporary, old):
            shutil.rmtree(rest, ignore_errors=True)


class SavedModelRunner:
    """Runs the folder that `write_saved_model` wrote."""

    def __init__(self, path: Path):
        self._loaded = tf.saved_model.load(os.fspath(path))
        self._serve = self._loaded.signatures["serving_default"]

    def __call__(self, examples: np.ndarray) -> np.ndarray:
        return next(iter(self._serve(input=tf.constant(examples)).values())).numpy()
