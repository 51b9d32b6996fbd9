"""A user's folder: digits as pictures and as arrays, a network that knows them, and a regression."""

from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

layers = keras.layers
NUM_IMAGES = 400
# Of a module of the user's: a layer and an activation that nobody told Keras of.
OWN_CODE = """\
class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer='ones', name='scale')
    def call(self, x):
        return x * self.scale
def bent(x):
    return keras.ops.maximum(x, 0.1 * x)
"""


def make_folder(root: Path) -> Path:
    """`photos/`, `digits.npz`, `one_hot.npz`, `numbers.npz`, `my.keras` (softmax, trained) and `logits.keras`."""
    digits = load_digits()
    images = np.uint8(digits.images[:NUM_IMAGES] * 255 / 16)
    labels = digits.target[:NUM_IMAGES]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / "photos" / f"digit_{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    arrays = {"x_train": images[:320, ..., None], "x_test": images[320:, ..., None]}
    np.savez(root / "digits.npz", **arrays, y_train=labels[:320], y_test=labels[320:])
    one_hot = np.eye(10, dtype=np.float32)[labels]
    np.savez(root / "one_hot.npz", **arrays, y_train=one_hot[:320], y_test=one_hot[320:])

    x = np.random.default_rng(0).normal(size=(320, 6)).astype(np.float32)
    y = np.stack([2 * x[:, 0] + x[:, 1], 1000 * x[:, 2]], axis=1)
    np.savez(root / "numbers.npz", x_train=x[:256], y_train=y[:256], x_test=x[256:], y_test=y[256:])

    model = classifier()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images[..., None], labels, epochs=8, verbose=0)
    model.save(root / "my.keras")
    logits = keras.models.clone_model(model)
    logits.set_weights(model.get_weights())
    logits.layers[-1].activation = keras.activations.linear
    logits.save(root / "logits.keras")
    return root


def classifier() -> keras.Model:
    """Two convolutions, batch norm, dropout and two dense layers for 8x8 pictures of ten digits."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Dropout(0.1),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
