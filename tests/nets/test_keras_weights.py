"""`--keras_weights`: networks of keras.applications with random weights, and ours with the same."""

import functools
import importlib

import keras
import numpy as np
import pytest

from datasets.config import DataConfig
from nets import at_ilsvrc12
from nets.config import NetConfig, NetworkConfig
from nets.keras_weights import IMAGENET, GivenWeights, _classes_in
from utils.errors import InputError, RunError

CLASSES = 7
V1 = {"mobilenet_depth_mult": 0.25}
V2 = {"mobilenet_version": 2, "mobilenet_depth_mult": 0.35}
APPLICATIONS = {  # and how much larger the classifier's weights are, so that it is neither sure nor without a clue
    "v1": (keras.applications.MobileNet, {"alpha": 0.25}, 5.0),
    "v2": (keras.applications.MobileNetV2, {"alpha": 0.35}, 1.0),
    "resnet_50": (keras.applications.ResNet50, {}, 0.2),
}


def _theirs(name, size=32, **options):
    """Random weights, moving statistics included, of sizes that let images through."""
    build, width, certainty = APPLICATIONS[name]
    model = build(weights=None, input_shape=(size, size, 3), **{"classes": CLASSES, **width, **options})
    generator = np.random.default_rng(2)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            gain = 0.2 if variable.path.endswith("_3_bn/gamma") else 1  # else a ResNet's blocks add up to too much
            variable.assign(gain * generator.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean", "bias"):
            variable.assign(generator.normal(0.0, 0.1, variable.shape))
        elif variable.name == "kernel":
            is_depthwise = variable.shape[-1] == 1  # in maps of one pixel one weight of nine sees anything
            spread = 0.7 if is_depthwise else np.sqrt(2 / np.prod(variable.shape[:-1]))
            gain = certainty if "pred" in variable.path else 1
            variable.assign(generator.normal(0.0, gain * spread, variable.shape))
    return model


@functools.cache
def _small():
    return _theirs("v1")


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """Of MobileNet v1 with 7 classes."""
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    _small().save_weights(path)
    return path


def _helper(net, source, size=32, classes=CLASSES, body_only=False, **network):
    network = NetworkConfig(
        num_classes=classes, keras_weights=str(source), keras_weights_body_only=body_only, **network
    )
    data = DataConfig(disk="local", local_directory="/nowhere", image_size=size)
    module = importlib.import_module(f"nets.{net}_at_ilsvrc12")
    return module.ModelHelper(NetConfig(data=data, network=network, seed=5))


def _images(size=32):
    noise = np.random.default_rng(3).uniform(0, 255, (3, size, size, 3)).astype("float32")
    return noise * np.float32([0.3, 0.6, 1.0])[:, None, None, None]


def _check_equal(model, helper, theirs, size=32):
    images = _images(size)
    expected = np.asarray(theirs(helper.application.preprocess(images.copy())))
    assert np.ptp(expected, axis=0).max() > 0.01  # else equal outputs would say little
    inputs = (images - np.float32(helper.mean)) / np.float32(helper.std)
    np.testing.assert_allclose(keras.ops.softmax(model(inputs)), expected, atol=1e-4)


def test_mobilenet_v1_gives_the_outputs_of_theirs(small_file):
    helper = _helper("mobilenet", small_file, **V1)
    _check_equal(helper.build_model(), helper, _small())
    assert helper.has_trained_weights
    assert helper.weights_source == str(small_file)


def test_mobilenet_v1_gives_them_at_an_odd_size_too(tmp_path):
    theirs = _theirs("v1", size=45)
    theirs.save(tmp_path / "odd.keras")
    helper = _helper("mobilenet", tmp_path / "odd.keras", size=45, **V1)
    _check_equal(helper.build_model(), helper, theirs, size=45)


def test_mobilenet_v2_gives_the_outputs_of_theirs(tmp_path):
    theirs = _theirs("v2")
    theirs.save(tmp_path / "v2.keras")
    helper = _helper("mobilenet", tmp_path / "v2.keras", **V2)
    _check_equal(helper.build_model(), helper, theirs)


def test_resnet_50_gives_the_outputs_of_theirs_and_its_own_file_the_same_network(tmp_path):
    theirs = _theirs("resnet_50")
    theirs.save_weights(tmp_path / "resnet.weights.h5")
    helper = _helper("resnet", tmp_path / "resnet.weights.h5", resnet_size=50)
    model = helper.build_model()
    _check_equal(model, helper, theirs)
    assert model.get_layer("layer2.0.conv1").strides == (2, 2)
    model.save(tmp_path / "ours.keras")
    again = _helper("resnet", tmp_path / "ours.keras", resnet_size=50)
    assert again.identity() == helper.identity()
    assert again._given_weights.variant == {"is_keras_variant": True}


def test_a_file_of_ours_is_taken_for_a_network_without_published_weights(tmp_path):
    kept = _helper("mobilenet", "", mobilenet_depth_mult=0.3).build_model()
    kept.save(tmp_path / "kept.keras")
    model = _helper("mobilenet", tmp_path / "kept.keras", mobilenet_depth_mult=0.3).build_model()
    np.testing.assert_array_equal(model.get_layer("fc").kernel, kept.get_layer("fc").kernel)


def test_a_file_without_a_classifier_is_taken_for_the_body_alone(tmp_path):
    theirs, path = _theirs("v1", include_top=False), tmp_path / "notop.weights.h5"
    theirs.save_weights(path)
    model = _helper("mobilenet", path, body_only=True, **V1).build_model()
    images = _images() / 127.5 - 1
    features = keras.Model(model.input, model.get_layer("model.14").output)(images)
    np.testing.assert_allclose(features, np.mean(theirs(images), (1, 2)), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="Received: no classifier; --keras_weights_body_only"):
        _helper("mobilenet", path, **V1).build_model()


def test_the_classes_in_a_file_are_counted_also_where_they_are_as_many_as_features(tmp_path, small_file):
    path = tmp_path / "256.weights.h5"
    _theirs("v1", classes=256).save_weights(path)
    assert _classes_in(path, 256) == 256
    assert _classes_in(small_file, 256) == CLASSES


def test_a_conversion_that_gives_other_outputs_stops_the_run(small_file, monkeypatch):
    helper = _helper("mobilenet", small_file, **V1)
    wrong = helper.application._replace(preprocess=lambda images: images / 255)
    monkeypatch.setattr(type(helper), "application", wrong)
    with pytest.raises(RunError, match="gives other outputs than keras.applications' MobileNet"):
        helper.build_model()


@pytest.fixture
def given(monkeypatch):
    """Weights of seven classes as they would be read."""
    ours = _helper("mobilenet", "", **V1).build_model()
    weights = GivenWeights({variable.path: np.asarray(variable.value) for variable in ours.weights}, CLASSES, {})
    monkeypatch.setattr(at_ilsvrc12, "read_weights", lambda *_, **__: weights)
    return weights


def test_weights_of_another_number_of_classes_say_how_to_keep_the_body(given, small_file):
    with pytest.raises(InputError, match=r"data's, 10. Received: 7; --keras_weights_body_only keeps all but"):
        _helper("mobilenet", small_file, classes=10, **V1).build_model()


def test_the_body_alone_is_the_start_of_a_training(given):
    helper = _helper("mobilenet", IMAGENET, classes=10, body_only=True, **V1)
    first, second = helper.build_model(), helper.build_model()
    assert not helper.has_trained_weights
    assert first.output_shape == (None, 10)
    np.testing.assert_array_equal(first.get_layer("model.13.3").kernel, given.arrays["model.13.3/kernel"])
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)  # the classifier is drawn from the run's seed each time


