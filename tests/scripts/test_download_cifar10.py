import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "download_cifar10.sh"
FILES = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
DOWNLOADERS = ["curl", "wget", "python3"]
# What the script needs beside a downloader.
TOOLS = ["bash", "cat", "cut", "dirname", "flock", "gzip", "mkdir", "mktemp", "mv", "rm", "sha256sum", "stat", "tar"]


def contents_of(name):
    return random.Random(name).randbytes(1000)


def make_archive(extra=()):
    """An archive like CIFAR-10's, with further members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        members = [(tarfile.TarInfo(f"cifar-10-batches-bin/{name}"), contents_of(name)) for name in FILES]
        for member, content in [*members, *extra]:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = make_archive()
CHECKSUM = hashlib.sha256(ARCHIVE).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`; `requests` holds the Range header of each request."""

    def __init__(self, content, resumable=True, break_after=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.resumable, self.break_after = content, resumable, break_after
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/cifar-10-binary.tar.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers["Range"]
        server.requests.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.resumable else 0
        total = len(server.content)
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self.wfile.write(server.content[start : server.break_after])

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(content, **options) -> Iterator[Server]:
    with Server(content, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server():
    with serving(ARCHIVE) as running:
        yield running


def run(*arguments, url="http://127.0.0.1:9/unused", checksum=CHECKSUM, path=None, cwd=None):
    environment = os.environ | dict(CIFAR10_URL=url, CIFAR10_SHA256=checksum) | (dict(PATH=path) if path else {})
    return subprocess.run(
        [shutil.which("bash"), SCRIPT, *arguments],
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def path_with(tmp_path, downloader):
    """A PATH with one downloader only."""
    place = tmp_path / "bin"
    place.mkdir()
    for tool in TOOLS:
        (place / tool).symlink_to(shutil.which(tool))
    (place / downloader).symlink_to(
        os.path.realpath(sys.executable if downloader == "python3" else shutil.which(downloader))
    )
    return str(place)


def snapshot(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def assert_complete(directory):
    assert {path.name for path in directory.iterdir()} == {"cifar-10-batches-bin"}
    for name in FILES:
        assert (directory / "cifar-10-batches-bin" / name).read_bytes() == contents_of(name)


@pytest.mark.parametrize("downloader", DOWNLOADERS)
def test_downloads_checks_and_unpacks(server, tmp_path, downloader):
    target = tmp_path / "a new directory" / "with spaces"
    result = run(str(target), url=server.url, path=path_with(tmp_path, downloader))
    assert result.returncode == 0, result.stderr
    assert f"--data_dir_local {target}" in result.stdout
    assert_complete(target)


@pytest.mark.parametrize("downloader", DOWNLOADERS)
def test_a_download_that_was_cut_off_is_resumed_by_the_same_command(tmp_path, downloader):
    target, path = tmp_path / "data", path_with(tmp_path, downloader)
    part = target / "cifar-10-binary.tar.gz.part"
    target.mkdir()
    part.write_bytes(ARCHIVE[:1000])
    with serving(ARCHIVE) as server:
        result = run(str(target), url=server.url, path=path)
    assert result.returncode == 0, result.stderr
    assert server.requests == ["bytes=1000-"]
    assert_complete(target)


@pytest.mark.parametrize("downloader", ["curl", "python3"])
def test_a_connection_that_breaks_leaves_a_part_to_resume_from(tmp_path, downloader):
    target, path = tmp_path / "data", path_with(tmp_path, downloader)
    with serving(ARCHIVE, break_after=700) as server:
        result = run(str(target), url=server.url, path=path)
    assert result.returncode == 1
    assert "Run the same command again to resume" in result.stderr
    assert snapshot(target) == {"cifar-10-binary.tar.gz.part": ARCHIVE[:700]}
    with serving(ARCHIVE) as server:
        assert run(str(target), url=server.url, path=path).returncode == 0
    assert server.requests == ["bytes=700-"]
    assert_complete(target)


@pytest.mark.parametrize("downloader", DOWNLOADERS)
def test_a_server_that_cannot_resume_sends_all_of_it_again(tmp_path, downloader):
    target = tmp_path / "data"
    target.mkdir()
    (target / "cifar-10-binary.tar.gz.part").write_bytes(ARCHIVE[:1000])
    with serving(ARCHIVE, resumable=False) as server:
        result = run(str(target), url=server.url, path=path_with(tmp_path, downloader))
    assert result.returncode == 0, result.stderr
    assert_complete(target)


def test_a_whole_part_left_by_a_kill_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz.part").write_bytes(ARCHIVE)
    assert run(str(tmp_path), url=server.url).returncode == 0
    assert server.requests == []
    assert_complete(tmp_path)


@pytest.mark.parametrize("downloader", DOWNLOADERS)
@pytest.mark.parametrize("left", [0, len(ARCHIVE), len(ARCHIVE) + 5])
def test_a_wrong_checksum_unpacks_and_deletes_nothing_and_the_next_run_starts_anew(tmp_path, downloader, left):
    target, path = tmp_path / "data", path_with(tmp_path, downloader)
    target.mkdir()
    (target / "mine.txt").write_text("precious")
    if left:
        (target / "cifar-10-binary.tar.gz.part").write_bytes(bytes(left))
    with serving(bytes(reversed(ARCHIVE))) as server:
        result = run(str(target), url=server.url, path=path)
    assert result.returncode == 1
    assert "the SHA-256 of what was downloaded is wrong" in result.stderr
    assert CHECKSUM in result.stderr
    assert set(snapshot(target)) == {"mine.txt", "cifar-10-binary.tar.gz.wrong"}
    assert (target / "mine.txt").read_text() == "precious"
    with serving(ARCHIVE) as server:
        assert run(str(target), url=server.url, path=path).returncode == 0
    assert (target / "cifar-10-batches-bin" / FILES[0]).read_bytes() == contents_of(FILES[0])


def test_a_second_run_does_nothing(server, tmp_path):
    assert run(str(tmp_path), url=server.url).returncode == 0
    before = snapshot(tmp_path)
    result = run(str(tmp_path), url=server.url)
    assert result.returncode == 0
    assert "nothing to do" in result.stdout
    assert len(server.requests) == 1
    assert snapshot(tmp_path) == before


def test_unpacked_files_that_changed_are_reported_and_kept(server, tmp_path):
    assert run(str(tmp_path), url=server.url).returncode == 0
    (tmp_path / "cifar-10-batches-bin" / FILES[1]).write_bytes(b"mine now")
    before = snapshot(tmp_path)
    result = run(str(tmp_path), url=server.url)
    assert result.returncode == 1
    assert f"{FILES[1]}: FAILED" in result.stdout
    assert "have changed" in result.stderr
    assert snapshot(tmp_path) == before


def test_a_directory_that_the_user_unpacked_is_left_alone(server, tmp_path):
    mine = tmp_path / "cifar-10-batches-bin"
    mine.mkdir()
    (mine / "data_batch_1.bin").write_bytes(b"mine")
    result = run(str(tmp_path), url=server.url)
    assert result.returncode == 1
    assert "is there already" in result.stderr
    assert snapshot(tmp_path) == {"cifar-10-batches-bin/data_batch_1.bin": b"mine"}
    assert server.requests == []


def test_an_archive_that_the_user_has_is_used_and_kept(server, tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(ARCHIVE)
    assert run(str(tmp_path), url=server.url).returncode == 0
    assert server.requests == []
    assert (tmp_path / "cifar-10-binary.tar.gz").read_bytes() == ARCHIVE
    assert (tmp_path / "cifar-10-batches-bin" / FILES[5]).read_bytes() == contents_of(FILES[5])


def test_a_wrong_archive_that_the_user_has_is_kept_and_reported(server, tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"something else")
    result = run(str(tmp_path), url=server.url)
    assert result.returncode == 1
    assert "its SHA-256 is wrong; nothing was changed" in result.stderr
    assert snapshot(tmp_path) == {"cifar-10-binary.tar.gz": b"something else"}
    assert server.requests == []


def member(name, content=b"", **attributes):
    info = tarfile.TarInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


def test_members_beside_the_data_files_are_not_unpacked(tmp_path):
    extra = [
        member("../escaped", b"x"),
        member("/tmp/trimflow-escaped", b"x"),
        member("cifar-10-batches-bin/../../escaped", b"x"),
        member("cifar-10-batches-bin/run-me.sh", b"x", mode=0o777),
    ]
    archive = make_archive(extra)
    target = tmp_path / "data"
    with serving(archive) as server:
        result = run(str(target), url=server.url, checksum=hashlib.sha256(archive).hexdigest())
    assert result.returncode == 0, result.stderr
    assert_complete(target)
    assert not (tmp_path / "escaped").exists()
    assert not Path("/tmp/trimflow-escaped").exists()
    assert {path.name for path in (target / "cifar-10-batches-bin").iterdir()} == {*FILES, "SHA256SUMS"}


@pytest.mark.parametrize(
    "extra",
    [
        [member(f"cifar-10-batches-bin/{FILES[0]}", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        [member(f"cifar-10-batches-bin/{FILES[0]}", type=tarfile.LNKTYPE, linkname="../../mine.txt")],
    ],
)
def test_a_link_in_place_of_a_data_file_is_refused(tmp_path, extra):
    archive = make_archive(extra)
    (tmp_path / "mine.txt").write_text("precious")
    with serving(archive) as server:
        result = run(str(tmp_path), url=server.url, checksum=hashlib.sha256(archive).hexdigest())
    assert result.returncode == 1
    assert set(snapshot(tmp_path)) == {"mine.txt", "cifar-10-binary.tar.gz"}


def test_a_device_or_a_file_without_end_in_place_of_a_data_file_is_refused(tmp_path):
    for extra in (
        member(f"cifar-10-batches-bin/{FILES[0]}", type=tarfile.FIFOTYPE),
        member(f"cifar-10-batches-bin/{FILES[0]}", bytes(101 << 20)),
        member("cifar-10-batches-bin", type=tarfile.SYMTYPE, linkname=str(tmp_path / "elsewhere")),
    ):
        archive = make_archive([extra])
        target = tmp_path / str(len(list(tmp_path.iterdir())))
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        with serving(archive) as server:
            result = run(str(target), url=server.url, checksum=hashlib.sha256(archive).hexdigest())
        if extra[0].type != tarfile.SYMTYPE:  # that one is no data file, so it is not unpacked at all
            assert result.returncode == 1, result.stdout
            assert set(snapshot(target)) == {"cifar-10-binary.tar.gz"}
        assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "-o/tmp/x", ""])
def test_an_address_that_is_no_web_address_is_refused(tmp_path, url):
    result = run(str(tmp_path / "data"), url=url)
    if url:
        assert result.returncode == 2
        assert (
            f"CIFAR10_URL must begin with https:// or http:// (the checksum is looked at in any case). Received: {url}"
            in (result.stderr)
        )
        assert not (tmp_path / "data").exists()
    fetch = subprocess.run(
        [sys.executable, SCRIPT.with_name("fetch_file.py"), url, tmp_path / "x"], capture_output=True, text=True
    )
    assert fetch.returncode == 1
    assert "the address must begin with https:// or http://" in fetch.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["a'b \"c; touch canary", "$(touch canary)", "`touch canary`", "new\nline", "*"])
def test_a_directory_of_any_name_is_taken_as_it_is(server, tmp_path, name):
    result = run(name, url=server.url, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_complete(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_archive_that_lacks_a_file_is_kept_and_not_unpacked(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz"):
        pass
    archive = buffer.getvalue()
    with serving(archive) as server:
        result = run(str(tmp_path), url=server.url, checksum=hashlib.sha256(archive).hexdigest())
    assert result.returncode == 1
    assert "cannot unpack" in result.stderr
    assert snapshot(tmp_path) == {"cifar-10-binary.tar.gz": archive}


def test_a_server_that_is_not_there_is_reported(tmp_path):
    result = run(str(tmp_path), url="http://127.0.0.1:9/nothing")
    assert result.returncode == 1
    assert "the download failed" in result.stderr


def test_a_relative_directory_is_meant_from_where_the_user_stands(server, tmp_path):
    result = run("some data", url=server.url, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_complete(tmp_path / "some data")


def test_a_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "file").write_text("mine")
    result = run(str(tmp_path / "file"))
    assert result.returncode == 1
    assert "cannot make the directory" in result.stderr


def test_help():
    for option in ("--help", "-h"):
        result = run(option)
        assert result.returncode == 0
        assert "usage: scripts/download_cifar10.sh DIR" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--unknown"], [""]])
def test_bad_usage(arguments, tmp_path):
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "usage:" in result.stderr
    assert list(tmp_path.iterdir()) == []
