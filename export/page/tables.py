"""The tables of a run's report."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from export.page.blocks import Cell, Column, Row, Table
from export.page.verdicts import fastest_sound, smallest_sound
from export.page.wording import NOTHING, Quality, capitalised, counted, joined, milliseconds, percent
from export.report_tables import duration

Report = Mapping[str, Any]
LAYER_KINDS = {
    "float32": "ideal, float32",
    "float16": "ideal, float16",
    "int8": "ideal, int8",
    "codebook-256": "ideal, 256 values",
    "codebook-16": "ideal, 16 values",
}


def exports_table(report: Report) -> Table:
    """A row for each file, the dense network's first; one that its runtime refused has the reason in place of figures.

    The smallest and the fastest of the sound files are marked, in words below their titles.
    """
    exports, quality = report["exports"], Quality.of(report)
    threads = exports["threads"]
    columns = [
        Column("Format", is_text=True),
        Column("Bytes, of dense"),
        Column("gzip"),
        Column("Ideal"),
        Column(capitalised(quality.name)),
        Column("Agreement"),
        Column("Largest difference"),
        Column("ms, 1 thread"),
        *([Column(f"ms, {threads} threads")] if threads > 1 else []),
        Column("Peak memory"),
    ]
    marks: dict[int, list[str]] = {}
    for row, mark in ((smallest_sound(report), "smallest sound file"), (fastest_sound(report), "fastest sound file")):
        if row is not None:
            marks.setdefault(id(row), []).append(mark)
    dense_bytes = exports["dense"].get("bytes")
    rows = [
        _export_row(row, dense_bytes, quality, marks.get(id(row), []), len(columns))
        for row in (exports["dense"], *exports["formats"])
    ]
    folders = sorted({f"{PurePosixPath(row['file']).parent}/" for row in exports["formats"] if "file" in row})
    caption = (f"Files below {joined(folders)} in the folder of the run. " if folders else "") + (
        f"Each file was run by its own runtime over {counted(exports['images'], 'test image')}; sound is one within "
        "one point of the network. Ideal: the least bytes that the weights could take with values of that kind, and "
        "how many weights of kernels are not 0 in it. "
        "Agreement: the share of images with the network's own prediction. Largest difference: of any output. "
        "Latency: median of one example, and lowest to highest round."
    )
    return Table(caption, columns, rows)


def _export_row(
    row: Mapping[str, Any], dense_bytes: int | None, quality: Quality, marks: Sequence[str], width: int
) -> Row:
    title = Cell(row["title"], "; ".join([*marks, *([PurePosixPath(row["file"]).name] if "file" in row else [])]))
    if "refused" in row:
        return Row([title, Cell(f"Not made: {row['refused']}", span=width - 1)])
    size, agreement = row.get("bytes"), row.get("agreement")
    difference, accuracy = row.get("largest_difference"), row.get("accuracy")
    memory = row.get("peak_memory_bytes")
    cells = [
        title,
        _bytes_cell(size, dense_bytes),
        _bytes_cell(row.get("gzip_bytes")),
        _ideal_cell(row.get("ideal_bytes"), row.get("nonzero_weights")),
        Cell(NOTHING if accuracy is None else quality.text(accuracy)),
        Cell(NOTHING if agreement is None else percent(agreement)),
        Cell(NOTHING if difference is None else f"{difference:.1e}"),
        _time_cell(row.get("one_thread")),
        _time_cell(row.get("all_threads")),
        Cell(NOTHING if memory is None else f"{memory / 1e6:,.1f} MB"),
    ]
    if width < len(cells):  # one core: there is no column for all threads
        del cells[-2]
    return Row(cells, is_best=bool(marks))


def _bytes_cell(size: int | None, dense: int | None = None) -> Cell:
    if size is None:
        return Cell(NOTHING)
    return Cell(f"{size:,}", percent(size / dense, 1) if dense else "")


def _ideal_cell(size: int | None, nonzero: int | None) -> Cell:
    if size is None:
        return Cell(NOTHING)
    return Cell(f"{size:,}", "" if nonzero is None else f"{nonzero:,} not 0")


def _time_cell(time: Mapping[str, float] | None) -> Cell:
    if not time:
        return Cell(NOTHING)
    low, high = milliseconds(time["low"]), milliseconds(time["high"])
    return Cell(milliseconds(time["median"]), f"{low} to {high}")


def layers_table(report: Report) -> Table:
    """Each prunable layer: what was asked for, what was removed, and what it computes for an image."""
    layers, is_compressed = report["layers"], report["compressed"] is not None
    columns = [Column("Layer", is_text=True), Column("Shape"), Column("Parameters")]
    columns += [Column("Target"), Column("Removed")] if is_compressed else []
    columns += [Column("MFLOPs")] + ([Column("MFLOPs, zeros left out")] if is_compressed else [])
    parameters = sum(layer["parameters"] for layer in layers)
    total = {
        "parameters": parameters,
        "target_ratio": _mean(layers, "target_ratio"),
        "sparsity": _mean(layers, "sparsity"),
        "flops_dense": sum(layer["flops_dense"] for layer in layers),
        "flops_sparse": sum(layer["flops_sparse"] for layer in layers),
    }
    shown = "\N{MULTIPLICATION SIGN}"
    rows = [
        Row([Cell(layer["path"].removesuffix("/kernel")), Cell(shown.join(map(str, layer["shape"])))])
        for layer in layers
    ]
    rows = [Row([*row.cells, *_layer_cells(layer, is_compressed)]) for row, layer in zip(rows, layers, strict=True)]
    caption = "Prunable kernels in the order of the network. FLOPs are of one example, two for each weight and place."
    return Table(caption, columns, rows, [Cell("Total"), Cell(""), *_layer_cells(total, is_compressed)])


def _layer_cells(layer: Mapping[str, Any], is_compressed: bool) -> list[Cell]:
    parameters, flops = Cell(f"{layer['parameters']:,}"), Cell(f"{layer['flops_dense'] / 1e6:,.2f}")
    if not is_compressed:
        return [parameters, flops]
    target = layer["target_ratio"]
    ratios = [Cell(NOTHING if target is None else percent(target)), Cell(percent(layer["sparsity"]))]
    return [parameters, *ratios, flops, Cell(f"{layer['flops_sparse'] / 1e6:,.2f}")]


def _mean(layers: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Weighted by parameters; None where a layer has none."""
    if any(layer[key] is None for layer in layers):
        return None
    parameters = sum(layer["parameters"] for layer in layers)
    return sum(layer[key] * layer["parameters"] for layer in layers) / max(parameters, 1)


