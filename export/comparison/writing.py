"""Writes a comparison: a page, a Markdown file, and JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from export.comparison.comparison import compare_runs
from export.comparison.markdown import format_markdown
from export.comparison.record import comparison_record
from export.comparison.runs import read_runs
from export.comparison.terminal import print_comparison
from utils.caller import caller_directory
from utils.errors import InputError
from utils.files import write_text

PAGE, MARKDOWN, RECORD = FILES = "compare.html", "compare.md", "compare.json"


def write_comparison(runs: Sequence[Path], output: Path | None = None, stream: TextIO | None = None) -> Path:
    """Compares finished runs and writes `compare.html`, `compare.md` and `compare.json` into `output`.

    Loads no TensorFlow.

    Args:
        runs: the run directories, at least two.
        output: the directory for the files, made if need be; None: what `default_output` says.
        stream: where to print the table; None: nowhere.

    Returns:
        The path of `compare.html`.

    Raises:
        InputError: runs that cannot be compared, as `export.comparison.runs.read_runs` says, or an `output` that is
            no directory.
        RunError: the files cannot be written.
    """
    runs = [Path(run) for run in runs]
    output = default_output(runs) if output is None else Path(output)
    comparison = compare_runs(read_runs(runs))
    for place in (output, *output.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"--output must be a directory. Received: {output}, and {place} is a file")
    if stream is not None:
        print_comparison(comparison, stream)
    from export.comparison.page import format_page  # loads Matplotlib, which the table needs not wait for

    page = format_page(comparison, output)
    write_text(output / RECORD, json.dumps(comparison_record(comparison, output), indent=2, allow_nan=False) + "\n")
    write_text(output / MARKDOWN, format_markdown(comparison))
    write_text(output / PAGE, page)
    return output / PAGE


def default_output(runs: Sequence[Path]) -> Path:
    """The directory that all runs lie in, if it is one; else the one that the program was called from."""
    parents = {Path(os.path.abspath(run)).parent for run in runs}
    return parents.pop() if len(parents) == 1 else caller_directory()
