import os
import random

import numpy as np
import pytest

from datasets import own_folders
from datasets.own_folders import read_folders
from tests.own_data_files import identities, load, picture, write_classes, write_picture
from utils.errors import InputError


def names_by_class(source, root, part="train"):
    """Class name -> paths below `root`, in order."""
    found = {}
    for sample, label in zip(source.samples[part], source.labels[part], strict=True):
        found.setdefault(source.class_names[label], []).append(os.path.relpath(sample.name, root))
    return found


def test_classes_and_files_are_sorted_by_name(tmp_path):
    for name in ("b/2.png", "b/10.png", "a/x.JPG", "B/1.png"):
        write_picture(tmp_path / name, picture(0, 0))
    source = read_folders(str(tmp_path))
    assert source.class_names == ("B", "a", "b")
    assert names_by_class(source, tmp_path) == {"B": ["B/1.png"], "a": ["a/x.JPG"], "b": ["b/10.png", "b/2.png"]}
    assert source.labels["train"].dtype == np.int32


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    write_classes(tmp_path, {"b": 5, "a": 5, "c": 5})
    expected = read_folders(str(tmp_path))
    scandir = os.scandir

    class Shuffled:
        def __init__(self, directory):
            self.entries = list(scandir(directory))
            random.Random(0).shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(own_folders.os, "scandir", Shuffled)
    assert read_folders(str(tmp_path)).samples == expected.samples


@pytest.mark.parametrize("validation", ["val", "validation", "valid", "Val"])
def test_parts_are_folders_of_class_folders(tmp_path, validation):
    write_classes(tmp_path / "train", {"a": 3, "b": 2})
    write_classes(tmp_path / validation, {"b": 2})
    write_classes(tmp_path / "test", {"b": 1, "a": 1})
    source = read_folders(str(tmp_path))
    assert source.class_names == ("a", "b")
    assert {part: labels.tolist() for part, labels in source.labels.items()} == {
        "train": [0, 0, 0, 1, 1],
        "validation": [1, 1],
        "test": [0, 1],
    }
    assert names_by_class(source, tmp_path, "test") == {"a": ["test/a/000.png"], "b": ["test/b/000.png"]}


def test_trains_beside_cars_are_a_class(tmp_path):
    write_classes(tmp_path, {"train": 2, "car": 3})
    assert read_folders(str(tmp_path)).class_names == ("car", "train")


def test_folders_within_a_class_belong_to_it(tmp_path):
    for name in ("a/1.png", "a/z/2.png", "a/y/x/3.png", "b/1.png"):
        write_picture(tmp_path / name, picture(0, 0))
    assert names_by_class(read_folders(str(tmp_path)), tmp_path)["a"] == ["a/1.png", "a/y/x/3.png", "a/z/2.png"]


