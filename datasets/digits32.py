"""digits32: scikit-learn's handwritten digits over crops of its photographs, 32x32 colour images in 10 classes.

The embedded data set, a stand-in for CIFAR-10 where none is at hand. Each of the 1,797 real digits becomes several
images: over a random crop of a photograph lies a fainter, smaller digit that distracts, and over it the digit of the
label, scaled, rotated, shifted, coloured and half transparent; noise over all. They are a pure function of the recipe.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from datasets.images import ImageArrays

_CHUNK = 500  # images drawn at a time, to bound memory
_ZOOM = 4  # the 8x8 digits are first enlarged smoothly by this factor, then drawn with bilinear interpolation


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the images. Pairs are the ends of a uniform distribution, one draw an image.

    Lengths are in pixels of the image, colours and noise in fractions of the full brightness.
    """

    # How hard it is.
    contrast: tuple[float, float] = (0.5, 1.0)  # distance of the digit's colour from the background's mean colour
    opacity: tuple[float, float] = (0.6, 1.0)
    distractor_opacity: tuple[float, float] = (0.15, 0.4)
    noise: tuple[float, float] = (0.01, 0.08)  # standard deviation

    # How it looks.
    scale: tuple[float, float] = (2.0, 3.4)
    rotation: float = 0.35  # radians either way
    shift: float = 4.0  # off centre, either way, on each axis
    distractor_scale: tuple[float, float] = (1.2, 2.0)
    distractor_distance: tuple[float, float] = (7.0, 12.0)  # off centre

    # How much there is.
    seed: int = 32
    training_sources_per_class: int = 150
    images_per_training_source: int = 8
    block_sources_per_class: int = 5
    test_images_per_class: int = 200


class Images(NamedTuple):
    """Images and, `int16 [N, 2]`, the source digit of each and that of its distractor."""

    arrays: ImageArrays
    sources: np.ndarray


def make_images(recipe: Recipe) -> tuple[Images, Images]:
    """The training and the test images; the sources of the two are disjoint.

    Training comes in blocks of some sources of each class. The distractors of a block are sources of the same block,
    so that a validation split at its end shares sources with one block at most.
    """
    # Not above: importing scikit-learn takes a second, which a run that finds its images in the cache need not spend.
    from sklearn.datasets import load_digits, load_sample_images

    digits = load_digits()
    photographs = np.stack(load_sample_images().images).astype(np.float32) / 255
    # The zoom overshoots at edges.
    zoomed = np.clip(ndimage.zoom(digits.images / 16, (1, _ZOOM, _ZOOM), order=3, grid_mode=True, mode="nearest"), 0, 1)
    glyphs = zoomed.astype(np.float32)

    generator = np.random.default_rng(recipe.seed)
    training_sources, test_sources = split_sources(digits.target, recipe.training_sources_per_class, generator)
    blocks = training_sources.reshape(-1, recipe.block_sources_per_class * training_sources.shape[1])
    sources = [_training_block(block, recipe.images_per_training_source, generator) for block in blocks]
    test = np.concatenate([np.resize(of_class, recipe.test_images_per_class) for of_class in test_sources])
    test = generator.permutation(test)
    pairs = (np.concatenate(sources), np.stack([test, _others(test, np.concatenate(test_sources), generator)], axis=1))
    train, tested = (
        Images(
            ImageArrays(draw(pair, glyphs, photographs, recipe, generator), digits.target[pair[:, 0]].astype(np.int32)),
            pair.astype(np.int16),
        )
        for pair in pairs
    )
    return train, tested


