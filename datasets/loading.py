"""A data set by name and configuration: from this machine, from HDFS, or the embedded one."""

import dataclasses
from typing import Any
from urllib.parse import urlsplit

import fsspec
import numpy as np

from datasets.cifar10 import load_cifar10
from datasets.config import DataConfig
from datasets.dataset import Dataset
from datasets.digits32_cache import load_digits32
from datasets.ilsvrc12 import dataset as ilsvrc12
from utils.errors import InputError

DATASETS = ("cifar10", "ilsvrc12")
DISKS = ("local", "hdfs", "embedded")


def load_dataset(
    name: str,
    config: DataConfig,
    *,
    image_size: int = 0,
    num_classes: int = 0,
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
    quiet: bool = False,
) -> Dataset:
    """The data set `name`, or digits32 in its place where the disk is `embedded`.

    Args:
        image_size: height and width of the images in batches in place of ILSVRC-12; 0: 224, of digits32 their own.
        num_classes: of ILSVRC-12's records; 0: 1,000.
        mean, std: what ILSVRC-12's images are normalised by, `float32 [3]` in units of 0..255; None: the usual ones.
        quiet: whether to show no progress and no warnings.

    Raises:
        InputError: the name or disk is unknown, the disk has no directory, or the data is missing or wrong.
    """
    if name not in DATASETS:
        raise InputError(f"the data set must be one of {', '.join(DATASETS)}. Received: {name!r}")
    disk = data_disk(config)
    counts: dict[str, Any] = dict(
        num_train=config.num_training_images,
        num_validation=config.num_validation_images,
        num_test=config.num_test_images,
    )
    if disk == "embedded":
        dataset = load_digits32(**counts)
        if name == "cifar10" or not image_size:
            return dataset
        title = f"{dataset.name} (embedded, not ImageNet)"
        return dataclasses.replace(dataset, title=title, resize_to=(image_size, image_size))
    directory, filesystem = config.local_directory, None
    if disk == "hdfs":
        directory, filesystem = config.hdfs_directory, hdfs_filesystem(config.hdfs_host)
    if name == "cifar10":
        return load_cifar10(directory, filesystem=filesystem, **counts)
    return ilsvrc12.load_ilsvrc12(
        directory,
        filesystem=filesystem,
        image_size=image_size or ilsvrc12.IMAGE_SIZE,
        num_classes=num_classes or ilsvrc12.NUM_CLASSES,
        mean=ilsvrc12.MEAN if mean is None else mean,
        std=ilsvrc12.STD if std is None else std,
        skip_bad=config.skip_bad_images,
        quiet=quiet,
        **counts,
    )


def data_disk(config: DataConfig) -> str:
    """Where the data lies: `local`, `hdfs` or `embedded`. Unset, it is the first of these that has a directory.

    Raises:
        InputError: it is none of these, or its directory is not configured.
    """
    directories = {"local": config.local_directory, "hdfs": config.hdfs_directory}
    if not config.disk:
        return next((disk for disk, directory in directories.items() if directory), "embedded")
    if config.disk not in DISKS:
        raise InputError(f"--data_disk must be one of {', '.join(DISKS)}. Received: {config.disk!r}")
    if not directories.get(config.disk, config.disk):
        raise InputError(f"--data_disk {config.disk} needs --data_dir_{config.disk}. Received: none")
    return config.disk


def hdfs_filesystem(host: str) -> fsspec.AbstractFileSystem:
    """HDFS through fsspec and pyarrow.

    Args:
        host: of the name node, `host`, `host:port` or `hdfs://host:port`; empty: the one in Hadoop's own configuration.

    Raises:
        InputError: pyarrow or Hadoop's client is missing, or the host cannot be reached.
    """
    try:
        place = urlsplit(host if "://" in host else f"//{host}")
        return fsspec.filesystem("hdfs", host=place.hostname or "default", port=place.port or 0)
    except ImportError as error:
        raise InputError(
            f"--data_disk hdfs needs the package pyarrow (.venv/bin/pip install pyarrow). Received: {error}"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"--data_hdfs_host must be a reachable name node, host:port. Received: {host!r} ({error})"
        ) from error
