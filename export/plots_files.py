"""Pictures of the exported files: how large each is beside what it could be, and how long one example takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from export.figures import (
    BLUE,
    GREY,
    LIGHT_GREY,
    LONGEST_NAME,
    ORANGE,
    VERMILION,
    legend_above,
    new_figure,
    say_no_data,
    style_axes,
)

KILO = 1000
THREADS = {"one_thread": ("one thread", "o", BLUE, -0.14), "all_threads": ("all {} threads", "s", ORANGE, 0.14)}


def draw_sizes(exports: Mapping[str, Any], data_title: str) -> Figure:
    """A bar for each file, the largest above, and below it a thin one: the ideal, its weights as that format has them.

    Args:
        exports: "dense" and "formats" of `report.json`'s exports; formats that were refused are left out.
    """
    rows = sorted(sized_rows(exports), key=lambda row: -row["bytes"])
    figure = new_figure(9.5, 1.6 + 0.42 * max(len(rows), 3), f"Size of each file: {data_title}")
    axes = figure.subplots()
    if not rows:
        say_no_data(axes, "no files")
        return figure
    places = np.arange(len(rows))
    sizes = np.array([row["bytes"] for row in rows]) / KILO
    colors = [GREY if row is exports["dense"] else BLUE for row in rows]
    axes.barh(places - 0.12, sizes, 0.46, color=colors, label="file")
    with_ideal = [i for i, row in enumerate(rows) if row.get("ideal_bytes") is not None]
    ideals = [rows[i]["ideal_bytes"] / KILO for i in with_ideal]
    if with_ideal:
        axes.barh(np.array(with_ideal) + 0.24, ideals, 0.2, color=ORANGE, label="ideal, the weights alone")
    style: dict[str, Any] = {
        "xytext": (3, 0),
        "textcoords": "offset points",
        "verticalalignment": "center",
        "fontsize": 8,
    }
    for place, size in zip(places, sizes, strict=True):
        axes.annotate(f"{size:,.0f} kB" if size >= 10 else f"{size:,.2g} kB", (size, place - 0.12), **style)
    axes.set_xlim(0, 1.14 * max([*sizes, *ideals]))
    axes.set_xlabel("kB")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.12g}"))
    _name_rows(axes, rows)
    if with_ideal:
        legend_above(axes)
    return figure


def draw_latency(exports: Mapping[str, Any], data_title: str) -> Figure:
    """Median time of one example in each format, with one and with all threads; lines from lowest to highest round.

    Args:
        exports: "dense", "formats" and "threads" of `report.json`'s exports.
    """
    rows = timed_rows(exports)
    figure = new_figure(9.5, 1.6 + 0.42 * max(len(rows), 3), f"Latency of one example: {data_title}")
    axes = figure.subplots()
    if not rows:
        say_no_data(axes, "nothing was timed")
        return figure
    for key, (name, marker, color, offset) in THREADS.items():
        timed = [(place, row[key]) for place, row in enumerate(rows) if row.get(key)]
        if not timed:
            continue
        places = np.array([place for place, _ in timed]) + offset
        median, low, high = (np.array([time[part] for _, time in timed]) for part in ("median", "low", "high"))
        spread = np.maximum([median - low, high - median], 0)
        style: dict[str, Any] = {"fmt": marker, "color": color, "markersize": 5.5, "elinewidth": 1.4, "capsize": 2.5}
        axes.errorbar(median, places, xerr=spread, label=name.format(exports["threads"]), **style)
    dense = exports["dense"].get("one_thread")
    if dense:
        line: dict[str, Any] = {"color": VERMILION, "linestyle": (0, (4, 3)), "linewidth": 1}
        axes.axvline(dense["median"], label="dense, one thread", zorder=1, **line)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds")
    _name_rows(axes, rows)
    legend_above(axes)
    return figure


def sized_rows(exports: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The dense network's row and those of all files that were made."""
    return [row for row in (exports["dense"], *exports["formats"]) if row.get("bytes") is not None]


def timed_rows(exports: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows that were timed: the dense network's, then the fastest with one thread first."""

    def first_time(row: Mapping[str, Any]) -> float:
        return (row.get("one_thread") or row["all_threads"])["median"]

    timed = [row for row in exports["formats"] if row.get("one_thread") or row.get("all_threads")]
    dense = [exports["dense"]] if exports["dense"].get("one_thread") or exports["dense"].get("all_threads") else []
    return dense + sorted(timed, key=first_time)


def _name_rows(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    axes.set_yticks(np.arange(len(rows)), [_short(row["title"]) for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    style_axes(axes, "x")
    axes.spines["left"].set_color(LIGHT_GREY)


def _short(title: str) -> str:
    return title if len(title) <= LONGEST_NAME else title[: LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
