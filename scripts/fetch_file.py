"""Downloads a file, the rest of it where a part is there: `fetch_file.py URL FILE`, for machines without curl and wget.

Uses the standard library only, so that any Python 3 will do.
"""

import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

_CHUNK_BYTES = 1 << 20


def fetch(url: str, path: Path) -> None:
    """Appends to `path` what `url` has beyond the bytes already there; starts anew where the server cannot resume.

    Whoever asks for it looks at the checksum.

    Raises:
        ValueError: the address is not https:// or http://.
        OSError: the server or the disk failed; `path` keeps what has come.
    """
    if urlsplit(url).scheme not in ("https", "http"):
        raise ValueError(f"the address must begin with https:// or http://. Received: {url!r}")
    start = path.stat().st_size if path.exists() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if start and error.code == 416:  # nothing beyond: the file is whole, or not this one; the checksum will tell
            return
        raise
    with response, open(path, "ab" if response.status == 206 else "wb") as file:
        expected = response.headers.get("Content-Length")
        received = 0
        while chunk := response.read(_CHUNK_BYTES):
            received += file.write(chunk)
    if expected is not None and received != int(expected):
        raise OSError(f"the connection ended after {received} of {expected} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: fetch_file.py URL FILE")
    try:
        fetch(sys.argv[1], Path(sys.argv[2]))
    except (OSError, ValueError) as error:
        sys.exit(f"fetch_file: {error}")
