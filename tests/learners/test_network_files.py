import keras
import numpy as np
import pytest

from learners.network_files import load_network
from utils.errors import InputError


def _network(classes=3, channels=2, **options):
    images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(channels, 3, padding="same", name="conv", **options)(images)
    x = keras.layers.BatchNormalization(name="norm", epsilon=1e-3)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, keras.layers.Dense(classes, name="fc")(x))


def test_the_weights_of_the_same_network_are_copied(tmp_path):
    kept, model = _network(), _network()
    kept.save(tmp_path / "kept.keras")
    load_network(tmp_path / "kept.keras", model)
    np.testing.assert_array_equal(model.get_layer("fc").kernel, kept.get_layer("fc").kernel)


def test_another_number_of_classes_says_how_to_keep_the_body(tmp_path):
    _network(classes=5).save(tmp_path / "five.keras")
    with pytest.raises(InputError, match=r"another network. fc/kernel.* It has 5 classes, not 3: .*weights_body_only"):
        load_network(tmp_path / "five.keras", _network())


def test_another_body_has_no_such_hint(tmp_path):
    _network(channels=4, classes=5).save(tmp_path / "wide.keras")
    with pytest.raises(InputError, match=r"holds another network. conv/kernel.* here and 5 more$"):
        load_network(tmp_path / "wide.keras", _network())


def test_layers_that_do_something_else_with_the_same_weights_make_another_network(tmp_path):
    _network(strides=2).save(tmp_path / "strides.keras")
    with pytest.raises(InputError, match=r"another network. conv: strides \(2, 2\) there, \(1, 1\) here"):
        load_network(tmp_path / "strides.keras", _network())
