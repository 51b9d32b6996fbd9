"""The outer form of a trim file: an .npz of one array of bytes; the same bytes always give the same archive."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np

from utils.errors import InputError
from utils.files import write_atomically

SUFFIX = ".trim.npz"
MEMBER = b"trim.npy"
LARGEST_FILE = 2**32 - 2**12  # what a zip archive without its 64-bit extension can hold, and some for its own records
_DATE = 0x21  # 1 January 1980, the first day that a zip archive knows
_VERSION = 20  # of the zip format: no extension is used


def check_name(path: Path) -> None:
    """Raises InputError for a name that does not end in .trim.npz."""
    if not path.name.endswith(SUFFIX):
        raise InputError(f"The name of a trim file must end in {SUFFIX}. Received: {path}")


def write_container(path: Path, content: bytes) -> None:
    """Writes `content` as the array `trim` of an .npz.

    Raises:
        InputError: more than 4 GiB.
        RunError: the disk is full; an older file at `path` stays.
    """
    if len(content) > LARGEST_FILE:
        raise InputError(f"A trim file can hold at most {LARGEST_FILE:,} bytes. Received: {len(content):,}")
    write_atomically(path, lambda temporary: temporary.write_bytes(pack_container(content)))


def read_container(path: Path, max_bytes: int) -> bytes:
    """The bytes that `write_container` was given.

    Raises:
        InputError: there is no such file, it is larger than `max_bytes`, damaged, or no trim file.
    """
    if not path.is_file():
        raise InputError(f"there is no trim file at {path.absolute()}")
    allowed = min(max_bytes + len(pack_container(b"")) + 2**16, LARGEST_FILE + 2**12)
    if os.path.getsize(path) > allowed:
        raise InputError(f"A trim file may have at most {allowed:,} bytes. Received: {path}, larger than that")
    archive = path.read_bytes()
    empty = len(pack_container(b""))
    head = len(_local_header(b"")) + len(_array_header(0))
    content = archive[head : len(archive) - (empty - head)]
    # The archive has no freedom: what differs anywhere is damaged, its checksum included.
    if len(archive) < empty or pack_container(content) != archive:
        raise InputError(f"{path} cannot be read: it is damaged, or no trim file")
    return content


def pack_container(content: bytes) -> bytes:
    """The zip archive: local header, array header, content, directory, end record; nothing is deflated."""
    member = _array_header(len(content)) + content
    local = _local_header(member)
    directory = (
        b"PK\x01\x02"
        + struct.pack("<HH", _VERSION, _VERSION)
        + _facts(member)
        + struct.pack("<HHHII", 0, 0, 0, 0, 0)
        + MEMBER
    )
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(directory), len(local) + len(member), 0)
    return local + member + directory + end


def _local_header(member: bytes) -> bytes:
    return b"PK\x03\x04" + struct.pack("<H", _VERSION) + _facts(member) + MEMBER


def _facts(member: bytes) -> bytes:
    """What both records of a member say: flags, method 0 (stored), time, date, CRC-32, sizes, lengths of its names."""
    size = len(member)
    return struct.pack("<HHHHIIIHH", 0, 0, 0, _DATE, zlib.crc32(member), size, size, len(MEMBER), 0)


def _array_header(size: int) -> bytes:
    """Of an array of bytes in NumPy's format 1.0, always 128 bytes."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}".encode()
    return np.lib.format.magic(1, 0) + struct.pack("<H", 118) + text.ljust(117) + b"\n"
