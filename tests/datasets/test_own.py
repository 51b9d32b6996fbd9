import os

import numpy as np
import pytest

from datasets import own, own_pictures
from datasets.config import DataConfig
from datasets.own import dataset_name
from datasets.pipeline import evaluation_batches
from tests.own_data_files import identities, load, write_classes
from utils.errors import InputError


def all_of(dataset):
    return dataset.train, dataset.validation, dataset.test


def write_npz(tmp_path, y=None, count=20):
    path = tmp_path / "table.npz"
    x = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    y = np.arange(count) % 2 if y is None else y
    np.savez(path, x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    return path


def test_pictures_become_a_data_set(tmp_path):
    write_classes(tmp_path / "my photos", {"cat": 10, "dog": 10})
    dataset = load(tmp_path / "my photos", rescale="1/255", mean="0.1,0.2,0.3", std="0.5")
    assert (dataset.name, dataset.title, dataset.task) == ("my_photos", "my photos", "classification")
    assert (dataset.num_classes, dataset.class_names) == (2, ("cat", "dog"))
    assert (dataset.crop_padding, dataset.flip) == (0, False)
    np.testing.assert_allclose(dataset.mean, [25.5, 51, 76.5], rtol=1e-6)
    assert dataset.std == pytest.approx(127.5)
    for split in all_of(dataset):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
        assert split.images.shape == (len(split.labels), 4, 6, 3)
    ((x, y),) = evaluation_batches(dataset.train, mean=dataset.mean, std=dataset.std, batch_size=100)
    np.testing.assert_allclose(x, (dataset.train.images / 255 - [0.1, 0.2, 0.3]) / 0.5, atol=1e-5)
    np.testing.assert_array_equal(y, dataset.train.labels)


def test_a_regression_becomes_a_data_set(tmp_path):
    y = np.random.default_rng(0).random((20, 2))
    dataset = load(write_npz(tmp_path, y), task="regression", input_shape=(3,))
    assert (dataset.name, dataset.title, dataset.task) == ("table", "table.npz", "regression")
    assert (dataset.num_classes, dataset.class_names) == (2, ())
    assert [split.labels.shape for split in all_of(dataset)] == [(18, 2), (2, 2), (4, 2)]
    for x, target in zip(dataset.train.images, dataset.train.labels, strict=True):
        np.testing.assert_array_equal(target, np.float32(y[int(x[0]) // 3]))


@pytest.mark.parametrize("kind", ["folders", "npz"])
def test_the_seed_alone_decides(tmp_path, kind):
    source = (
        write_classes(tmp_path / "tree", {"a": 30, "b": 30}) if kind == "folders" else write_npz(tmp_path, count=60)
    )
    shape = (4, 6, 3) if kind == "folders" else (3,)
    first, again, other = (load(source, input_shape=shape, seed=seed) for seed in (4, 4, 5))
    for one, two, three in zip(all_of(first), all_of(again), all_of(other), strict=True):
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.labels, two.labels)
        assert (one.images != three.images).any()


def test_only_the_pictures_that_are_needed_are_decoded(tmp_path, monkeypatch):
    write_classes(tmp_path, {"a": 50, "b": 50})
    decoded = []
    decode = own_pictures.decode
    monkeypatch.setattr(own_pictures, "decode", lambda *args: decoded.append(args) or decode(*args))
    counts = DataConfig(batch_size=6, num_training_images=6, num_validation_images=4, num_test_images=2)
    dataset = load(tmp_path, counts=counts)
    assert [np.bincount(split.labels).tolist() for split in all_of(dataset)] == [[3, 3], [2, 2], [1, 1]]
    assert len(decoded) == 12
    whole = load(tmp_path)
    for part, everything in zip(all_of(dataset), all_of(whole), strict=True):
        assert identities(part) == identities(everything)[: len(part.labels)]


def test_each_split_begins_with_all_classes(tmp_path):
    write_classes(tmp_path, {"a": 40, "b": 40, "c": 40})
    for split in all_of(load(tmp_path)):
        assert sorted(split.labels[:3]) == [0, 1, 2]


def test_fewer_training_images_than_a_batch(tmp_path):
    source = write_classes(tmp_path / "tree", {"a": 10, "b": 10})
    dataset = load(source, counts=DataConfig(batch_size=16))
    message = "--batch_size must be at most 16, the training samples there are. Received: 17"
    with pytest.raises(InputError, match=message):
        load(source, counts=DataConfig(batch_size=17))
    with pytest.raises(InputError, match="--batch_size must be at most 18"):
        load(write_npz(tmp_path), input_shape=(3,), counts=DataConfig(batch_size=19))
    label, number = identities(dataset.train)[0]
    (source / "ab"[label] / f"{number:03}.png").write_text("")
    assert len(load(source, skip_bad=True).train.labels) == 15
    with pytest.raises(InputError, match="--batch_size must be at most 15"):
        load(source, skip_bad=True, counts=DataConfig(batch_size=16))


def test_skipping_bad_pictures_may_not_leave_a_split_or_a_class_empty(tmp_path):
    for part in ("train", "val", "test"):
        write_classes(tmp_path / part, {"a": 3, "b": 3})
    dataset = load(tmp_path)
    for name in ("train/b/000.png", "val/a/001.png"):
        (tmp_path / name).write_text("")
    skipped = load(tmp_path, skip_bad=True)
    for split, before, gone in zip(all_of(skipped), all_of(dataset), ((1, 0), (0, 1), None), strict=True):
        assert identities(split) == [identity for identity in identities(before) if identity != gone]
        assert [label for label, _ in identities(split)] == split.labels.tolist()
    for path in (tmp_path / "train" / "b").iterdir():
        path.write_text("")
    with pytest.raises(InputError, match="--own_skip_bad must leave a training image of each class.*none of 'b'"):
        load(tmp_path, skip_bad=True)
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_text("")
    with pytest.raises(InputError, match="--own_skip_bad must leave an image of test"):
        load(tmp_path, skip_bad=True)


def test_pictures_of_many_sizes_take_the_size_asked_for(tmp_path):
    write_classes(tmp_path, {"a": 5, "b": 5})
    assert load(tmp_path, input_shape=(None, None, 3), image_size="3,2").train.images.shape == (6, 3, 2, 3)
    with pytest.raises(InputError, match="--own_image_size must be given"):
        load(tmp_path, input_shape=(None, None, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "0.5,0.5"}, "--own_split must be three numbers"),
        ({"rescale": "0"}, "--own_rescale must not be 0"),
        ({"mean": "1,2"}, "--own_mean must be one number, or 3"),
        ({"image_size": "9,9"}, "--own_image_size must fit the network's input"),
        ({"task": "regression"}, "--own_task regression must have an .npz file for --own_data. Received: directory /"),
    ],
)
def test_wrong_flags_are_told_before_anything_is_read(tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(own, "_read_directory", None)
    with pytest.raises(InputError, match=message):
        load(tmp_path, **options)


def test_wrong_means_are_told_where_the_network_takes_any_length(tmp_path):
    path = write_npz(tmp_path)
    assert load(path, input_shape=(None,), mean="1,2,3").mean.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="--own_mean must be one number, or 3"):
        load(path, input_shape=(None,), mean="1,2")


def test_the_size_of_pictures_is_not_for_arrays(tmp_path):
    with pytest.raises(InputError, match="--own_image_size must be left out for an .npz file.*'4,4'"):
        load(write_npz(tmp_path), input_shape=(3,), image_size="4,4")


def test_data_that_is_not_there_is_told_with_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--own_data must be a directory or an .npz file. Received: none"):
        load("")
    for name in ("photos", "photos.npz"):
        with pytest.raises(InputError, match=f"--own_data must exist. Received: {os.path.join(tmp_path, name)}$"):
            load(name)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="must be a directory or an .npz file. Received: .*notes.txt"):
        load("notes.txt")
    os.mkdir("empty")
    with pytest.raises(InputError, match=f"{os.path.join(tmp_path, 'empty')} with 0 files and no folders"):
        load("empty")


@pytest.mark.parametrize(
    ("source", "name"),
    [("/a/photos/", "photos"), ("/a/my photos (1)", "my_photos_1_"), ("/a/b.npz", "b"), ("/", "own_data")],
)
def test_names_for_files(source, name):
    assert dataset_name(source) == name
