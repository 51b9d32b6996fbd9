"""Mixed precision: a network's layers compute in 16 bits, its weights stay float32; and the loss scale of float16."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from utils.errors import RunError
from utils.keras_layers import all_layers

FLOAT32 = "float32"
FLOAT16 = "float16"
FIRST_SCALE = 2.0**15
PATIENCE = 2000
_LEAST_SCALE = 2.0**-10  # below it a gradient is not finite at any scale


def set_precision(model: keras.Model, kind: str) -> None:
    """Makes the layers compute in `kind`: float32, bfloat16 or float16. Nothing else of the model changes.

    Variables stay float32 and are cast where they are used. The layer that makes the outputs, and what changes them
    after it, computes in float32 all the same. What was traced before keeps what it had.
    """
    policy = FLOAT32 if kind == FLOAT32 else f"mixed_{kind}"
    for layer in all_layers(model):
        if not isinstance(layer, keras.Model | keras.layers.InputLayer):
            layer.dtype_policy = policy
    for layer in _output_layers(model):
        layer.dtype_policy = FLOAT32


def _output_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers on the way back from the output to the first that has weights or several inputs, itself included."""
    tensor = model.outputs[0]
    while True:
        operation = tensor._keras_history.operation  # how Keras' own summary finds what a tensor came from
        if isinstance(operation, keras.Model):
            tensor = operation.outputs[0]
            continue
        if isinstance(operation, keras.Layer):
            yield operation
            if operation.weights or isinstance(operation, keras.layers.InputLayer):
                return
        if isinstance(operation.input, list | tuple | dict):
            return
        tensor = operation.input


class LossScale:
    """Dynamic loss scaling (Micikevicius et al. 2018): small gradients would be 0 in float16, large ones infinite.

    The loss is multiplied by `scale` before it is differentiated, and the gradients are divided by it. After a step
    whose gradients are not finite, which is then left out, the scale halves; after `patience` good steps in a row it
    doubles. Both are powers of 2, so that scaling rounds nothing.
    """

    def __init__(self, first: float = FIRST_SCALE, patience: int = PATIENCE):
        self.scale = tf.Variable(first, trainable=False, dtype=tf.float32)
        self._good_steps = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._patience = patience

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate (traced)."""
        return loss * self.scale

    def unscaled(self, gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
        """The gradients of the loss itself (traced)."""
        return [None if gradient is None else gradient / self.scale for gradient in gradients]

    def update(self, is_finite: tf.Tensor) -> None:
        """Takes note of a step whose gradients were finite, or were not (traced)."""
        good = tf.where(is_finite, self._good_steps + 1, 0)
        is_enough = good >= self._patience
        factor = tf.where(is_finite, tf.where(is_enough, 2.0, 1.0), 0.5)
        self.scale.assign(self.scale * factor)
        self._good_steps.assign(tf.where(is_enough, tf.zeros_like(good), good))

    def check(self) -> None:
        """Raises RunError where no scale helps: the training would stand still for ever."""
        if float(self.scale) < _LEAST_SCALE:
            raise RunError(
                f"the gradients are not finite in float16 even with the loss scaled by {float(self.scale):.3g}. "
                "--amp_type bfloat16 has the range of float32"
            )

    def state(self) -> dict[str, np.ndarray]:
        """All that a resumed training needs."""
        return {"scale": self.scale.numpy(), "good_steps": self._good_steps.numpy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Takes back what `state` gave."""
        self.scale.assign(state["scale"])
        self._good_steps.assign(state["good_steps"])


def are_finite(gradients: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """Whether every number of every gradient is finite, `bool []` (traced)."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients if g is not None])
