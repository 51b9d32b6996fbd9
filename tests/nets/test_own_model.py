"""The user's own network: how it is read, what is refused and why, and what its helper makes of it."""

import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from datasets.config import DataConfig, OwnDataConfig
from nets.config import NetConfig, OwnModelConfig
from nets.own_model import OwnModelHelper
from tests.own_network_files import OWN_CODE
from utils.errors import InputError

layers = keras.layers
SHAPE = (4, 4, 1)


@pytest.fixture(autouse=True)
def caller(monkeypatch, tmp_path):
    """Where the user stands."""
    monkeypatch.setenv("TRIMFLOW_CALLER_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    loaded, known = set(sys.modules), dict(keras.saving.get_custom_objects())
    yield tmp_path
    for name in set(sys.modules) - loaded:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(known)


def helper(source, *, classes=3, labels=None, **options):
    """The helper of a network and 40 random images in so many classes, or with these labels."""
    generator = np.random.default_rng(0)
    labels = np.arange(40) % classes if labels is None else labels
    directory = source.parent if hasattr(source, "parent") else options.pop("directory")
    shape = options.pop("shape", SHAPE)
    integers = generator.integers(0, 256, (40, *shape), dtype=np.uint8)
    np.savez(directory / "data.npz", x_train=integers, y_train=labels, x_test=integers[:12], y_test=labels[:12])
    own_data = OwnDataConfig(source=str(directory / "data.npz"), rescale="1/255")
    own_model = OwnModelConfig(source=str(source), **options)
    return OwnModelHelper(NetConfig(DataConfig(batch_size=8), own_model=own_model, own_data=own_data, quiet=True))


def small(outputs=3, shape=SHAPE, end=None):
    """A convolution, batch norm and a dense layer; random statistics."""
    inputs = keras.Input(shape, name="images")
    x = layers.BatchNormalization()(layers.Conv2D(2, 3)(inputs))
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(x))
    model = keras.Model(inputs, layers.Dense(outputs, activation=end)(x))
    generator = np.random.default_rng(1)
    model.set_weights([generator.uniform(0.2, 1, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def saved(model, directory, name="net.keras"):
    model.save(directory / name)
    return directory / name


def write_module(directory, text, name="mine.py"):
    (directory / name).write_text("import keras\nimport numpy as np\nfrom keras import layers\n" + text)


def assert_same_weights(first, second):
    assert [v.path for v in first.variables] == [v.path for v in second.variables]
    for mine, theirs in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=mine.path)


# What comes of a network.


def test_the_network_of_a_file_has_its_weights_and_the_same_names_each_time(caller):
    given = small()
    own = helper(saved(given, caller))
    first = own.build_model()
    for found, expected in zip(first.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    small()  # Keras goes on counting
    assert_same_weights(own.build_model(), first)
    assert own.has_trained_weights
    assert own.weights_source == str(caller / "net.keras")


def test_a_function_that_draws_new_weights_gives_the_same_network_each_time(caller):
    write_module(
        caller,
        "def build():\n"
        "    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3)])\n"
        "    model.set_weights([np.random.default_rng().normal(size=w.shape) for w in model.get_weights()])\n"
        "    return model\n",
    )
    own = helper("mine:build", directory=caller)
    first = own.build_model()
    assert_same_weights(own.build_model(), first)
    assert own.model_name == "build"
    assert own.dataset_name == "data"


def test_a_function_opens_files_beside_its_module(caller):
    given = small()
    saved(given, caller)
    write_module(caller, "def load():\n    return keras.models.load_model('net.keras')\n")
    found = helper("mine:load", directory=caller).build_model()
    np.testing.assert_array_equal(found.get_weights()[0], given.get_weights()[0])


def test_sizes_that_the_network_leaves_open_are_those_of_the_data(caller):
    own = helper(saved(small(shape=(None, None, 1)), caller))
    model = own.build_model()
    assert model.input_shape == (None, *SHAPE)
    assert model.layers[1].output.shape == (None, 2, 2, 2)


def test_lists_of_one_input_and_output_are_taken_apart(caller):
    inputs = keras.Input(SHAPE, name="images")
    outputs = layers.Dense(3)(layers.Flatten()(inputs))
    own = helper(saved(keras.Model([inputs], {"classes": outputs}), caller))
    assert own.build_model()(np.zeros((2, *SHAPE), np.float32)).shape == (2, 3)


def test_models_within_the_model_keep_their_structure_and_paths_stay_after_a_copy(caller):
    inputs = keras.Input(SHAPE)
    block = keras.Sequential([layers.Conv2D(2, 3), layers.ReLU()], name="block")
    shared = layers.Dense(4, name="shared")
    x = shared(shared(layers.Flatten()(block(inputs)) @ np.ones((8, 4), np.float32)))
    own = helper(saved(keras.Model(inputs, layers.Dense(3)(x)), caller))
    model = own.build_model()
    assert [layer.name for layer in model.get_layer("block").layers] == ["conv2d", "re_lu"]
    assert sum(weight.path.startswith("shared") for weight in model.weights) == 2
    model.save(caller / "again.keras")
    assert_same_weights(helper(caller / "again.keras").build_model(), model)


def test_normalisation_learnt_from_data_still_normalises(caller):
    normalise = layers.Normalization()
    normalise.adapt(np.random.default_rng(0).normal(100, 7, (50, *SHAPE)).astype(np.float32))
    given = keras.Sequential([keras.Input(SHAPE), normalise, layers.Flatten(), layers.Dense(3)])
    example = np.full((2, *SHAPE), 100, np.float32)
    found = helper(saved(given, caller)).build_model()(example)
    np.testing.assert_allclose(found, given(example), rtol=1e-5, atol=1e-6)


def test_code_of_the_users_own_needs_no_registration_in_a_module(caller):
    write_module(
        caller,
        OWN_CODE + "def build():\n"
        "    return keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), Scale(), layers.Dense(3, bent)])\n",
    )
    model = helper("mine:build", directory=caller).build_model()
    model.save(caller / "kept.keras")
    kept = keras.models.load_model(caller / "kept.keras")
    assert type(kept.layers[2]).__name__ == "Scale"


def test_a_lambda_layer_is_loaded_where_the_user_says_so(caller):
    inputs = keras.Input((None, None, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(layers.Lambda(lambda x: x * 2.0)(inputs)))
    path = saved(keras.Model(inputs, layers.Dense(3)(x)), caller)
    with pytest.raises(InputError, match="Lambda layer, that is Python code in the file which would run on"):
        helper(path).build_model()
    assert helper(path, unsafe=True).build_model().input_shape == (None, *SHAPE)


def test_softmax_and_logits_have_the_same_loss_and_quality(caller):
    logits, softmax = small(), small(end="softmax")
    examples, labels = (
        np.random.default_rng(0).uniform(0, 1, (8, *SHAPE)).astype(np.float32),
        np.int32([0, 1, 2, 0] * 2),
    )
    found = []
    for name, model in (("logits", logits), ("softmax", softmax)):
        own = helper(saved(model, caller, f"{name}.keras"))
        outputs = tf.constant(np.asarray(own.build_model()(examples)))
        found.append([own.loss(labels, outputs).numpy(), *own.quality(labels, outputs).numpy()])
        assert own.gives_logits == (name == "logits")
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_the_quality_of_a_regression_is_minus_the_normalised_error(caller):
    labels = np.random.default_rng(0).normal(3, 10, 40)
    own = helper(saved(small(outputs=1), caller), labels=labels, task="regression")
    train = own.dataset.train.labels
    assert train.shape[1:] == (1,)
    mean = np.full_like(train, train.mean())
    assert np.mean(own.quality(train, tf.constant(mean))) == pytest.approx(-1, rel=1e-5)
    assert own.loss(train, tf.constant(train)).numpy() == 0
    assert own.metric_name == "minus normalised error"


@pytest.mark.parametrize(
    ("options", "accuracy", "words"),
    [
        ({}, 0.5, None),
        ({}, 0.39, "guessing among 3 classes: is its input prepared as in its training (--own_rescale"),
        ({"train_dense": True}, 0.2, "--own_epochs"),
    ],
)
def test_a_network_at_chance_level_is_told_what_may_be_wrong(caller, options, accuracy, words):
    advice = helper(saved(small(), caller), **options).advice({"accuracy": accuracy})
    assert advice == "" if words is None else words in advice


def test_a_regression_no_better_than_the_mean_is_told_so(caller):
    own = helper(saved(small(outputs=1), caller), labels=np.arange(40.0), task="regression")
    assert own.advice({"accuracy": -0.9}) == ""
    assert "always saying the mean" in own.advice({"accuracy": -1.0})


def test_the_recipe(caller):
    own = helper(saved(small(), caller), num_epochs=3.0)
    assert own.num_iterations == 3 * (len(own.dataset.train.labels) // 8)
    assert isinstance(own.optimizer(), keras.optimizers.Adam)
    assert isinstance(helper(caller / "net.keras", optimizer="sgd").optimizer(), keras.optimizers.SGD)
    for optimizer, rate in (("adam", 0.001), ("sgd", 0.01)):
        config = NetConfig(own_model=OwnModelConfig(optimizer=optimizer))
        assert OwnModelHelper.flag_defaults(config)["lrn_rate_init"] == rate


def test_identity_follows_the_content(caller):
    path = saved(small(), caller)
    before = helper(path).identity()
    assert helper(path).identity() == before
    changed = small()
    changed.layers[-1].bias.assign([9.0, 9.0, 9.0])
    saved(changed, caller)
    after = helper(path).identity()
    assert after["own_model"] != before["own_model"]
    assert after["own_data"] == before["own_data"]
    assert helper(path, labels=np.arange(40)[::-1] % 3).identity()["own_data"] != before["own_data"]


@pytest.mark.parametrize(("name", "expected"), [("my net (2).keras", "my_net_2_"), ("a.b-c_1.keras", "a.b-c_1")])
def test_names_are_safe_for_paths(caller, name, expected):
    assert helper(saved(small(), caller, name)).model_name == expected


def test_labels_that_are_numbers_may_leave_out_classes_of_the_network(caller):
    own = helper(saved(small(outputs=5), caller), classes=3)
    assert own.num_classes == 3
    assert helper(saved(small(outputs=1), caller), classes=2).dataset.num_classes == 2


# What is refused.


def refused(source, **options):
    def use():
        own = helper(source, **options)
        own.build_model()
        return own.dataset

    with pytest.raises(InputError) as error:
        use()
    return str(error.value)


@pytest.mark.parametrize(
    ("outputs", "labels", "words"),
    [
        (3, np.arange(40) % 5, r"an output for each class of the data, 5 \(0, 1, 2, 3, 4\). Received: 3"),
        (1, np.arange(40) % 3, "an output for each class of the data, 3 .* Received: 1"),
        (3, np.array(["cat", "dog"])[np.arange(40) % 2], r"an output for each class of the data, 2 \(cat, dog\)"),
    ],
)
def test_outputs_that_are_not_the_classes_are_refused(caller, outputs, labels, words):
    with pytest.raises(InputError, match=words):
        assert helper(saved(small(outputs=outputs), caller), labels=labels).dataset


def test_outputs_that_are_not_the_numbers_of_a_regression_are_refused(caller):
    message = refused(saved(small(outputs=3), caller), labels=np.ones((40, 2)), task="regression")
    assert "an output for each number of a label, 2. Received: 3" in message


def test_files_that_are_no_keras_files_are_refused(caller):
    (caller / "text.keras").write_text("no model")
    with zipfile.ZipFile(caller / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "x")
    whole = saved(small(), caller).read_bytes()
    (caller / "cut.keras").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(caller / "net.keras") as archive, zipfile.ZipFile(caller / "hollow.keras", "w") as hollow:
        hollow.writestr("config.json", archive.read("config.json"))
        hollow.writestr("metadata.json", archive.read("metadata.json"))
    (caller / "weights.h5").write_bytes(b"")
    (caller / "saved_model").mkdir()
    for name, words in {
        "text.keras": "cannot be read as a .keras model: it is no zip archive",
        "other.keras": "cannot be read as a .keras model: There is no item named 'config.json'",
        "cut.keras": "cannot be read as a .keras model",
        "hollow.keras": "cannot be read as a .keras model",
        "weights.h5": "keras.models.load_model('weights.h5').save('weights.keras')",
        "saved_model": "a directory; a SavedModel must be loaded by the program that made it",
        "data.npz": "must be a .keras file, or module:function",
    }.items():
        message = refused(caller / name)
        assert words in message
        assert str(caller / name) in message
        assert "\n" not in message


def test_a_file_with_unknown_classes_names_all_of_them(caller):
    class Double(layers.Layer):
        def call(self, x):
            return x * 2

    def bent(x):
        return keras.ops.maximum(x, 0.1 * x)

    inputs = keras.Input(SHAPE)
    x = layers.Dense(3, activation=bent)(Double()(layers.Flatten()(inputs)))
    message = refused(saved(keras.Model(inputs, x), caller))
    assert "needs Double, bent, which is not Keras' own" in message
    assert "give --own_model module:function instead" in message
    assert "@keras.saving.register_keras_serializable()" in message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere:build", "there is no module nowhere in"),
        ("mine:nothing", "there is no function nothing;"),
        ("mine:VALUE", "there is no function VALUE;"),
        ("mine:needs", "must be a function without arguments. Received: missing a required argument: 'size'"),
        ("mine:number", "must return a keras.Model. Received: int"),
        ("mine:fails", "failed: ZeroDivisionError: division by zero (--debug shows where)"),
        ("broken:build", "module broken failed: SyntaxError"),
        ("needy:build", "module needy needs a_package_that_is_not_there, which is not there"),
        ("utils:build", "the name utils is taken by"),
    ],
)
def test_functions_that_give_no_network_are_refused(caller, source, words):
    write_module(
        caller,
        "VALUE = 3\ndef needs(size): pass\ndef number(): return 3\ndef fails(): return 1 / 0\ndef build(): pass\n",
    )
    (caller / "broken.py").write_text("def build(:\n")
    (caller / "needy.py").write_text("import a_package_that_is_not_there\n")
    (caller / "utils.py").write_text("def build(): pass\n")
    message = refused(source, directory=caller)
    assert f"--own_model {source}" in message
    assert words in message
    assert "\n" not in message


def _two_outputs():
    inputs = keras.Input(SHAPE)
    x = layers.Flatten()(inputs)
    return keras.Model(inputs, [layers.Dense(3, name="left")(x), layers.Dense(2, name="right")(x)])


def _two_inputs():
    first, second = keras.Input((2,), name="first"), keras.Input((3,), name="second")
    return keras.Model([first, second], layers.Dense(3)(layers.Concatenate()([first, second])))


def _pictures():
    return keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 3)])


