"""Statistics of activations, from which their ranges are chosen: measured on batches, or from a YAML file.

The file has Distiller's format: `layer: {inputs: {0: {min: .., max: ..}}, output: {min: .., max: .., ...}}`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import yaml

from compressors.graph import run_graph
from compressors.parameters import layer_name, leaf_layers
from compressors.schedule_problems import Source
from compressors.yaml_document import read_document
from utils.errors import InputError

# A network of a thousand layers has about 60,000 values.
_MAX_BYTES, _MAX_VALUES = 8_000_000, 200_000
_OUTPUT = -1  # stands for the output where an input has its index


class Statistics(NamedTuple):
    """Of all values of one tensor; None where a file does not say.

    `avg_min` and `avg_max` are the means over samples of each sample's extremes (where a sample is one number, of each
    batch's); `std` divides by n; `b` is the mean of |x - mean|, the scale of a Laplace distribution. Numbers, or scalar
    tensors in traced code.
    """

    min: Any
    max: Any
    avg_min: Any = None
    avg_max: Any = None
    mean: Any = None
    std: Any = None
    b: Any = None

    def within(self, low: float, high: float) -> "Statistics":
        """With the extremes moved into [low, high]."""
        extremes = {name: value for name, value in zip(self._fields[:4], self[:4], strict=True) if value is not None}
        return self._replace(**{name: tf.clip_by_value(value, low, high) for name, value in extremes.items()})


class LayerStatistics(NamedTuple):
    """Of a layer's input tensors, by index, and of its output."""

    inputs: Mapping[int, Statistics]
    output: Statistics


def statistics_of(x: tf.Tensor) -> Statistics:
    """The statistics of one batch `[B, ...]` (traced)."""
    moments = _moments(x)
    mean_distance = tf.reduce_mean(tf.abs(tf.cast(x, tf.float32) - moments.mean))
    return _statistics(moments, tf.sqrt(moments.variance), mean_distance)


def collect(model: keras.Model, batches: Callable[[], Iterable]) -> dict[str, LayerStatistics]:
    """Runs the batches through a functional model twice (`b` needs the mean), in compiled code.

    Args:
        batches: gives the same batches at each call: images, or tuples that begin with them.

    Returns:
        For each layer with one floating-point output, in the order of the model's layers. A layer that is used several
        times has the statistics of all its uses.

    Raises:
        InputError: there are no batches.
    """
    totals = {key: _total(rows) for key, rows in _Pass(model)(batches()).items()}
    means = {key: total.mean for key, total in totals.items()}
    found = {
        key: _statistics(totals[key], math.sqrt(totals[key].variance), float(np.sum(distances)) / totals[key].count)
        for key, distances in _Pass(model, means)(batches()).items()
    }
    names = [layer.name for layer in leaf_layers(model) if (layer.name, _OUTPUT) in found]
    return {
        name: LayerStatistics(
            {index: found[other, index] for other, index in sorted(found) if other == name and index != _OUTPUT},
            found[name, _OUTPUT],
        )
        for name in names
    }


def as_mapping(statistics: Mapping[str, LayerStatistics]) -> dict[str, dict]:
    """A statistics file's content."""

    def numbers(of: Statistics) -> dict[str, float]:
        return {name: float(value) for name, value in of._asdict().items() if value is not None}

    return {
        name: {"inputs": {index: numbers(of) for index, of in inputs.items()}, "output": numbers(output)}
        for name, (inputs, output) in statistics.items()
    }


def write_statistics(statistics: Mapping[str, LayerStatistics], path: str | Path) -> None:
    """Writes a YAML file that `read_statistics`, and Distiller, can read."""
    Path(path).write_text(yaml.safe_dump(as_mapping(statistics), sort_keys=False))


def read_statistics(source: str | Path | Mapping) -> dict[str, LayerStatistics]:
    """The statistics in a YAML file, or in a mapping that has a file's content; by layer name without `module`.

    Other keys, such as `shape`, are left out.

    Raises:
        InputError: no such file, no YAML, or not the format; the message names the file and the layer.
    """
    where = "model_activation_stats"
    if not isinstance(source, Mapping):
        where = f"{source}"
        document = read_document(source, ("inputs",), _MAX_BYTES, _MAX_VALUES)
        Source(where, document.lines).refuse(document.problems)
        source = document.data
    if not isinstance(source, Mapping):
        raise InputError(f"{where} must map layer names to statistics. Received: {source!r:.80}")
    return {layer_name(str(name)): _read_layer(entry, f"{where}, {name}") for name, entry in source.items()}


def _read_layer(entry: Any, where: str) -> LayerStatistics:
    if not isinstance(entry, Mapping) or "output" not in entry:
        raise InputError(f"{where}: must have `inputs` and `output`. Received: {entry!r:.80}")
    inputs = entry.get("inputs") or {}
    if not isinstance(inputs, Mapping) or not all(str(index).isdecimal() for index in inputs):
        raise InputError(f"{where}: `inputs` must map 0, 1, ... to statistics. Received: {inputs!r:.80}")
    return LayerStatistics(
        {int(index): _read_numbers(numbers, f"{where}, input {index}") for index, numbers in inputs.items()},
        _read_numbers(entry["output"], f"{where}, output"),
    )