def test_the_identity_is_that_of_the_values(given, monkeypatch):
    def identity(arrays):
        monkeypatch.setattr(at_ilsvrc12, "read_weights", lambda *_, **__: given._replace(arrays=arrays))
        return _helper("mobilenet", IMAGENET, classes=10, body_only=True, **V1).identity()["keras_weights"]

    same = dict(reversed(given.arrays.items()))
    changed = {**given.arrays, "fc/bias": given.arrays["fc/bias"] + 1}
    assert identity(given.arrays) == identity(same) != identity(changed)


@pytest.mark.parametrize(
    ("net", "network", "source", "message"),
    [
        ("resnet", {"resnet_size": 18}, IMAGENET, "ResNet-50, MobileNet v1 .* Received: resnet_18"),
        ("vgg", {}, IMAGENET, "Received: vgg_16"),
        ("mobilenet", {"mobilenet_depth_mult": 0.3}, IMAGENET, "Received: mobilenet_v1_0.3"),
        ("mobilenet", {}, IMAGENET, "data's, 7. Received: 1000"),
        ("mobilenet", {}, "nowhere.h5", "nowhere.h5', which is not there"),
        ("mobilenet", {}, "text.txt", r"must end in .keras, .h5, .hdf5. Received: .*text.txt"),
        ("alexnet", {}, "text.h5", "must be a .keras file of that network"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(tmp_path, net, network, source, message):
    for name in ("text.txt", "text.h5"):
        (tmp_path / name).write_text("text")
    path = source if source == IMAGENET else tmp_path / source
    with pytest.raises(InputError, match=message):
        _helper(net, path, size=64, **network)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("text.keras", "it is no zip archive, or not a whole one"),
        ("text.h5", "must hold the weights of keras.applications' MobileNet for mobilenet_v1_0.5"),
        ("small.weights.h5", "must hold the weights of keras.applications' MobileNet for mobilenet_v1_0.5"),
        ("dense.keras", "must hold MobileNet of keras.applications, or this program's mobilenet_v1_0.5. Received: an"),
        ("image.keras", "must hold MobileNet of keras.applications, or this program's mobilenet_v1_0.5. Received: an"),
    ],
)
def test_files_of_something_else_are_errors(tmp_path, small_file, file, message):
    path = tmp_path / file
    if file.startswith("text"):
        path.write_text("text")
    elif file.startswith("small"):
        path = small_file
    else:
        shape = (4,) if file.startswith("dense") else (32, 32, 3)
        layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(7)]
        keras.Sequential(layers).save(path)
    with pytest.raises(InputError, match=message):
        _helper("mobilenet", path, mobilenet_depth_mult=0.5).build_model()


def test_without_network_imagenet_says_that_a_file_will_do(monkeypatch):
    def fail(**options):
        raise OSError("URL fetch failure: no route to host")

    helper = _helper("mobilenet", IMAGENET, classes=1000, **V1)
    monkeypatch.setattr(type(helper), "application", helper.application._replace(build=fail))
    with pytest.raises(InputError, match="cannot be fetched: URL fetch failure.*elsewhere and give that file"):
        helper.build_model()
