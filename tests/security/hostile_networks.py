"""`.keras` files as an attacker makes them: a good one, with its configuration, weights or archive changed."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
DATASET = "layers/dense/vars/0"  # of the weights: the kernel of `network`


def network(**options: Any) -> keras.Model:
    """Four numbers in, two out."""
    inputs = keras.Input((4,), name="numbers")
    return keras.Model(inputs, keras.layers.Dense(2, name="dense", **options)(inputs))


def members_of(model: keras.Model, folder: Path) -> dict[str, bytes]:
    """What Keras puts into the model's file."""
    path = folder / "good.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_archive(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_config(folder: Path, change: Callable[[dict], Any], model: keras.Model | None = None) -> Path:
    """The file of a model whose configuration `change` has changed."""
    members = members_of(model or network(), folder)
    config = json.loads(members[CONFIG])
    change(config)
    return write_archive(folder / "hostile.keras", members | {CONFIG: json.dumps(config).encode()})


def layer_in(config: dict) -> dict:
    """The Dense layer's part of the configuration of `network`."""
    return config["config"]["layers"][1]


def with_weights(folder: Path, change: Callable[[h5py.File], None]) -> Path:
    """The file of `network` whose HDF5 file `change` has changed."""
    members = members_of(network(), folder)
    stream = io.BytesIO(members[WEIGHTS])
    with h5py.File(stream, "r+") as file:
        change(file)
    return write_archive(folder / "hostile.keras", members | {WEIGHTS: stream.getvalue()})


def external_storage(secret: Path) -> Callable[[h5py.File], None]:
    """The kernel's numbers are the bytes of another file."""

    def change(file: h5py.File) -> None:
        shape = file[DATASET].shape
        del file[DATASET]
        file.create_dataset(DATASET, shape, "float32", external=[(str(secret), 0, 4 * int(np.prod(shape)))])

    return change


def virtual(other: Path) -> Callable[[h5py.File], None]:
    """The kernel is a view of a dataset of another HDF5 file."""

    def change(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(file[DATASET].shape, "float32")
        layout[:] = h5py.VirtualSource(str(other), "secret", file[DATASET].shape)
        del file[DATASET]
        file.create_virtual_dataset(DATASET, layout)

    return change


def linked(other: Path) -> Callable[[h5py.File], None]:
    """The kernel is a link to a dataset of another HDF5 file."""

    def change(file: h5py.File) -> None:
        del file[DATASET]
        file[DATASET] = h5py.ExternalLink(str(other), "secret")

    return change
