"""Reads docker/Dockerfile and .dockerignore, as far as ours go: no here-documents, no JSON form of RUN."""

import fnmatch
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Instruction(NamedTuple):
    """One instruction.

    keyword: in capitals. options: of `--mount=...` and the like, name -> value. text: the rest of it. line: its number.
    """

    keyword: str
    options: dict[str, str]
    text: str
    line: int

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


@dataclass
class Stage:
    """What is between two FROM lines: `base` is an image, with `${...}` in it, or an earlier stage's name."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


class Dockerfile(NamedTuple):
    """ARG values before the first stage, and the stages by name, in order."""

    arguments: dict[str, str]
    stages: dict[str, Stage]

    def lineage(self, name: str) -> list[Stage]:
        """The stage and those that it is based on, the last one first."""
        stage = self.stages[name]
        return [stage, *(self.lineage(stage.base) if stage.base in self.stages else [])]


def read_dockerfile(text: str) -> Dockerfile:
    """Parses a Dockerfile."""
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    stage = None
    for instruction in _instructions(text):
        if instruction.keyword == "FROM":
            base, _, name = instruction.words
            stage = stages[name] = Stage(name, base)
        elif stage is None:
            assert instruction.keyword == "ARG", instruction
            name, _, value = instruction.text.partition("=")
            arguments[name] = value
        else:
            stage.instructions.append(instruction)
    return Dockerfile(arguments, stages)


def substitute(text: str, values: dict[str, str]) -> str:
    """`text` with `${NAME}` and `$NAME` replaced."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: values[match[1] or match[2]], text)


def context_files(root: Path = ROOT) -> list[Path]:
    """What `docker build` sends to the engine: the files below `root` that .dockerignore leaves, relative to it."""
    patterns = (root / ".dockerignore").read_text().splitlines()
    patterns = [pattern for pattern in patterns if pattern and not pattern.startswith("#")]

    def walk(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            relative = path.relative_to(root)
            if path.is_dir() and not path.is_symlink():
                # Nothing of ours is let in again below a folder that is left out.
                if not is_ignored(relative, patterns):
                    yield from walk(path)
            elif not is_ignored(relative, patterns):
                yield relative

    return list(walk(root))


def is_ignored(path: Path, patterns: list[str]) -> bool:
    """Whether .dockerignore's patterns leave `path` out: the last one that matches it or a folder of it decides."""
    ignored = False
    for pattern in patterns:
        is_exception = pattern.startswith("!")
        if _matches(path, pattern.removeprefix("!")):
            ignored = not is_exception
    return ignored


def _matches(path: Path, pattern: str) -> bool:
    parts = pattern.removeprefix("**/").split("/")
    for place in (path, *path.parents):
        tail = place.parts[-len(parts) :] if pattern.startswith("**/") else place.parts
        if len(tail) == len(parts) and all(map(fnmatch.fnmatchcase, tail, parts)):
            return True
    return False


def _instructions(text: str) -> Iterator[Instruction]:
    start, pieces = 0, []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        start = start if pieces else number
        pieces.append(line.removesuffix("\\").strip())
        if line.endswith("\\"):
            continue
        keyword, _, rest = " ".join(pieces).partition(" ")
        options = {}
        while match := re.match(r"--([a-z]+)=(\S+)\s+", rest):
            options[match[1]] = match[2]
            rest = rest[match.end() :]
        yield Instruction(keyword.upper(), options, rest, start)
        pieces = []
    assert not pieces, "the last line ends in a backslash"
