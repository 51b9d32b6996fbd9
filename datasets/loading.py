"""A data set by name and configuration: from this machine, from HDFS, or the embedded one."""

from urllib.parse import urlsplit

import fsspec

from datasets.cifar10 import load_cifar10
from datasets.config import DataConfig
from datasets.digits32_cache import load_digits32
from datasets.images import ImageDataset
from utils.errors import InputError

DATASETS = ("cifar10",)
DISKS = ("local", "hdfs", "embedded")


def load_dataset(name: str, config: DataConfig) -> ImageDataset:
    """The data set `name`, or digits32 in its place where the disk is `embedded`.

    Raises:
        InputError: the name or disk is unknown, the disk has no directory, or the data is missing or wrong.
    """
    if name not in DATASETS:
        raise InputError(f"the data set must be one of {', '.join(DATASETS)}. Received: {name!r}")
    disk = data_disk(config)
    counts = dict(
        num_train=config.num_training_images,
        num_validation=config.num_validation_images,
        num_test=config.num_test_images,
    )
    if disk == "embedded":
        return load_digits32(**counts)
    if disk == "hdfs":
        return load_cifar10(config.hdfs_directory, filesystem=hdfs_filesystem(config.hdfs_host), **counts)
    return load_cifar10(config.local_directory, **counts)


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