def _read_numbers(entry: Any, where: str) -> Statistics:
    if not isinstance(entry, Mapping) or not {"min", "max"} <= set(entry):
        raise InputError(f"{where}: must have min and max. Received: {entry!r:.80}")
    numbers: dict[str, Any] = {}
    for name in Statistics._fields:
        value = entry.get(name)
        try:
            numbers[name] = None if value is None else float(value)  # YAML 1.1 reads 1e-5 as a string
        except (TypeError, ValueError):
            raise InputError(f"{where}: {name} must be a number. Received: {value!r:.80}") from None
        if value is not None and not math.isfinite(numbers[name]):
            raise InputError(f"{where}: {name} must be finite. Received: {value!r}")
    if numbers["min"] > numbers["max"]:
        raise InputError(f"{where}: min must not exceed max. Received: {numbers['min']} and {numbers['max']}")
    return Statistics(**numbers)


class _Moments(NamedTuple):
    """What can be summed over batches; float32 scalars."""

    count: Any
    samples: Any
    low: Any
    high: Any
    sum_of_lows: Any
    sum_of_highs: Any
    mean: Any
    variance: Any


def _moments(x: tf.Tensor) -> _Moments:
    x = tf.cast(x, tf.float32)
    size = tf.shape(x)[0]
    samples = tf.reshape(x, [size, -1])
    is_scalar = tf.equal(tf.size(x), size)
    lows, highs = tf.reduce_min(samples, 1), tf.reduce_max(samples, 1)
    low, high = tf.reduce_min(lows), tf.reduce_max(highs)
    lows, highs = tf.where(is_scalar, low, lows), tf.where(is_scalar, high, highs)
    mean, variance = tf.nn.moments(samples, [0, 1])
    count = tf.cast(tf.size(x), tf.float32)
    samples = tf.cast(size, tf.float32)
    return _Moments(count, samples, low, high, tf.reduce_sum(lows), tf.reduce_sum(highs), mean, variance)


def _statistics(moments: _Moments, std: Any, b: Any) -> Statistics:
    averages = moments.sum_of_lows / moments.samples, moments.sum_of_highs / moments.samples
    return Statistics(moments.low, moments.high, *averages, moments.mean, std, b)


def _total(rows: np.ndarray) -> _Moments:
    """Of all batches `[n, 8]` together (Chan et al. 1979)."""
    count, samples, low, high, sum_of_lows, sum_of_highs, mean, variance = rows.astype(np.float64).T
    total_mean = np.sum(count * mean) / np.sum(count)
    total_variance = np.sum(count * (variance + (mean - total_mean) ** 2)) / np.sum(count)
    sums = np.sum(sum_of_lows), np.sum(sum_of_highs)
    totals = (np.sum(count), np.sum(samples), low.min(), high.max(), *sums, total_mean, total_variance)
    return _Moments(*map(float, totals))


def _sum_of_distances(x: tf.Tensor, mean: float) -> tf.Tensor:
    distances = tf.abs(tf.cast(x, tf.float32) - mean)
    return tf.reduce_mean(distances) * tf.cast(tf.size(x), tf.float32)


class _Pass:
    """Runs batches through the model and measures each tensor that enters or leaves a layer.

    Args:
        means: of the tensors, by (layer, index), where the sum of |x - mean| is measured in place of the moments.
    """

    def __init__(self, model: keras.Model, means: Mapping[tuple[str, int], float] | None = None):
        self._model, self._means = model, means

    def __call__(self, batches: Iterable) -> dict[tuple[str, int], np.ndarray]:
        """(layer, index) -> what was measured, `[uses * batches, ...]`."""
        measured: dict[tuple[str, int], list[np.ndarray]] = {}
        compiled = None
        for batch in batches:
            images = batch[0] if isinstance(batch, tuple | list) else batch
            images = keras.tree.map_structure(tf.convert_to_tensor, images)
            if compiled is None:
                any_size = keras.tree.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), images)
                compiled = tf.function(self._run, input_signature=[any_size])
            for key, rows in compiled(images).items():
                measured.setdefault(key, []).extend(rows.numpy())
        if compiled is None:
            raise InputError("activation statistics need at least one batch of images. Received: none")
        return {key: np.stack(rows) for key, rows in measured.items()}

    def _run(self, images: Any) -> dict[tuple[str, int], tf.Tensor]:
        measured: dict[tuple[str, int], list[tf.Tensor]] = {}
        known: dict[tuple[int, float | None], tf.Tensor] = {}  # one layer's output is the other's input

        def measure(key, x):
            mean = None if self._means is None else self._means[key]
            if (id(x), mean) not in known:
                known[id(x), mean] = tf.stack(_moments(x)) if mean is None else _sum_of_distances(x, mean)
            measured.setdefault(key, []).append(known[id(x), mean])

        def call(layer, args, kwargs):
            outputs = layer(*args, **kwargs)
            tensors = dict(enumerate(keras.tree.flatten((args, kwargs)))) | {_OUTPUT: outputs}
            for index, x in tensors.items():
                if tf.is_tensor(x) and x.dtype.is_floating:
                    measure((layer.name, index), x)
            return outputs

        run_graph(self._model, images, call)
        return {key: tf.stack(rows) for key, rows in measured.items()}
