"""Where each record of TFRecord files lies, found once by hopping from frame to frame and kept in the user's cache.

A record's frame is its length (8 bytes, little endian), a checksum of that (4), the content, and a checksum of it (4).
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import fsspec
import numpy as np

from datasets.ilsvrc12.shards import Shard
from utils.errors import InputError
from utils.npz_files import ArrayFile
from utils.progress import Progress

HEADER_BYTES = 12
FRAME_BYTES = 16
_MOST_THREADS = 16  # many files are read side by side, for what takes time is to wait for the disk
_GZIP = b"\x1f\x8b\x08"


class RecordIndex(NamedTuple):
    """The place of each of N records in F files.

    Attributes:
        paths: of the files.
        firsts: the number of each file's first record, then N, `int64 [F + 1]`.
        offsets: of a record's content in its file, `int64 [N]`.
        lengths: of the content, `int64 [N]`.
    """

    paths: tuple[str, ...]
    firsts: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray


def index_shards(filesystem: fsspec.AbstractFileSystem, shards: Sequence[Shard], quiet: bool) -> RecordIndex:
    """The index of `shards`, from the cache where it is of the same files, else made and put there.

    Raises:
        InputError: a file cannot be read or does not consist of whole records.
    """
    cache = cache_file(shards)
    lengths = _read_cache(cache, shards)
    if lengths is None:
        lengths = _scan_all(filesystem, shards, quiet)
        _write_cache(cache, lengths)
    return index_of_lengths([shard.path for shard in shards], lengths)


def index_of_lengths(paths: Sequence[str], lengths: Sequence[np.ndarray]) -> RecordIndex:
    """The index of files whose records have these lengths, file by file."""
    firsts = np.cumsum([0, *map(len, lengths)])
    offsets = [np.cumsum(of_file + FRAME_BYTES) - of_file - FRAME_BYTES + HEADER_BYTES for of_file in lengths]
    return RecordIndex(tuple(paths), firsts, np.concatenate(offsets), np.concatenate(lengths))


def files_of_index(index: RecordIndex, start: int, stop: int) -> RecordIndex:
    """The index of the files `[start, stop)`."""
    records = slice(index.firsts[start], index.firsts[stop])
    firsts = index.firsts[start : stop + 1] - index.firsts[start]
    return RecordIndex(index.paths[start:stop], firsts, index.offsets[records], index.lengths[records])


def scan_shard(filesystem: fsspec.AbstractFileSystem, shard: Shard) -> np.ndarray:
    """The length of each record of a file, `int64 [n]`; only the beginnings of the frames are read.

    Raises:
        InputError: the file cannot be read, is compressed, or does not consist of whole records.
    """
    lengths: list[int] = []
    position = 0
    try:
        with filesystem.open(shard.path, "rb") as file:
            while position < shard.size:
                file.seek(position)
                header = file.read(HEADER_BYTES)
                length = int.from_bytes(header[:8], "little")
                if len(header) == HEADER_BYTES and header[8:] != masked_crc32c(header[:8]):
                    raise InputError(_told_wrong_length(shard.path, len(lengths), header))
                position += length + FRAME_BYTES
                if len(header) < HEADER_BYTES or position > shard.size:
                    raise InputError(
                        f"TFRecord files must be whole. Received: {shard.path}, which ends within record {len(lengths)}"
                    )
                lengths.append(length)
    except OSError as error:
        raise InputError(f"cannot read {shard.path}: {error}") from error
    return np.array(lengths, np.int64)


def _told_wrong_length(path: str, number: int, header: bytes) -> str:
    if number == 0 and header.startswith(_GZIP):
        return f"TFRecord files of ILSVRC-12 must not be compressed. Received: {path}, which is GZIP"
    return (
        f"TFRecord files must consist of whole records. Received: {path}, in which no record begins where record "
        f"{number} should"
    )


def masked_crc32c(content: bytes) -> bytes:
    """The checksum in a record's frame: CRC-32C (Castagnoli), turned right by 15 bits, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def _scan_all(filesystem: fsspec.AbstractFileSystem, shards: Sequence[Shard], quiet: bool) -> list[np.ndarray]:
    lengths = []
    pool = ThreadPoolExecutor(_MOST_THREADS)
    with Progress("Indexing records", len(shards), "file", quiet=quiet) as progress:
        try:
            for of_file in pool.map(lambda shard: scan_shard(filesystem, shard), shards):
                lengths.append(of_file)
                progress.update(len(lengths))
        finally:
            pool.shutdown(cancel_futures=True)
    return lengths


def cache_file(shards: Sequence[Shard]) -> Path:
    """Where the index of these files is kept; other files, sizes or times have another name."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    cache = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    digest = hashlib.sha256(repr([tuple(shard) for shard in shards]).encode()).hexdigest()[:32]
    return cache / "trimflow" / "ilsvrc12" / f"{digest}.npz"


def _read_cache(path: Path, shards: Sequence[Shard]) -> list[np.ndarray] | None:
    """The lengths of each file's records; None where the cache is not there, damaged or of other files."""
    try:
        with ArrayFile(path) as file:
            counts, lengths = file["counts"], file["lengths"]
    except (OSError, ValueError, KeyError):
        return None
    are_counts = all(array.dtype == np.int64 and array.ndim == 1 and (array >= 0).all() for array in (counts, lengths))
    if not are_counts or len(counts) != len(shards) or counts.sum() != len(lengths):
        return None
    parts = np.split(lengths, np.cumsum(counts)[:-1])
    sizes = [part.sum() + FRAME_BYTES * len(part) for part in parts]
    return parts if sizes == [shard.size for shard in shards] else None


def _write_cache(path: Path, lengths: Sequence[np.ndarray]) -> None:
    """Writes beside and renames, so that several processes may do so at once; where it cannot be, none is kept."""
    counts = np.array([len(of_file) for of_file in lengths])
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.stem}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, counts=counts, lengths=np.concatenate(lengths))
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
