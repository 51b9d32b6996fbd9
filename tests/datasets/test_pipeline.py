import gc
import itertools

import numpy as np
import pytest
import tensorflow as tf

from datasets.images import ImageArrays
from datasets.pipeline import crop_table, evaluation_batches, shuffled_indices, training_batches

MEAN, STD = np.float32([100, 120, 140]), np.float32([50, 60, 70])


def numbered_images(count, height=6, width=5):
    """Random images whose labels are their indices."""
    images = np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return ImageArrays(images, np.arange(count, dtype=np.int32))


def batches_of(arrays, steps, **options):
    given = dict(mean=MEAN, std=STD, batch_size=4, seed=7, crop_padding=2, flip=True) | options
    return [(x.numpy(), y.numpy()) for x, y in training_batches(arrays, **given).take(steps)]


def evaluated(arrays, **options):
    batches = evaluation_batches(arrays, **(dict(mean=MEAN, std=STD, batch_size=4) | options))
    return [(x.numpy(), y.numpy()) for x, y in batches]


def all_crops(image, padding):
    """Every crop of the normalised, zero-padded image, plain and mirrored, by loops."""
    height, width, _ = image.shape
    padded = np.zeros((height + 2 * padding, width + 2 * padding, 3), np.float32)
    padded[padding : padding + height, padding : padding + width] = (image - MEAN) / STD
    crops = []
    for top, left in itertools.product(range(2 * padding + 1), repeat=2):
        crop = padded[top : top + height, left : left + width]
        crops += [crop, crop[:, ::-1]]
    return np.stack(crops)


def test_every_epoch_is_a_permutation_of_all_images_and_batches_straddle_epochs():
    labels = np.concatenate([y for _, y in batches_of(numbered_images(10), 15)])  # 60 positions: 6 epochs
    epochs = labels.reshape(6, 10)
    assert (np.sort(epochs, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 6


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sets_smaller_than_a_batch_are_repeated_in_it(count):
    labels = np.concatenate([y for _, y in batches_of(numbered_images(count), 3)])
    assert (np.sort(labels.reshape(-1, count), axis=1) == np.arange(count)).all()


def test_a_batch_depends_on_seed_and_step_alone():
    arrays = numbered_images(10)
    whole = batches_of(arrays, 9)
    for start in (1, 5):
        for (x, y), (x_resumed, y_resumed) in zip(
            whole[start:], batches_of(arrays, 9 - start, start_step=start), strict=True
        ):
            np.testing.assert_array_equal(x, x_resumed)
            np.testing.assert_array_equal(y, y_resumed)
    other = batches_of(arrays, 9, seed=8)
    assert any((y != y_other).any() for (_, y), (_, y_other) in zip(whole, other, strict=True))


def test_two_workers_see_what_one_of_twice_the_batch_sees():
    arrays = numbered_images(11)
    one = batches_of(arrays, 5, batch_size=6)
    first, second = (batches_of(arrays, 5, batch_size=3, rank=rank, size=2) for rank in (0, 1))
    for (x, y), (x0, y0), (x1, y1) in zip(one, first, second, strict=True):
        np.testing.assert_array_equal(y, np.concatenate([y0, y1]))
        np.testing.assert_array_equal(x, np.concatenate([x0, x1]))


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (1, False), (0, True)])
def test_training_images_are_crops_of_the_padded_normalised_image_and_all_crops_occur(padding, flip):
    arrays = numbered_images(3)
    seen = set()
    for x, y in batches_of(arrays, 40, batch_size=12, crop_padding=padding, flip=flip):
        for image, label in zip(x, y, strict=True):
            candidates = all_crops(arrays.images[label].astype(np.float32), padding)[:: 1 if flip else 2]
            matches = np.flatnonzero(np.abs(candidates - image).max(axis=(1, 2, 3)) < 1e-5)
            assert len(matches) == 1
            seen.add(int(matches[0]))
    assert seen == set(range((2 * padding + 1) ** 2 * (2 if flip else 1)))


def test_padding_is_exactly_the_mean_colour():
    arrays = ImageArrays(np.full((4, 3, 3, 3), 255, np.uint8), np.zeros(4, np.int32))
    x = np.concatenate([x for x, _ in batches_of(arrays, 20, crop_padding=1)])
    inside = np.isclose(x, (255 - MEAN) / STD)
    assert (inside | (x == 0)).all()
    assert (~inside).any()


def test_without_padding_and_flip_images_are_only_normalised():
    arrays = numbered_images(8)
    for x, y in batches_of(arrays, 4, crop_padding=0, flip=False):
        np.testing.assert_allclose(x, (arrays.images[y] - MEAN) / STD, atol=1e-5)


