"""A `.keras` file of a stranger's: nothing in it runs, no other file is read, and one clear error says what it is."""

import copy
import re
import zipfile

import h5py
import keras
import numpy as np
import pytest

from learners.network_files import read_model
from nets.given_network import read_keras_file
from tests.security.hostile_networks import (
    CONFIG,
    WEIGHTS,
    external_storage,
    layer_in,
    linked,
    members_of,
    network,
    virtual,
    with_config,
    with_weights,
    write_archive,
)
from utils import keras_files
from utils.errors import InputError
from utils.keras_files import build_network, load_keras_file


def refused(path) -> str:
    """What is said of a file that is not loaded, whichever flag names it."""
    with pytest.raises(InputError) as error:
        read_model(path)
    with pytest.raises(InputError):
        read_keras_file(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that is there once the code of `with_lambda` has run."""
    monkeypatch.setenv("CANARY", str(tmp_path / "ran"))
    return tmp_path / "ran"


def with_lambda(canary) -> keras.Model:
    """A network that makes the canary wherever its code runs."""
    inputs = keras.Input((4,), name="numbers")
    run = keras.layers.Lambda(lambda x: (open(__import__("os").environ["CANARY"], "w").close(), x)[1], name="code")
    model = keras.Model(inputs, keras.layers.Dense(2, name="dense")(run(inputs)))
    canary.unlink()
    return model


def test_python_code_in_a_file_runs_only_where_the_user_says_so(tmp_path, canary):
    with_lambda(canary).save(tmp_path / "code.keras")
    assert "must not have a Lambda layer" in refused(tmp_path / "code.keras")
    assert not canary.exists()
    load_keras_file(tmp_path / "code.keras", runs_code=True)(np.ones((1, 4), np.float32))
    assert canary.exists()


def test_code_that_hides_in_another_place_of_the_configuration_does_not_run(tmp_path, canary):
    hidden = keras.saving.serialize_keras_object(with_lambda(canary).get_layer("code"))["config"]["function"]
    assert hidden["class_name"] == "__lambda__"
    path = with_config(tmp_path, lambda config: layer_in(config)["config"].update(activation=hidden))
    assert "must not have a Lambda layer" in refused(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins.exec", "exec"),
        ("subprocess", "check_output"),
        ("keras_hub.anything", "run"),
        ("keras.utils", "get_file"),
        ("keras.utils", "plot_model"),
        ("keras.datasets.mnist", "load_data"),
        ("keras.src.utils.file_utils", "get_file"),
        ("kerasx.layers", "Dense"),
        (["os"], "system"),
    ],
)
def test_a_configuration_cannot_name_code_that_is_no_part_of_a_network(tmp_path, module, name):
    function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    path = with_config(tmp_path, lambda config: layer_in(config)["config"].update(activation=function))
    assert "must consist of Keras' layers and of registered classes" in (message := refused_by_learners(path))
    assert name in message
    a_class = {"module": module, "class_name": name, "config": {}, "registered_name": None}
    assert "must consist of" in refused_by_learners(
        with_config(tmp_path, lambda config: layer_in(config).update(a_class))
    )


def refused_by_learners(path) -> str:
    with pytest.raises(InputError) as error:
        read_model(path)
    return str(error.value)


def test_the_module_that_a_configuration_names_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    part = {"module": "evil", "class_name": "Layer", "registered_name": None}
    refused(with_config(tmp_path, lambda config: layer_in(config).update(part)))
    assert not (tmp_path / "ran").exists()


def test_layers_that_read_other_files_are_refused(tmp_path):
    foreign = {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/saved_model"}}
    path = with_config(tmp_path, lambda config: layer_in(config).update(foreign))
    assert "a TFSMLayer, which reads others" in refused(path)


def test_a_vocabulary_is_not_read_from_a_file_of_this_machine(tmp_path):
    (tmp_path / "secret.txt").write_text("one\ntwo\n")
    lookup = keras.layers.StringLookup(vocabulary=["one", "two"], name="dense")
    model = keras.Sequential([keras.Input((1,), dtype="string"), lookup])
    model.save(tmp_path / "good.keras")
    part = {"vocabulary": str(tmp_path / "secret.txt")}
    path = with_config(tmp_path, lambda config: layer_in(config)["config"].update(part), model)
    assert "cannot be read as a .keras model" in refused(path)


@pytest.mark.parametrize("change", [external_storage, virtual, linked], ids=lambda change: change.__name__)
def test_weights_cannot_be_the_content_of_another_file(tmp_path, change):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.arange(8, dtype=np.float32).reshape(4, 2)
    path = with_weights(tmp_path, change(tmp_path / "secret.h5"))
    assert "cannot be read as a .keras model" in refused(path)


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "assets/../../outside.txt", "assets\\..\\x"])
def test_an_archive_with_members_that_leave_their_directory_is_refused(tmp_path, name):
    path = write_archive(tmp_path / "hostile.keras", members_of(network(), tmp_path) | {name: b"out"})
    assert "a member outside of it" in refused(path)
    assert not (tmp_path.parent / "outside.txt").exists()


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_files, "EXPANSION_FLOOR", 1 << 20)
    monkeypatch.setattr(keras_files, "LONGEST_CONFIG", 1 << 20)
    members = members_of(network(), tmp_path)
    bomb = write_archive(tmp_path / "bomb.keras", members | {WEIGHTS: bytes(8 << 20)}, zipfile.ZIP_DEFLATED)
    assert 100 * bomb.stat().st_size < 7 << 20
    assert f"unpack to {(8 << 20) + len(members[CONFIG]) + len(members['metadata.json']):,}" in refused(bomb)
    long = write_archive(tmp_path / "long.keras", members | {CONFIG: b" " * (2 << 20)})
    assert "config.json must be at most 1,048,576 bytes. Received: 2,097,152" in refused(long)


def test_an_archive_of_very_many_members_or_of_two_with_one_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_files, "MOST_MEMBERS", 100)
    members = members_of(network(), tmp_path)
    many = {f"assets/{number}": b"" for number in range(98)}
    assert "at most 100 members. Received: 101" in refused(write_archive(tmp_path / "many.keras", members | many))
    path = write_archive(tmp_path / "twice.keras", members)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(CONFIG, b"{}")
    assert "two members of one name" in refused(path)


@pytest.mark.parametrize("opening", [b"[", b'{"config":'])
def test_a_configuration_nested_without_end_is_refused(tmp_path, opening):
    content = opening * 100_000
    path = write_archive(tmp_path / "deep.keras", members_of(network(), tmp_path) | {CONFIG: content})
    assert "nested too deeply" in refused(path)


@pytest.mark.parametrize("units", [10**7, 10**9, 10**18])
def test_a_network_that_is_far_larger_than_the_weights_in_its_file_is_refused(tmp_path, units):
    """Before anything is made of that size: the largest would be an error of TensorFlow's."""
    path = with_config(tmp_path, lambda config: layer_in(config)["config"].update(units=units))
    size = sum(len(content) for content in members_of(network(), tmp_path).values())
    assert re.search(r"its variables take more than the [\d,]+ bytes that they should", message := refused(path))
    assert abs(int(re.sub(r"\D", "", message.partition("more than the")[2].partition("bytes")[0])) - size) < 100


def test_layers_that_are_built_but_not_kept_do_not_count(tmp_path):
    """Bidirectional makes copies of the layer it is given; so the variables made are more than those in the file."""
    layers = [keras.Input((5, 64)), keras.layers.Bidirectional(keras.layers.LSTM(256)), keras.layers.Dropout(0.5)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.save(tmp_path / "good.keras")
    assert model.count_params() > 2**19
    loaded = load_keras_file(tmp_path / "good.keras")
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_network_of_a_checkpoint_or_trim_file_names_no_foreign_code_either():
    whole = keras.saving.serialize_keras_object(network())
    assert build_network(copy.deepcopy(whole), "it").count_params() == 4 * 2 + 2
    layer_in(whole)["module"] = "os"
    with pytest.raises(InputError, match="it must consist of Keras' layers .* of the module 'os'"):
        build_network(whole, "it")


def test_good_networks_of_many_kinds_of_layers_are_loaded(tmp_path):
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(2.0))(x)
    x = keras.activations.silu(layers.BatchNormalization()(x)) * 2.0 + 1.0
    x = layers.RandomFlip()(layers.GaussianNoise(0.1)(x))
    x = layers.TimeDistributed(layers.Dense(3, activation=keras.ops.tanh))(x)
    x = keras.Sequential([layers.Flatten(), layers.Dropout(0.1)])(x)
    model = keras.Model(inputs, layers.Dense(2, "softmax", dtype=keras.DTypePolicy("float32"))(x))
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)), "mse")
    model.save(tmp_path / "good.keras")
    images = np.ones((2, 8, 8, 3), np.float32)
    loaded = load_keras_file(tmp_path / "good.keras")
    np.testing.assert_array_equal(loaded(images, training=False), model(images, training=False))
