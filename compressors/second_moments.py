"""The second moment H = X'X of a layer's inputs X [rows, d]: the matrix itself, or inputs in its place.

Wherever a matrix [d, d] does, so does `InputSample`: what is asked of H is its product with weights and its diagonal.
"""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

DAMPING = 1e-4  # share of the mean diagonal that is added to a second moment: dead inputs make it singular


class InputSample(NamedTuple):
    """H = X'X + diag(ridge) by inputs themselves: n*d numbers in place of d*d, and 2ndc multiplications for ddc.

    rows: X [n, d].
    ridge: what is added to the diagonal, [d, 1] or [1, 1].
    """

    rows: np.ndarray | tf.Tensor
    ridge: np.ndarray | tf.Tensor = np.zeros((1, 1), np.float32)


Moment: TypeAlias = np.ndarray | tf.Tensor | InputSample


class KeptInputs(NamedTuple):
    """Which of a layer's inputs are kept.

    Input r is position r % p of image r // p, p = sum(uses) being the positions of an image, use after use.

    numbers: [n] of the inputs, sorted.
    available: how many there are in all images.
    uses: positions of one image at each use of the layer.
    """

    numbers: np.ndarray
    available: int
    uses: tuple[int, ...]

    def among(self, first_image: int, num_images: int) -> list[np.ndarray]:
        """Of each use, which rows of the patches of so many images, the first being `first_image`, are kept: int32."""
        image, position = np.divmod(self.numbers, sum(self.uses))
        is_here = (image >= first_image) & (image < first_image + num_images)
        image, position, found, begin = image[is_here] - first_image, position[is_here], [], 0
        for count in self.uses:
            is_of_use = (position >= begin) & (position < begin + count)
            found.append((image[is_of_use] * count + position[is_of_use] - begin).astype(np.int32))
            begin += count
        return found

    def sample(self, rows: np.ndarray) -> InputSample:
        """H of all inputs as these of them [n, d] tell it."""
        return shrunk(rows, self.available / len(rows))


def shrunk(rows: np.ndarray, scale: float = 1.0) -> InputSample:
    """H as inputs [n, d] tell it that are fewer than would determine it: `(1 - a) S + a diag(S)`, S = X'X `scale`.

    As few say too much of how inputs go together: up to n weights an output can repeat the dense layer on them exactly,
    and on no other inputs. a = d / (n + d) is small where they are many (the idea of Ledoit & Wolf 2004).
    """
    count, width = rows.shape
    shrinkage = width / (count + width)
    ridge = shrinkage * scale * np.sum(np.square(rows), axis=0, keepdims=True, dtype=np.float64).T
    return InputSample(rows * np.float32(np.sqrt((1 - shrinkage) * scale)), ridge.astype(np.float32))


def as_tensors(moment: Moment) -> tf.Tensor | InputSample:
    """The same in float32 tensors."""
    if isinstance(moment, InputSample):
        return InputSample(tf.constant(moment.rows, tf.float32), tf.constant(moment.ridge, tf.float32))
    return tf.constant(moment, tf.float32)


def product(moment: Moment, weights: tf.Tensor) -> tf.Tensor:
    """H W [d, c]."""
    if isinstance(moment, InputSample):
        outputs = tf.matmul(moment.rows, weights)
        return tf.matmul(moment.rows, outputs, transpose_a=True) + moment.ridge * weights
    return tf.matmul(moment, weights)


def diagonal(moment: Moment) -> tf.Tensor:
    """The diagonal of H [d]."""
    if isinstance(moment, InputSample):
        return tf.reduce_sum(tf.square(moment.rows), 0) + moment.ridge[:, 0]
    return tf.linalg.diag_part(moment)


def damped(moment: Moment) -> Moment:
    """H + DAMPING * mean(diag H) * I."""
    if isinstance(moment, InputSample):
        return moment._replace(ridge=moment.ridge + damping_of(moment))
    return tf.linalg.set_diag(moment, diagonal(moment) + damping_of(moment))


def damping_of(moment: Moment) -> tf.Tensor:
    """DAMPING * mean(diag H), the scalar that `damped` adds."""
    return DAMPING * tf.reduce_mean(diagonal(moment))


def output_energy(moment: Moment, weights: tf.Tensor) -> tf.Tensor:
    """||X W||^2 = sum(W * HW)."""
    return tf.reduce_sum(weights * product(moment, weights))


def normalising_factor(moment: Moment) -> float:
    """A power of 4 that brings the mean of the diagonal into [1/2, 2]; 1 where that is 0 or no number.

    With H times it, the squares that conjugate gradients form fit into float32 for inputs of any size, and as a power
    of 2 it rounds nothing: all else comes out bit for bit the same.
    """
    mean = float(np.mean(np.asarray(diagonal(moment)), dtype=np.float64))
    return 4.0 ** -round(math.log(mean, 4)) if 0 < mean < math.inf else 1.0


def scaled(moment: Moment, factor: float) -> Moment:
    """H times a number, for inputs times its root."""
    if factor == 1.0:
        return moment
    if isinstance(moment, InputSample):
        return InputSample(moment.rows * math.sqrt(factor), moment.ridge * factor)
    return moment * factor


def normalised(moment: Moment) -> Moment:
    """H times `normalising_factor`: for what does not depend on the unit of the inputs."""
    return scaled(moment, normalising_factor(moment))


def is_finite(moment: Moment) -> bool:
    """Whether no number of it is NaN or infinite."""
    return bool(np.isfinite(moment.rows if isinstance(moment, InputSample) else moment).all())
