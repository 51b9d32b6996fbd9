"""Input pipelines in TensorFlow: whole batches at a time, each a pure function of the seed and the step.

A resumed run needs no iterator state: it asks for the batches from `start_step` on and gets the ones it would have had.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from datasets.images import ImageArrays

_SHUFFLE_SALT = 32
# TensorFlow's own wrapper uses 4 rounds, after which neighbours of a 45,000-image epoch still share a batch unevenly:
# the pairs in a batch spread 2.5 times as wide as those of a random permutation. With 8 the two agree.
_SHUFFLE_ROUNDS = 8
_PARALLEL_CALLS = 2
_PREFETCHED_BATCHES = 2


def training_batches(
    arrays: "ImageArrays",
    *,
    mean: np.ndarray,
    std: np.ndarray,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    rank: int = 0,
    size: int = 1,
    crop_padding: int,
    flip: bool,
    resize_to: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Endless shuffled, augmented, normalised batches `(float32 [B, ...], int32 [B] or float32 [B, k])`.

    Positions run over the epochs without end, each epoch a permutation of all images of its own; a batch may straddle
    two. The global batch of step t holds positions `[t * B * size, (t + 1) * B * size)`, of which worker `rank` takes
    its slice of B: two workers of 64 see exactly what one worker of 128 sees. An image is normalised, padded by
    `crop_padding` zeros (the mean colour) on each side and cropped to its size at random, and mirrored with
    probability 1/2 where `flip` (He et al. 2016); samples that are no images `[H, W, C]` can have neither.

    Args:
        mean, std: of each channel (the last axis) or of all, `[C]` or `[]`, in units of the arrays' own numbers.
        batch_size: images in a batch of one worker, B.
        start_step: the step of the first batch.
        resize_to: height and width of the images in the batches where it is not their own; cropped before.
    """
    num_images, *sample_shape = arrays.images.shape
    is_augmented = crop_padding > 0 or flip
    assert min(num_images, batch_size) > 0
    assert 0 <= rank < size
    assert len(sample_shape) == 3 or not is_augmented
    scale, shift = _scale_and_shift(sample_shape, mean, std)
    if is_augmented:
        height, width, channels = sample_shape
        crops = tf.constant(crop_table(height, width, crop_padding, flip))
        num_crops = len(crops)

    def make_batch(step: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = (step * size + rank) * batch_size + tf.range(batch_size, dtype=tf.int64)
        indices = shuffled_indices(positions, num_images, seed)
        batch = tf.cast(tf.gather(images, indices), tf.float32) * scale - shift
        if is_augmented:
            # Drawn for the global batch, so that an image's crop does not depend on the number of workers.
            choices = tf.random.stateless_uniform(
                [batch_size * size], tf.stack([tf.constant(seed, tf.int64), step]), 0, num_crops, tf.int32, alg="philox"
            )[rank * batch_size : (rank + 1) * batch_size]
            # One zero pixel after the image's own stands for the padding.
            pixels = tf.reshape(tf.pad(batch, [[0, 0], [0, channels]]), [batch_size, height * width + 1, channels])
            batch = tf.gather(pixels, tf.gather(crops, choices), batch_dims=1)
        batch = tf.reshape(batch, [batch_size, *sample_shape])
        return resized(batch, resize_to), tf.gather(labels, indices)

    return _map_steps(steps_from(start_step), arrays, make_batch)


def evaluation_batches(
    arrays: "ImageArrays",
    *,
    mean: np.ndarray,
    std: np.ndarray,
    batch_size: int,
    rank: int = 0,
    size: int = 1,
    resize_to: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Normalised batches, like those of training, in order, once, the last one as small as it comes.

    Worker `rank` of `size` gets the images `[N * rank // size, N * (rank + 1) // size)`; the workers together see each
    image once.
    """
    num_images, *sample_shape = arrays.images.shape
    assert batch_size > 0
    assert 0 <= rank < size
    scale, shift = _scale_and_shift(sample_shape, mean, std)
    first, end = num_images * rank // size, num_images * (rank + 1) // size

    def make_batch(start: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        stop = tf.minimum(start + batch_size, end)
        batch = tf.cast(images[start:stop], tf.float32) * scale - shift
        return resized(tf.reshape(batch, [-1, *sample_shape]), resize_to), labels[start:stop]

    return _map_steps(tf.data.Dataset.range(first, end, batch_size), arrays, make_batch)


def steps_from(start: int) -> tf.data.Dataset:
    """`start`, `start + 1` and so on, int64, for longer than anybody trains.

    Not `Dataset.counter`, of which TensorFlow keeps a function until the process ends.
    """
    return tf.data.Dataset.range(start, tf.int64.max)


def resized(images: tf.Tensor, height_width: tuple[int, int] | None) -> tf.Tensor:
    """`[B, H, W, C]` at another size, bilinear; as they are where no size is given."""
    if height_width is None or height_width == tuple(images.shape[1:3]):
        return images
    return tf.image.resize(images, height_width, method="bilinear")


def shuffled_indices(positions: tf.Tensor, num_images: int, seed: int) -> tf.Tensor:
    """The image `int64 [B]` at each position of the endless sequence of epochs, each a permutation of `num_images`."""
    epochs = positions // num_images
    seeds = tf.stack([tf.fill(tf.shape(epochs), tf.constant(value, tf.int64)) for value in (seed, _SHUFFLE_SALT)], 1)
    # The raw operation, because tf.random.experimental.index_shuffle fails for one seed an element.
    return tf.raw_ops.RandomIndexShuffle(
        index=positions % num_images,
        seed=tf.concat([seeds, epochs[:, None]], 1),
        max_index=tf.constant(num_images - 1, tf.int64),
        rounds=_SHUFFLE_ROUNDS,
    )


def crop_table(height: int, width: int, padding: int, flip: bool) -> np.ndarray:
    """Every crop of a padded image, then every mirrored one where `flip`, as pixel indices `int32 [K, height * width]`.

    A pixel of the image has its row-major index, a pixel of the padding has `height * width`.
    """
    pixels = np.arange(height * width, dtype=np.int32).reshape(height, width)
    padded = np.pad(pixels, padding, constant_values=height * width)
    crops = np.lib.stride_tricks.sliding_window_view(padded, (height, width)).reshape(-1, height, width)
    if flip:
        crops = np.concatenate([crops, crops[:, :, ::-1]])
    return np.ascontiguousarray(crops.reshape(len(crops), -1))


def _map_steps(steps: tf.data.Dataset, arrays: "ImageArrays", make_batch: Callable[..., Any]) -> tf.data.Dataset:
    """`make_batch(step, images [N, D], labels)` for each step, in order, some steps ahead of the reader.

    An image is a row of D numbers.

    The arrays travel beside the steps, as references. Captured by `make_batch` they would live in a Python cycle with
    its graph, and every pipeline made would keep a copy of the data set until the garbage collector came by.
    """
    rows = arrays.images.reshape(len(arrays.images), -1)
    label_type = tf.float32 if np.issubdtype(arrays.labels.dtype, np.floating) else tf.int32
    with tf.device("/CPU:0"):
        tensors = tf.constant(rows), tf.constant(arrays.labels, label_type)
    everything = tf.data.Dataset.from_tensors(tensors).repeat()
    # There is no Python control flow on tensors to convert.
    mapped = tf.autograph.experimental.do_not_convert(lambda step, tensors: make_batch(step, *tensors))
    batches = tf.data.Dataset.zip(steps, everything).map(mapped, num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    options = tf.data.Options()
    # There is nothing to tune, and its thread often misses that an iterator goes: the reader then waits up to a minute.
    options.autotune.enabled = False
    return batches.prefetch(_PREFETCHED_BATCHES).with_options(options)


def _scale_and_shift(sample_shape: Sequence[int], mean: np.ndarray, std: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Of an image as a row: `row * scale - shift` is `(row - mean) / std`, each `float32 [D]`.

    Rows, because a broadcast over three channels is several times slower than one over whole images.
    """
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    scale, shift = (np.broadcast_to(values, sample_shape).reshape(-1) for values in (1 / std, mean / std))
    return tf.constant(scale), tf.constant(shift)
