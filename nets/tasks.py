"""What a network's outputs mean: the loss of a batch and the quality of each example, for classes and for numbers."""

import enum
import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

ACCURACY = "accuracy"
TOP_1, TOP_5 = "acc_top1", "acc_top5"
MINUS_ERROR = "minus normalised error"


class Outputs(enum.Enum):
    """What a classifier gives for an example."""

    LOGITS = "logits of the classes"
    PROBABILITIES = "probabilities of the classes"
    SIGMOIDS = "a probability of each class by itself"
    BINARY_LOGIT = "the logit of class 1 of two"
    BINARY_PROBABILITY = "the probability of class 1 of two"


def classifier_outputs(model: keras.Model) -> Outputs:
    """What the outputs `[B, k]` of a classifier are, by the activation that it ends with.

    Looks through layers that change no value, and into nested models. One output is that of the second of two classes.
    """
    activation = _last_activation(model.outputs[0])
    if model.outputs[0].shape[-1] == 1:
        return Outputs.BINARY_PROBABILITY if activation == "sigmoid" else Outputs.BINARY_LOGIT
    return {"softmax": Outputs.PROBABILITIES, "sigmoid": Outputs.SIGMOIDS}.get(activation, Outputs.LOGITS)


def classification_loss(kind: Outputs, labels: tf.Tensor, outputs: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Mean cross entropy; from probabilities as Keras does it: from what its softmax was given, or clipped at 1e-7.

    Args:
        labels: integers `[B]`.
        outputs: `[B, k]`; the classes are 0 to k - 1, or 0 and 1 where k is 1.
        smoothing: the share e of the label that all k classes get alike (Szegedy et al. 2016): against
            `(1 - e) * one_hot + e / k`; where an output is a probability by itself, against `(1 - e) * truth + e / 2`.
    """
    from_logits = kind in (Outputs.LOGITS, Outputs.BINARY_LOGIT)
    if kind in (Outputs.LOGITS, Outputs.PROBABILITIES):
        if smoothing:
            truth = tf.one_hot(labels, outputs.shape[-1]) * (1.0 - smoothing) + smoothing / outputs.shape[-1]
            return tf.reduce_mean(keras.ops.categorical_crossentropy(truth, _float32(outputs), from_logits=from_logits))
        if from_logits:
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, _float32(outputs)))
        return tf.reduce_mean(keras.ops.sparse_categorical_crossentropy(labels, _float32(outputs)))
    is_binary = kind != Outputs.SIGMOIDS
    truth = tf.cast(labels, tf.float32)[:, None] if is_binary else tf.one_hot(labels, outputs.shape[-1])
    truth = truth * (1.0 - smoothing) + smoothing / 2 if smoothing else truth
    return tf.reduce_mean(keras.ops.binary_crossentropy(truth, _float32(outputs), from_logits=from_logits))


def is_right(kind: Outputs, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """1.0 where an example's class is the right one, else 0.0: `float32 [B]`. Outputs that are no numbers are wrong."""
    if kind == Outputs.BINARY_LOGIT:
        predicted = tf.cast(outputs[:, 0] > 0.0, labels.dtype)
    elif kind == Outputs.BINARY_PROBABILITY:
        predicted = tf.cast(outputs[:, 0] > 0.5, labels.dtype)
    else:
        predicted = tf.argmax(outputs, axis=-1, output_type=labels.dtype)
    return tf.cast(tf.equal(predicted, labels) & _are_numbers(outputs), tf.float32)


def is_largest_right(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """`is_right` of a classifier with an output for each class."""
    return is_right(Outputs.LOGITS, labels, outputs)


def is_among_largest(count: int, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """1.0 where fewer than `count` classes come before an example's own, else 0.0: `float32 [B]`.

    A class comes before if its output is larger, or equal and of a lower index; so `count` 1 is `is_largest_right`, and
    a network that gives all classes the same output is no better than chance. Outputs that are no numbers are wrong.
    """
    own = tf.gather(outputs, labels, batch_dims=1)[:, None]
    is_lower = tf.range(tf.shape(outputs)[1], dtype=labels.dtype)[None] < labels[:, None]
    comes_before = (outputs > own) | ((outputs == own) & is_lower)
    rank = tf.math.count_nonzero(comes_before, axis=1, dtype=tf.int32)
    return tf.cast((rank < count) & _are_numbers(outputs), tf.float32)


def top_metrics(num_classes: int) -> dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """`acc_top1` and `acc_top5`: the share whose class has the largest output, or is among the five of largest output.

    Nothing for five classes or fewer.
    """
    return {} if num_classes <= 5 else {TOP_1: is_largest_right, TOP_5: functools.partial(is_among_largest, 5)}


def label_variances(labels: np.ndarray) -> np.ndarray:
    """The population variance `float32 [k]` of each of the labels `[N, k]`; 1 for one that never changes."""
    variances = np.var(np.asarray(labels, np.float64), axis=0)
    return np.where(variances > 0.0, variances, 1.0).astype(np.float32)


def normalised_errors(labels: tf.Tensor, outputs: tf.Tensor, variances: np.ndarray) -> tf.Tensor:
    """`mean over k of (y_k - f_k)^2 / variance_k` of each example, `float32 [B]`; labels and outputs `[B, k]`.

    With the variances of the training labels, 1 is no better than always saying their mean.
    """
    return tf.reduce_mean(tf.square(_float32(labels) - _float32(outputs)) / variances, axis=-1)


def _are_numbers(outputs: tf.Tensor) -> tf.Tensor:
    """Whether all outputs of an example are finite, `bool [B]`: of NaN the first class would seem the largest."""
    return tf.reduce_all(tf.math.is_finite(outputs), axis=-1)


def _float32(values: tf.Tensor) -> tf.Tensor:
    """A network in half precision still has a loss in full one; what is float32 stays the tensor it was."""
    return values if values.dtype == tf.float32 else tf.cast(values, tf.float32)


def _last_activation(tensor: keras.KerasTensor) -> str:
    """`softmax`, `sigmoid`, or something else: the last operation on the way to `tensor` that changes values."""
    while True:
        operation = tensor._keras_history.operation  # how Keras' own summary finds what a tensor came from
        if isinstance(operation, keras.Model):
            tensor = operation.outputs[0]
            continue
        activation = _activation(operation)
        if activation != "linear" or isinstance(operation.input, list | tuple | dict):
            return activation
        tensor = operation.input


def _activation(operation: keras.Operation) -> str:
    """The name of what the operation ends with; `linear` where it changes no value at all."""
    kinds = keras.layers
    if isinstance(operation, kinds.Reshape | kinds.Flatten | kinds.Dropout | kinds.Identity):
        return "linear"
    function = getattr(operation, "activation", None)  # or a layer such as Softmax()
    activation = getattr(function, "__name__", type(function).__name__.lower())
    if isinstance(operation, kinds.Activation):
        return activation
    # A Softmax layer, keras.ops.softmax, keras.activations.softmax.
    return activation if activation in ("softmax", "sigmoid") else type(operation).__name__.lower()
