"""A server of our own, in place of the network."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest


class Served(NamedTuple):
    """A folder and its address; `answer` replaces what a path is answered with."""

    folder: Path
    url: str
    answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]]


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[Served]:
    """A folder behind an http:// address of this machine, for the time of a test."""
    monkeypatch.setenv("no_proxy", "*")
    folder, answers = tmp_path / "served", {}
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def do_GET(self):  # noqa: N802  http.server's own name
            answers.get(self.path, lambda handler: super().do_GET())(self)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Served(folder, f"http://127.0.0.1:{server.server_port}", answers)
    server.shutdown()
    thread.join()
    server.server_close()