def _argmax():
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, keras.ops.argmax(layers.Dense(3)(inputs), axis=-1)[:, 0])


def _channels_first():
    return keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(3, 3, padding="same", data_format="channels_first"), layers.Flatten()]
    )


def _frozen():
    model = small()
    model.trainable = False
    return model


def _same_names():
    inputs = keras.Input((4,))
    blocks = []
    for name in ("a", "b"):
        of_block = keras.Input((4,))
        blocks.append(keras.Model(of_block, layers.Dense(4, name="fc")(of_block), name=name))
    return keras.Model(inputs, blocks[1](blocks[0](inputs)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_two_outputs, "must have one output. Received: 2"),
        (_two_inputs, "must have one input. Received: 2, first [batch, 2], second [batch, 3]"),
        (_pictures, "one row of numbers for each example, [batch, outputs]. Received: [batch, 2, 2, 3]"),
        (_argmax, "must give fractional numbers, which can be trained. Received: int32"),
        (_channels_first, "channels last. Received: layer conv2d with data_format channels_first"),
        (_frozen, "must have weights to train. Received: none"),
        (_same_names, "weights of different names. Received: fc/kernel twice"),
    ],
)
def test_networks_that_cannot_be_compressed_are_refused(caller, make, words):
    message = refused(saved(make(), caller))
    assert words in message
    assert f"--own_model {caller / 'net.keras'}" in message


