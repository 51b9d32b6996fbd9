import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from datasets.config import DataConfig
from datasets.loading import data_disk, load_dataset
from tests.ilsvrc12_files import write_ilsvrc12
from utils.errors import InputError
from utils.flags import check_config

FILES = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]


def write_tiny_cifar10(write):
    for name in FILES:
        write(name, bytes(3 * 3073))


class FakeHdfs(MemoryFileSystem):
    """HDFS in memory; `place` is the name node asked for last."""

    protocol = "hdfs"
    cachable = False
    store = {}
    pseudo_dirs = [""]
    place = None

    def __init__(self, host, port, **options):
        super().__init__(**options)
        type(self).place = (host, port)
        if host == "down":
            raise OSError("connection refused")
        if host == "no-pyarrow":
            raise ImportError("No module named 'pyarrow'")


@pytest.fixture
def hdfs(monkeypatch):
    monkeypatch.setitem(_registry, "hdfs", FakeHdfs)
    yield FakeHdfs(host="setup", port=0)
    FakeHdfs.store.clear()


def test_nothing_configured_is_the_embedded_set():
    dataset = load_dataset("cifar10", DataConfig(num_training_images=100, num_test_images=50))
    assert dataset.name == "digits32"
    assert (len(dataset.train.labels), len(dataset.validation.labels), len(dataset.test.labels)) == (100, 2000, 50)


def test_a_local_directory_is_used_where_configured(tmp_path):
    write_tiny_cifar10(lambda name, content: (tmp_path / name).write_bytes(content))
    for disk in ("", "local"):
        config = DataConfig(disk=disk, local_directory=str(tmp_path), num_validation_images=5)
        dataset = load_dataset("cifar10", config)
        assert (dataset.name, dataset.title) == ("cifar10", "CIFAR-10")
        assert (len(dataset.train.labels), len(dataset.validation.labels), len(dataset.test.labels)) == (10, 5, 3)


def test_a_wrong_local_directory_is_an_error_and_not_the_embedded_set(tmp_path):
    with pytest.raises(InputError, match="must exist"):
        load_dataset("cifar10", DataConfig(local_directory=str(tmp_path / "nowhere")))


def test_the_embedded_set_stands_in_for_ilsvrc12_at_its_size():
    config = DataConfig(num_training_images=100)
    dataset = load_dataset("ilsvrc12", config, image_size=48, num_classes=1000, mean=np.zeros(3), std=np.ones(3))
    assert (dataset.name, dataset.num_classes, dataset.image_shape) == ("digits32", 10, (48, 48, 3))
    plain = load_dataset("cifar10", config, image_size=48)
    assert plain.image_shape == load_dataset("ilsvrc12", config).image_shape == (32, 32, 3)
    np.testing.assert_array_equal(dataset.mean, plain.mean)


@pytest.mark.parametrize("disk", ["local", "hdfs"])
def test_ilsvrc12_is_read_from_either_disk(tmp_path, hdfs, disk):
    write_ilsvrc12(tmp_path)
    for path in tmp_path.iterdir():
        hdfs.pipe(f"/data/{path.name}", path.read_bytes())
    config = DataConfig(
        disk=disk, local_directory=str(tmp_path), hdfs_directory="/data", num_training_images=8, skip_bad_images=True
    )
    mean = np.float32([1, 2, 3])
    dataset = load_dataset("ilsvrc12", config, image_size=16, num_classes=10, mean=mean, std=mean, quiet=True)
    assert (dataset.name, dataset.num_training_images, dataset.image_shape) == ("ilsvrc12", 8, (16, 16, 3))
    images = dataset.calibration_images(2, seed=0) * mean + mean
    usual = load_dataset("ilsvrc12", config, image_size=16, quiet=True)
    assert usual.num_classes == 1000
    np.testing.assert_allclose(
        images, usual.calibration_images(2, seed=0) * [58.395, 57.12, 57.375] + [123.675, 116.28, 103.53], atol=1e-3
    )


@pytest.mark.parametrize(
    ("disk", "local", "hdfs", "expected"),
    [
        ("", "", "", "embedded"),
        ("", "/a", "", "local"),
        ("", "", "/b", "hdfs"),
        ("", "/a", "/b", "local"),
        ("embedded", "/a", "/b", "embedded"),
        ("hdfs", "/a", "/b", "hdfs"),
    ],
)
def test_the_disk_follows_from_what_is_configured(disk, local, hdfs, expected):
    assert data_disk(DataConfig(disk=disk, local_directory=local, hdfs_directory=hdfs)) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(disk="floppy"), "--data_disk must be one of local, hdfs, embedded. Received: 'floppy'"),
        (DataConfig(disk="local", hdfs_directory="/b"), "--data_disk local needs --data_dir_local"),
        (DataConfig(disk="hdfs", local_directory="/a"), "--data_disk hdfs needs --data_dir_hdfs"),
    ],
)
def test_a_disk_that_is_unknown_or_has_no_directory(config, message):
    with pytest.raises(InputError, match=message):
        load_dataset("cifar10", config)


def test_an_unknown_data_set():
    with pytest.raises(InputError, match="one of cifar10, ilsvrc12. Received: 'mnist'"):
        load_dataset("mnist", DataConfig())


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("", ("default", 0)),
        ("name-node", ("name-node", 0)),
        ("name-node:9000", ("name-node", 9000)),
        ("hdfs://name-node:9000", ("name-node", 9000)),
    ],
)
def test_hdfs_is_read_from_the_name_node_given(hdfs, host, place):
    write_tiny_cifar10(lambda name, content: hdfs.pipe(f"/data/{name}", content))
    config = DataConfig(disk="hdfs", hdfs_directory="/data", hdfs_host=host, num_validation_images=5)
    assert len(load_dataset("cifar10", config).train.labels) == 10
    assert FakeHdfs.place == place


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no-pyarrow", "--data_disk hdfs needs the package pyarrow"),
        ("down", "--data_hdfs_host must be a reachable name node.*'down'.*connection refused"),
        ("name-node:port", "--data_hdfs_host must be a reachable name node.*'name-node:port'"),
    ],
)
def test_hdfs_that_cannot_be_reached(hdfs, host, message):
    with pytest.raises(InputError, match=message):
        load_dataset("cifar10", DataConfig(disk="hdfs", hdfs_directory="/data", hdfs_host=host))


def test_the_default_configuration_is_allowed_and_a_batch_of_none_is_not():
    check_config(DataConfig())
    with pytest.raises(InputError, match="--batch_size must be at least 1. Received: 0"):
        check_config(DataConfig(batch_size=0))
