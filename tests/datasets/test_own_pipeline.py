"""The input pipeline over samples of any shape and labels of either kind, against the same in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from datasets.images import ImageArrays
from datasets.pipeline import evaluation_batches, shuffled_indices, training_batches

GENERATOR = np.random.default_rng(0)
SAMPLES = {
    "features": GENERATOR.normal(size=(10, 5)).astype(np.float32),
    "tokens": GENERATOR.integers(0, 50_000, (10, 7)),
    "small tokens": GENERATOR.integers(0, 99, (10, 7), dtype=np.int16),
    "switches": GENERATOR.random((10, 6)) < 0.5,
    "halves": GENERATOR.normal(size=(10, 4)).astype(np.float16),
    "series": GENERATOR.normal(size=(10, 8, 2)).astype(np.float32),
    "grey": GENERATOR.integers(0, 256, (10, 4, 3, 1), dtype=np.uint8),
    "volumes": GENERATOR.integers(0, 256, (10, 2, 3, 4, 2), dtype=np.uint8),
}
LABELS = {
    "classes": np.arange(10, dtype=np.int32),
    "targets": GENERATOR.normal(size=(10, 2)).astype(np.float32),
}


def normalised(images, mean, std):
    return (images.astype(np.float64) - mean) / std


def training(arrays, steps, **options):
    given = dict(mean=np.float32(0), std=np.float32(1), batch_size=4, seed=7, crop_padding=0, flip=False) | options
    return [(x.numpy(), y.numpy()) for x, y in training_batches(arrays, **given).take(steps)]


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_batches_are_those_of_numpy(kind, labels, per_channel):
    arrays = ImageArrays(SAMPLES[kind], LABELS[labels])
    channels = arrays.images.shape[-1:] if per_channel else ()
    mean = GENERATOR.normal(size=channels).astype(np.float32)
    std = GENERATOR.uniform(0.5, 2, size=channels).astype(np.float32)
    expected = normalised(arrays.images, mean, std)
    order = shuffled_indices(tf.range(20, dtype=tf.int64), 10, 7).numpy().reshape(5, 4)
    for (x, y), chosen in zip(training(arrays, 5, mean=mean, std=std), order, strict=True):
        np.testing.assert_allclose(x, expected[chosen], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(y, arrays.labels[chosen])
        assert (x.dtype, y.dtype) == (np.float32, arrays.labels.dtype)
    batches = list(evaluation_batches(arrays, mean=mean, std=std, batch_size=4))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    np.testing.assert_allclose(np.concatenate([x for x, _ in batches]), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), arrays.labels)


def test_tokens_stay_the_numbers_they_are():
    arrays = ImageArrays(SAMPLES["tokens"], LABELS["classes"])
    for x, y in training(arrays, 3):
        np.testing.assert_array_equal(x, arrays.images[y])


@pytest.mark.parametrize("kind", ["features", "series", "volumes"])
def test_a_resumed_run_gets_the_batches_it_would_have_had(kind):
    arrays = ImageArrays(SAMPLES[kind], LABELS["targets"])
    whole, resumed = training(arrays, 8), training(arrays, 5, start_step=3)
    for (x, y), (x_resumed, y_resumed) in zip(whole[3:], resumed, strict=True):
        np.testing.assert_array_equal(x, x_resumed)
        np.testing.assert_array_equal(y, y_resumed)


def test_two_workers_see_what_one_of_twice_the_batch_sees():
    arrays = ImageArrays(SAMPLES["features"], LABELS["targets"])
    one = training(arrays, 4, batch_size=6)
    parts = [training(arrays, 4, batch_size=3, rank=rank, size=2) for rank in (0, 1)]
    for whole, *halves in zip(one, *parts, strict=True):
        for array, *pieces in zip(whole, *halves, strict=True):
            np.testing.assert_array_equal(array, np.concatenate(pieces))


def test_shapes_and_types_are_static():
    arrays = ImageArrays(SAMPLES["series"], LABELS["targets"])
    spec = training_batches(
        arrays, mean=np.float32(0), std=np.float32(1), batch_size=4, seed=0, crop_padding=0, flip=False
    ).element_spec
    assert spec == (tf.TensorSpec([4, 8, 2], tf.float32), tf.TensorSpec([4, 2], tf.float32))


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_are_mirrored_too(channels):
    images = np.zeros((2, 1, 2, channels), np.uint8)
    images[:, 0, 0] = 1
    x = np.concatenate([x for x, _ in training(ImageArrays(images, np.int32([0, 1])), 20, flip=True)])
    assert (x.sum(axis=(1, 2)) == 1).all()
    assert set(x[:, 0, 0, 0]) == {0, 1}
