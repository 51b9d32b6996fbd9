"""Archives of arrays that are damaged inside, while their checksums are right."""

import io
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from tests.fuzz.mutations import mutated

_SHAPES = (
    "()",
    "(0,)",
    "(1,)",
    "(-1,)",
    "(3, 0)",
    "(0, 1099511627776)",
    "(1099511627776,)",
    "(1099511627776, 0)",
    "(4294967296, 4294967296)",
    "(9223372036854775808,)",
    "(99999999999999999999999,)",
    "(2.0,)",
    "(True,)",
    "('3',)",
    "3",
    "(" + "1, " * 40 + ")",
    "[2]",
    "None",
)
_TYPES = (
    "'|O'",
    "'|b1'",
    "'<f8'",
    "'<c16'",
    "'<U4'",
    "'<U0'",
    "'|S0'",
    "'|V0'",
    "'<U999999999'",
    "'|S2147483647'",
    "'<M8[ns]'",
    "'q'",
    "'x'",
    "'<f3'",
    "''",
    "[]",
    "[('a', '<f4')]",
    "()",
    "('<f4', (2,))",
    "{}",
    "None",
    "3",
    "[" * 150 + "]" * 150,
    "-" * 5000 + "1",
)
_HEADERS = (
    "",
    "{}",
    "[]",
    "{[]: 1}",
    "'",
    "(" * 190,
    "{'descr': '<f4'}",
    "{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}",
    "\x00",
    "  x",
    "lambda: 1",
)


def npz(arrays: Mapping[str, np.ndarray], compressed: bool = False) -> bytes:
    """The content of an .npz file."""
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def damaged_npz(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """A file of arrays with something wrong: any bytes, a member's header or values, or the archive's own records."""
    if rng.random() < 0.35:
        return mutated(rng, samples)
    content = rng.choice(samples)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [[info.filename, archive.read(info), info.compress_type] for info in archive.infolist()]
    for _ in range(rng.choice((1, 1, 2))):
        _damage(rng, rng.choice(members), members)
    content = _packed(members)
    return _with_other_records(rng, content) if rng.random() < 0.2 else content


def _damage(rng: random.Random, member: list, members: list[list]) -> None:
    kind = rng.randrange(9)
    if kind < 4:
        member[1] = _other_header(rng, member[1])
    elif kind == 4:
        member[1] = mutated(rng, [member[1]])
    elif kind == 5:
        member[1] = rng.choice(members)[1]
    elif kind == 6:
        member[0] = rng.choice((rng.choice(members)[0], "../evil.npy", "odd", "", "x" * 1000 + ".npy", "é.npy"))
    elif kind == 7:
        member[2] = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    elif len(members) > 1:
        members.remove(member)


def _other_header(rng: random.Random, array: bytes) -> bytes:
    """An array of the same values whose header says something else."""
    if len(array) < 128 or array[:6] != b"\x93NUMPY":
        return array
    text = array[10:128].decode("latin-1")
    kind = rng.randrange(6)
    if kind < 2:
        text = re.sub(r"\([^)]*\)", rng.choice(_SHAPES), text, count=1)
    elif kind < 4:
        other = rng.choice(_TYPES)
        text = re.sub(r"'descr': '[^']*'", lambda _: f"'descr': {other}", text, count=1)
    elif kind == 4:
        text = rng.choice(_HEADERS)
    else:
        text = mutated(rng, [text.encode()]).decode("latin-1")
    version = rng.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    header = text.encode("latin-1", "replace")[:60_000]
    length = struct.pack("<H" if version[0] == 1 else "<I", rng.choice((len(header),) * 5 + (0, 60_000)))
    return b"\x93NUMPY" + version + length + header + array[128:]


def _packed(members: Sequence[Sequence]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content, method in members:
            archive.writestr(zipfile.ZipInfo(name or "-"), content, method)
    return stream.getvalue()


def _with_other_records(rng: random.Random, content: bytes) -> bytes:
    """The archive with one field of a record of its own changed: flags, method, checksum, sizes, places."""
    changed = bytearray(content)
    signature = rng.choice((b"PK\x03\x04", b"PK\x01\x02", b"PK\x01\x02", b"PK\x05\x06"))
    places = [found.start() for found in re.finditer(re.escape(signature), content)]
    if not places:
        return content
    first = rng.choice(places) + 4 + 2 * rng.randrange(22)
    value = rng.choice(
        (b"\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00", b"\x00\x00\x00\x00", b"\x01\x00", rng.randbytes(2))
    )
    changed[first : first + len(value)] = value
    return bytes(changed)
