"""The tables of a report, as people read them on the screen."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from export.file_sizes import BYTES_PER_WEIGHT
from export.report_schema import LayerRow, Milliseconds, Report, complete_report
from utils.tables import titled_table

FILE_NAME = "report.json"
EMBEDDED_DATASETS = ("digits32",)
TOP_5 = "acc_top5"  # shown beside the accuracy, which is the top-1


class Quality(NamedTuple):
    """How this report shows what it calls accuracy: in percent, or by another name and as a plain number."""

    name: str
    value: Callable[[float], str]
    change: Callable[[float, float], str]

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "Quality":
        name = report.get("metric", "accuracy")
        if name == "accuracy":
            return cls(name, percent, _points)
        return cls(name, "{:.4f}".format, lambda before, after: f"{after - before:+.4f}")


def duration(seconds: float) -> str:
    """Seconds as a person says them: "4.2 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def print_tables(console: Console, report: Mapping[str, Any]) -> None:
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
        print_exports_table(console, report)
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
    removed = ["-" if target is None else percent(target), percent(layer["sparsity"])]
    return [dense[0], *removed, dense[1], f"{layer['flops_sparse'] / 1e6:.2f}"]


def _total(layers: Sequence[LayerRow]) -> LayerRow:
    """One row for all layers: ratios are means weighted by parameters; no target where a layer has none."""
    parameters = sum(layer["parameters"] for layer in layers)

    def mean(ratios: Iterable[float]) -> float:
        return sum(ratio * layer["parameters"] for ratio, layer in zip(ratios, layers, strict=True)) / max(
            parameters, 1
        )

    targets = [target for layer in layers if (target := layer["target_ratio"]) is not None]

    return LayerRow(
        path="Total",
        shape=[],
        parameters=parameters,
        target_ratio=mean(targets) if len(targets) == len(layers) else None,
        sparsity=mean(layer["sparsity"] for layer in layers),
        flops_dense=sum(layer["flops_dense"] for layer in layers),
        flops_sparse=sum(layer["flops_sparse"] for layer in layers),
    )


def _round_table(report: Report) -> Table:
    quality, dense = Quality.of(report), report["dense"]["accuracy"]
    table = _table("Rounds", ["Round", "Removed", f"Test {quality.name}", "Change", "Validation", "Wall time"])
    for row in report["rounds"]:
        tested = quality.value(row["accuracy"]), quality.change(dense, row["accuracy"]) if row["round"] else ""
        name = str(row["round"]) if row["round"] else "0 (dense)"
        measured = percent(row["sparsity"]), *tested, quality.value(row["validation_accuracy"])
        table.add_row(name, *measured, duration(row["seconds"]))
    return table


def _result_table(report: Report) -> Table:
    dense: Mapping[str, Any] = report["dense"]
    compressed: Mapping[str, Any] | None = report["compressed"]
    quality = Quality.of(report)
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
    table.add_row("Sparsity of prunable weights", percent(0.0), percent(compressed["sparsity"]), "")
    return table


def _size_table(report: Report) -> Table:
    sizes: Mapping[str, Any] = report["sizes"]
    table = _table("Size of the weights", ["Stored as", "Bytes", "Of dense"])
    forms = {"dense_bytes": "dense float32", "sparse_bytes": "bitmap and non-zero values", "gzip_bytes": "dense, gzip"}
    rows = {name: sizes[key] for key, name in forms.items()}
    smaller = BYTES_PER_WEIGHT * sizes.get("weights", 0)
    if 0 < smaller < sizes["dense_bytes"]:
        rows["smaller network, float32"] = smaller
    for name, size in sorted(rows.items(), key=lambda row: -row[1]):
        table.add_row(name, f"{size:,}", percent(size / max(sizes["dense_bytes"], 1)))
    return table


def print_exports_table(console: Console, report: Report) -> None:
    exports, quality = report["exports"], Quality.of(report)
    measure = "Accuracy" if quality.name == "accuracy" else "Metric"
    threads = [f"{exports['threads']} threads"] if exports["threads"] > 1 else []
    table = _table("Files in exports/", ["Format", "Bytes", "Of dense", measure, "Same", "1 thread", *threads])
    rows = [exports["dense"], *exports["formats"]]
    dense = exports["dense"].get("bytes") or report["sizes"]["dense_bytes"]
    for row in (row for row in rows if "refused" not in row):
        agreement = "-" if row["agreement"] is None else f"{100 * row['agreement']:.1f}%"
        latencies = [_latency(row["one_thread"]), _latency(row["all_threads"])][: 1 + len(threads)]
        size = f"{row['bytes']:,}", percent(row["bytes"] / dense)
        table.add_row(row["format"], *size, quality.value(row["accuracy"]), agreement, *latencies)
    console.print(table)
    console.print(
        f"Each was run over {exports['images']:,} test images by its own runtime; same: with the network's own class. "
        f"Latency of one image on {exports['machine']}."
    )
    for row in (row for row in rows if "refused" in row):
        console.print(f"No {row['format']}: {row['refused']}")


def _latency(measured: Milliseconds | None) -> str:
    return "-" if measured is None else f"{measured['median']:.3g} ms"


def _time_table(report: Report) -> Table:
    total = sum(stage["seconds"] for stage in report["stages"])
    table = _table("Time", ["Stage", "Wall time", "Share"], show_footer=True)
    for stage in report["stages"]:
        table.add_row(stage["name"], duration(stage["seconds"]), percent(stage["seconds"] / max(total, 1e-9)))
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


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


def _points(before: float, after: float) -> str:
    return f"{100 * (after - before):+.2f} points"


def kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"
