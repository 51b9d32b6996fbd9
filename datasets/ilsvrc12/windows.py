"""Which part of an image is used: windows `int32 [B, 4]` of top, left, height and width, in the image's own pixels."""

import numpy as np

LEAST_AREA = 0.08  # of the image
MOST_ASPECT = 4 / 3  # width over height, or height over width
TRIES = 10
DRAWS = 24  # numbers for one image: areas, aspects, place, mirror, and one left over to be a multiple of four
_SALT = 12


def draw_numbers(seed: int, first: int, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for the positions `[first, first + count)` of the sequence of images, `[count, DRAWS]`.

    Those of a position depend on it and the seed alone: the counter of the generator starts at the position's own.
    """
    # A step of Philox' counter gives four numbers.
    bits = np.random.Philox(key=[seed, _SALT], counter=first * (DRAWS // 4))
    return np.random.Generator(bits).random((count, DRAWS))


def random_windows(sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Windows of a random share of the image's area and a random aspect ratio (Szegedy et al. 2015).

    The first of ten tries that lies within the image; where none does, the largest central window of an allowed aspect.
    Areas are uniform in 0.08..1 of the image's, the logarithms of aspects in those of 3/4..4/3.

    Args:
        sizes: height and width of the images, `[B, 2]`.
        draws: uniform numbers in [0, 1), `[B, DRAWS]`.
    """
    image_height, image_width = sizes[:, :1], sizes[:, 1:]
    areas = (LEAST_AREA + (1 - LEAST_AREA) * draws[:, :TRIES]) * image_height * image_width
    aspects = MOST_ASPECT ** (2 * draws[:, TRIES : 2 * TRIES] - 1)
    widths, heights = np.rint(np.sqrt(areas * aspects)), np.rint(np.sqrt(areas / aspects))
    fits = (widths >= 1) & (widths <= image_width) & (heights >= 1) & (heights <= image_height)
    first = np.argmax(fits, axis=1)[:, None]
    is_drawn = fits.any(axis=1, keepdims=True)
    largest_height = np.minimum(image_height, np.rint(image_width * MOST_ASPECT))
    largest_width = np.minimum(image_width, np.rint(image_height * MOST_ASPECT))
    height = np.where(is_drawn, np.take_along_axis(heights, first, 1), largest_height)
    width = np.where(is_drawn, np.take_along_axis(widths, first, 1), largest_width)
    place = np.where(is_drawn, draws[:, 2 * TRIES : 2 * TRIES + 2], 0.5)
    top = np.floor(place[:, :1] * (image_height - height + 1))
    left = np.floor(place[:, 1:] * (image_width - width + 1))
    return np.concatenate([top, left, height, width], axis=1).astype(np.int32)


def is_mirrored(draws: np.ndarray) -> np.ndarray:
    """Whether each image is mirrored left to right, `bool [B]`, with probability 1/2."""
    return draws[:, 2 * TRIES + 2] < 0.5


def central_windows(sizes: np.ndarray, image_size: int) -> np.ndarray:
    """The central squares whose side is 224/256 of the image's shorter side, to be resized to `image_size`.

    That is the usual way, to resize the shorter side to 256/224 of `image_size` and to cut out the centre.

    To cut out first gives the same, but for the rounding of the window's edge to whole pixels, and decodes fewer.

    Args:
        sizes: height and width of the images, `[B, 2]`.
    """
    shorter = sizes.min(axis=1, keepdims=True)
    resized = round(image_size * 256 / 224)
    side = np.maximum(1, np.rint(shorter * image_size / resized))
    return np.concatenate([(sizes - side) // 2, side, side], axis=1).astype(np.int32)
