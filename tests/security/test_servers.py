"""No command of a script or of the documentation shows a server to the network."""

import ast
import re
from pathlib import Path

import pytest

from tests.test_import_arrows import sources

ROOT = Path(__file__).parents[2]
PLACES = ("README.md", "docs/*.md", "scripts/*", "docker/*", "launchers/**/*", "commands/*.py", "main.py")
# Options by which TensorBoard, an HTTP server or a container listens to others than this machine.
OPEN = re.compile(
    r"--bind[_-]all|0\.0\.0\.0|--host[= ](?!localhost|127\.0\.0\.1)\S|--network[= ]host|--publish(?!=127)|EXPOSE "
)
LISTENS = re.compile(r"http\.server|socketserver|\.listen\(|(create|start)_server|TCPServer")


def texts():
    for place in PLACES:
        for path in sorted(ROOT.glob(place)):
            if path.is_file() and path.suffix not in (".pyc", ".png"):
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_nothing_that_is_started_or_advised_listens_to_the_network():
    found = dict(texts())
    assert {"README.md", "docs/run_directory.md", "scripts/run_docker.sh", "docker/Dockerfile"} <= found.keys()
    assert {name: OPEN.findall(text) for name, text in found.items() if OPEN.search(text)} == {}
    assert any("tensorboard --logdir" in text for text in found.values())


def test_the_program_itself_has_no_server():
    listening = [name for name, tree in sources(ROOT) if LISTENS.search(ast.unparse(tree))]
    listening += [path.name for path in (ROOT / "scripts").glob("*.py") if LISTENS.search(path.read_text("utf-8"))]
    assert listening == []
    assert LISTENS.search("asyncio.start_server(f)")


@pytest.mark.parametrize(
    "text",
    ["tensorboard --logdir x --bind_all", "--host 0.0.0.0", "--host=::", "docker run --network=host", "EXPOSE 6006"],
)
def test_the_look_itself_finds_what_it_looks_for(text):
    assert OPEN.search(text)
    assert not OPEN.search("tensorboard --logdir x --host localhost --port 6006")
