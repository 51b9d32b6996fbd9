"""The user's own data, wherever it comes from, as the three splits that every learner works on."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.config import DataConfig, OwnDataConfig
from datasets.images import ImageArrays, ImageDataset
from datasets.own_arrays import read_npz
from datasets.own_folders import read_folders, visible
from datasets.own_options import normalisation, picture_shape, read_shares
from datasets.own_pictures import decode_pictures
from datasets.own_records import read_records, record_files
from datasets.own_split import Choice, OwnSource, check_classes, choose
from utils.errors import InputError


@dataclass(frozen=True, eq=False, kw_only=True)
class OwnDataset(ImageDataset):
    """A data set whose samples may be of any shape.

    `num_classes` is the number of classes, or of a regression's outputs.

    Attributes:
        class_names: by index; empty for a regression.
        task: `classification` or `regression`.
    """

    class_names: tuple[str, ...]
    task: str


def load_own_dataset(
    config: OwnDataConfig,
    counts: DataConfig,
    *,
    task: str,
    input_shape: tuple[int | None, ...],
    seed: int,
    quiet: bool = False,
) -> OwnDataset:
    """The data that `config.source` names, in memory.

    A directory of pictures in class folders (`own_folders.py`), a directory of TFRecord files (`own_records.py`) or an
    .npz file (`own_arrays.py`). What validation or test is not there is split off training. Each split is in an order
    drawn with the seed in which classes are spread evenly; `nb_smpls_*` keep the beginning of it, and of pictures only
    those are decoded.

    Args:
        counts: how many samples of each split, 0 for all; and the batch size, which training must fill.
        task: `classification` or `regression`.
        input_shape: of the network, without the batch.
        quiet: whether to show no progress and no warnings.

    Raises:
        InputError: the data or a flag is wrong.
    """
    shares = read_shares(config.split)
    if not config.source:
        raise InputError("--own_data must be a directory or an .npz file. Received: none")
    path = os.path.abspath(config.source)
    # Wrong numbers are told before the data is read; how long the last axis is may be known only after.
    normalisation(config, input_shape[-1] if input_shape else None)
    shape = None
    if os.path.isdir(path):
        if task == "regression":
            raise InputError(f"--own_task regression must have an .npz file for --own_data. Received: directory {path}")
        shape = picture_shape(config.image_size, input_shape)
        source = _read_directory(path, quiet)
    else:
        source = _read_file(path, config, task, input_shape)
    if task == "classification":
        check_classes(source)
    choices = choose(source.labels, shares, counts, seed)
    _check_batch(len(choices["train"].indices), counts.batch_size)
    if shape is None:
        splits: dict[str, Any] = {
            name: ImageArrays(source.samples[part][indices], source.labels[part][indices])
            for name, (part, indices) in choices.items()
        }
    else:
        splits = _decode(source, choices, shape, config.skip_bad, quiet)
        _check_batch(len(splits["train"].labels), counts.batch_size)
    mean, std = normalisation(config, splits["train"].images.shape[-1])
    labels = splits["train"].labels
    return OwnDataset(
        name=dataset_name(config.source),
        title=os.path.basename(path),
        num_classes=labels.shape[1] if task == "regression" else len(source.class_names),
        **splits,
        mean=mean,
        std=std,
        crop_padding=0,
        flip=False,
        class_names=source.class_names,
        task=task,
    )


def dataset_name(source: str) -> str:
    """What the data at `source` is called in file names: the last part of its path, without suffix and odd letters."""
    name = os.path.basename(os.path.abspath(source)).removesuffix(".npz")
    return re.sub(r"[^\w.-]+", "_", name) or "own_data"


def _read_directory(path: str, quiet: bool) -> OwnSource:
    folders, files = visible(path)
    records = record_files([file.name for file in files])
    if not records:
        return read_folders(path, quiet)
    if folders:
        raise InputError(
            f"--own_data must hold class folders or TFRecord files, not both. Received: folder {folders[0].name} and "
            f"file {next(iter(records.values()))[0]} in {path}"
        )
    return read_records(path, records, quiet)


def _read_file(path: str, config: OwnDataConfig, task: str, input_shape: tuple[int | None, ...]) -> OwnSource:
    if not os.path.exists(path):
        raise InputError(f"--own_data must exist. Received: {path}")
    if not path.lower().endswith(".npz"):
        raise InputError(f"--own_data must be a directory or an .npz file. Received: {path}")
    if config.image_size:
        raise InputError(
            f"--own_image_size must be left out for an .npz file, whose arrays are used as they are. "
            f"Received: {config.image_size!r}"
        )
    return read_npz(path, task, input_shape)


def _decode(
    source: OwnSource, choices: Mapping[str, Choice], shape: tuple[int, int, int], skip_bad: bool, quiet: bool
) -> dict[str, ImageArrays]:
    """The pictures chosen; all in one array, of which the splits are views."""
    pictures = [source.samples[part][index] for part, indices in choices.values() for index in indices]
    labels = np.concatenate([source.labels[part][indices] for part, indices in choices.values()])
    ends = np.cumsum([len(indices) for _, indices in choices.values()])
    images, kept = decode_pictures(pictures, shape, skip_bad=skip_bad, quiet=quiet)
    bounds = np.searchsorted(kept, ends[:-1])
    splits = {
        name: ImageArrays(*arrays)
        for name, *arrays in zip(choices, np.split(images, bounds), np.split(labels[kept], bounds), strict=True)
    }
    for name, split in splits.items():
        if not len(split.labels):
            raise InputError(f"--own_skip_bad must leave an image of {name} that can be decoded. Received: none")
    lost = np.setdiff1d(labels[: ends[0]], splits["train"].labels)
    if lost.size:
        raise InputError(
            "--own_skip_bad must leave a training image of each class. "
            f"Received: none of {source.class_names[lost[0]]!r}"
        )
    return splits


def _check_batch(num_training: int, batch_size: int) -> None:
    if num_training < batch_size:
        raise InputError(
            f"--batch_size must be at most {num_training}, the training samples there are. Received: {batch_size}"
        )
