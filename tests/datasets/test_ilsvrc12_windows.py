import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.ilsvrc12.windows import (
    DRAWS,
    TRIES,
    central_windows,
    draw_numbers,
    is_mirrored,
    random_windows,
)

sizes = st.lists(st.tuples(st.integers(1, 700), st.integers(1, 700)), min_size=1, max_size=20)


@given(sizes, st.integers(0, 2**40), st.integers(0, 2**50))
def test_windows_lie_within_the_image_and_have_area_and_aspect_in_range(sizes, seed, first):
    sizes = np.array(sizes)
    windows = random_windows(sizes, draw_numbers(seed, first, len(sizes)))
    assert windows.dtype == np.int32
    (top, left, height, width), (image_height, image_width) = windows.T, sizes.T
    assert (np.minimum(top, left) >= 0).all()
    assert (np.minimum(height, width) >= 1).all()
    assert (top + height <= image_height).all()
    assert (left + width <= image_width).all()
    # Sides are rounded to whole pixels: by half a pixel, or to one.
    assert ((width - 0.5) / (height + 0.5) <= 4 / 3 + 1e-9).all()
    assert ((height - 0.5) / (width + 0.5) <= 4 / 3 + 1e-9).all()
    # The largest central window of an image that is very long covers less than 8% of it.
    is_usual = np.maximum(image_height, image_width) <= 3 * np.minimum(image_height, image_width)
    area = (height + 0.5) * (width + 0.5)
    assert (area >= 0.08 * image_height * image_width)[is_usual].all()


def test_a_window_by_hand():
    draws = np.full((1, DRAWS), 0.5)
    # Area 0.54 of 100 x 200, aspect 1: the root of 10,800 is 103.9, more than the image is high. The second try has an
    # area of 0.08 of it, 1,600, and an aspect of 4/3.
    draws[0, 1], draws[0, TRIES + 1] = 0, 1 - 1e-12
    draws[0, 2 * TRIES : 2 * TRIES + 2] = 0.25, 0.999
    height, width = 35, 46  # roots of 1,600 * 3/4 and of 1,600 * 4/3
    assert random_windows(np.array([[100, 200]]), draws).tolist() == [
        [int(0.25 * (100 - height + 1)), 200 - width, height, width]
    ]


@pytest.mark.parametrize(
    ("size", "window"),
    [((1, 40), [0, 20, 1, 1]), ((40, 3), [18, 0, 4, 3]), ((30, 90), [0, 25, 30, 40]), ((1, 1), [0, 0, 1, 1])],
)
def test_where_no_try_fits_the_window_is_the_largest_central_one(size, window):
    draws = np.full((1, DRAWS), 0.999)  # nearly all of the area at an aspect of 4/3
    draws[0, TRIES : 2 * TRIES] = 0 if size[0] < size[1] else 0.999
    if size == (1, 1):
        draws[0, :TRIES] = 0.001  # rounded, the window has no pixel
    assert random_windows(np.array([size]), draws).tolist() == [window]


def test_areas_and_aspects_are_spread_evenly():
    count = 4000
    windows = random_windows(np.tile([4000, 4000], (count, 1)), draw_numbers(3, 0, count))
    areas = windows[:, 2] * windows[:, 3] / 4000**2
    aspects = np.log(windows[:, 3] / windows[:, 2]) / np.log(4 / 3)
    # Of areas near 1 only aspects near 1 fit, so the first half of the areas is looked at.
    assert np.mean(areas < 0.25) == pytest.approx(2 * np.mean((areas > 0.25) & (areas < 0.335)), rel=0.3)
    assert abs(np.mean(aspects)) < 0.05
    assert np.mean(np.abs(aspects[areas < 0.5]) < 0.5) == pytest.approx(0.5, abs=0.05)


def test_numbers_depend_on_the_seed_and_the_position_alone():
    together = draw_numbers(7, 40, 16)
    assert together.shape == (16, DRAWS)
    assert (together >= 0).all()
    assert (together < 1).all()
    for first, count in ((40, 4), (44, 8), (55, 1)):
        np.testing.assert_array_equal(draw_numbers(7, first, count), together[first - 40 :][:count])
    assert not np.isin(draw_numbers(8, 40, 16), together).any()
    assert len(np.unique(together)) == together.size


def test_about_half_of_the_images_are_mirrored():
    assert np.mean(is_mirrored(draw_numbers(1, 0, 4000))) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("size", "image_size", "window"),
    [
        ((256, 256), 224, [16, 16, 224, 224]),
        ((512, 300), 224, [125, 19, 262, 262]),  # 300 * 224 / 256 = 262.5, to the even neighbour
        ((375, 500), 96, [24, 86, 327, 327]),  # the shorter side to 110: 375 * 96 / 110 = 327.3
        ((1, 40), 224, [0, 19, 1, 1]),
        ((1, 1), 32, [0, 0, 1, 1]),
    ],
)
def test_central_windows_by_hand(size, image_size, window):
    assert central_windows(np.array([size]), image_size).tolist() == [window]
