import json

import keras
import numpy as np
import pytest

from datasets.config import DataConfig
from datasets.images import ImageArrays, ImageDataset
from export.config import ExportConfig
from export.keras_model import save_plain_model
from learners.config import RunConfig, RunOptions
from learners.full_precision import FullPrecisionLearner
from learners.network_files import load_network
from nets.config import NetConfig
from nets.layers import FusedBatchNormalization
from nets.model_helper import ModelHelper
from utils.errors import InputError
from utils.run_dir import RunDir


class Helper(ModelHelper):
    """Three training steps on noise; its layers have no names of their own."""

    model_name = "small"
    num_epochs = 1
    units = 3

    def build_model(self):
        inputs = keras.Input((6, 6, 3))
        x = keras.layers.ReLU()(FusedBatchNormalization()(keras.layers.Conv2D(4, 3, use_bias=False)(inputs)))
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(self.units)(x))

    def load_data(self):
        generator = np.random.default_rng(0)
        splits = [
            ImageArrays(
                generator.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8), (np.arange(count) % 3).astype(np.int32)
            )
            for count in (24, 6, 7)
        ]
        mean, std = np.full(3, 127.5, np.float32), np.full(3, 64, np.float32)
        return ImageDataset("noise", "noise", 3, *splits, mean=mean, std=std, crop_padding=0, flip=False)

    def learning_rate_at(self, step):
        return np.full(np.shape(step), 0.1)


class WiderHelper(Helper):
    units = 5


def learner(directory, helper=Helper, **options):
    config = RunConfig(
        RunOptions(quiet=True, **options), NetConfig(DataConfig(batch_size=8)), export=ExportConfig(formats="none")
    )
    run_dir = RunDir(directory)
    run_dir.open({})
    return FullPrecisionLearner(config, helper(config.net), run_dir)