def split_sources(
    labels: np.ndarray, training_sources_per_class: int, generator: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Source indices for training `[per class, classes]`, and the rest of each class, for test."""
    shuffled = [generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    training = np.stack([sources[:training_sources_per_class] for sources in shuffled], axis=1)
    return training, [sources[training_sources_per_class:] for sources in shuffled]


def _training_block(sources: np.ndarray, images_per_source: int, generator: np.random.Generator) -> np.ndarray:
    """Source and distractor `[n, 2]` of a block's images in random order."""
    repeated = generator.permutation(np.repeat(sources, images_per_source))
    return np.stack([repeated, _others(repeated, sources, generator)], axis=1)


def _others(sources: np.ndarray, pool: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """For each of `sources` a random other one of `pool`."""
    order = np.argsort(pool)
    places = order[np.searchsorted(pool, sources, sorter=order)]
    return pool[(places + generator.integers(1, len(pool), len(sources))) % len(pool)]


def draw(
    sources: np.ndarray, glyphs: np.ndarray, photographs: np.ndarray, recipe: Recipe, generator: np.random.Generator
) -> np.ndarray:
    """Images `uint8 [N, 32, 32, 3]` of the sources and distractors `[N, 2]`.

    Args:
        glyphs: the enlarged digits, `float32 [sources, height, width]` in 0..1.
        photographs: `float32 [photographs, height, width, 3]` in 0..1.
    """
    images = np.empty((len(sources), 32, 32, 3), np.uint8)
    for start in range(0, len(sources), _CHUNK):
        part = slice(start, start + _CHUNK)
        images[part] = _draw_chunk(sources[part], glyphs, photographs, recipe, generator)
    return images


def _draw_chunk(
    sources: np.ndarray, glyphs: np.ndarray, photographs: np.ndarray, recipe: Recipe, generator: np.random.Generator
) -> np.ndarray:
    count = len(sources)
    canvas = _backgrounds(count, photographs, generator)

    direction = generator.uniform(-np.pi, np.pi, count)
    distance = generator.uniform(*recipe.distractor_distance, count)
    offset = distance[:, None] * np.stack([np.sin(direction), np.cos(direction)], axis=1)
    scale = generator.uniform(*recipe.distractor_scale, count)
    masks = _render(glyphs, sources[:, 1], scale, offset, recipe, generator)
    _paint(canvas, masks, generator.uniform(*recipe.distractor_opacity, count), recipe, generator)

    offset = generator.uniform(-recipe.shift, recipe.shift, (count, 2))
    scale = generator.uniform(*recipe.scale, count)
    masks = _render(glyphs, sources[:, 0], scale, offset, recipe, generator)
    _paint(canvas, masks, generator.uniform(*recipe.opacity, count), recipe, generator)

    noise = generator.uniform(*recipe.noise, count).astype(np.float32)
    canvas += noise[:, None, None, None] * generator.standard_normal(canvas.shape, np.float32)
    return np.rint(255 * np.clip(canvas, 0, 1)).astype(np.uint8)


def _backgrounds(count: int, photographs: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Crops `float32 [count, 32, 32, 3]` of the photographs at 1 to 3 times reduction, each channel's gain jittered."""
    num_photographs, height, width, _ = photographs.shape
    step = generator.integers(1, 4, count)
    top = generator.integers(0, height - 32 * step)
    left = generator.integers(0, width - 32 * step)
    rows = top[:, None] + step[:, None] * np.arange(32)
    columns = left[:, None] + step[:, None] * np.arange(32)
    chosen = generator.integers(0, num_photographs, count)
    crops = photographs[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
    gain = generator.uniform(0.6, 1.3, (count, 1, 1, 3)).astype(np.float32)
    return np.clip(crops * gain, 0, 1)


def _render(
    glyphs: np.ndarray,
    sources: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    recipe: Recipe,
    generator: np.random.Generator,
) -> np.ndarray:
    """Coverage `float32 [n, 32, 32]` in 0..1 of each source digit, scaled, turned and moved by `offset [n, 2]`."""
    angle = generator.uniform(-recipe.rotation, recipe.rotation, len(sources))
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    inverse = turn * (_ZOOM / scale)[:, None, None]
    pixels = np.mgrid[:32, :32].reshape(2, -1) - 15.5
    centre = (np.array(glyphs.shape[1:]) - 1) / 2
    places = inverse @ (pixels - offset[:, :, None]) + centre[:, None]
    which = np.broadcast_to(sources[:, None], places[:, 0].shape)
    coordinates = np.stack([which, places[:, 0], places[:, 1]])
    masks = ndimage.map_coordinates(glyphs, coordinates, order=1, prefilter=False, output=np.float32)
    return masks.reshape(-1, 32, 32)


def _paint(
    canvas: np.ndarray, masks: np.ndarray, opacity: np.ndarray, recipe: Recipe, generator: np.random.Generator
) -> None:
    """Lays one colour a mask over `canvas [n, 32, 32, 3]`, in place."""
    background = canvas.mean(axis=(1, 2))
    # Towards black or white, whichever is farther, so that the range of colours leaves room for the contrast.
    direction = np.abs(generator.standard_normal(background.shape)) * np.where(background < 0.5, 1, -1)
    direction /= np.abs(direction).max(axis=1, keepdims=True)
    contrast = generator.uniform(*recipe.contrast, len(masks))
    colour = np.clip(background + contrast[:, None] * direction, 0, 1)
    weight = (masks * opacity[:, None, None].astype(np.float32))[..., None]
    canvas += weight * (colour[:, None, None].astype(np.float32) - canvas)
