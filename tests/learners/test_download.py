"""Files behind `--model_http_url`: whole, unchanged and over https, or one clear error and nothing kept."""

import hashlib
import time
import urllib.request

import pytest

from learners import download as downloads
from learners.download import check_url, download
from learners.given_networks import network_url
from utils.errors import InputError

CONTENT = b"some network" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def refused(url: str, path, allow_plain_http: bool = True) -> str:
    """What is said of an address, behind which no file is kept."""
    with pytest.raises(InputError) as error:
        download(url, path, allow_plain_http)
    assert not list(path.parent.iterdir())
    return str(error.value)


@pytest.fixture
def target(tmp_path):
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept" / "model.keras"


def test_a_file_is_fetched_and_its_checksum_is_looked_at(served, target):
    (served.folder / "model.keras").write_bytes(CONTENT)
    url = f"{served.url}/model.keras"
    for checksum in ("", f"#sha256={SHA256}", f"#sha256={SHA256.upper()}"):
        assert download(url + checksum, target, allow_plain_http=True).read_bytes() == CONTENT
        target.unlink()
    other = "0" * 64
    assert f"{url} must have the SHA-256 {other}. Received: {SHA256}" in refused(f"{url}#sha256={other}", target)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host/a.keras", r"must begin with https://: over http:// anyone .* With --allow_plain_http"),
        ("HTTP://host/a.keras", r"must begin with https://\. Received: 'HTTP://host/a.keras'"),
        ("ftp://host/a.keras", r"must begin with https://\. Received: 'ftp://host/a.keras'"),
        ("file:///etc/passwd", r"must begin with https://\. Received: 'file:///etc/passwd'"),
        ("data:,hello", "must begin with https://"),
        ("-o/etc/passwd", "must begin with https://"),
        ("https:///a.keras", "an address with a host"),
        ("https://host/a b.keras", "an address with a host, spaces as %20"),
        ("https://host/a.keras\r\nX-Other: 1", "an address with a host"),
        ("https://[::1/a.keras", r"must be an address\. Received"),
        ("https://host:99999/a.keras", r"must be an address\. Received"),
        ("https://host/a.keras#sha256=12", "64 hexadecimal digits"),
        ("https://host/a.keras#md5=12", "64 hexadecimal digits"),
        (f"https://host/models/#sha256={SHA256}", "behind the address of a .keras file"),
    ],
)
def test_an_address_that_should_not_be_asked_is_refused_before_any_work(url, message):
    with pytest.raises(InputError, match=message):
        check_url(url)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(InputError, match="without a user name or password") as error:
        check_url("https://me:secret@host/a.keras")
    assert "secret" not in str(error.value)


def test_http_is_allowed_where_the_user_says_so():
    check_url("http://host/a.keras", allow_plain_http=True)
    check_url(f"https://host/a.keras?x=1#sha256={SHA256}")


def test_a_file_is_named_by_its_path_and_a_folder_gets_the_network_s():
    assert network_url("https://host/a.keras", "net", "set") == "https://host/a.keras"
    given = f"https://host/a.keras?key=1#sha256={SHA256}"
    assert network_url(given, "net", "set") == given
    for folder in ("https://host/models/", "https://host/models"):
        assert network_url(folder, "net", "set") == "https://host/models/net_at_set.keras"


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/a.keras", "ftp://host/a.keras", "file:///etc/passwd"])
def test_a_server_cannot_send_one_on_from_https_to_something_else(place):
    handler = downloads._Redirects(allow_plain_http=False)
    request = urllib.request.Request("https://host/a.keras")
    with pytest.raises(InputError, match="https://host/a.keras must stay with https://. Received: sent on to '"):
        handler.redirect_request(request, None, 302, "Found", {}, place)
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://other/b.keras").host == "other"


def redirect(place: str):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", place)
        handler.end_headers()

    return answer


def test_a_server_cannot_send_one_on_to_a_file_of_this_machine(served, target):
    served.answers["/a.keras"] = redirect("file:///etc/hostname")
    assert "'file:///etc/hostname' is not allowed" in refused(f"{served.url}/a.keras", target)
    (served.folder / "b.keras").write_bytes(CONTENT)
    served.answers["/a.keras"] = redirect("/b.keras")
    assert download(f"{served.url}/a.keras", target, allow_plain_http=True).read_bytes() == CONTENT


def send(content: bytes, length: int | None):
    def answer(handler):
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def test_what_is_cut_off_or_too_large_is_not_kept(served, target, monkeypatch):
    served.answers["/a.keras"] = send(CONTENT, len(CONTENT) + 1)
    assert "ended after 12,000 of 12001 bytes" in refused(f"{served.url}/a.keras", target)
    monkeypatch.setattr(downloads, "LARGEST_FILE", len(CONTENT) - 1)
    served.answers["/a.keras"] = send(CONTENT, None)
    assert "must have at most 11,999 bytes" in refused(f"{served.url}/a.keras", target)
    monkeypatch.setattr(downloads, "LARGEST_FILE", len(CONTENT))
    assert download(f"{served.url}/a.keras", target, allow_plain_http=True).read_bytes() == CONTENT


def test_a_server_that_is_silent_or_endlessly_slow_is_not_waited_for(served, target, monkeypatch):
    def drip(handler):
        send(b"a", 1000)(handler)
        time.sleep(1)

    served.answers["/a.keras"] = drip
    monkeypatch.setattr(downloads, "SILENCE", 0.1)
    assert "cannot be fetched: timed out" in refused(f"{served.url}/a.keras", target)
    monkeypatch.setattr(downloads, "SILENCE", 60)
    monkeypatch.setattr(downloads, "LONGEST_TIME", -1)
    served.answers["/a.keras"] = send(CONTENT, None)
    assert "cannot be fetched in -1 s" in refused(f"{served.url}/a.keras", target)


def test_a_server_that_is_not_there_or_talks_nonsense_is_named(served, target):
    assert "http://127.0.0.1:1/m.keras cannot be fetched: " in refused("http://127.0.0.1:1/m.keras", target)
    served.answers["/a.keras"] = lambda handler: handler.wfile.write(b"nonsense\r\n\r\n")
    assert "cannot be fetched: " in refused(f"{served.url}/a.keras", target)


def test_a_file_that_was_there_stays_where_another_cannot_be_fetched(served, target):
    target.write_bytes(b"before")
    with pytest.raises(InputError):
        download(f"{served.url}/missing.keras", target, allow_plain_http=True)
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"before"]
