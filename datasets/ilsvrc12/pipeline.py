"""Batches of ILSVRC-12 decoded side by side, in the order of their steps.

A batch is read and decoded by one thread, and as many at once as there are cores. TensorFlow fails for a whole batch
where it cannot decode one of its images; only then is each tried by itself, and what cannot be decoded is read anew.
"""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from datasets.ilsvrc12.examples import Examples, ReadExamples

_MOST_PARALLEL_CALLS = 16
_PREFETCHED_BATCHES = 2


def decoded_batches(
    steps: tf.data.Dataset, read: ReadExamples, *, image_size: int, mean: np.ndarray, std: np.ndarray
) -> tf.data.Dataset:
    """Batches `(float32 [B, image_size, image_size, 3], int32 [B])` of the images that `steps` name.

    Args:
        steps: positions and numbers of records, each `int64 [B]`, of each batch.
        read: gives their encoded images, or fewer.
        mean, std: `float32 [3]` in units of 0..255.
    """
    batch_size = steps.element_spec[0].shape[0]  # None where batches differ
    parallel_calls = min(_MOST_PARALLEL_CALLS, len(os.sched_getaffinity(0)))
    # Rows of a whole image's width, because a broadcast over three channels is several times slower.
    scale = np.tile(1 / np.float32(std), image_size)
    shift = np.tile(np.float32(mean) / np.float32(std), image_size)

    def read_batch(positions: tf.Tensor, numbers: tf.Tensor, is_decodable: tf.Tensor) -> Examples:
        tensors = tf.numpy_function(
            read, [positions, numbers, is_decodable], [tf.int64, tf.string, tf.int32, tf.bool, tf.int32]
        )
        for tensor, shape in zip(tensors, ([], [], [4], [], []), strict=True):
            tensor.set_shape([batch_size, *shape])
        return Examples(*tensors)

    def decode(encoded: tf.Tensor, window: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
        # Before it is resized, because bytes are cheaper to mirror than numbers of four.
        image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
        # What tf.image.resize comes to, without the questions it asks of each image.
        image = tf.raw_ops.ResizeBilinear(
            images=tf.expand_dims(image, 0), size=[image_size] * 2, half_pixel_centers=True
        )
        return tf.reshape(image, [image_size, image_size * 3]) * scale - shift

    signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([4], tf.int32), tf.TensorSpec([], tf.bool)]
    decode_one = tf.function(decode, input_signature=signature, autograph=False).get_concrete_function()

    def decode_batch(examples: Examples) -> tuple[tf.Tensor, tf.Tensor]:
        # Unlike tf.map_fn it puts each image in its place while that is still in the processor's cache.
        (images,) = tf.raw_ops.MapDefun(
            arguments=[examples.encoded, examples.windows, examples.mirrored],
            captured_inputs=decode_one.captured_inputs,
            output_types=[tf.float32],
            output_shapes=[[image_size, image_size * 3]],
            f=decode_one,
            max_intra_op_parallelism=1,
        )
        images = tf.reshape(images, [-1, image_size, image_size, 3])
        return tf.ensure_shape(images, [batch_size, None, None, None]), examples.labels

    def read_step(positions: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, Examples]:
        return positions, read_batch(positions, numbers, tf.ones_like(numbers, tf.bool))

    def decode_carefully(positions: tf.Tensor, examples: Examples) -> tf.data.Dataset:
        """A data set of the one batch; `ignore_errors` drops it where an image cannot be decoded."""
        quickly = _single(examples).map(_plain(decode_batch)).ignore_errors()

        def try_one(*example: tf.Tensor) -> tf.data.Dataset:
            # A pixel is looked at, or TensorFlow would find that no image is needed and decode none.
            tried = _single(example).map(_plain(lambda *example: tf.math.is_finite(decode(*example)[0, 0])))
            return tried.ignore_errors().concatenate(_single(False)).take(1)

        tried = tf.data.Dataset.from_tensor_slices((examples.encoded, examples.windows, examples.mirrored))
        is_decodable = tried.flat_map(_plain(try_one)).batch(tf.size(examples.numbers, tf.int64))
        mended = tf.data.Dataset.zip(_single(positions), _single(examples.numbers), is_decodable).map(
            _plain(lambda *arguments: decode_batch(read_batch(*arguments)))
        )
        return quickly.concatenate(mended).take(1)

    # Reading waits for the disk, so several batches are read at once on a single core too.
    batches = steps.map(_plain(read_step), num_parallel_calls=max(4, parallel_calls), deterministic=True)
    batches = batches.interleave(
        _plain(decode_carefully),
        cycle_length=parallel_calls,
        num_parallel_calls=parallel_calls,
        deterministic=True,
    )
    if batch_size is None:
        batches = batches.filter(_plain(lambda images, labels: tf.size(labels) > 0))
    options = tf.data.Options()
    # As in pipeline.py: its thread often misses that an iterator goes.
    options.autotune.enabled = False
    return batches.prefetch(_PREFETCHED_BATCHES).with_options(options)


def _single(element: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(element)


def _plain(function):
    """There is no Python control flow on tensors to convert."""
    return tf.autograph.experimental.do_not_convert(function)