def test_normalisation_of_a_hand_worked_pixel():
    arrays = ImageArrays(np.uint8([[[[110, 150, 0]]]]), np.int32([3]))
    ((x, y),) = evaluated(arrays)
    np.testing.assert_allclose(x, [[[[0.2, 0.5, -2.0]]]], rtol=1e-6)
    assert y.tolist() == [3]


def test_batches_have_static_shapes_and_types():
    spec = training_batches(
        numbered_images(9), mean=MEAN, std=STD, batch_size=4, seed=0, crop_padding=1, flip=True
    ).element_spec
    assert spec == (tf.TensorSpec([4, 6, 5, 3], tf.float32), tf.TensorSpec([4], tf.int32))


def test_crops_of_a_two_by_two_image_padded_by_one():
    table = crop_table(2, 2, 1, flip=True)
    # Padded: 4 4 4 4 / 4 0 1 4 / 4 2 3 4 / 4 4 4 4.
    assert table[:9].tolist() == [
        [4, 4, 4, 0],
        [4, 4, 0, 1],
        [4, 4, 1, 4],
        [4, 0, 4, 2],
        [0, 1, 2, 3],
        [1, 4, 3, 4],
        [4, 2, 4, 4],
        [2, 3, 4, 4],
        [3, 4, 4, 4],
    ]
    assert table[13].tolist() == [1, 0, 3, 2]
    assert table.shape == (18, 4)


def test_neighbours_in_the_file_share_a_batch_as_often_as_in_a_random_permutation():
    count, batch, epochs = 45_000, 128, 40
    whole = count // batch * batch

    def shared_pairs(order):
        """Pairs of images of the same group of 8 in a batch, mean over the batches of an epoch."""
        groups = np.sort(order[:whole].reshape(-1, batch) // 8, axis=1)
        return np.mean(np.sum(groups[:, 1:] == groups[:, :-1], axis=1))

    positions = tf.range(epochs * count, dtype=tf.int64)
    ours = [shared_pairs(order) for order in shuffled_indices(positions, count, 3).numpy().reshape(epochs, count)]
    generator = np.random.default_rng(0)
    random = [shared_pairs(generator.permutation(count)) for _ in range(epochs)]
    assert np.mean(ours) == pytest.approx(np.mean(random), abs=5 * np.std(random) / np.sqrt(epochs))
    assert np.std(ours) < 1.7 * np.std(random)


def test_evaluation_sees_every_image_once_in_order_with_an_odd_last_batch():
    arrays = numbered_images(10)
    batches = evaluated(arrays)
    assert [y.tolist() for _, y in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    np.testing.assert_allclose(np.concatenate([x for x, _ in batches]), (arrays.images - MEAN) / STD, atol=1e-5)


@pytest.mark.parametrize(("count", "size"), [(10, 3), (2, 4), (7, 1)])
def test_workers_together_evaluate_every_image_once(count, size):
    labels = [y for rank in range(size) for _, y in evaluated(numbered_images(count), rank=rank, size=size)]
    assert np.concatenate(labels).tolist() == list(range(count))


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_pipelines_no_longer_used_keep_no_copy_of_the_data():
    arrays = ImageArrays(np.ones((1000, 128, 128, 3), np.uint8), np.zeros(1000, np.int32))  # 49 MB
    gc.collect()
    gc.disable()
    try:
        sizes = []
        for _ in range(8):
            batches_of(arrays, 2)
            evaluated(ImageArrays(arrays.images, arrays.labels), batch_size=500)
            sizes.append(resident_bytes())
    finally:
        gc.enable()
    # From the third pass on, when allocators have what they need: 10 more copies would be 490 MB.
    assert sizes[-1] - sizes[2] < 150e6


def test_no_thread_tunes_the_pipelines():
    """That of tf.data often missed the end of an iterator, which then took up to a minute to go."""
    arrays = numbered_images(8)
    training = training_batches(arrays, mean=MEAN, std=STD, batch_size=4, seed=7, crop_padding=2, flip=True)
    for batches in (training, training.take(2), evaluation_batches(arrays, mean=MEAN, std=STD, batch_size=4)):
        assert batches.options().autotune.enabled is False


def test_images_of_another_size_are_cropped_before_they_are_resized():
    arrays = numbered_images(5)
    plain, large = (batches_of(arrays, 3, resize_to=size) for size in (None, (12, 15)))
    for (x, y), (x_large, y_large) in zip(plain, large, strict=True):
        np.testing.assert_array_equal(y, y_large)
        np.testing.assert_allclose(x_large, tf.image.resize(x, (12, 15)), atol=1e-6)
    (x, y), (x_large, y_large) = evaluated(arrays)[-1], evaluated(arrays, resize_to=(3, 2))[-1]
    assert (len(x), x_large.shape) == (1, (1, 3, 2, 3))
    np.testing.assert_allclose(x_large, tf.image.resize(x, (3, 2)), atol=1e-6)