def test_subclassed_and_unbuilt_models_are_refused(caller):
    write_module(
        caller,
        "class Net(keras.Model):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = layers.Dense(3)\n"
        "    def call(self, x):\n"
        "        return self.fc(x)\n"
        "def subclassed():\n"
        "    return Net()\n"
        "def unbuilt():\n"
        "    return keras.Sequential([layers.Dense(3)])\n",
    )
    message = refused("mine:subclassed", directory=caller)
    assert "Received: Net, a subclass of keras.Model with a call of its own; the Python API takes such" in message
    message = refused("mine:unbuilt", directory=caller)
    assert "must know the shape of its input. Received: a Sequential without keras.Input" in message


def test_a_layer_that_cannot_be_made_anew_is_refused(caller):
    write_module(
        caller,
        "class Scale(layers.Layer):\n"
        "    def __init__(self, factor):\n"
        "        super().__init__()\n"
        "        self.factor = factor\n"
        "    def call(self, x):\n"
        "        return x * self.factor\n"
        "class Secret(layers.Layer):\n"
        "    factor = 1.0\n"
        "    def call(self, x):\n"
        "        return x * self.factor\n"
        "def _with(layer):\n"
        "    return keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layer, layers.Dense(3)])\n"
        "def unsaid():\n"
        "    return _with(Scale(2.0))\n"
        "def hidden():\n"
        "    layer = Secret()\n"
        "    layer.factor = 5.0\n"
        "    return _with(layer)\n",
    )
    message = refused("mine:unsaid", directory=caller)
    assert "one of your own needs get_config. Received: " in message
    assert "fully described by its layers' get_config and weights" in refused("mine:hidden", directory=caller)


def test_a_network_with_noise_at_inference_is_taken(caller):
    inputs = keras.Input(SHAPE)
    x = layers.Dropout(0.5)(layers.Dense(8)(layers.Flatten()(inputs)), training=True)
    model = helper(saved(keras.Model(inputs, layers.Dense(3)(x)), caller)).build_model()
    example = np.ones((2, *SHAPE), np.float32)
    assert not np.array_equal(model(example), model(example))


def test_data_of_another_shape_is_refused(caller):
    message = refused(saved(small(shape=(4, 5, 1)), caller))
    assert "4, 5, 1" in message
    assert "4, 4, 1" in message


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ("data_dir_local", {}, "--data_dir_local must be left out"),
        ("resnet_size", {}, "--resnet_size must be left out"),
        ("momentum", {}, "--momentum needs --own_optimizer sgd. Received: --own_optimizer adam"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(given, options, words):
    with pytest.raises(InputError, match=words):
        OwnModelHelper.check_flags(NetConfig(own_model=OwnModelConfig(**options)), {given, "own_model"})


def test_momentum_is_for_sgd():
    OwnModelHelper.check_flags(NetConfig(own_model=OwnModelConfig(optimizer="sgd")), {"momentum"})