def weights(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A saved network with weights that no seed gives."""
    directory = tmp_path_factory.mktemp("trained")
    model = learner(directory / "run").new_model()
    generator = np.random.default_rng(1)
    for variable in model.variables:
        variable.assign(generator.uniform(0.1, 1, variable.shape).astype(np.float32))
    save_plain_model(model, directory / "model.keras")
    return directory / "model.keras", weights(model)


def test_the_network_of_a_seed_is_the_same_each_time(tmp_path):
    first, again = (learner(tmp_path / name) for name in ("a", "b"))
    expected = weights(first.new_model())
    assert_same(weights(first.new_model()), expected)  # also the names, which Keras would go on counting
    assert_same(weights(again.new_model()), expected)
    other = weights(learner(tmp_path / "c", seed=1).new_model())
    assert any(not np.array_equal(other[path], expected[path]) for path in expected)


# load_network.


def test_a_saved_network_comes_back_bit_for_bit(tmp_path, trained):
    path, expected = trained
    model = learner(tmp_path / "run").new_model()
    load_network(path, model)
    assert_same(weights(model), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no model at"),
        (b"", "cannot be read as a .keras model: it is no zip archive, or not a whole one"),
        (b"hello", "cannot be read as a .keras model: it is no zip archive, or not a whole one"),
        (slice(0, 1000), "cannot be read as a .keras model: it is no zip archive, or not a whole one"),
        (slice(0, -1), "cannot be read as a .keras model"),
    ],
    ids=["missing", "empty", "text", "first part", "last byte missing"],
)
def test_a_file_that_is_no_model_is_named_and_nothing_is_changed(tmp_path, trained, content, message):
    path = tmp_path / "given.keras"
    if content is not None:
        path.write_bytes(trained[0].read_bytes()[content] if isinstance(content, slice) else content)
    model = learner(tmp_path / "run").new_model()
    before = weights(model)
    with pytest.raises(InputError) as error:
        load_network(path, model)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert_same(weights(model), before)


def test_a_directory_is_no_model(tmp_path):
    with pytest.raises(InputError, match="there is no model at"):
        load_network(tmp_path, learner(tmp_path / "run").new_model())


def test_another_network_is_refused_with_the_shapes(tmp_path, trained):
    model = learner(tmp_path / "run", WiderHelper).new_model()
    before = weights(model)
    with pytest.raises(
        InputError, match=r"model\.keras holds another network\. dense/kernel: \(4, 3\) there, \(4, 5\)"
    ):
        load_network(trained[0], model)
    assert_same(weights(model), before)


# Where the dense model comes from.


def source(directory):
    return json.loads((directory / "stages.json").read_text())["dense"]["source"]


def test_a_given_model_is_taken_without_training(tmp_path, trained):
    path, expected = trained
    model = learner(tmp_path / "run", save_path=str(path)).dense_model()
    assert_same(weights(model), expected)
    assert source(tmp_path / "run") == str(path)
    assert not (tmp_path / "run" / "dense" / "checkpoint.npz").exists()


def test_a_trained_model_is_kept_where_it_was_asked_for(tmp_path):
    kept = tmp_path / "kept" / "model.keras"
    report = learner(tmp_path / "run", save_path=str(kept)).run()
    assert source(tmp_path / "run") == "trained"
    assert report["training"]["iterations"] == 3
    again = learner(tmp_path / "again", save_path=str(kept)).run()
    assert again["dense"] == {"accuracy": report["dense"]["accuracy"], "source": str(kept)}
    assert again["training"] is None


def test_a_finished_dense_model_is_not_asked_for_again(tmp_path, trained):
    expected = weights(learner(tmp_path / "run", save_path=str(trained[0])).dense_model())
    gone = tmp_path / "gone.keras"
    assert_same(weights(learner(tmp_path / "run", save_path=str(gone)).dense_model()), expected)
    assert not gone.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(save_path="{other}"), "given.keras holds another network"),
        (dict(save_path="{text}"), "text.keras cannot be read as a .keras model"),
        (dict(save_path="model.ckpt"), "--save_path must end in .keras. Received: 'model.ckpt'"),
        (dict(model_http_url="ftp://host/model.keras"), "--model_http_url must begin with https://"),
        (dict(model_http_url="file:///etc/hostname"), "Received: 'file:///etc/hostname'"),
        (dict(model_http_url="http://host/model.keras"), "With --allow_plain_http it is fetched nevertheless"),
    ],
)
def test_a_wrong_source_is_known_before_any_work(tmp_path, options, message):
    save_plain_model(learner(tmp_path / "other", WiderHelper).new_model(), tmp_path / "given.keras")
    (tmp_path / "text.keras").write_text("hello")
    places = {"other": tmp_path / "given.keras", "text": tmp_path / "text.keras"}
    options = {name: value.format(**places) for name, value in options.items()}
    with pytest.raises(InputError) as error:
        learner(tmp_path / "run", **options).check()
    assert message in str(error.value)


# --model_http_url, through a server of our own.


def test_a_model_is_fetched_where_there_is_none(tmp_path, served, trained):
    (served.folder / "model.keras").write_bytes(trained[0].read_bytes())
    kept = tmp_path / "kept.keras"
    options = dict(model_http_url=f"{served.url}/model.keras", allow_plain_http=True, save_path=str(kept))
    model = learner(tmp_path / "run", **options).dense_model()
    assert_same(weights(model), trained[1])
    assert source(tmp_path / "run") == f"{served.url}/model.keras"
    (served.folder / "model.keras").unlink()
    learner(tmp_path / "again", **options).dense_model()
    assert source(tmp_path / "again") == str(kept)


def test_below_a_folder_the_network_s_own_file_is_fetched(tmp_path, served, trained):
    (served.folder / "small_at_noise.keras").write_bytes(trained[0].read_bytes())
    here = learner(tmp_path / "run", model_http_url=f"{served.url}/", allow_plain_http=True)
    assert_same(weights(here.dense_model()), trained[1])
    assert source(tmp_path / "run") == f"{served.url}/small_at_noise.keras"


@pytest.mark.parametrize(
    ("content", "checksum", "message"),
    [
        (None, "", "cannot be fetched: HTTP Error 404"),
        (b"<html>", "", "cannot be read as a .keras model"),
        (b"<html>", f"#sha256={'0' * 64}", "must have the SHA-256 000000"),
    ],
    ids=["missing", "page", "changed"],
)
def test_a_url_without_the_model_is_named_and_ends_no_stage(tmp_path, served, content, checksum, message):
    if content is not None:
        (served.folder / "model.keras").write_bytes(content)
    here = learner(tmp_path / "run", model_http_url=f"{served.url}/model.keras{checksum}", allow_plain_http=True)
    with pytest.raises(InputError) as error:
        here.dense_model()
    assert message in str(error.value)
    files = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert files == {"config.json", "run.lock"}


def test_a_model_with_other_layers_is_evaluated_as_it_is(tmp_path):
    images = keras.Input((6, 6, 3), name="images")
    flat = keras.layers.Flatten(name="flatten")(images)
    other = keras.Model(images, keras.layers.Dense(3, name="fc")(flat))
    other.layers[-1].bias.assign([0.0, 0.0, 100.0])  # always says 2
    other.save(tmp_path / "other.keras")
    here = learner(tmp_path / "other", save_path_eval=str(tmp_path / "other.keras"))
    assert here.evaluate()["accuracy"] == 2 / 7  # of the labels 0 1 2 0 1 2 0


def test_a_model_for_other_images_or_classes_is_not_evaluated(tmp_path):
    for shape, units in (((6, 8, 3), 3), ((6, 6, 3), 4)):
        images = keras.Input(shape, name="images")
        flat = keras.layers.Flatten(name="flatten")(images)
        path = tmp_path / "other.keras"
        keras.Model(images, keras.layers.Dense(units, name="fc")(flat)).save(path)
        here = learner(tmp_path / f"run{units}", save_path_eval=str(path))
        with pytest.raises(InputError, match=r"of this network and data. Received: .* in .*other.keras"):
            here.evaluate()


def test_a_model_for_images_of_any_size_is_evaluated(tmp_path):
    images = keras.Input((None, None, 3), name="images")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(images)
    keras.Model(images, keras.layers.Dense(3, name="fc")(x)).save(tmp_path / "any.keras")
    here = learner(tmp_path / "run", save_path_eval=str(tmp_path / "any.keras"))
    assert 0 <= here.evaluate()["accuracy"] <= 1
