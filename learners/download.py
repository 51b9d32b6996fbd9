"""`--model_http_url`: a dense network's file fetched over the network, whole and unchanged or not at all."""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from utils.errors import InputError, first_line
from utils.files import write_atomically

LARGEST_FILE = 8 << 30  # bytes
SILENCE = 60  # seconds in which a server must say something
LONGEST_TIME = 7200  # seconds for the whole file
_CHUNK_BYTES = 1 << 20
_CHECKSUM = re.compile(r"sha256=([0-9a-fA-F]{64})")


class _Address(NamedTuple):
    """An address to ask, and the SHA-256 in hexadecimal digits that the file behind it must have, if known."""

    url: str
    sha256: str | None


def check_url(url: str, allow_plain_http: bool = False) -> None:
    """Raises InputError for an address that nothing can, or should, be fetched from."""
    _parsed(url, allow_plain_http)


def download(url: str, path: Path, allow_plain_http: bool = False) -> Path:
    """Fetches the file at `url` to `path`.

    Args:
        url: https://, of a file; behind it, perhaps, `#sha256=` and the checksum that the file must have.
        allow_plain_http: http:// is allowed too, also where a server sends one on to it.

    Raises:
        InputError: it cannot be fetched, is too large, too slow, cut off, or has another checksum; nothing is kept.
        RunError: the disk is full.
    """
    address = _parsed(url, allow_plain_http)

    def write(temporary: Path) -> None:
        digest = hashlib.sha256()
        with open(temporary, "wb") as file:
            for chunk in _content(address.url, allow_plain_http):
                digest.update(chunk)
                file.write(chunk)
        if address.sha256 not in (None, digest.hexdigest()):
            raise InputError(
                f"--model_http_url {address.url} must have the SHA-256 {address.sha256}. Received: {digest.hexdigest()}"
            )

    write_atomically(path, write)
    return path


def _parsed(url: str, allow_plain_http: bool) -> _Address:
    try:
        parts = urlsplit(url)
        host, has_password = parts.hostname, parts.username is not None or parts.password is not None
        _ = parts.port  # which is read, and may be wrong, only when it is asked for
    except ValueError as error:
        raise InputError(f"--model_http_url must be an address. Received: {url!r} ({error})") from error
    if has_password:
        raise InputError("--model_http_url must be without a user name or password: reports show it. Received: one")
    if not re.match(r"https?://", url):
        raise InputError(f"--model_http_url must begin with https://. Received: {url!r}")
    if parts.scheme == "http" and not allow_plain_http:
        raise InputError(
            "--model_http_url must begin with https://: over http:// anyone on the way can change the file. With "
            f"--allow_plain_http it is fetched nevertheless. Received: {url!r}"
        )
    if not host or not url.isprintable() or " " in url or not url.isascii():
        raise InputError(f"--model_http_url must be an address with a host, spaces as %20. Received: {url!r}")
    checksum = _CHECKSUM.fullmatch(parts.fragment)
    if parts.fragment and not (checksum and parts.path.endswith(".keras")):
        raise InputError(
            "--model_http_url may have #sha256= and 64 hexadecimal digits behind the address of a .keras file, "
            f"and nothing else behind a #. Received: {url!r}"
        )
    return _Address(urlunsplit(parts._replace(fragment="")), checksum and checksum[1].lower())


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to where the file itself might have been asked for."""

    def __init__(self, allow_plain_http: bool):
        self._allow_plain_http = allow_plain_http

    def redirect_request(self, request, file, code, message, headers, new_url):
        if urlsplit(new_url).scheme not in (("https", "http") if self._allow_plain_http else ("https",)):
            raise InputError(
                f"--model_http_url {request.full_url} must stay with https://. Received: sent on to {new_url!r}"
            )
        return super().redirect_request(request, file, code, message, headers, new_url)


def _content(url: str, allow_plain_http: bool) -> Iterator[bytes]:
    """What is behind the address, piece by piece."""
    deadline = time.monotonic() + LONGEST_TIME
    received = 0
    try:
        with urllib.request.build_opener(_Redirects(allow_plain_http)).open(url, timeout=SILENCE) as response:
            expected = response.headers.get("Content-Length")
            while chunk := response.read1(_CHUNK_BYTES):
                received += len(chunk)
                if received > LARGEST_FILE:
                    raise InputError(f"--model_http_url {url} must have at most {LARGEST_FILE:,} bytes. Received: more")
                if time.monotonic() > deadline:
                    raise InputError(
                        f"--model_http_url {url} cannot be fetched in {LONGEST_TIME} s. Received: {received:,} bytes"
                    )
                yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"--model_http_url {url} cannot be fetched: {first_line(error)}") from error
    if expected is not None and received != int(expected):
        raise InputError(
            f"--model_http_url {url} cannot be fetched: the connection ended after {received:,} of {expected} bytes"
        )
