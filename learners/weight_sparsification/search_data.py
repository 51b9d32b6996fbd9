"""Examples for a search out of whatever a Keras user has: arrays, tf.data, or any iterable of batches."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nets.tasks import Outputs, classifier_outputs
from utils.errors import InputError


class Examples(NamedTuple):
    """Inputs [N, ...] of the model's type, and labels [N, ...] or None."""

    images: np.ndarray
    labels: np.ndarray | None

    def part(self, rows: slice | np.ndarray) -> "Examples":
        """Some of them, by a slice or by indices."""
        return Examples(self.images[rows], None if self.labels is None else self.labels[rows])


def take_examples(name: str, dataset: Any, count: int, model: keras.Model, seed: int, *, labelled: bool) -> Examples:
    """At most `count` examples: of arrays a random choice, of batches the first.

    Args:
        name: what messages call the data set.
        dataset: an array of images, a tuple (images, labels), a tf.data.Dataset or keras.utils.PyDataset, or an
            iterable of batches, each like one of the first two.
        model: the images are cast to its input's type.
        labelled: whether there must be labels. Where there need not be, they are left out.

    Raises:
        InputError: there is no example, a shape does not fit the model's input, labels are missing, something is not
            finite.
    """
    if isinstance(dataset, tuple) or _is_array(dataset):
        batches = [_pair(name, dataset, labelled=labelled)]
        if len(batches[0].images) > count:
            chosen = np.random.default_rng([seed, len(name)]).permutation(len(batches[0].images))[:count]
            batches = [batches[0].part(np.sort(chosen))]
    else:
        batches = list(_first(count, (_pair(name, batch, labelled=labelled) for batch in _batches(name, dataset))))
    if not sum(len(batch.images) for batch in batches):
        raise InputError(f"{name} must have at least one example. Received: none")
    images = _joined(name, [batch.images for batch in batches])
    labels = _joined(name, [batch.labels for batch in batches if batch.labels is not None]) if labelled else None
    _check_images(name, images, model.inputs[0])
    return Examples(images.astype(model.inputs[0].dtype, copy=False), labels)


def class_indices(labels: np.ndarray, model: keras.Model) -> np.ndarray:
    """Labels [N], [N, 1] or one-hot [N, classes] as int32 [N].

    Raises:
        InputError: the model is no classifier with outputs [B, classes], or the labels are not its classes.
    """
    hint = "give a metric(labels, outputs) for anything but one class for each example"
    shape = model.outputs[0].shape
    if len(shape) != 2 or shape[-1] is None:
        raise InputError(f"the outputs must be [batch, classes], or {hint}. Received: outputs of shape {shape}")
    outputs = shape[-1]
    is_binary = classifier_outputs(model) in (Outputs.BINARY_LOGIT, Outputs.BINARY_PROBABILITY)
    classes = 2 if is_binary else outputs
    if labels.ndim == 2 and labels.shape[1] == outputs > 1:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all()):
            raise InputError(f"labels of as many columns as outputs must be one-hot, or {hint}. Received: other rows")
        return labels.argmax(1).astype(np.int32)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(
            f"labels must be [N], [N, 1] or one-hot [N, {outputs}], or {hint}. Received: shape {labels.shape}"
        )
    wrong = [label for label in np.unique(labels) if not (0 <= label < classes and label == int(label))]
    if wrong:
        raise InputError(f"labels must be whole numbers from 0 to {classes - 1}, or {hint}. Received: {wrong[0]}")
    return labels.astype(np.int32)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or tf.is_tensor(value) or hasattr(value, "__array__")


def _batches(name: str, dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, keras.utils.PyDataset):
        return (dataset[index] for index in range(len(dataset)))
    if not isinstance(dataset, Iterable) or isinstance(dataset, str | bytes | dict):
        raise InputError(
            f"{name} must be arrays, a tf.data.Dataset or an iterable of batches. Received: {type(dataset).__name__}"
        )
    return iter(dataset)


def _first(count: int, batches: Iterable[Examples]) -> Iterator[Examples]:
    """The first `count` examples, batch by batch; no batch is asked for in vain."""
    for batch in batches:
        yield batch.part(slice(count))
        count -= len(batch.images)
        if count <= 0:
            return


def _pair(name: str, batch: Any, *, labelled: bool) -> Examples:
    """Images and labels of (images, labels), (images, labels, weights) or images alone."""
    parts = batch if isinstance(batch, tuple | list) else [batch]
    if isinstance(batch, dict) or len(parts) not in (1, 2, 3) or (labelled and len(parts) == 1):
        wanted = "(images, labels)" if labelled else "images, or (images, labels)"
        found = f"{len(parts)} parts" if isinstance(batch, tuple | list) else f"a single {type(batch).__name__}"
        raise InputError(f"{name} must give {wanted}. Received: {found}")
    images, labels = _array(name, "images", parts[0]), None
    if labelled:
        labels = _array(name, "labels", parts[1])
        if labels.ndim == 0 or len(labels) != len(images):
            counts = len(labels) if labels.ndim else "a single label"
            raise InputError(f"{name} must have a label for each image. Received: {len(images)} images, {counts}")
    return Examples(images, labels)


def _array(name: str, what: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except Exception as error:
        raise InputError(f"the {what} of {name} must be one array. Received: {type(value).__name__}") from error
    if array.dtype.kind not in "biuf" and "float" not in array.dtype.name:
        raise InputError(f"the {what} of {name} must be numbers. Received: {type(value).__name__} of {array.dtype}")
    if array.ndim == 0 and what == "images":
        raise InputError(f"{name} must give batches of images. Received: a single number")
    if array.dtype.kind not in "biu" and not np.isfinite(array).all():
        raise InputError(f"the {what} of {name} must be finite. Received: NaN or infinity")
    return array


def _joined(name: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    for one, other in itertools.pairwise(parts):
        if one.shape[1:] != other.shape[1:]:
            raise InputError(
                f"all examples of {name} must have the same shape. Received: {one.shape[1:]} and {other.shape[1:]}"
            )
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _check_images(name: str, images: np.ndarray, model_input: keras.KerasTensor) -> None:
    wanted, found = model_input.shape[1:], images.shape[1:]
    if len(wanted) != len(found) or any(want not in (None, size) for want, size in zip(wanted, found, strict=True)):
        hint = "; it must give batches" if images.ndim == len(wanted) else ""
        raise InputError(f"the images of {name} must be of shape {wanted} each. Received: {found}{hint}")
