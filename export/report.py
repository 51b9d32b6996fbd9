"""What a run reports at its end: `report.json` for programs, a sentence and tables for people."""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from rich.console import Console
from rich.table import Table

from export.file_sizes import BYTES_PER_WEIGHT
from export.page.summary import summary
from export.page.wording import ARROW, TIMES
from export.report_schema import LayerRow, Report, complete_report
from utils.errors import InputError
from utils.files import write_json
from utils.tables import plain_text, terminal, titled_table

FILE_NAME = "report.json"
EMBEDDED_DATASETS = ("digits32",)
TOP_5 = "acc_top5"  # shown beside the accuracy, which is the top-1
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


def read_report(run_dir: str | Path) -> dict[str, Any]:
    """The report of the run in `run_dir`.

    Raises:
        InputError: there is no report, or it is damaged.
    """
    path = Path(run_dir) / FILE_NAME
    try:
        return complete_report(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"There is no finished run in {run_dir}: it has no {FILE_NAME}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is not a whole report: {error}") from error


class _Quality(NamedTuple):
    """How this report shows what it calls accuracy: in percent, or by another name and as a plain number."""

    name: str
    value: Callable[[float], str]
    change: Callable[[float, float], str]

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "_Quality":
        name = report.get("metric", "accuracy")
        if name == "accuracy":
            return cls(name, _percent, _points)
        return cls(name, "{:.4f}".format, lambda before, after: f"{after - before:+.4f}")


def summary_sentence(report: Mapping[str, Any]) -> str:
    """The run in one sentence: what was removed, what it cost, what was gained, how long it took."""
    report = complete_report(report)
    dense, compressed, sizes = report["dense"], report["compressed"], report["sizes"]
    took = duration(sum(stage["seconds"] for stage in report["stages"]))
    quality = _Quality.of(report)
    subject = f"{report['model']} on {report['data_title']}"
    if compressed is None:
        return (
            f"{subject}: test {quality.name} {quality.value(dense['accuracy'])}, "
            f"{_kilobytes(sizes['dense_bytes'])} ({_kilobytes(sizes['gzip_bytes'])} gzipped), in {took}."
        )
    return (
        f"{subject}: {_percent(compressed['sparsity'])} of the prunable weights removed{_saved_flops(report)}; "
        f"test {quality.name} {quality.value(dense['accuracy'])} before and "
        f"{quality.value(compressed['accuracy'])} after "
        f"({quality.change(dense['accuracy'], compressed['accuracy'])}); "
        f"{_kilobytes(sizes['dense_bytes'])} became {_kilobytes(sizes['gzip_bytes'])} gzipped, in {took}."
    )


def _files_sentence(report: Mapping[str, Any]) -> list[str]:
    """The report's own first sentence, of the files to take away; nothing where there are none."""
    if "exports" not in report:
        return []
    # Signs that not every terminal has.
    return [summary(complete_report(report)).replace(ARROW, "->").replace(TIMES, "x") + "."]


def _saved_flops(report: Report) -> str:
    """What a network that was really made smaller saves wherever it runs; zeros alone save nothing there."""
    before, after = (report[part].get("flops") for part in ("dense", "compressed"))
    return "" if not before or after >= before else f", {_percent(1 - after / before)} fewer FLOPs"


def format_table(report: Mapping[str, Any]) -> str:
    """The whole report as tables of plain ASCII text, at most 110 columns wide."""
    return plain_text(lambda console: _print_tables(console, report), PLAIN_WIDTH)


def print_report(report: Mapping[str, Any], stream: TextIO = sys.stdout) -> None:
    """Prints the tables and the sentence: styled and as wide as a terminal, or plain (no terminal, or NO_COLOR)."""
    console, sentences = terminal(stream), [summary_sentence(report), *_files_sentence(report)]
    if console is not None:
        _print_tables(console, report)
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
        _print_exports(console, report)
    else:
        stream.write(plain_text(lambda plain: _print_exports(plain, report), PLAIN_WIDTH))
        stream.flush()


