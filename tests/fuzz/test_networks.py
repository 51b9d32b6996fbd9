"""`.keras` files: damaged archives, configurations of other content, weights of other shapes.

A network that is described as larger than the memory is not refused (docs/reliability.md), so none is drawn here.
"""

import json
import re

import keras
import numpy as np
import pytest

from learners.network_files import load_network
from tests.fuzz.driver import fuzz, put
from tests.fuzz.mutations import json_file, mutated
from tests.security.hostile_networks import CONFIG, WEIGHTS, members_of, write_archive
from utils.keras_files import check_parts, read_config


def network():
    inputs = keras.Input((6, 6, 3), name="images")
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, keras.layers.Dense(3, kernel_regularizer="l2", name="dense")(x))


@pytest.fixture
def members(tmp_path):
    return members_of(network(), tmp_path)


LARGE = re.compile(rb"\d{5}|[1-9]e\+?\d")


def drawn_config(rng, config):
    while LARGE.search(content := json_file(rng, json.loads(config))):
        pass
    return content


def drawn(rng, members, folder):
    """A file of a network with something wrong: any bytes, its configuration or its weights."""
    kind = rng.randrange(4)
    changed = dict(members)
    if kind == 1:
        changed[WEIGHTS] = mutated(rng, [members[WEIGHTS]])
    elif kind > 1:
        changed[CONFIG] = drawn_config(rng, members[CONFIG])
    content = write_archive(folder / "drawn.keras", changed).read_bytes()
    return mutated(rng, [content]) if kind == 0 else content


def test_a_configuration_names_parts_of_networks_or_is_refused(tmp_path, members):
    path = tmp_path / "fuzzed.keras"

    def read(content):
        put(path, content)
        check_parts(read_config(path, str(path)), str(path))

    fuzz(lambda rng: drawn(rng, members, tmp_path), read, inputs=500, names=path.name)


def test_weights_are_taken_whole_or_not_at_all(tmp_path, members):
    path, model = tmp_path / "fuzzed.keras", network()
    before = [np.array(weight) for weight in model.get_weights()]

    def read(content):
        put(path, content)
        try:
            load_network(path, model)
        finally:
            after = model.get_weights()
            assert [array.shape for array in after] == [array.shape for array in before]
            assert all(np.isfinite(array).all() for array in after)

    fuzz(lambda rng: drawn(rng, members, tmp_path), read, inputs=100, names=path.name)
