import gzip
import os

import fsspec
import numpy as np
import pytest
import tensorflow as tf
from fsspec.implementations.memory import MemoryFileSystem

from datasets.ilsvrc12 import index as index_module
from datasets.ilsvrc12.index import cache_file, files_of_index, index_shards, masked_crc32c, scan_shard
from datasets.ilsvrc12.records import read_range
from datasets.ilsvrc12.shards import Shard, find_shards
from tests.ilsvrc12_files import write_part
from utils.errors import InputError

LOCAL = fsspec.filesystem("file")
RECORDS = [b"a", b"", b"four", bytes(300), b"last"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(directory, records=RECORDS, num_shards=2):
    for part in ("train", "validation"):
        write_part(directory, part, records, num_shards)
    return find_shards(LOCAL, str(directory))["train"]


def contents(filesystem, index):
    files = np.searchsorted(index.firsts, np.arange(len(index.lengths)), side="right") - 1
    return [
        read_range(filesystem, index.paths[file], offset, offset + length)
        for file, offset, length in zip(files, index.offsets.tolist(), index.lengths.tolist(), strict=True)
    ]


def test_every_record_is_where_the_index_says(tmp_path):
    shards = write(tmp_path)
    index = index_shards(LOCAL, shards, quiet=True)
    assert index.lengths.tolist() == [1, 0, 4, 300, 4]
    assert index.firsts.tolist() == [0, 3, 5]
    assert index.offsets.tolist() == [12, 29, 45, 12, 328]
    assert contents(LOCAL, index) == RECORDS
    second = files_of_index(index, 1, 2)
    assert (second.paths, second.firsts.tolist()) == ((shards[1].path,), [0, 2])
    assert contents(LOCAL, second) == RECORDS[3:]


def test_files_of_another_file_system_are_indexed_and_read_alike(tmp_path):
    write(tmp_path / "local")
    remote = MemoryFileSystem()
    remote.put(str(tmp_path / "local"), "/test_ilsvrc12_index", recursive=True)
    try:
        shards = find_shards(remote, "/test_ilsvrc12_index")["train"]
        assert contents(remote, index_shards(remote, shards, quiet=True)) == RECORDS
    finally:
        remote.rm("/test_ilsvrc12_index", recursive=True)


def test_checksums_are_those_of_tensorflow(tmp_path):
    for length in (0, 1, 77, 70_000):
        with tf.io.TFRecordWriter(str(tmp_path / "file")) as writer:
            writer.write(bytes(length))
        header = (tmp_path / "file").read_bytes()[:12]
        assert masked_crc32c(header[:8]) == header[8:]


def test_files_are_indexed_once(tmp_path, monkeypatch, capsys):
    shards = write(tmp_path)
    index = index_shards(LOCAL, shards, quiet=False)
    assert "Indexing records: 100%, 2/2 files" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "scan_shard", None)
        again = index_shards(LOCAL, shards, quiet=False)
    for ours, theirs in zip(index, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert capsys.readouterr().err == ""
    os.utime(shards[0].path, (0, 0))
    assert cache_file(find_shards(LOCAL, str(tmp_path))["train"]) != cache_file(shards)


@pytest.mark.parametrize("damage", [b"", b"no index", None])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    shards = write(tmp_path)
    index_shards(LOCAL, shards, quiet=True)
    cache = cache_file(shards)
    content = cache.read_bytes()
    cache.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert index_shards(LOCAL, shards, quiet=True).lengths.tolist() == [1, 0, 4, 300, 4]
    assert cache.read_bytes() == content
    np.savez(cache, counts=np.array([3, 2]), lengths=np.array([1, 1, 4, 300, 4]))  # of other files
    assert index_shards(LOCAL, shards, quiet=True).lengths.tolist() == [1, 0, 4, 300, 4]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    shards = write(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(index_shards(LOCAL, shards, quiet=True).lengths) == 5


def test_no_file_is_left_where_the_cache_could_not_be_finished(tmp_path, monkeypatch):
    shards = write(tmp_path)

    def fail(*paths):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        assert len(index_shards(LOCAL, shards, quiet=True).lengths) == 5
    assert list(cache_file(shards).parent.iterdir()) == []


def shard_of(path, content):
    path.write_bytes(content)
    return Shard(str(path), len(content), "")


def test_a_file_cut_anywhere_is_named(tmp_path):
    content = b"".join((tmp_path / name).read_bytes() for name in _written(tmp_path, [b"one", b"second"]))
    ends = [16 + 3, 16 + 3 + 16 + 6]
    for size in range(1, len(content)):
        shard = shard_of(tmp_path / "cut", content[:size])
        if size in ends:
            assert len(scan_shard(LOCAL, shard)) == 1
        else:
            with pytest.raises(InputError, match=f"whole. Received: .*cut, which ends within record {int(size > 19)}"):
                scan_shard(LOCAL, shard)


def _written(directory, records):
    write_part(directory, "train", records, 1)
    return ["train-00000-of-00001"]


def test_lengths_that_are_nonsense_are_named(tmp_path):
    (name,) = _written(tmp_path, [b"one", b"second"])
    content = (tmp_path / name).read_bytes()
    with pytest.raises(InputError, match="Received: .*cut, in which no record begins where record 1 should"):
        scan_shard(LOCAL, shard_of(tmp_path / "cut", content[:19] + b"\1" + content[20:]))
    with pytest.raises(InputError, match="no record begins where record 0 should"):
        scan_shard(LOCAL, shard_of(tmp_path / "text", b"this is no record at all"))
    with pytest.raises(InputError, match="must not be compressed. Received: .*packed, which is GZIP"):
        scan_shard(LOCAL, shard_of(tmp_path / "packed", gzip.compress(content)))


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot read .*gone"):
        scan_shard(LOCAL, Shard(str(tmp_path / "gone"), 100, ""))
