import errno
import random
import zipfile

import numpy as np
import pytest

from tests.full_disk import no_file_above
from utils.checkpoints import Checkpoint, previous_of, read_checkpoint, read_meta, write_checkpoint
from utils.errors import RunError
from utils.files import write_atomically


def _checkpoint(step):
    arrays = {"conv1/kernel": np.full((2, 3), step, np.float32), "conv2/kernel": np.full((2, 3), -step, np.float32)}
    return Checkpoint(arrays, {"step": step, "history": [0.1, 1 / 3]})


@pytest.fixture
def two(tmp_path):
    """Where a checkpoint of step 2 lies, and beside it the one of step 1."""
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, _checkpoint(1))
    write_checkpoint(path, _checkpoint(2))
    return path


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, _checkpoint(7))
    found = read_checkpoint(path)
    assert found.meta == read_meta(path) == {"step": 7, "history": [0.1, 1 / 3]}
    assert list(found.arrays) == ["conv1/kernel", "conv2/kernel"]
    np.testing.assert_array_equal(found.arrays["conv1/kernel"], np.full((2, 3), 7, np.float32))
    np.testing.assert_array_equal(found.arrays["conv2/kernel"], np.full((2, 3), -7, np.float32))


def test_a_checkpoint_is_a_file_that_numpy_and_unzip_read(two):
    assert zipfile.ZipFile(two).testzip() is None
    with np.load(two, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["conv1/kernel"], np.full((2, 3), 2, np.float32))


def test_no_checkpoint_is_none(tmp_path):
    assert read_checkpoint(tmp_path / "checkpoint.npz") is None
    assert read_meta(tmp_path / "checkpoint.npz") == {}


def test_one_that_was_cut_off_anywhere_falls_back_to_the_one_before_and_says_so_in_one_line(two, capsys):
    content = two.read_bytes()
    for length in np.linspace(0, len(content) - 1, 20).astype(int):
        two.write_bytes(content[:length])
        assert read_checkpoint(two).meta["step"] == 1
        assert read_meta(two) == {}
        warning = capsys.readouterr().err
        assert warning.count("\n") == 1
        assert f"{two} is damaged" in warning
        assert f"going on from the checkpoint before it, {previous_of(two)}" in warning


def test_a_changed_byte_is_noticed_wherever_it_is(two):
    """In arrays, names, shapes, the archive's own records, the checksum."""
    content, generator = two.read_bytes(), random.Random(0)
    for place in generator.sample(range(len(content)), 300):
        changed = bytearray(content)
        changed[place] ^= 1 << generator.randrange(8)
        two.write_bytes(changed)
        assert read_checkpoint(two).meta["step"] == 1, place


def test_members_that_have_changed_places_are_noticed(two):
    """Which the archive's own checksums, one for each member, do not tell."""
    with zipfile.ZipFile(two) as archive:
        members, comment = {name: archive.read(name) for name in archive.namelist()}, archive.comment
    names = ["conv1/kernel.npy", "conv2/kernel.npy"]
    members |= dict(zip(names, [members[name] for name in reversed(names)], strict=True))
    with zipfile.ZipFile(two, "w") as archive:
        archive.comment = comment
        for name, content in members.items():
            archive.writestr(name, content)
    assert np.load(two)["conv1/kernel"][0, 0] == -2
    assert read_checkpoint(two).meta["step"] == 1


def test_one_without_a_checksum_as_earlier_versions_wrote_is_not_used(tmp_path):
    path = tmp_path / "checkpoint.npz"
    np.savez(path, __meta__=np.frombuffer(b"{}", np.uint8))
    with pytest.raises(RunError, match="its checksum is wrong or missing"):
        read_checkpoint(path)


def test_nothing_readable_is_an_error_that_says_what_to_do_and_no_fresh_start(two):
    two.write_bytes(b"")
    previous_of(two).write_bytes(b"PK")
    with pytest.raises(RunError) as error:
        read_checkpoint(two)
    assert f"no readable checkpoint: {two} is damaged" in str(error.value)
    assert "checkpoint.previous.npz beside it is damaged" in str(error.value)
    assert "Put a whole copy of one back; --overwrite starts anew" in str(error.value)
    previous_of(two).unlink()
    with pytest.raises(RunError, match=r"checkpoint\.previous\.npz beside it is missing"):
        read_checkpoint(two)


def test_where_only_the_one_before_is_left_it_is_used_and_that_is_said(two, capsys):
    two.unlink()
    assert read_checkpoint(two).meta["step"] == 1
    assert f"{two} is missing; going on from" in capsys.readouterr().err


def test_a_damaged_one_never_takes_the_place_of_the_good_one_before(two):
    two.write_bytes(two.read_bytes()[:-1])
    write_checkpoint(two, _checkpoint(3))
    assert read_checkpoint(two).meta["step"] == 3
    assert read_meta(previous_of(two))["step"] == 1


def test_the_last_two_are_kept_where_a_file_system_knows_no_links(two, monkeypatch):
    def refuse(*paths):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    write_checkpoint(two, _checkpoint(3))
    assert (read_meta(two)["step"], read_meta(previous_of(two))["step"]) == (3, 2)


def test_a_full_disk_keeps_the_last_two(two):
    before = {path.name: path.read_bytes() for path in two.parent.iterdir()}
    with no_file_above(500), pytest.raises(RunError, match="File too large; the last good checkpoint.npz stays"):
        write_checkpoint(two, _checkpoint(3))
    assert {path.name: path.read_bytes() for path in two.parent.iterdir()} == before


def test_a_disk_that_fills_up_while_a_file_is_written_keeps_the_last_good_one(two):
    def fail(temporary):
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match="No space left on device; the last good checkpoint.npz stays"):
        write_atomically(two, fail)
    assert read_checkpoint(two).meta["step"] == 2
    assert sorted(p.name for p in two.parent.iterdir()) == ["checkpoint.npz", "checkpoint.previous.npz"]
