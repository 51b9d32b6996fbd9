import dataclasses

import numpy as np
import pytest
from scipy import ndimage
from sklearn.datasets import load_digits

from datasets.digits32 import Recipe, draw, make_images, split_sources

SMALL = Recipe(
    training_sources_per_class=10, images_per_training_source=2, block_sources_per_class=5, test_images_per_class=3
)


@pytest.fixture(scope="module")
def made():
    return make_images(SMALL)


@pytest.fixture(scope="module")
def labels():
    return load_digits().target


def test_sizes_and_types(made):
    training, test = made
    assert training.arrays.images.shape == (200, 32, 32, 3)
    assert test.arrays.images.shape == (30, 32, 32, 3)
    assert training.sources.shape == (200, 2)
    assert training.arrays.images.dtype == np.uint8
    assert training.arrays.labels.dtype == np.int32


def test_the_default_recipe_uses_every_digit_and_makes_12000_and_2000_images(labels):
    recipe = Recipe()
    training, test = split_sources(labels, recipe.training_sources_per_class, np.random.default_rng(0))
    assert training.size * recipe.images_per_training_source == 12_000
    assert len(test) * recipe.test_images_per_class == 2000
    assert sorted(np.concatenate([training.ravel(), *test])) == list(range(1797))
    assert (labels[training] == np.arange(10)).all()


def test_classes_are_balanced_in_both_splits(made):
    training, test = made
    assert np.bincount(training.arrays.labels).tolist() == [20] * 10
    assert np.bincount(test.arrays.labels).tolist() == [3] * 10


def test_labels_are_those_of_the_sources(made, labels):
    for images in made:
        np.testing.assert_array_equal(images.arrays.labels, labels[images.sources[:, 0]])


def test_training_and_test_share_no_source(made):
    training, test = made
    assert not np.intersect1d(training.sources, test.sources).size


def test_sources_and_distractors_of_a_block_stay_in_it(made):
    training, _ = made
    first, second = np.split(training.sources, 2)  # 5 sources of 10 classes, 2 images each: 100 images a block
    assert not np.intersect1d(first, second).size
    assert np.bincount(np.unique(first[:, 0], return_counts=True)[1]).tolist() == [0, 0, 50]


def test_no_image_is_distracted_by_its_own_source(made):
    for images in made:
        assert (images.sources[:, 0] != images.sources[:, 1]).all()


def test_images_are_a_function_of_the_recipe(made):
    for images, again in zip(made, make_images(SMALL), strict=True):
        np.testing.assert_array_equal(images.arrays.images, again.arrays.images)
        np.testing.assert_array_equal(images.sources, again.sources)
    other = make_images(dataclasses.replace(SMALL, seed=SMALL.seed + 1))
    assert (made[0].arrays.images != other[0].arrays.images).mean() > 0.9


def draw_plainly(glyph, **changes):
    """One image of one glyph over grey, without anything random but what `changes` asks for."""
    plain = dict(
        contrast=(0.5, 0.5),
        opacity=(1.0, 1.0),
        distractor_opacity=(0.0, 0.0),
        noise=(0.0, 0.0),
        scale=(2.0, 2.0),
        rotation=0.0,
        shift=0.0,
    )
    photographs = np.full((1, 200, 200, 3), 0.25, np.float32)
    recipe = Recipe(**(plain | changes))
    return draw(np.array([[0, 0]]), glyph[None], photographs, recipe, np.random.default_rng(1))[0]


def square(size):
    """A filled square of half the height of a glyph of `size` x `size`."""
    glyph = np.zeros((size, size), np.float32)
    glyph[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    return glyph


@pytest.mark.parametrize(("scale", "side"), [(2.0, 8), (3.0, 12)])
def test_a_digit_is_drawn_at_its_scale_in_the_middle(scale, side):
    # The glyph is 4 times the 8x8 source: its 16 pixels are 4 of the source, so 4 * scale in the image.
    image = draw_plainly(square(32), scale=(scale, scale)).astype(int)
    background = image[0, 0]
    rows, columns = np.nonzero(np.abs(image - background).max(axis=2) > 30)
    low, high = 16 - side // 2, 15 + side // 2
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (low, high, low, high)


def test_a_digit_stands_out_from_the_background_by_contrast_times_opacity():
    opaque, faint = (draw_plainly(square(32), opacity=(opacity, opacity)).astype(int) for opacity in (1.0, 0.5))
    assert np.abs(opaque[16, 16] - opaque[0, 0]).max() == pytest.approx(0.5 * 255, abs=1.5)
    assert np.abs(faint[16, 16] - faint[0, 0]).max() == pytest.approx(0.25 * 255, abs=1.5)


def test_rotation_and_shift_stay_within_their_ranges():
    glyph = np.zeros((32, 32), np.float32)
    glyph[4:28, 14:18] = 1  # an upright bar
    for seed in range(30):
        photographs = np.full((1, 200, 200, 3), 0.25, np.float32)
        recipe = Recipe(noise=(0.0, 0.0), distractor_opacity=(0.0, 0.0), rotation=0.35, shift=4.0)
        image = draw(np.array([[0, 0]]), glyph[None], photographs, recipe, np.random.default_rng(seed))[0]
        coverage = np.abs(image.astype(float) - image[0, 0]).sum(axis=2)
        centre = np.array(ndimage.center_of_mass(coverage))
        rows, columns = np.nonzero(coverage > coverage.max() / 2)
        slope = np.polyfit(rows, columns, 1)[0]
        assert np.abs(centre - 15.5).max() < 4.2
        assert abs(np.arctan(slope)) < 0.35 + 0.06


def test_noise_has_the_standard_deviation_asked_for():
    image = draw_plainly(np.zeros((32, 32), np.float32), noise=(0.05, 0.05))
    spread = image.astype(float).std(axis=(0, 1)) / 255
    np.testing.assert_allclose(spread, 0.05, rtol=0.12)
