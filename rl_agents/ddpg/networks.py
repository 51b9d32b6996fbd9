"""Actor and critic as plain functions of a flat parameter vector.

One vector holds all parameters of a network, so that Adam, target updates, parameter noise and checkpoints are each
one operation. `multilayer_perceptron` is written once and runs on TensorFlow tensors, to learn, and on NumPy arrays, to
act: for one state of a network this small NumPy is faster than any call into TensorFlow.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow.experimental.numpy as tnp

_EPSILON = 1e-6  # of layer normalisation, against a zero variance
_OUTPUT_LIMIT = 3e-3  # of the output weights at the start


class NetworkShape(NamedTuple):
    """Sizes of a multilayer perceptron with `depth` hidden layers of `width` units."""

    inputs: int
    outputs: int
    depth: int
    width: int

    @property
    def parameter_shapes(self) -> list[tuple[int, ...]]:
        """Of each hidden layer: weights, bias, gain, shift; then of the output: weights, bias."""
        shapes: list[tuple[int, ...]] = []
        for layer in range(self.depth):
            inputs = self.width if layer else self.inputs
            shapes += [(inputs, self.width), (self.width,), (self.width,), (self.width,)]
        return [*shapes, (self.width, self.outputs), (self.outputs,)]

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.parameter_shapes)


def initial_parameters(shape: NetworkShape, generator: np.random.Generator) -> np.ndarray:
    """Glorot-uniform weights, gain 1, bias and shift 0; flat, float32.

    The output weights are uniform in [-0.003, 0.003], so that every action starts near 0.5 and every value near 0
    (Lillicrap et al., 2016).
    """
    parts = []
    for index, part in enumerate(shape.parameter_shapes):
        if len(part) == 2:
            is_output = index == 4 * shape.depth
            limit = _OUTPUT_LIMIT if is_output else math.sqrt(6.0 / sum(part))
            parts.append(generator.uniform(-limit, limit, part).ravel())
        else:
            is_gain = index < 4 * shape.depth and index % 4 == 2
            parts.append(np.full(part, 1.0 if is_gain else 0.0))
    return np.concatenate(parts).astype(np.float32)


def noise_mask(shape: NetworkShape) -> np.ndarray:
    """1 for weights and biases, 0 for gains and shifts, which parameter noise leaves alone (Plappert et al., 2018)."""
    is_norm = [index < 4 * shape.depth and index % 4 >= 2 for index in range(len(shape.parameter_shapes))]
    sizes = [math.prod(part) for part in shape.parameter_shapes]
    return np.repeat(np.where(is_norm, 0.0, 1.0), sizes).astype(np.float32)


def multilayer_perceptron(shape: NetworkShape, parameters: Any, inputs: Any) -> Any:
    """Hidden layers relu(layer_norm(x W + b)), then a linear output: [B, inputs] -> [B, outputs].

    Layer normalisation (Ba et al., 2016): (h - mean(h)) / sqrt(var(h) + 1e-6) * gain + shift over the units of a layer.
    """
    numpy = tnp if tf.is_tensor(parameters) else np
    parts = _split(shape, parameters)
    hidden = inputs
    for layer in range(shape.depth):
        weights, bias, gain, shift = parts[4 * layer : 4 * layer + 4]
        hidden = hidden @ weights + bias
        hidden = hidden - numpy.mean(hidden, axis=-1, keepdims=True)
        deviation = numpy.sqrt(numpy.mean(hidden * hidden, axis=-1, keepdims=True) + _EPSILON)
        hidden = hidden / deviation * gain + shift
        hidden = numpy.maximum(hidden, numpy.zeros_like(hidden))
    return hidden @ parts[-2] + parts[-1]


def actor(shape: NetworkShape, parameters: Any, states: Any) -> Any:
    """The action mu(s) = sigmoid(perceptron(s)), [B, S] -> [B, A], in [0, 1]."""
    numpy = tnp if tf.is_tensor(parameters) else np
    # tanh's form of the sigmoid cannot overflow.
    return 0.5 + 0.5 * numpy.tanh(0.5 * multilayer_perceptron(shape, parameters, states))


def critic(shape: NetworkShape, parameters: tf.Tensor, states: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """The value Q(s, a) = perceptron([s, a]), [B, S] and [B, A] -> [B, 1]."""
    return multilayer_perceptron(shape, parameters, tf.concat([states, actions], axis=-1))


def _split(shape: NetworkShape, parameters: Any) -> list[Any]:
    """The parameter vector's parts in their shapes."""
    shapes = shape.parameter_shapes
    sizes = [math.prod(part) for part in shapes]
    if tf.is_tensor(parameters):  # tf.split: its gradient is one concatenation
        return [tf.reshape(part, to) for part, to in zip(tf.split(parameters, sizes), shapes, strict=True)]
    parts = np.split(parameters, np.cumsum(sizes)[:-1])
    return [part.reshape(to) for part, to in zip(parts, shapes, strict=True)]
