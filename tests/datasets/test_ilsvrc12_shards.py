import os

import fsspec
import pytest

from datasets.ilsvrc12.shards import find_shards
from utils.errors import InputError

LOCAL = fsspec.filesystem("file")
VALIDATION = ["validation-00000-of-00001"]


def write(directory, names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"some bytes")
    return str(directory)


def train(total, without=()):
    return [f"train-{number:05}-of-{total:05}" for number in range(total) if number not in without]


@pytest.mark.parametrize("folders", [("", ""), ("train/", "validation/"), ("", "validation/")])
def test_files_are_found_in_order_with_any_total(tmp_path, folders):
    names = [*(folders[0] + name for name in train(11)), folders[1] + VALIDATION[0]]
    directory = write(tmp_path, [*names, "notes.txt", "train-00000-of-00011.crc", "training-00000-of-00002"])
    found = find_shards(LOCAL, directory)
    assert [os.path.relpath(shard.path, tmp_path) for part in found.values() for shard in part] == names
    assert {shard.size for part in found.values() for shard in part} == {10}
    assert all(shard.modified for part in found.values() for shard in part)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            train(4, {2}) + VALIDATION,
            r"all 4 train files must be there. Received: 3 in .*; missing: train-00002-of-00004$",
        ),
        (
            train(9, {0, 1, 2, 3, 4}) + VALIDATION,
            r"Received: 4 in .*; missing: train-00000-of-00009, train-00001-of-00009, train-00002-of-00009 and 2 more$",
        ),
        (
            [*train(4), *train(8), *VALIDATION],
            "train files must be parts of one whole, of equal -of-N. Received: .*-of-00004 and .*-of-00008",
        ),
        ([*train(2), "train-00002-of-00002", *VALIDATION], "numbered from 0 to 1. Received: .*train-00002-of-00002"),
        (train(2), "must hold TFRecord files validation-00000-of-N, or a folder validation"),
        (VALIDATION, "must hold TFRecord files train-00000-of-N"),
        (["train/readme", *VALIDATION], "must hold TFRecord files train-00000-of-N"),
    ],
)
def test_what_is_missing_or_unequal_is_named(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        find_shards(LOCAL, write(tmp_path, names))


def test_an_empty_file_is_named(tmp_path):
    directory = write(tmp_path, train(2) + VALIDATION)
    (tmp_path / "train-00001-of-00002").write_bytes(b"")
    with pytest.raises(InputError, match="must hold records. Received: .*train-00001-of-00002, which is empty"):
        find_shards(LOCAL, directory)


def test_a_directory_that_is_missing_or_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "nowhere"):
        with pytest.raises(InputError, match=f"the data directory must exist. Received: .*{name}"):
            find_shards(LOCAL, str(tmp_path / name))
