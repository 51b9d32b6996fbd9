"""Inputs of a training step, held in memory: what benchmarks of steps share."""

import numpy as np
import tensorflow as tf


def random_batches(size: int = 128, image_size: int = 32) -> tf.data.Dataset:
    """The same batch of random square images and labels of ten classes, for ever."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(size, image_size, image_size, 3)).astype("float32")
    labels = generator.integers(0, 10, size).astype("int32")
    return tf.data.Dataset.from_tensors((images, labels)).repeat()


def mean_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The loss of all our networks."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
