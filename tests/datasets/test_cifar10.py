import fsspec
import numpy as np
import pytest

from datasets.cifar10 import RECORD_BYTES, decode_records, encode_records, load_cifar10
from datasets.images import ImageArrays
from utils.errors import InputError

FILES = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]


def record(label, first_pixel=(0, 0, 0)):
    """One record by hand: the label, then 1,024 bytes of red, of green, of blue."""
    return bytes([label]) + b"".join(bytes([value]) + bytes(1023) for value in first_pixel)


@pytest.fixture
def directory(tmp_path):
    """Four records a file; the red of pixel (0, 0) counts them through all files."""
    for number, name in enumerate(FILES):
        (tmp_path / name).write_bytes(b"".join(record(k, (4 * number + k, 0, 0)) for k in range(4)))
    return tmp_path


def first_reds(arrays):
    return arrays.images[:, 0, 0, 0].tolist()


def test_a_record_decodes_channel_by_row_by_column():
    content = bytearray(record(7))
    content[1 + 0 * 1024 + 2 * 32 + 5] = 11  # red of row 2, column 5
    content[1 + 1 * 1024 + 0 * 32 + 31] = 22  # green of row 0, column 31
    content[1 + 2 * 1024 + 31 * 32 + 0] = 33  # blue of row 31, column 0
    images, labels = decode_records(bytes(content), "file")
    assert (images.shape, images.dtype, labels.dtype) == ((1, 32, 32, 3), np.uint8, np.int32)
    assert labels.tolist() == [7]
    assert (images[0, 2, 5].tolist(), images[0, 0, 31].tolist(), images[0, 31, 0].tolist()) == (
        [11, 0, 0],
        [0, 22, 0],
        [0, 0, 33],
    )
    assert images.sum() == 66


def test_encoding_is_the_inverse_of_decoding():
    content = np.random.default_rng(0).integers(0, 10, 3 * RECORD_BYTES, dtype=np.uint8).tobytes()
    assert encode_records(decode_records(content, "file")) == content


def test_splits_are_the_files_in_order_with_validation_last(directory):
    dataset = load_cifar10(str(directory), num_validation=6)
    assert first_reds(dataset.train) == list(range(14))
    assert first_reds(dataset.validation) == list(range(14, 20))
    assert first_reds(dataset.test) == [20, 21, 22, 23]
    assert dataset.test.labels.tolist() == [0, 1, 2, 3]
    assert (dataset.name, dataset.num_classes, dataset.crop_padding, dataset.flip) == ("cifar10", 10, 4, True)


def test_limits_take_the_first_images(directory):
    dataset = load_cifar10(str(directory), num_train=3, num_validation=6, num_test=2)
    assert first_reds(dataset.train) == [0, 1, 2]
    assert first_reds(dataset.validation) == list(range(14, 20))
    assert first_reds(dataset.test) == [20, 21]


def test_the_directory_that_holds_the_unpacked_archive_will_do(directory, tmp_path_factory):
    parent = tmp_path_factory.mktemp("with spaces and ünïcode")
    directory.rename(parent / "cifar-10-batches-bin")
    assert len(load_cifar10(f"{parent}/", num_validation=1).train.labels) == 19


def test_any_fsspec_file_system_will_do(directory):
    memory = fsspec.filesystem("memory")
    for name in FILES:
        memory.pipe(f"/data/cifar-10-batches-bin/{name}", (directory / name).read_bytes())
    try:
        dataset = load_cifar10("/data", filesystem=memory, num_validation=2)
        local = load_cifar10(str(directory), num_validation=2)
        np.testing.assert_array_equal(dataset.train.images, local.train.images)
        np.testing.assert_array_equal(dataset.test.labels, local.test.labels)
        with pytest.raises(InputError, match="must exist. Received: /nowhere"):
            load_cifar10("/nowhere", filesystem=memory)
    finally:
        memory.rm("/data", recursive=True)


def test_a_missing_directory(tmp_path):
    with pytest.raises(InputError, match=r"must exist\. Received: .*/nowhere"):
        load_cifar10(str(tmp_path / "nowhere"))


def test_a_file_in_place_of_the_directory(directory):
    with pytest.raises(InputError, match="must exist"):
        load_cifar10(str(directory / FILES[0]))


def test_an_empty_directory(tmp_path):
    with pytest.raises(InputError, match=r"it is empty.*download_cifar10\.sh"):
        load_cifar10(str(tmp_path))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(directory, name):
    (directory / name).unlink()
    with pytest.raises(InputError, match=rf"Missing: .*/{name}$"):
        load_cifar10(str(directory), num_validation=1)


@pytest.mark.parametrize("name", [FILES[2], FILES[5]])
@pytest.mark.parametrize("size", [0, 1, 3072, 3073 + 1000, 4 * 3073 + 1])
def test_a_file_of_a_wrong_size_is_named_with_its_size_and_the_multiple(directory, name, size):
    (directory / name).write_bytes(bytes(size))
    with pytest.raises(InputError, match=rf"{name} must be a multiple of 3073 bytes.*Received: {size} bytes"):
        load_cifar10(str(directory), num_validation=1)


def test_a_label_out_of_range_is_named_with_file_and_record(directory):
    (directory / FILES[3]).write_bytes(record(9) + record(10) + record(255))
    with pytest.raises(InputError, match=r"0 to 9\. Received: 10 in .*data_batch_4\.bin, record 1 "):
        load_cifar10(str(directory), num_validation=1)


def test_an_unreadable_file_is_an_input_error(directory):
    class Unreadable(type(fsspec.filesystem("file"))):
        cachable = False

        def cat_file(self, path, **options):
            raise PermissionError(f"not allowed: {path}")

    with pytest.raises(InputError, match=r"cannot read .*data_batch_1\.bin: not allowed"):
        load_cifar10(str(directory), filesystem=Unreadable(), num_validation=1)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (dict(num_validation=20), "--nb_smpls_val must be below 20.*Received: 20"),
        (dict(), "--nb_smpls_val must be below 20.*Received: 5000"),
        (dict(num_validation=6, num_train=15), "--nb_smpls_train must be at most 14.*Received: 15"),
        (dict(num_validation=6, num_test=5), "--nb_smpls_eval must be at most 4.*Received: 5"),
    ],
)
def test_more_images_than_there_are(directory, counts, message):
    with pytest.raises(InputError, match=message):
        load_cifar10(str(directory), **counts)


def test_image_arrays_are_not_shared_with_the_file(directory):
    dataset = load_cifar10(str(directory), num_validation=6)
    assert isinstance(dataset.train, ImageArrays)
    assert dataset.train.images.flags.c_contiguous
