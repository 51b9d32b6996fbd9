import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from utils.npz_files import ArrayFile


def header(text, version=b"\x01\x00"):
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(text)) + text.encode()


def described(descr, shape):
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


def archive_of(path, *members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def refusal(path, name="a", **options):
    """What is said of an array, and the bytes of memory that it took to find out."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r".") as refused, ArrayFile(path, **options) as file:
            file[name]
        return str(refused.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, save):
    path = tmp_path / "arrays.npz"
    given = {
        "matrix": np.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "text": np.array("héllo"),
        "words": np.array(["a", "bc"]),
        "bytes": np.array([b"ab", b""]),
        "flag": np.array(True),
        "nothing": np.zeros((0, 3)),
        "half/number": np.float16(3),
        "big_endian": np.arange(3, dtype=">i4"),
    }
    save(path, **given)
    with ArrayFile(path, deflated=True) as file:
        assert list(file) == list(given)
        for name, array in given.items():
            assert file[name].dtype == array.dtype
            np.testing.assert_array_equal(file[name], array)
            assert file[name].flags.writeable
            assert file[name].flags.f_contiguous == np.asarray(array).flags.f_contiguous


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        ("'<f4'", "(1099511627776,)"),
        ("'<f4'", "(4294967296, 4294967296, 4294967296)"),
        ("'<f4'", "(9223372036854775808,)"),
        ("'|S2147483647'", "(12,)"),
        ("'<U0'", "(1099511627776,)"),
        ("'<f4'", "(1099511627776, 0)"),
        ("'<f4'", "(-1,)"),
    ],
)
def test_a_shape_that_the_file_cannot_hold_is_refused_before_it_takes_memory(tmp_path, descr, shape):
    path = archive_of(tmp_path / "a.npz", ("a.npy", described(descr, shape) + bytes(48)))
    message, peak = refusal(path)
    assert message.startswith("a has")
    assert peak < 1e6


@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': '': '\n"),  # NumPy: tokenize.TokenError
        header("{[]: 1}\n"),  # TypeError
        described("()", "(12,)"),  # IndexError
        header("-" * 9000),  # RecursionError
        header("(" * 180),
        described("[('a', '<f4')]", "(12,)"),
        described("'x'", "(12,)"),
        b"\x93NUMPY\x01\x00",
        b"hello",
        b"",
    ],
)
def test_what_is_no_header_is_a_value_error(tmp_path, content):
    message, _ = refusal(archive_of(tmp_path / "a.npz", ("a.npy", content)))
    assert message.startswith("a ")


def test_python_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    assert "Python objects, which need pickle" in refusal(tmp_path / "a.npz")[0]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_are_not_decompressed_unless_they_may_be(tmp_path, method):
    content = io.BytesIO()
    np.save(content, np.zeros(10))
    path = archive_of(tmp_path / "a.npz", ("a.npy", content.getvalue()), method=method)
    assert "compressed or encrypted" in refusal(path)[0]
    if method != zipfile.ZIP_DEFLATED:
        assert "compressed or encrypted" in refusal(path, deflated=True)[0]


def test_a_member_that_says_more_than_its_bytes_can_unpack_to_is_refused(tmp_path):
    path = archive_of(tmp_path / "a.npz", ("a.npy", described("'|u1'", "(8,)") + bytes(8)), method=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    message, peak = refusal(path, deflated=True)
    assert message == "a cannot hold the 2147483648 bytes that it says"
    assert peak < 1e6


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive_of(tmp_path / "a.npz", ("a.npy", b"one"), ("a.npy", b"two"))
    assert refusal(path)[0] == "there are two arrays a"


def test_a_changed_value_is_noticed_by_its_checksum(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.full(4, 0x41, np.uint8))
    path.write_bytes(path.read_bytes().replace(b"AAAA", b"AAAB"))
    assert "CRC" in refusal(path)[0]


def test_text_that_is_none_is_refused(tmp_path):
    path = archive_of(tmp_path / "a.npz", ("a.npy", described("'<U1'", "(1,)") + struct.pack("<I", 0x110000)))
    assert refusal(path)[0] == "a holds no text"


def test_to_ask_whether_an_array_is_there_does_not_read_it(tmp_path):
    path = archive_of(tmp_path / "a.npz", ("a.npy", b"damaged"))
    with ArrayFile(path) as file:
        assert "a" in file
        assert "b" not in file
        assert file.num_bytes("a") == 7


def test_a_file_that_is_not_there_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError):
        ArrayFile(tmp_path / "none.npz")