def duration(seconds: float) -> str:
    """Seconds as a person says them: "4.2 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


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


def _print_tables(console: Console, report: Mapping[str, Any]) -> None:
    report = complete_report(report)
    console.print(f"{report['model']}, {report['learner']}, seed {report['seed']}. Data: {report['data_title']}")
    if report["dataset"] in EMBEDDED_DATASETS:
        console.print(
            f"NOT CIFAR-10 NOR IMAGENET: these figures are from the small embedded data set {report['dataset']}; "
            "they cannot be compared with figures published for those.",
            style="bold yellow",
        )
    tables = [_layer_table(report)] if report["layers"] else []
    tables += [_round_table(report)] if report.get("rounds") else []
    for table in (*tables, _result_table(report), _size_table(report), _time_table(report)):
        console.print()
        console.print(table)
    if "exports" in report:
        console.print()
        _print_exports(console, report)
    for line in _cost_lines(report):
        console.print(line)


def _layer_table(report: Report) -> Table:
    layers, is_compressed = report["layers"], report["compressed"] is not None
    columns = ["Layer", "Shape", "Parameters"]
    columns += ["Target", "Removed", "MFLOPs", "Sparse"] if is_compressed else ["MFLOPs"]
    table = _table("Layers", columns, show_footer=True)
    for layer in layers:
        name, shape = layer["path"].removesuffix("/kernel"), "x".join(map(str, layer["shape"]))
        table.add_row(name, shape, *_layer_numbers(layer, is_compressed))
    for column, text in zip(table.columns, ["Total", "", *_layer_numbers(_total(layers), is_compressed)], strict=True):
        column.footer = text
    return table


def _layer_numbers(layer: LayerRow, is_compressed: bool) -> list[str]:
    dense = [f"{layer['parameters']:,}", f"{layer['flops_dense'] / 1e6:.2f}"]
    if not is_compressed:
        return dense
    target = layer["target_ratio"]
    removed = ["-" if target is None else _percent(target), _percent(layer["sparsity"])]
    return [dense[0], *removed, dense[1], f"{layer['flops_sparse'] / 1e6:.2f}"]


def _total(layers: Sequence[LayerRow]) -> LayerRow:
    """One row for all layers: ratios are means weighted by parameters; no target where a layer has none."""
    parameters = sum(layer["parameters"] for layer in layers)

    def mean(key: str) -> float | None:
        if any(layer[key] is None for layer in layers):
            return None
        return sum(layer[key] * layer["parameters"] for layer in layers) / max(parameters, 1)

    return LayerRow(
        path="Total",
        shape=[],
        parameters=parameters,
        target_ratio=mean("target_ratio"),
        sparsity=mean("sparsity"),
        flops_dense=sum(layer["flops_dense"] for layer in layers),
        flops_sparse=sum(layer["flops_sparse"] for layer in layers),
    )


def _round_table(report: Report) -> Table:
    quality, dense = _Quality.of(report), report["dense"]["accuracy"]
    table = _table("Rounds", ["Round", "Removed", f"Test {quality.name}", "Change", "Validation", "Wall time"])
    for row in report["rounds"]:
        tested = quality.value(row["accuracy"]), quality.change(dense, row["accuracy"]) if row["round"] else ""
        name = str(row["round"]) if row["round"] else "0 (dense)"
        measured = _percent(row["sparsity"]), *tested, quality.value(row["validation_accuracy"])
        table.add_row(name, *measured, duration(row["seconds"]))
    return table


def _result_table(report: Report) -> Table:
    dense, compressed, quality = report["dense"], report["compressed"], _Quality.of(report)
    names = {"accuracy": quality.name} | ({TOP_5: TOP_5} if TOP_5 in dense else {})
    if compressed is None:
        table = _table("Result", ["", "Dense"])
        for key, name in names.items():
            table.add_row(f"Test {name}", quality.value(dense[key]))
        return table
    table = _table("Result", ["", "Before (dense)", "After", "Change"])
    for key, name in names.items():
        before, after = dense[key], compressed[key]
        table.add_row(f"Test {name}", quality.value(before), quality.value(after), quality.change(before, after))
    table.add_row("Sparsity of prunable weights", _percent(0.0), _percent(compressed["sparsity"]), "")
    return table


def _size_table(report: Report) -> Table:
    sizes = report["sizes"]
    table = _table("Size of the weights", ["Stored as", "Bytes", "Of dense"])
    forms = {"dense_bytes": "dense float32", "sparse_bytes": "bitmap and non-zero values", "gzip_bytes": "dense, gzip"}
    rows = {name: sizes[key] for key, name in forms.items()}
    smaller = BYTES_PER_WEIGHT * sizes.get("weights", 0)
    if 0 < smaller < sizes["dense_bytes"]:
        rows["smaller network, float32"] = smaller
    for name, size in sorted(rows.items(), key=lambda row: -row[1]):
        table.add_row(name, f"{size:,}", _percent(size / max(sizes["dense_bytes"], 1)))
    return table


def _print_exports(console: Console, report: Report) -> None:
    exports, quality = report["exports"], _Quality.of(report)
    measure = "Accuracy" if quality.name == "accuracy" else "Metric"
    threads = [f"{exports['threads']} threads"] if exports["threads"] > 1 else []
    table = _table("Files in exports/", ["Format", "Bytes", "Of dense", measure, "Same", "1 thread", *threads])
    rows = [exports["dense"], *exports["formats"]]
    dense = exports["dense"].get("bytes") or report["sizes"]["dense_bytes"]
    for row in (row for row in rows if "refused" not in row):
        agreement = "-" if row["agreement"] is None else f"{100 * row['agreement']:.1f}%"
        latencies = [_latency(row["one_thread"]), _latency(row["all_threads"])][: 1 + len(threads)]
        size = f"{row['bytes']:,}", _percent(row["bytes"] / dense)
        table.add_row(row["format"], *size, quality.value(row["accuracy"]), agreement, *latencies)
    console.print(table)
    console.print(
        f"Each was run over {exports['images']:,} test images by its own runtime; same: with the network's own class. "
        f"Latency of one image on {exports['machine']}."
    )
    for row in (row for row in rows if "refused" in row):
        console.print(f"No {row['format']}: {row['refused']}")


def _latency(measured: Mapping[str, float] | None) -> str:
    return "-" if measured is None else f"{measured['median']:.3g} ms"


def _time_table(report: Report) -> Table:
    total = sum(stage["seconds"] for stage in report["stages"])
    table = _table("Time", ["Stage", "Wall time", "Share"], show_footer=True)
    for stage in report["stages"]:
        table.add_row(stage["name"], duration(stage["seconds"]), _percent(stage["seconds"] / max(total, 1e-9)))
    for column, text in zip(table.columns, ("Total", duration(total), ""), strict=True):
        column.footer = text
    return table


def _cost_lines(report: Report) -> list[str]:
    lines = []
    search, training, learned = report["search"], report["training"], report.get("distillation")
    if search is not None:
        rollouts = f", {search['rollouts']:,} roll-outs" if search["rollouts"] else ""
        metric = f" ({search['reward_metric']})" if "reward_metric" in search else ""
        reward = "" if search["best_reward"] is None else f", best reward{metric} {search['best_reward']:.4f}"
        lines.append(
            f"Ratios: {search['protocol']}{rollouts}{reward}, in {duration(search['seconds'])} "
            f"(the time of {search['dense_step_equivalents']:,.0f} dense training steps)."
        )
    if training is not None:
        lines.append(
            f"Training: {training['iterations']:,} iterations in {duration(training['seconds'])}, "
            f"{training['images_per_second']:,.0f} images/s."
        )
    if learned is not None:
        lines.append(
            f"Teacher: {learned['teacher']}, weight {learned['loss_weight']:g}, temperature {learned['temperature']:g}."
        )
    skipped = report.get("skipped_images", ())
    if skipped:
        lines.append(f"Left out, as they cannot be decoded: {len(skipped):,} images (skipped_images in {FILE_NAME}).")
    return lines + [f"Note: {note}" for note in report.get("notes", ())]


def _table(title: str, columns: Sequence[str], show_footer: bool = False) -> Table:
    """An empty table whose columns after the first are right-aligned numbers."""
    table = titled_table(title, column_gap=1, show_footer=show_footer)
    for i, column in enumerate(columns):
        # Only the first column gives way on a narrow terminal: names can be folded, numbers cannot.
        table.add_column(column, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
    return table


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


def _points(before: float, after: float) -> str:
    return f"{100 * (after - before):+.2f} points"


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"
