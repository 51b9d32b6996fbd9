"""What runs are compared by: quality, size, cost and time of one run, taken from its report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from export.page.verdicts import sound_rows
from export.report_schema import Milliseconds

ACCURACY = "accuracy"  # the metric of a report that names none

NUMBERS = (  # those of `Measures` that are one number
    "dense_accuracy",
    "accuracy",
    "change",
    "sparsity",
    "flops_dense",
    "flops_sparse",
    "flops_real",
    "gzip_bytes",
    "search_seconds",
    "total_seconds",
)


class ExportFile(NamedTuple):
    """A file that its runtime read and ran: its own accuracy, and one image's latency with one thread if it has one."""

    format: str
    title: str
    bytes: int
    accuracy: float
    one_thread: Milliseconds | None

    @property
    def median(self) -> float:
        """Milliseconds of one image with one thread; only of a file that has a latency."""
        assert self.one_thread is not None, self.format
        return self.one_thread["median"]


@dataclass(frozen=True)
class Measures:
    """The figures of one run; None where the run has none.

    Args:
        dense_accuracy, accuracy: of the dense network and of the result (the same in a run that compressed nothing).
        change, sparsity: None where nothing was compressed.
        flops_dense: of the prunable kernels of the dense network, for one image.
        flops_sparse: those of the result's weights that are not zero.
        flops_real: those that a runtime computes which does not skip zeros.
        gzip_bytes: all weights of the result, gzipped; no file, but every run has it.
        files: format -> exported file, the refused ones left out.
        smallest: of the sound files (as `export.page.verdicts.sound_rows` judges them).
        fastest: of the sound files with a latency, with one thread.
        dense_file: the dense network, exported for comparison.
    """

    dense_accuracy: float
    accuracy: float
    change: float | None
    sparsity: float | None
    flops_dense: int | None
    flops_sparse: int | None
    flops_real: int | None
    gzip_bytes: int
    files: Mapping[str, ExportFile]
    smallest: ExportFile | None
    fastest: ExportFile | None
    dense_file: ExportFile | None
    search_seconds: float | None
    total_seconds: float


def measures_of(report: Mapping[str, Any]) -> Measures:
    """The figures of a complete report (`export.report_schema.complete_report`)."""
    dense, compressed, search, layers = (report[key] for key in ("dense", "compressed", "search", "layers"))
    accuracy = (compressed or dense)["accuracy"]
    flops_dense = sum(layer["flops_dense"] for layer in layers) if layers else dense.get("flops")
    exports = report.get("exports") or {"dense": {}, "formats": []}
    files = {row["format"]: _export_file(row) for row in exports["formats"] if _is_read(row)}
    sound = [files[row["format"]] for row in sound_rows(report) if row["format"] in files]
    timed = [file for file in sound if file.one_thread is not None]
    return Measures(
        dense_accuracy=dense["accuracy"],
        accuracy=accuracy,
        change=accuracy - dense["accuracy"] if compressed else None,
        sparsity=compressed["sparsity"] if compressed else None,
        flops_dense=flops_dense,
        flops_sparse=sum(layer["flops_sparse"] for layer in layers) if layers else None,
        # Only a network whose filters were removed says so: one with zeros computes what the dense one does.
        flops_real=(compressed or {}).get("flops", flops_dense),
        gzip_bytes=report["sizes"]["gzip_bytes"],
        files=files,
        smallest=min(sound, key=lambda file: file.bytes, default=None),
        fastest=min(timed, key=lambda file: file.median, default=None),
        dense_file=_export_file(exports["dense"]) if _is_read(exports["dense"]) else None,
        search_seconds=search["seconds"] if search else None,
        total_seconds=sum(stage["seconds"] for stage in report["stages"]),
    )


def _is_read(row: Mapping[str, Any]) -> bool:
    return "refused" not in row and row.get("bytes") is not None and row.get("accuracy") is not None


def _export_file(row: Mapping[str, Any]) -> ExportFile:
    return ExportFile(row["format"], row["title"], row["bytes"], row["accuracy"], row.get("one_thread"))
