import datetime
import errno
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from export.keras_model import plain_model, save_plain_model
from utils.errors import InputError, RunError

# What a stranger's program does; -I keeps this repository from being importable there.
STRANGER = """
import sys
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], model(np.load(sys.argv[2]), training=False))
print([type(layer).__module__.split(".")[0] + ":" + type(layer).__name__ for layer in model.layers])
assert "trimflow" not in str(model.get_config())
"""


@keras.saving.register_keras_serializable("trimflow")
class OurNormalization(keras.layers.BatchNormalization):
    """Stands for the project's own layer: other arithmetic, same variables."""

    def call(self, inputs, training=None, mask=None):
        scale = self.gamma / keras.ops.sqrt(self.moving_variance + self.epsilon)
        return inputs * scale + (self.beta - self.moving_mean * scale)


def our_model():
    """Our layer at the top level, in a nested model, and without scale; random statistics."""
    keras.utils.set_random_seed(1)
    block = keras.Sequential(
        [keras.Input((8, 8, 4)), keras.layers.DepthwiseConv2D(3), OurNormalization(name="inner_norm")], name="block"
    )
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="layer1.0.conv1")(inputs)
    x = OurNormalization(momentum=0.9, epsilon=1e-5, name="layer1.0.bn1")(x)
    x = block(keras.layers.ReLU()(x))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(10, name="fc")(x), name="ours")
    generator = np.random.default_rng(2)
    model.set_weights([generator.uniform(0.2, 1.5, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def test_a_program_without_trimflow_loads_the_model_and_gets_the_same_outputs(tmp_path):
    model, images = our_model(), np.random.default_rng(3).normal(size=(5, 8, 8, 3)).astype(np.float32)
    save_plain_model(model, tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    files = [str(tmp_path / name) for name in ("model.keras", "images.npy", "outputs.npy")]
    result = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, *files], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "keras:BatchNormalization" in result.stdout
    assert "OurNormalization" not in result.stdout
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), expected, rtol=1e-5, atol=1e-5)


def test_names_configurations_and_weights_stay_and_the_model_is_untouched():
    model = our_model()
    copy = plain_model(model)
    # Keras names the copy of an unnamed input anew; every layer after it keeps its name.
    assert copy.name == model.name
    assert [layer.name for layer in copy.layers[1:]] == [layer.name for layer in model.layers[1:]]
    assert type(copy.get_layer("layer1.0.bn1")) is keras.layers.BatchNormalization
    assert type(copy.get_layer("block").get_layer("inner_norm")) is keras.layers.BatchNormalization
    assert copy.get_layer("layer1.0.bn1").get_config() == model.get_layer("layer1.0.bn1").get_config()
    for mine, theirs in zip(model.weights, copy.weights, strict=True):
        assert mine.path == theirs.path
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    assert type(model.get_layer("layer1.0.bn1")) is OurNormalization


def test_the_same_network_gives_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(days=1)

    keras.backend.clear_session()  # layers that nobody named are counted from one again
    save_plain_model(our_model(), tmp_path / "today.keras")
    monkeypatch.setattr(datetime, "datetime", Tomorrow)
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 86400)
    keras.backend.clear_session()
    save_plain_model(our_model(), tmp_path / "tomorrow.keras")
    assert (tmp_path / "today.keras").read_bytes() == (tmp_path / "tomorrow.keras").read_bytes()


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_bytes(b"the model of yesterday")

    def save_half(model, filepath):
        filepath.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", save_half)
    with pytest.raises(RunError, match="No space left on device; the last good model.keras stays"):
        save_plain_model(our_model(), path)
    assert path.read_bytes() == b"the model of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_another_suffix_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.keras. Received: .*model\.h5"):
        save_plain_model(our_model(), tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


def test_a_model_of_stock_and_of_the_users_own_layers_is_saved_as_it_is():
    class Theirs(keras.layers.BatchNormalization):
        pass

    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(2, 3), Theirs()])
    assert plain_model(model) is model
