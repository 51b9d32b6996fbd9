import gzip

import numpy as np
import pytest

from datasets import own_memory
from datasets.ilsvrc12.index import masked_crc32c
from datasets.own_records import _checked_size, read_records, record_files
from tests.own_data_files import identities, load, picture, png, write_records
from utils.errors import InputError


def examples(count, classes=2, first=0, image="image", label="label"):
    return [
        {image: png(picture(number % classes, number)), label: number % classes}
        for number in range(first, first + count)
    ]


def write_small(root, **options):
    write_records(root / "train-00000-of-00002", examples(10), **options)
    write_records(root / "train-00001-of-00002", examples(10, first=10), **options)
    write_records(root / "test-00000-of-00001", examples(4, first=20), **options)


def test_names_of_files():
    names = [
        "cats-test.tfrecord-00000-of-00001",
        "dataset_info.json",
        "mnist-train.tfrecord-00000-of-00002",
        "mnist-train.tfrecord-00001-of-00002",
        "test-a",
        "train-00000-of-00010.gz",
        "train-test-0",
        "train.tfrecord",
        "train-labels.csv",
        "trainer-1",
        "training-1",
        "val-1",
        "validation-1",
        "my-train-1",
        "test-photo.JPG",
    ]
    assert record_files(names) == {
        "test": ["cats-test.tfrecord-00000-of-00001", "test-a"],
        "train": [
            "mnist-train.tfrecord-00000-of-00002",
            "mnist-train.tfrecord-00001-of-00002",
            "train-00000-of-00010.gz",
            "train-test-0",
            "train.tfrecord",
        ],
        "validation": ["val-1", "validation-1"],
    }


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_records_are_read_compressed_or_not(tmp_path, compression):
    write_small(tmp_path, compression=compression)
    dataset = load(tmp_path)
    assert dataset.class_names == ("0", "1")
    everything = identities(dataset.train) + identities(dataset.validation)
    assert sorted(everything) == sorted((number % 2, number) for number in range(20))
    assert sorted(identities(dataset.test)) == [(0, 20), (0, 22), (1, 21), (1, 23)]
    for split in (dataset.train, dataset.validation, dataset.test):
        assert [label for label, _ in identities(split)] == split.labels.tolist()


def test_files_of_tensorflow_datasets_and_features_of_image_net(tmp_path):
    write_records(tmp_path / "birds-train.tfrecord-00000-of-00001", examples(8, 3, image="image/encoded"))
    for name in ("birds-validation.tfrecord-00000-of-00001", "birds-test.tfrecord-00000-of-00001"):
        write_records(tmp_path / name, examples(3, 3, image="image/encoded", label="image/class/label"))
    (tmp_path / "features.json").write_text("{}")
    dataset = load(tmp_path)
    assert [len(split.labels) for split in (dataset.train, dataset.validation, dataset.test)] == [8, 3, 3]
    assert dataset.num_classes == 3


def test_a_length_that_looks_like_gzip_is_not(tmp_path):
    record = {"image": png(picture(0, 0)), "label": 0, "padding": b""}
    write_records(tmp_path / "train-0", [record])
    overhead = int.from_bytes((tmp_path / "train-0").read_bytes()[:8], "little")
    # A record of 0x088b1f bytes; the padding's own length takes two bytes more, and so do the lengths around it.
    for slack in range(overhead + 4, overhead + 12):
        write_records(tmp_path / "train-0", [record | {"padding": bytes(0x088B1F - slack)}, record | {"label": 1}])
        if (tmp_path / "train-0").read_bytes()[:3] == b"\x1f\x8b\x08":
            break
    else:
        pytest.fail("no such record was made")
    assert read_records(str(tmp_path), {"train": ["train-0"]}, quiet=True).labels["train"].tolist() == [0, 1]