def bytes_table(report: Report) -> Table:
    """What each kernel takes, stored in each way, and for each kind of values the least that it could take."""
    layers = report["exports"]["layers"]
    kinds = [kind for kind in LAYER_KINDS if all(kind in layer["ideal_bytes"] for layer in layers)]
    columns = [Column("Layer", is_text=True), Column("Not zero"), Column("Dense float32"), Column("Bitmap and values")]
    columns += [Column(capitalised(LAYER_KINDS[kind])) for kind in kinds]
    numbers = [
        [layer["nonzero"], layer["dense_bytes"], layer["bitmap_bytes"], *(layer["ideal_bytes"][kind] for kind in kinds)]
        for layer in layers
    ]
    rows = [
        Row([Cell(layer["path"].removesuffix("/kernel")), *(Cell(f"{number:,}") for number in row)])
        for layer, row in zip(layers, numbers, strict=True)
    ]
    totals = [Cell(f"{sum(column):,}") for column in zip(*numbers, strict=True)]
    caption = "Bytes of each kernel of the network as it is now, stored in each way; ideal: the least for such values."
    return Table(caption, columns, rows, [Cell("Total"), *totals])


def weights_table(report: Report) -> Table:
    """The weights as numbers alone, whatever the file: dense, as a bitmap with values, zipped."""
    sizes = report["sizes"]
    forms = {"dense_bytes": "Dense float32", "sparse_bytes": "Bitmap and values not zero", "gzip_bytes": "Dense, gzip"}
    largest = max(sizes["dense_bytes"], 1)
    rows = [
        Row([Cell(name), Cell(f"{sizes[key]:,}"), Cell(percent(sizes[key] / largest, 1))])
        for key, name in forms.items()
    ]
    columns = [Column("Weights stored as", is_text=True), Column("Bytes"), Column("Of dense")]
    return Table("All weights of the network, without the file around them.", columns, rows)


def rounds_table(report: Report) -> Table:
    """Each round of the lottery ticket."""
    quality, dense = Quality.of(report), report["dense"]["accuracy"]
    columns = [Column("Round", is_text=True), Column("Removed"), Column(f"Test {quality.name}"), Column("Change")]
    columns += [Column(f"Validation {quality.name}"), Column("Wall time")]
    rows = []
    for row in report["rounds"]:
        is_dense = row["round"] == 0
        cells = [str(row["round"]) + (" (dense)" if is_dense else ""), percent(row["sparsity"])]
        cells += [quality.text(row["accuracy"]), NOTHING if is_dense else quality.change(dense, row["accuracy"])]
        cells += [quality.text(row["validation_accuracy"]), duration(row["seconds"])]
        rows.append(Row([Cell(text) for text in cells]))
    return Table("Rounds of the lottery ticket, round 0 the dense training.", columns, rows)


def stages_table(report: Report) -> Table:
    """Wall time of each stage."""
    stages = report["stages"]
    total = sum(stage["seconds"] for stage in stages)
    rows = [
        Row(
            [
                Cell(stage["name"]),
                Cell(duration(stage["seconds"])),
                Cell(percent(stage["seconds"] / max(total, 1e-9), 1)),
            ]
        )
        for stage in stages
    ]
    columns = [Column("Stage", is_text=True), Column("Wall time"), Column("Share")]
    return Table("Stages of the run.", columns, rows, [Cell("Total"), Cell(duration(total)), Cell("")])
