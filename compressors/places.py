"""How often a network uses each of its kernels for one example."""

import math
from collections import Counter

import keras
import tensorflow as tf

from compressors.graph import run_graph
from utils.errors import InputError


def kernel_places(model: keras.Model) -> dict[str, int]:
    """Kernel path -> output vectors that its layer makes of one example, all of its calls together.

    One pass of a single example of zeros: so a layer that is called at several places, or in a model within the model,
    counts with the sizes that it really has there.

    Raises:
        InputError: the model cannot be walked, or its input has no fixed size.
    """
    shape = model.input_shape[1:]
    if None in shape:
        raise InputError(f"the network's input must have a fixed size for its cost to be counted. Received: {shape}")
    places: Counter[str] = Counter()

    def call(layer, args, kwargs):
        outputs = layer(*args, **kwargs)
        kernel = getattr(layer, "kernel", None)
        if isinstance(kernel, keras.Variable):
            is_channels_first = getattr(layer, "data_format", "channels_last") == "channels_first"
            places[kernel.path] += math.prod(outputs.shape[2:] if is_channels_first else outputs.shape[1:-1])
        return outputs

    run_graph(model, tf.zeros((1, *shape), model.inputs[0].dtype), call)
    return dict(places)