def test_progress_is_told_by_files(tmp_path, capsys):
    write_small(tmp_path)
    read_records(str(tmp_path), record_files(["test-00000-of-00001", "train-00000-of-00002"]))
    assert "Reading records: 100%, 2/2 files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            {"picture": b"x", "label": 1},
            r"one bytes value in image or image/encoded.*features label \(int64_list\), picture",
        ),
        ({"image": b"x"}, r"one int64 value in label or image/class/label.*features image \(bytes_list\) in record 10"),
        ({"image": 3, "label": 1}, r"one bytes value in image.*image \(int64_list\)"),
        ({"image": b"x", "label": b"cat"}, r"one int64 value in label.*label \(bytes_list\)"),
        ({}, "features none in record 10"),
    ],
)
def test_records_without_what_is_needed(tmp_path, example, message):
    write_records(tmp_path / "train-0", [*examples(10), example])
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path)
    assert str(tmp_path / "train-0") in str(error.value)


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_files_are_named(tmp_path, compression, damage):
    write_small(tmp_path, compression=compression)
    path = tmp_path / "train-00001-of-00002"
    content = path.read_bytes()
    middle = len(content) // 2 + 5  # not where a record ends
    path.write_bytes(
        content[:middle] if damage == "cut" else content[:middle] + b"\0\0\0\0\0\0" + content[middle + 6 :]
    )
    with pytest.raises(InputError, match="TFRecord files must be whole and readable. Received: .*train-00001-of-00002"):
        load(tmp_path)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_file_cut_anywhere_is_named(tmp_path, compression):
    path = tmp_path / "train-0"
    write_records(path, [{"label": 1}, {"label": 2}], compression)
    content = path.read_bytes()
    ends = [len(content) // 2] if not compression else []  # Where the second record would begin, nothing is missing.
    for size in set(range(1, len(content))) - set(ends):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="must be whole and readable"):
            _checked_size(str(path))


@pytest.mark.parametrize("length", [2**31, 2**40, 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_record_that_says_it_is_huge_is_refused_before_tensorflow_takes_memory_for_it(tmp_path, length, pack):
    # Its checksum is right; TensorFlow's reader ended the process with a segmentation fault.
    said = length.to_bytes(8, "little")
    (tmp_path / "train-0").write_bytes(pack(said + masked_crc32c(said) + b"x" * 20))
    with pytest.raises(InputError, match=r"must be whole and readable. Received: .*train-0 \(it ends within a record"):
        load(tmp_path)


def test_files_that_hold_something_else(tmp_path):
    (tmp_path / "train-0").write_bytes(b"hello, this is no record at all")
    with pytest.raises(InputError, match=r"must be whole and readable. Received: .*train-0 \("):
        load(tmp_path)
    (tmp_path / "train-0").write_bytes(gzip.compress(b"hello, this is no record at all"))
    with pytest.raises(InputError, match=r"must be whole and readable. Received: .*train-0 \("):
        load(tmp_path)


def test_records_that_are_no_examples(tmp_path):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "train-0")) as writer:
        writer.write(b"\xff\xff\xff hello")
    with pytest.raises(InputError, match="each record must be a tf.train.Example. Received: record 0 of .*train-0"):
        load(tmp_path)


def test_pictures_that_cannot_be_decoded_are_named_by_file_and_record(tmp_path):
    write_records(tmp_path / "train-0", [*examples(12), {"image": b"no picture", "label": 1}])
    with pytest.raises(InputError, match=r"1 of 13 images cannot be decoded: .*train-0, record 12 \(not a picture\)"):
        load(tmp_path)
    dataset = load(tmp_path, skip_bad=True)
    assert sum(len(split.labels) for split in (dataset.train, dataset.validation, dataset.test)) == 12


def test_a_link_to_nowhere(tmp_path):
    (tmp_path / "train-0").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"must be whole and readable. Received: .*train-0 \(.*No such file"):
        load(tmp_path)


def test_labels_below_zero(tmp_path):
    write_records(tmp_path / "train-0", [{"image": b"x", "label": label} for label in (0, 1, -5)])
    with pytest.raises(InputError, match="the labels of train in .* must be class indices.*Received: -5 in row 2"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["test-0"], "must hold TFRecord files train-*.*only test in"),
        (["train-0", "test-0"], "of test must hold records"),
    ],
)
def test_parts_without_records(tmp_path, names, message):
    for name in names:
        write_records(tmp_path / name, examples(4) if name == "train-0" else [])
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_class_folders_beside_records(tmp_path):
    write_small(tmp_path)
    (tmp_path / "cats").mkdir()
    with pytest.raises(
        InputError, match="class folders or TFRecord files, not both. Received: folder cats and file test-0"
    ):
        load(tmp_path)


def test_files_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    write_small(tmp_path)
    monkeypatch.setattr(own_memory, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match="must fit into memory. Received: 3 TFRecord files need"):
        load(tmp_path)


def test_images_of_the_whole_set_are_decoded_in_the_networks_channels(tmp_path):
    write_records(tmp_path / "train-0", [{"image": png(picture(n % 2, n, 1)), "label": n % 2} for n in range(10)])
    dataset = load(tmp_path, input_shape=(4, 6, 1))
    assert dataset.train.images.shape == (6, 4, 6, 1)
    for image, (label, number) in zip(dataset.train.images, identities(dataset.train), strict=True):
        np.testing.assert_array_equal(image, picture(label, number, 1))
