"""How large a file is, as it is and compressed with gzip; a folder is the sum of its files."""

import zlib
from collections.abc import Iterator
from pathlib import Path

BYTES_PER_WEIGHT = 4
GZIP_LEVEL = 6
GZIP_FORMAT = 31  # zlib's number for a gzip header, which it writes with modification time 0
BLOCK = 1 << 20


def file_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in _files(path))


def gzip_bytes(path: Path) -> int:
    """Length of gzip (level 6, no time stamp) of a file, or of each file in a folder, in all."""
    return sum(_gzip_bytes(file) for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    yield from (file for file in sorted(path.rglob("*")) if file.is_file()) if path.is_dir() else (path,)


def _gzip_bytes(path: Path) -> int:
    compressor, size = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_FORMAT), 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            size += len(compressor.compress(block))
    return size + len(compressor.flush())
