import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.cifar10 import RECORD_BYTES
from datasets.digits32 import Recipe, make_images
from datasets.digits32_cache import FILES, cache_directory, ensure_cache, is_intact, load_digits32, split_by_source
from datasets.images import ImageArrays
from utils.errors import InputError

SMALL = Recipe(
    training_sources_per_class=10, images_per_training_source=2, block_sources_per_class=5, test_images_per_class=3
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("made") / "trimflow" / "digits32-v1"
    ensure_cache(place, SMALL)
    return place


@pytest.fixture
def directory(made, tmp_path):
    return shutil.copytree(made, tmp_path / "trimflow" / made.name)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_files_are_cifar10_records_of_the_images_made(directory):
    assert set(contents(directory)) == {*FILES, "manifest.json"}
    assert all((directory / f"data_batch_{number}.bin").stat().st_size == 40 * RECORD_BYTES for number in range(1, 6))
    dataset = load_digits32(num_validation=100, recipe=SMALL, directory=directory)
    training, test = make_images(SMALL)
    np.testing.assert_array_equal(
        np.concatenate([dataset.train.images, dataset.validation.images]), training.arrays.images
    )
    np.testing.assert_array_equal(dataset.test.images, test.arrays.images)
    np.testing.assert_array_equal(dataset.test.labels, test.arrays.labels)


def test_it_says_that_it_is_not_cifar10(directory):
    dataset = load_digits32(num_validation=100, recipe=SMALL, directory=directory)
    assert dataset.name == "digits32"
    assert dataset.title == "digits32 (embedded, not CIFAR-10)"
    assert (dataset.crop_padding, dataset.flip) == (2, False)


def test_mean_and_standard_deviation_are_those_of_all_training_images(directory):
    few = load_digits32(num_train=5, num_validation=100, recipe=SMALL, directory=directory)
    images = make_images(SMALL)[0].arrays.images.astype(np.float64)
    np.testing.assert_allclose(few.mean, images.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(few.std, images.std(axis=(0, 1, 2)), rtol=1e-6)
    assert few.mean.dtype == few.std.dtype == np.float32


@pytest.mark.parametrize("num_validation", [1, 37, 100, 101])
def test_no_source_occurs_in_two_splits_whatever_the_size_of_validation(directory, num_validation):
    sources = np.load(directory / "train_sources.npy")
    training = ImageArrays(np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1), np.arange(200, dtype=np.int32))
    train, validation = split_by_source(training, sources, num_validation)
    assert validation.labels.tolist() == list(range(200 - num_validation, 200))
    assert not np.intersect1d(sources[train.labels], sources[validation.labels]).size
    assert not np.intersect1d(sources, np.load(directory / "test_sources.npy")).size
    # Whatever was dropped, shared a source.
    dropped = np.setdiff1d(np.arange(200 - num_validation), train.labels)
    assert np.isin(sources[dropped], sources[validation.labels]).any(axis=1).all()


def test_a_validation_split_of_whole_blocks_costs_no_training_image(directory):
    assert len(load_digits32(num_validation=100, recipe=SMALL, directory=directory).train.labels) == 100


def test_limits_take_the_first_images(directory):
    whole = load_digits32(num_validation=100, recipe=SMALL, directory=directory)
    few = load_digits32(num_train=7, num_validation=100, num_test=4, recipe=SMALL, directory=directory)
    np.testing.assert_array_equal(few.train.images, whole.train.images[:7])
    np.testing.assert_array_equal(few.test.labels, whole.test.labels[:4])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (dict(num_validation=200), "--nb_smpls_val must be below 200.*Received: 200"),
        (dict(num_validation=199), "--nb_smpls_val must leave training images.*Received: 199"),
        (dict(num_validation=100, num_train=101), "--nb_smpls_train must be at most 100.*Received: 101"),
        (dict(num_validation=100, num_test=31), "--nb_smpls_eval must be at most 30.*Received: 31"),
    ],
)
def test_more_images_than_there_are(directory, counts, message):
    with pytest.raises(InputError, match=message):
        load_digits32(recipe=SMALL, directory=directory, **counts)


def truncate(directory):
    path = directory / "data_batch_2.bin"
    os.truncate(path, path.stat().st_size - RECORD_BYTES)


def flip_a_bit(directory):
    path = directory / "test_batch.bin"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)


def lose_a_file(directory):
    (directory / "train_sources.npy").unlink()


def break_the_manifest(directory):
    (directory / "manifest.json").write_text('{"recipe": ')


def lose_everything(directory):
    for path in directory.iterdir():
        path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lose_a_file, break_the_manifest, lose_everything])
def test_a_damaged_cache_is_found_and_made_again_byte_for_byte(directory, damage):
    before = contents(directory)
    damage(directory)
    assert not is_intact(directory, SMALL)
    ensure_cache(directory, SMALL)
    assert contents(directory) == before
    assert [path.name for path in directory.parent.iterdir() if path.is_dir()] == ["digits32-v1"]


def test_a_whole_cache_is_left_alone(directory):
    before = directory.stat()
    ensure_cache(directory, SMALL)
    assert directory.stat().st_ino == before.st_ino


def test_a_cache_of_another_recipe_is_made_again(directory):
    other = replace(SMALL, noise=(0.3, 0.3))
    assert not is_intact(directory, other)
    ensure_cache(directory, other)
    assert is_intact(directory, other)
    assert json.loads((directory / "manifest.json").read_text())["recipe"]["noise"] == [0.3, 0.3]


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    left = tmp_path / ".digits32-v1.abandoned"
    left.mkdir()
    (left / "data_batch_1.bin").write_bytes(b"half")
    ensure_cache(tmp_path / "digits32-v1", SMALL)
    assert not left.exists()


def test_several_at_once_end_with_one_whole_cache(tmp_path):
    place = tmp_path / "digits32-v1"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: ensure_cache(place, SMALL), range(2)))
    assert is_intact(place, SMALL)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["digits32-v1"]


def test_a_cache_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write the cache.*XDG_CACHE_HOME.*Received: .*digits32-v1"):
        ensure_cache(tmp_path / "file" / "digits32-v1", SMALL)


def test_the_cache_lies_where_xdg_says(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache_directory() == Path("/some/where/trimflow/digits32-v1")
    monkeypatch.setenv("HOME", "/home/someone")
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_directory() == Path("/home/someone/.cache/trimflow/digits32-v1")
