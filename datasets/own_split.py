"""Which samples of own data make up each split: seeded, stratified by class, the same on every machine."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from datasets.config import DataConfig
from datasets.images import check_count
from utils.errors import InputError

SPLITS = ("train", "validation", "test")
_SPLIT_SALT, _ORDER_SALT = 0x5917, 0x08D8


class OwnSource(NamedTuple):
    """What the user's data holds, by part: `train` and, where it has them, `validation` and `test`.

    Attributes:
        samples: of each part an array `[N, ...]`, or a list of N pictures that are not decoded yet.
        labels: of each part class indices `int32 [N]`, or targets of a regression `float32 [N, k]`.
        class_names: by index; empty for a regression.
    """

    samples: Mapping[str, Any]
    labels: Mapping[str, np.ndarray]
    class_names: tuple[str, ...]


class Choice(NamedTuple):
    """The samples of a split: the part of the source that they are in, and their indices there, in order."""

    part: str
    indices: np.ndarray


def check_classes(source: OwnSource) -> None:
    """Raises InputError for fewer than 2 classes, or one of validation or test that training lacks."""
    trained = np.unique(source.labels["train"])
    if len(trained) < 2:
        names = ", ".join(repr(source.class_names[label]) for label in trained)
        raise InputError(f"the data must have at least 2 classes. Received: {len(trained)} in training ({names})")
    for part, labels in source.labels.items():
        lacking = [repr(source.class_names[label]) for label in np.setdiff1d(labels, trained)]
        if lacking:
            raise InputError(
                f"the classes of {part} must all be in training. Received: {len(lacking)} that training lacks, "
                f"{shortened(lacking)}"
            )


def choose(
    labels: Mapping[str, np.ndarray], shares: Sequence[float], counts: DataConfig, seed: int
) -> dict[str, Choice]:
    """The samples of training, validation and test, each in an order whose beginnings are stratified too.

    A part that is missing is split off `train`, by its share of the shares of `train` and of all that are missing.
    `nb_smpls_train`, `nb_smpls_val` and `nb_smpls_eval` keep the beginning of a split: as data usually lies class by
    class, the first samples as they lie would be those of few classes.

    Raises:
        InputError: a split is empty, or smaller than its count.
    """
    strata = {part: values if values.ndim == 1 else np.zeros(len(values), np.int32) for part, values in labels.items()}
    given = {name: name != "train" and name in labels for name in SPLITS}
    kept = np.array([0.0 if given[name] else share for name, share in zip(SPLITS, shares, strict=True)])
    pieces = split_by_shares(strata["train"], kept / kept.sum(), seed)
    limits = {
        "train": (counts.num_training_images, "nb_smpls_train"),
        "validation": (counts.num_validation_images, "nb_smpls_val"),
        "test": (counts.num_test_images, "nb_smpls_eval"),
    }
    choices = {}
    for number, name in enumerate(SPLITS):
        part = name if given[name] else "train"
        indices = np.arange(len(labels[part])) if given[name] else pieces[number]
        if not len(indices):
            raise InputError(
                f"--own_split must leave at least one sample for {name}, as the data has no {name} part of its own. "
                f"Received: shares {', '.join(f'{share:g}' for share in shares)} of {len(labels['train'])} samples"
            )
        count, flag_name = limits[name]
        check_count(count, len(indices), flag_name)
        order = spread_order(strata[part][indices], [seed, _ORDER_SALT, number])
        choices[name] = Choice(part, indices[order][: count or None])
    return choices


def split_by_shares(labels: np.ndarray, shares: Sequence[float], seed: int) -> list[np.ndarray]:
    """Indices of each piece, increasing; the pieces together hold each sample once.

    Of a class of n samples piece i gets `n * shares[i]`, rounded by the largest remainder. The first piece gets one at
    least, and each piece with a share above 0 does where there are as many samples as such pieces.

    Args:
        labels: classes `int [N]`.
        shares: at least 0, of sum 1, the first above 0.
    """
    generator = np.random.default_rng([seed, _SPLIT_SALT])
    piece_of = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        piece_of[members] = np.repeat(np.arange(len(shares)), _piece_sizes(len(members), np.asarray(shares)))
    return [np.flatnonzero(piece_of == piece) for piece in range(len(shares))]


def _piece_sizes(count: int, shares: np.ndarray) -> np.ndarray:
    """Whole numbers of sum `count`, near `count * shares`."""
    # Rounded, so that 0.29 * 100 is 29.
    quotas = np.round(count * shares, 9)
    sizes = np.floor(quotas).astype(np.int64)
    by_remainder = np.argsort(sizes - quotas, kind="stable")
    sizes[by_remainder[: count - sizes.sum()]] += 1
    needed = np.flatnonzero(shares > 0) if count >= np.count_nonzero(shares) else [0]
    for piece in needed:
        if not sizes[piece]:
            sizes[np.argmax(sizes)] -= 1
            sizes[piece] = 1
    return sizes


def spread_order(labels: np.ndarray, seed: int | Sequence[int]) -> np.ndarray:
    """A random order `int64 [N]` of the samples in which every class is spread evenly.

    The j-th sample of a class of n, j from 0, has the place j / n; equal places come in random order. So it begins with
    one sample of each class, and wherever it is cut after that, each class has the same share of its samples before it,
    rounded up or down.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    places = (np.arange(len(labels)) - np.repeat(starts, sizes)) / np.repeat(sizes, sizes)
    return by_class[np.lexsort((generator.random(len(labels)), places))]


def shortened(names: Sequence[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
