"""`--keras_weights` of a stranger's HDF5 file: it cannot make the program read another file."""

import types

import h5py
import keras
import numpy as np
import pytest

from nets.keras_weights import _filled
from utils.errors import InputError

KERNEL = "model_weights/dense/net/dense/kernel"  # Keras': group of the layer, then path of the variable


def build(**_):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")], name="net")


APPLICATION = types.SimpleNamespace(build=build, features=4, options={}, title="a network")
TARGET = types.SimpleNamespace(counterpart=APPLICATION, image_size=32, name="ours")


@pytest.fixture
def weights(tmp_path):
    """A whole model's HDF5 file as Keras writes it, and beside it a file of secrets."""
    model = build()
    model.save(tmp_path / "net.h5")
    np.testing.assert_array_equal(_filled(tmp_path / "net.h5", TARGET).get_weights()[0], model.get_weights()[0])
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.ones((4, 2), np.float32)
    with h5py.File(tmp_path / "other.h5", "w") as other, h5py.File(tmp_path / "net.h5") as mine:
        mine.copy("model_weights", other)
    return tmp_path / "net.h5"


def external_storage(file, folder):
    del file[KERNEL]
    file.create_dataset(KERNEL, (4, 2), "float32", external=[(str(folder / "secret.h5"), 0, 32)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((4, 2), "float32")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "kernel", (4, 2))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def linked(file, folder):
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink(str(folder / "secret.h5"), "kernel")


def linked_as_a_whole(file, folder):
    del file["model_weights"]
    file["model_weights"] = h5py.ExternalLink(str(folder / "other.h5"), "model_weights")


@pytest.mark.parametrize("change", [external_storage, virtual, linked, linked_as_a_whole])
def test_weights_that_are_the_content_of_another_file_are_refused(weights, tmp_path, change):
    with h5py.File(weights, "r+") as file:
        change(file, tmp_path)
    with pytest.raises(InputError, match=r"--keras_weights .*net\.h5 must hold the weights of keras.applications' a "):
        _filled(weights, TARGET)
