"""Arrays in .npz files, wherever these come from: no pickle, and no more memory than the file itself accounts for."""

import contextlib
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

_SUFFIX = ".npy"
_MOST_PER_BYTE = 1032  # what deflate can make of a byte at the very most
_MOST_AXES = 32
_MOST_EMPTY = 1 << 24  # the product of the other axes of an array without numbers
_CHUNK = 1 << 20
# As NumPy and those who follow it write it; structured types, whose `descr` is a list, are no arrays of numbers.
_HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[<>|=]?[A-Za-z]\d{0,9})',\s*'fortran_order':\s*(?P<order>True|False),\s*"
    r"'shape':\s*\((?P<shape>(?:\d{1,18},\s*)*(?:\d{1,18})?)\),?\s*\}\s*"
)
# What zipfile and the decompressor raise for an archive that is damaged, beside OSError and ValueError.
_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError, struct.error)


class ArrayFile(Mapping[str, np.ndarray]):
    """An open .npz file: name -> array, each read when it is asked for.

    Args:
        path: of the file.
        deflated: whether members may be compressed, as in what `np.savez_compressed` writes.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no .npz file, damaged, or says that it holds more than it can. So does asking for an array
            that is damaged, is not as long as its header says, or consists of Python objects.
    """

    def __init__(self, path: str | os.PathLike, *, deflated: bool = False):
        with _damages_told():
            self._archive = zipfile.ZipFile(path)
            try:
                self._members = _members(self._archive, Path(path).stat().st_size, deflated)
            except BaseException:
                self._archive.close()
                raise

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._archive.close()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members  # the one that is inherited would read the array

    def num_bytes(self, name: str) -> int:
        """What the array takes, in the file before compression and in memory."""
        return self._members[name].file_size

    def __getitem__(self, name: str) -> np.ndarray:
        member = self._members[name]
        if not member.filename.endswith(_SUFFIX):
            raise ValueError(f"{name} is another file of {member.file_size} bytes, no array")
        with _damages_told(), self._archive.open(member) as stream:
            return _read_array(name, stream, member.file_size)


def _members(archive: zipfile.ZipFile, size: int, deflated: bool) -> dict[str, zipfile.ZipInfo]:
    """The members by the names of their arrays."""
    members = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(_SUFFIX)
        if name in members:
            raise ValueError(f"there are two arrays {name}")
        methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if deflated else (zipfile.ZIP_STORED,)
        if member.compress_type not in methods or member.flag_bits & 1:
            raise ValueError(f"{name} is compressed or encrypted in a way that is not read")
        per_byte = 1 if member.compress_type == zipfile.ZIP_STORED else _MOST_PER_BYTE
        if member.file_size > per_byte * member.compress_size:
            raise ValueError(f"{name} cannot hold the {member.file_size} bytes that it says")
        members[name] = member
    if sum(member.compress_size for member in members.values()) > size:
        raise ValueError("its arrays are longer than the file")
    return members


def _read_array(name: str, stream: IO[bytes], size: int) -> np.ndarray:
    dtype, shape, is_fortran, header_bytes = _read_header(name, stream)
    if math.prod(shape) * dtype.itemsize != size - header_bytes:
        raise ValueError(f"{name} has not the size of {dtype} {list(shape)}")
    array = np.empty(shape, dtype, order="F" if is_fortran else "C")
    # Of the array's memory, whatever its axes and its type are.
    left = array.reshape(-1, order="A").view(np.uint8).data if array.size else memoryview(b"")
    while len(left):
        part = stream.read(min(len(left), _CHUNK))
        if not part:
            raise ValueError(f"{name} is cut short")
        left[: len(part)] = part
        left = left[len(part) :]
    if stream.read(1):  # which also compares the checksum
        raise ValueError(f"{name} is longer than it says")
    if dtype.kind == "U" and array.size and array.reshape(-1, order="A").view(f"{dtype.byteorder}u4").max() > 0x10FFFF:
        raise ValueError(f"{name} holds no text")
    return array


def _read_header(name: str, stream: IO[bytes]) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Type, shape, whether columns come first, and the header's bytes."""
    start = stream.read(8)
    length_bytes = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4, b"\x93NUMPY\x03\x00": 4}.get(start)
    if length_bytes is None:
        raise ValueError(f"{name} is no array of NumPy")
    length = int.from_bytes(stream.read(length_bytes), "little")
    text = stream.read(min(length, 10_000)).decode("latin-1")
    found = _HEADER.fullmatch(text)
    if not found or len(text) != length:
        raise ValueError(f"{name} has no header of an array of numbers or text")
    try:
        dtype = np.dtype(found["descr"])
    except TypeError:
        raise ValueError(f"{name} has an unknown type, {found['descr']}") from None
    if dtype.hasobject:
        raise ValueError(f"{name} consists of Python objects, which need pickle")
    shape = tuple(int(axis) for axis in found["shape"].replace(" ", "").split(",") if axis)
    if len(shape) > _MOST_AXES or not dtype.itemsize:
        raise ValueError(f"{name} has a type or shape that no array has")
    if 0 in shape and math.prod(filter(None, shape)) > _MOST_EMPTY:
        raise ValueError(f"{name} has the shape {list(shape)} without any numbers")
    return dtype, shape, found["order"] == "True", len(start) + length_bytes + length


@contextlib.contextmanager
def _damages_told() -> Iterator[None]:
    try:
        yield
    except _DAMAGES as error:
        raise ValueError(str(error) or type(error).__name__) from error
