"""Pictures of the weights themselves: their distribution before and after, and which ones a kernel keeps."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from export.figures import (
    BLUE,
    GREY,
    LIGHT_GREY,
    VERMILION,
    layer_name,
    legend_below,
    log_ticks,
    new_figure,
    say_no_data,
    style_axes,
)
from export.run_record import KernelPair

LARGEST, BINS = 6, 61
MOST_SLICES, MOST_CELLS = 16, 48  # of a kernel, in each direction
LEAST_SIDE = 0.34  # of a square: a weight near 0 that is kept must be seen
GAP = 0.6  # between two slices, in cells
LEAST_ASPECT = 0.6


def draw_weights(kernels: Mapping[str, KernelPair], data_title: str) -> Figure:
    """Histograms of the weights of the largest kernels before and after; the zeros are told and not drawn.

    Both have the same bins, over the range of all but one in a thousand of each; the outermost have what is beyond.
    """
    largest = sorted(kernels, key=lambda path: -kernels[path].before.size)[:LARGEST]
    shown = [path for path in kernels if path in largest]
    columns = min(3, max(len(shown), 1))
    rows = math.ceil(max(len(shown), 1) / columns)
    figure = new_figure(3.4 * columns, 0.8 + 2.3 * rows, f"Weights of the largest layers: {data_title}")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    if not shown:
        say_no_data(panels[0], "no kernels")
        return figure
    for axes, path in zip(panels, shown, strict=False):
        _draw_histograms(axes, kernels[path])
        zero = 1 - np.count_nonzero(kernels[path].after) / max(kernels[path].before.size, 1)
        axes.set_title(f"{layer_name(path)}\n{zero:.1%} zero or gone", fontsize=9, loc="left")
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    legend_below(figure, panels[0])
    figure.supylabel("weights (log scale)", fontsize=10)
    return figure


def draw_masks(kernels: Mapping[str, KernelPair], data_title: str) -> Figure:
    """What the first kernel keeps, and the first pruned one where that is another: each kept weight a square.

    The area of a square tells the size of the weight, its colour the sign; nothing is drawn where a weight is 0.
    """
    chosen = shown_masks(kernels)
    pictures = [(path, _slices(kernels[path].after)) for path in chosen]
    figure = new_figure(9.5, 5.6 if len(pictures) < 2 else 4.9, f"Weights kept: {data_title}")
    if not pictures:
        say_no_data(figure.subplots(), "no kernels")
        return figure
    # As wide as what is in it, but not narrower than its title.
    widths = [max(_extent(slices.values)[0] / _extent(slices.values)[1], LEAST_ASPECT) for _, slices in pictures]
    panels = np.ravel(figure.subplots(1, len(pictures), squeeze=False, width_ratios=widths))
    for axes, (path, slices) in zip(panels, pictures, strict=True):
        _draw_squares(axes, slices.values)
        pair = kernels[path]
        removed = 1 - np.count_nonzero(pair.after) / max(pair.before.size, 1)
        axes.set_title(f"{layer_name(path)}: {removed:.1%} removed\n{slices.text}", fontsize=9, loc="left")
    legend_below(figure, panels[0])
    return figure


def shown_masks(kernels: Mapping[str, KernelPair]) -> list[str]:
    """The first kernel that can be drawn, and the first one of which something was removed where that is another."""
    drawable = [path for path, pair in kernels.items() if 2 <= pair.after.ndim <= 4 and pair.after.size]
    pruned = [path for path in drawable if np.count_nonzero(kernels[path].after) < kernels[path].before.size]
    return list(dict.fromkeys([*drawable[:1], *pruned[:1]]))


class _Slices(NamedTuple):
    """A kernel as a grid of small pictures, [rows, columns, height, width], and what it shows in words."""

    values: np.ndarray
    text: str


def _slices(kernel: np.ndarray) -> _Slices:
    """Rows are outputs, columns inputs; a depthwise kernel, which has one of them, is folded; large ones are cut."""
    if kernel.ndim == 2:  # [in, out]
        kernel = kernel[None, None]
    elif kernel.ndim == 3:  # [width, in, out]
        kernel = kernel[None]
    grid = kernel.transpose(3, 2, 0, 1)
    if 1 in grid.shape[:2] and grid.shape[0] * grid.shape[1] > MOST_SLICES:
        flat = grid.reshape(-1, *grid.shape[2:])
        flat = flat[: MOST_SLICES**2]
        columns = math.ceil(math.sqrt(len(flat)))
        missing = -len(flat) % columns
        flat = np.concatenate([flat, np.zeros((missing, *flat.shape[1:]), flat.dtype)])
        return _Slices(flat.reshape(-1, columns, *flat.shape[1:]), f"{len(flat) - missing} slices, row by row")
    most = MOST_CELLS if grid.shape[2] == grid.shape[3] == 1 else MOST_SLICES
    outputs, inputs = grid.shape[:2]
    cut = grid[:most, :most]
    text = f"rows: {_of(cut.shape[0], outputs)} outputs, columns: {_of(cut.shape[1], inputs)} inputs"
    return _Slices(cut, text)


def _of(shown: int, count: int) -> str:
    return f"{count}" if shown == count else f"first {shown} of {count}"


def _gap(slices: np.ndarray) -> float:
    """Single weights stand close together."""
    return GAP if slices.shape[2] * slices.shape[3] > 1 else 0.0


def _extent(slices: np.ndarray) -> tuple[float, float]:
    """Width and height of all slices with what is between them, in cells."""
    rows, columns, height, width = slices.shape
    return columns * (width + _gap(slices)), rows * (height + _gap(slices))


def _draw_squares(axes: Axes, slices: np.ndarray) -> None:
    rows, columns, height, width = slices.shape
    gap = _gap(slices)
    y, x = height + gap, width + gap
    corners = [(column * x, row * y, width, height) for row in range(rows) for column in range(columns)]
    axes.add_patch(PathPatch(_rectangles(corners), facecolor=LIGHT_GREY, edgecolor="none"))
    largest = float(np.abs(slices).max()) or 1.0
    for sign, color, label in ((1, BLUE, "positive"), (-1, VERMILION, "negative")):
        squares = []
        for row, column, i, j in np.argwhere(sign * slices > 0):
            share = float(abs(slices[row, column, i, j])) / largest
            side = LEAST_SIDE + (0.94 - LEAST_SIDE) * math.sqrt(share)
            corner = column * x + j + (1 - side) / 2, row * y + i + (1 - side) / 2
            squares.append((*corner, side, side))
        axes.add_patch(PathPatch(_rectangles(squares), facecolor=color, edgecolor="none", label=label))
    right, bottom = _extent(slices)
    axes.set(xlim=(-gap, right), ylim=(bottom, -gap), aspect="equal", anchor="NW")
    axes.set_axis_off()


def _rectangles(corners: list[tuple[float, float, float, float]]) -> Path:
    """One path of many rectangles (left, top, width, height): far smaller as a file than as many paths."""
    if not corners:
        return Path(np.zeros((0, 2)))
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    points = [point for a, b, w, h in corners for point in ((a, b), (a + w, b), (a + w, b + h), (a, b + h), (a, b))]
    return Path(points, codes * len(corners))


def _reach(weights: np.ndarray) -> float:
    return float(np.quantile(np.abs(weights), 0.999)) if weights.size else 0.0


def _draw_histograms(axes: Axes, pair: KernelPair) -> None:
    before, after = np.ravel(pair.before), np.ravel(pair.after)
    after = after[after != 0]
    limit = max(_reach(before), _reach(after)) or 1.0
    edges = np.linspace(-limit, limit, BINS + 1)
    counts = [np.histogram(np.clip(values, -limit, limit), edges)[0] for values in (before, after)]
    axes.stairs(counts[0], edges, fill=True, color=LIGHT_GREY, label="before")
    axes.stairs(counts[0], edges, color=GREY, linewidth=0.8)
    axes.stairs(counts[1], edges, color=BLUE, linewidth=1.5, label="after, those not zero")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    log_ticks(axes.yaxis)
    axes.tick_params(labelsize=8)
    style_axes(axes)
