"""What can be said of exported files: which is smallest, which is fastest, which are only smaller, and why."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from export.page.wording import TIMES, Quality, joined, milliseconds, percent

Row = Mapping[str, Any]
INTEGER_FORMATS = frozenset({"litert-int8", "litert-full-int8"})
THREADS = ("one_thread", "all_threads")
FEW_ZEROS = 0.01


class Speed(NamedTuple):
    """How a file's time compares with the dense network's on as many threads.

    A file is faster where its median is below the dense network's fastest round, slower where the dense network's
    median is below its own fastest round; otherwise the two cannot be told apart.
    """

    times: float  # dense median / its median
    verdict: Literal["faster", "same", "slower"]
    threads: str


def model_accuracy(report: Row) -> float:
    """Of the network that the files hold."""
    return (report["compressed"] or report["dense"])["accuracy"]


def sound_rows(report: Row) -> list[Row]:
    """The files that ran and are within one point of the network's accuracy."""
    quality, reference = Quality.of(report), model_accuracy(report)
    rows = report["exports"]["formats"] if report.get("exports") else []
    return [row for row in rows if row.get("accuracy") is not None and quality.is_kept(reference, row["accuracy"])]


def smallest_sound(report: Row) -> Row | None:
    """The smallest of the sound files, of equals the first."""
    return min((row for row in sound_rows(report) if row.get("bytes")), key=lambda row: row["bytes"], default=None)


def fastest_sound(report: Row) -> Row | None:
    """The sound file that is most times as fast as the dense network, None where none is faster than it."""
    dense = report["exports"]["dense"] if report.get("exports") else {}
    speeds = [(row, speed_of(row, dense)) for row in sound_rows(report)]
    faster = [(row, speed) for row, speed in speeds if speed is not None and speed.verdict == "faster"]
    return max(faster, key=lambda pair: pair[1].times)[0] if faster else None


def speed_of(row: Row, dense: Row) -> Speed | None:
    """The speed on one thread, where that was not measured on all; None where they have no such time in common."""
    for threads in THREADS:
        mine, other = row.get(threads), dense.get(threads)
        if mine and other:
            is_faster, is_slower = mine["median"] < other["low"], other["median"] < mine["low"]
            verdict: Literal["faster", "slower", "same"] = "faster" if is_faster else "slower" if is_slower else "same"
            return Speed(other["median"] / max(mine["median"], 1e-9), verdict, threads)
    return None


def speed_paragraph(report: Row) -> str:
    """Which files are faster on this machine, which are not, and which are not there to be run."""
    exports = report["exports"]
    dense = exports["dense"]
    timed = [(dense[key]["median"], name) for key, name in _thread_names(exports) if dense.get(key)]
    times = [f"{milliseconds(median)} ms {name}" for median, name in timed]
    text = f"Measured on {exports['machine']}, one example at a time."
    if not times:
        return text
    text += f" The dense network as LiteRT needs {joined(times)}."
    groups: dict[str, list[str]] = {"faster": [], "same": [], "slower": []}
    for row in exports["formats"]:
        speed = speed_of(row, dense)
        if speed is not None:
            how = f" ({speed.times:.2g}{TIMES})" if speed.verdict != "same" else ""
            groups[speed.verdict].append(f"{row['title']}{how}")
    for verdict, name in (("faster", "Faster than that"), ("same", "About as fast"), ("slower", "Slower")):
        if groups[verdict]:
            text += f" {name}: {'; '.join(groups[verdict])}."
    if not groups["faster"]:
        text += " None is faster."
    stored = [row["title"] for row in exports["formats"] if "refused" not in row and not _is_timed(row)]
    if stored:
        text += f" Not timed, as they are forms to store and are unpacked before they run: {'; '.join(stored)}."
    return text


def reasons_paragraph(report: Row) -> str:
    """Why files are faster or only smaller, as far as the figures show it; empty where there is nothing to explain."""
    exports = report["exports"]
    dense, rows = exports["dense"], exports["formats"]
    speeds = {row["format"]: speed_of(row, dense) for row in rows}
    known = {name: speed.verdict for name, speed in speeds.items() if speed is not None}
    if not known:
        return ""
    return " ".join([*_thinning_reasons(report, known), *_zero_reasons(report, known), *_value_reasons(known)])


def _thinning_reasons(report: Row, verdicts: Mapping[str, str]) -> list[str]:
    before = report["dense"].get("flops")
    after = (report["compressed"] or {}).get("flops")
    if not before or not after or after >= before:
        return []
    text = (
        f"Whole filters were removed: {percent(1 - after / before, 1)} fewer FLOPs, which saves time in every runtime"
    )
    if "litert" in verdicts:
        text += ", as LiteRT float32 shows" if verdicts["litert"] == "faster" else ", though not measurably here"
    return [f"{text}."]


def _zero_reasons(report: Row, verdicts: Mapping[str, str]) -> list[str]:
    sizes = report["sizes"]
    kernel_weights = sizes.get("kernel_weights", 0)
    zeros = 1 - sizes.get("nonzero_kernel_weights", kernel_weights) / kernel_weights if kernel_weights else 0.0
    if zeros < FEW_ZEROS or report["compressed"] is None:
        return []
    text = f"{percent(zeros, 1)} of the weights in the kernels are zeros without a pattern."
    if verdicts.get("litert-sparse") == "faster":
        return [f"{text} LiteRT's sparse kernels skip them here; a runtime that computes dense saves bytes, not time."]
    return [f"{text} Runtimes compute with them as with any other number, so they save bytes and no time."]


def _value_reasons(verdicts: Mapping[str, str]) -> list[str]:
    reasons = []
    integers = [verdict for name, verdict in verdicts.items() if name in INTEGER_FORMATS]
    if "faster" in integers:
        reasons.append("int8 is faster as its kernels take four weights where those of float32 take one.")
    elif integers:
        reasons.append("int8 takes a quarter of the bytes of float32; its kernels are not faster here.")
    if verdicts.get("litert-float16", "faster") != "faster":
        reasons.append("float16 takes half the bytes and is computed in float32 all the same.")
    return reasons


def _thread_names(exports: Row) -> Sequence[tuple[str, str]]:
    number = exports["threads"]
    return [("one_thread", "on one thread"), *([("all_threads", f"on {number} threads")] if number > 1 else [])]


def _is_timed(row: Row) -> bool:
    return any(row.get(key) for key in THREADS)
