"""A model file for any Keras program: no class of ours is needed to load it."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from utils.errors import InputError
from utils.files import write_atomically
from utils.keras_files import load_keras_file
from utils.keras_layers import all_layers, has_lambda, is_ours


def save_plain_model(model: keras.Model, path: str | Path) -> None:
    """Writes `model` to `path` (.keras) with stock batch norm layers in place of our own, outputs unchanged.

    The same network always gives the same bytes.

    Raises:
        InputError: a name that does not end in .keras.
        RunError: the disk is full; an older file at `path` stays.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise InputError(f"The name of a model file must end in .keras. Received: {path}")
    plain = plain_model(model)

    def write(temporary: Path) -> None:
        plain.save(temporary)
        _forget_dates(temporary)

    write_atomically(path, write)


def load_plain_model(path: Path, like: keras.Model) -> keras.Model:
    """The network that `save_plain_model` wrote; Lambda layers of the user's own run where `like` has some."""
    return load_keras_file(path, runs_code=has_lambda(like))


class KerasRunner:
    """Runs a network in TensorFlow, compiled; TensorFlow's threads are those of the whole process."""

    def __init__(self, model: keras.Model):
        self._run = tf.function(lambda examples: model(examples, training=False), reduce_retracing=True)

    def __call__(self, examples: np.ndarray) -> np.ndarray:
        return self._run(tf.constant(examples)).numpy()


def plain_model(model: keras.Model) -> keras.Model:
    """A copy of a functional or sequential `model`, nested ones included, with stock batch norm in place of our own.

    Names (but that of an unnamed input), configurations and weights are the same. Layers of other classes are copied as
    they are. A model without a batch norm of ours is returned itself.
    """
    if not any(_is_our_batch_norm(layer) for layer in all_layers(model)):
        return model
    copy = keras.models.clone_model(model, clone_function=_plain_layer, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def _plain_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(layer, keras.layers.Lambda):  # Keras makes none anew unless told that its code may run
        return layer
    layer_class = keras.layers.BatchNormalization if _is_our_batch_norm(layer) else type(layer)
    return layer_class.from_config(layer.get_config())


def _forget_dates(path: Path) -> None:
    """Writes a .keras file anew without the times at which it and its members were made."""
    with zipfile.ZipFile(path) as file:
        members = {member.filename: file.read(member) for member in file.infolist()}
    metadata = json.loads(members["metadata.json"])
    members["metadata.json"] = json.dumps(metadata | {"date_saved": "1980-01-01@00:00:00"}).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)  # of 1 January 1980, and stored as it is


def _is_our_batch_norm(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) and is_ours(type(layer))
