"""`python main.py compare RUN_A RUN_B ...`: finished runs side by side. Loads no TensorFlow."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from export.comparison import FILES, write_comparison
from utils.caller import caller_directory
from utils.errors import InputError

OUTPUT = "--output"
USAGE = """usage: python main.py compare RUN_A RUN_B ... [--output DIR]

Compares finished runs on the same data: prints a table and writes DIR/compare.html, compare.md and compare.json.

  RUN_A RUN_B ...   run directories, at least two: what --run_dir named, or below runs/
  --output DIR      where to write [the directory that all runs are in, else the current one]

Shown are what differs in their configurations, accuracy, sparsity, FLOPs, the smallest and the fastest exported file,
the time taken, and which runs are on the Pareto front of accuracy against bytes, FLOPs and latency. Runs that differ in
nothing but the seed are also shown as one: mean, lowest and highest, standard error. Runs on different data, or with
different metrics, are refused."""


class Words(NamedTuple):
    """What was asked for: paths from where the user stands; no output where none was named."""

    runs: list[Path]
    output: Path | None


def run(words: Sequence[str]) -> int:
    """The command with the words after `compare`; the exit code.

    Raises:
        InputError: words that cannot be meant, or runs that cannot be compared.
        RunError: the files cannot be written.
    """
    if any(word in ("--help", "-help", "-h", "--helpfull") for word in words):
        print(USAGE)
        return 0
    asked = parse_words(words)
    page = write_comparison(asked.runs, asked.output, sys.stdout)
    print(f"\n{page} (and compare.md, compare.json beside it)")
    return 0


def parse_words(words: Sequence[str]) -> Words:
    """What the words after `compare` ask for.

    Raises:
        InputError: an unknown flag, `--output` without a directory or given twice, or fewer than two runs.
    """
    runs, outputs = [], []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in (OUTPUT, OUTPUT[1:]):
            outputs.append(value if equals else next(rest, ""))
        elif word in ("--debug", "-debug", "--debug=true"):  # main looks at it
            continue
        elif word.startswith("-"):
            raise InputError(f"compare knows no flag {name}: there is {OUTPUT} DIR\n{USAGE.splitlines()[0]}")
        elif not _is_of_a_comparison(path := _path(word)):
            runs.append(path)
    if len(outputs) > 1 or "" in outputs:
        received = " ".join(f"{OUTPUT} {value}".strip() for value in outputs)
        raise InputError(f"{OUTPUT} must be given once, with a directory. Received: {received}")
    if len(runs) < 2:
        received = " ".join(words) or "nothing"
        raise InputError(f"there must be at least two runs to compare. Received: {received}\n{USAGE.splitlines()[0]}")
    return Words(runs, _path(outputs[0]) if outputs else None)


def _is_of_a_comparison(path: Path) -> bool:
    """Whether it is a file of an earlier comparison, as in the `runs/mine/*` of the command that made it."""
    return path.name in FILES and path.is_file()


def _path(word: str) -> Path:
    """From where the user stands; relative, where that is the current directory, as it is shown."""
    path = Path(word).expanduser()
    return path if caller_directory() == Path.cwd() else caller_directory() / path