def test_what_is_hidden_is_passed_over_and_what_is_no_picture_is_told(tmp_path, capsys):
    write_classes(tmp_path, {"a": 2, "b": 2})
    for name in (".DS_Store", "a/Thumbs.db", "a/._000.png", ".git/x.png", "b/.cache/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    source = read_folders(str(tmp_path))
    assert [len(paths) for paths in names_by_class(source, tmp_path).values()] == [2, 2]
    assert capsys.readouterr().err == ""
    for name in ("README.md", "a/notes.txt", "b/1.tiff", "loose.png"):
        (tmp_path / name).write_text("")
    assert read_folders(str(tmp_path)).samples == source.samples
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: 4 files or folders under {tmp_path} are left aside")
    assert warning.endswith("README.md, loose.png, a/notes.txt and 1 more")
    read_folders(str(tmp_path), quiet=True)
    assert capsys.readouterr().err == ""


def test_folders_that_are_no_part_are_told(tmp_path, capsys):
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    write_classes(tmp_path / "unlabelled", {"c": 1})
    assert read_folders(str(tmp_path)).class_names == ("a", "b")
    assert "1 files or folders" in (told := capsys.readouterr().err)
    assert told.endswith("unlabelled\n")


def test_links_are_followed_but_not_in_circles(tmp_path):
    elsewhere = write_classes(tmp_path / "elsewhere", {"x": 3})
    root = write_classes(tmp_path / "data", {"a": 1})
    (root / "b").symlink_to(elsewhere / "x", target_is_directory=True)
    (root / "a" / "round").symlink_to(root, target_is_directory=True)
    (elsewhere / "x" / "itself").symlink_to(elsewhere / "x", target_is_directory=True)
    (root / "a" / "loop").symlink_to(root / "a" / "loop")
    (root / "a" / "picture.png").symlink_to(elsewhere / "x" / "000.png")
    found = names_by_class(read_folders(str(root)), root)
    assert found == {"a": ["a/000.png", "a/picture.png"], "b": ["b/000.png", "b/001.png", "b/002.png"]}


def test_a_link_to_nowhere_is_a_picture_that_cannot_be_decoded(tmp_path):
    write_classes(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"1 of 9 images cannot be decoded: .*gone.png \(No such file"):
        load(tmp_path)


def test_a_pipe_is_no_picture(tmp_path):
    write_classes(tmp_path, {"a": 1, "b": 1})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert names_by_class(read_folders(str(tmp_path)), tmp_path)["a"] == ["a/000.png"]


def write_flat(root, *names):
    for name in names:
        write_picture(root / name / "1.png", picture(0, 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "one folder of pictures for each class, or TFRecord.*with 0 files and no folders"),
        (lambda root: write_flat(root, ""), "one folder of pictures for each class.*with 1 files and no folders"),
        (lambda root: write_flat(root, "train", "test"), r"test must hold one folder of pictures for each class"),
        (lambda root: write_flat(root, "train/a", "train/b", "test"), "test must hold one folder of pictures for each"),
        (lambda root: write_flat(root, "test/a", "a", "b"), "must hold a folder train beside test"),
        (lambda root: write_flat(root, "train/a", "val/a", "valid/a"), "one folder for validation.*val and valid in"),
    ],
    ids=["empty", "no folders", "flat parts", "flat test", "no train", "two validations"],
)
def test_directories_that_will_not_do(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        read_folders(str(tmp_path))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("part", ["", "train", "test"])
def test_class_folders_without_pictures_are_named(tmp_path, part):
    for other in {part, "train"} if part else {""}:
        write_classes(tmp_path / other, {"a": 2, "b": 2})
    (tmp_path / part / "c" / "deeper").mkdir(parents=True)
    (tmp_path / part / "c" / "deeper" / "notes.txt").write_text("")
    with pytest.raises(InputError, match="every class folder must hold pictures .*Received: none in (.*)") as error:
        read_folders(str(tmp_path))
    assert str(error.value).endswith(str(tmp_path / part / "c"))


def test_a_directory_that_cannot_be_read(tmp_path, monkeypatch):
    write_classes(tmp_path, {"a": 2, "b": 2})
    scandir = os.scandir

    def guarded(directory):
        if str(directory).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scandir(directory)

    monkeypatch.setattr(own_folders.os, "scandir", guarded)
    with pytest.raises(InputError, match=r"--own_data must be readable. Received: .*/b \(Permission denied\)"):
        read_folders(str(tmp_path))


def test_a_tree_is_split_and_every_picture_keeps_its_class(tmp_path):
    write_classes(tmp_path, {"cat": 20, "dog": 10, "eel": 5})
    dataset = load(tmp_path)
    assert dataset.class_names == ("cat", "dog", "eel")
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [np.bincount(split.labels).tolist() for split in splits] == [[16, 8, 3], [2, 1, 1], [2, 1, 1]]
    for split in splits:
        assert [label for label, _ in identities(split)] == split.labels.tolist()
    found = sum(map(identities, splits), [])
    assert len(set(found)) == 35


def test_own_parts_are_kept_and_validation_is_split_off_where_it_is_missing(tmp_path):
    write_classes(tmp_path / "train", {"a": 18, "b": 9})
    write_classes(tmp_path / "test", {"a": 2, "b": 3}, first=50)
    dataset = load(tmp_path)
    assert [np.bincount(split.labels).tolist() for split in (dataset.train, dataset.validation)] == [[16, 8], [2, 1]]
    assert sorted(identities(dataset.test)) == [(0, 50), (0, 51), (1, 50), (1, 51), (1, 52)]


def test_classes_of_a_part_that_training_lacks(tmp_path):
    write_classes(tmp_path / "train", {"a": 4, "b": 4})
    write_classes(tmp_path / "test", {"a": 2, "c": 2, "0": 1})
    with pytest.raises(InputError, match="classes of test must all be in training. Received: 2 .*'0', 'c'"):
        load(tmp_path)


def test_one_class_is_too_few(tmp_path):
    write_classes(tmp_path, {"a": 9})
    with pytest.raises(InputError, match=r"at least 2 classes. Received: 1 in training \('a'\)"):
        load(tmp_path)
