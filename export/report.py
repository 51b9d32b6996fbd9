"""What a run reports at its end: `report.json` for programs, a sentence and tables for people."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from export.page.summary import summary
from export.page.wording import ARROW, TIMES
from export.report_schema import Report, complete_report, whole_report
from export.report_tables import FILE_NAME, Quality, duration, kilobytes, percent, print_exports_table, print_tables
from utils.errors import InputError
from utils.files import write_json
from utils.json_files import read_json
from utils.tables import plain_text, terminal

PLAIN_WIDTH = 110


def write_report(run_dir: str | Path, report: Mapping[str, Any]) -> Path:
    """Writes `report`, keys in the order given, to `report.json` in `run_dir` and returns its path.

    `compressed`, `search`, `training` and `layers` may be left out by a run that has none: they become null or empty.
    NumPy numbers become plain ones. An older report stays as it was unless the new one is whole.

    Raises:
        ValueError: another key of `Report` is missing, or a number is not finite; the message has its place.
        TypeError: a value that JSON does not have.
        RunError: the disk is full.
    """
    path = Path(run_dir) / FILE_NAME
    write_json(path, _json_value(complete_report(report), ""))
    return path


def read_report(run_dir: str | Path) -> Report:
    """The report of the run in `run_dir`.

    Raises:
        InputError: there is no report, or it is damaged.
    """
    path = Path(run_dir) / FILE_NAME
    try:
        return whole_report(read_json(path))
    except FileNotFoundError:
        raise InputError(f"There is no finished run in {run_dir}: it has no {FILE_NAME}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole report: {error}") from error


def summary_sentence(report: Mapping[str, Any]) -> str:
    """The run in one sentence: what was removed, what it cost, what was gained, how long it took."""
    report = complete_report(report)
    dense, compressed, sizes = report["dense"], report["compressed"], report["sizes"]
    took = duration(sum(stage["seconds"] for stage in report["stages"]))
    quality = Quality.of(report)
    subject = f"{report['model']} on {report['data_title']}"
    if compressed is None:
        return (
            f"{subject}: test {quality.name} {quality.value(dense['accuracy'])}, "
            f"{kilobytes(sizes['dense_bytes'])} ({kilobytes(sizes['gzip_bytes'])} gzipped), in {took}."
        )
    return (
        f"{subject}: {percent(compressed['sparsity'])} of the prunable weights removed{_saved_flops(report)}; "
        f"test {quality.name} {quality.value(dense['accuracy'])} before and "
        f"{quality.value(compressed['accuracy'])} after "
        f"({quality.change(dense['accuracy'], compressed['accuracy'])}); "
        f"{kilobytes(sizes['dense_bytes'])} became {kilobytes(sizes['gzip_bytes'])} gzipped, in {took}."
    )


def _files_sentence(report: Mapping[str, Any]) -> list[str]:
    """The report's own first sentence, of the files to take away; nothing where there are none."""
    if "exports" not in report:
        return []
    # Signs that not every terminal has.
    return [summary(complete_report(report)).replace(ARROW, "->").replace(TIMES, "x") + "."]


def _saved_flops(report: Mapping[str, Any]) -> str:
    """What a network that was really made smaller saves wherever it runs; zeros alone save nothing there."""
    before, after = ((report[part] or {}).get("flops") for part in ("dense", "compressed"))
    return "" if not before or not after or after >= before else f", {percent(1 - after / before)} fewer FLOPs"


def format_table(report: Mapping[str, Any]) -> str:
    """The whole report as tables of plain ASCII text, at most 110 columns wide."""
    return plain_text(lambda console: print_tables(console, report), PLAIN_WIDTH)


def print_report(report: Mapping[str, Any], stream: TextIO = sys.stdout) -> None:
    """Prints the tables and the sentence: styled and as wide as a terminal, or plain (no terminal, or NO_COLOR)."""
    console, sentences = terminal(stream), [summary_sentence(report), *_files_sentence(report)]
    if console is not None:
        print_tables(console, report)
        for sentence in sentences:
            console.print(sentence, style="bold")
    else:
        stream.write("\n".join([format_table(report), *sentences]) + "\n")
        stream.flush()


def print_exports(report: Mapping[str, Any], stream: TextIO = sys.stdout) -> None:
    """Prints the table of the files that were exported."""
    report = complete_report(report)
    console = terminal(stream)
    if console is not None:
        print_exports_table(console, report)
    else:
        stream.write(plain_text(lambda plain: print_exports_table(plain, report), PLAIN_WIDTH))
        stream.flush()


def _json_value(value: Any, place: str) -> Any:
    """`value` with NumPy numbers and tuples made plain; ValueError at a number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _json_value(v, f"{place}.{key}" if place else key) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(v, f"{place}[{i}]") for i, v in enumerate(value)]
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and not math.isfinite(plain):
        raise ValueError(f"{place} in a report must be a finite number. Received: {plain}")
    return plain
