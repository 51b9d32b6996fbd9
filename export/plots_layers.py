"""The picture of all layers at once: bars as wide as the layer has parameters, so that areas are weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from export.figures import (
    BLUE,
    GREY,
    INK,
    LIGHT_GREY,
    layer_name,
    legend_above,
    new_figure,
    say_no_data,
    style_axes,
)

LEAST_GAP = 0.021  # of two labels, as a share of the width


def draw_layers(layers: Sequence[Mapping[str, Any]], data_title: str) -> Figure:
    """The share removed of each layer, from the first on the left to the last, over all parameters.

    The blue area is the part of all prunable weights that was removed. Layers too narrow for a name have none.

    Args:
        layers: rows of `report.json`: "path", "parameters", "sparsity".
    """
    figure = new_figure(9.5, 5.0, f"Weights removed, layers as wide as their parameters: {data_title}")
    axes = figure.subplots()
    axes.set_ylabel("weights removed")
    if not layers or not any(layer["parameters"] for layer in layers):
        say_no_data(axes, "no prunable layers")
        return figure
    widths = np.array([layer["parameters"] for layer in layers], float)
    sparsity = np.array([layer["sparsity"] for layer in layers])
    left = np.concatenate([[0], np.cumsum(widths)[:-1]])
    style: dict[str, Any] = {"align": "edge", "linewidth": 0.6}
    axes.bar(left, 1 - sparsity, widths, bottom=sparsity, color=LIGHT_GREY, label="kept", **style, edgecolor=GREY)
    axes.bar(left, sparsity, widths, color=BLUE, label="removed", **style, edgecolor="white")
    overall = float(sparsity @ widths / widths.sum())
    line: dict[str, Any] = {"color": INK, "linestyle": (0, (4, 3)), "linewidth": 1.2}
    axes.axhline(overall, label=f"all layers together ({overall:.1%})", **line)
    axes.set_xlim(0, widths.sum())
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    centres = left + widths / 2
    named = labelled(centres / widths.sum(), widths)
    axes.set_xticks(centres[named], [layer_name(layers[i]["path"]) for i in named], rotation=90, fontsize=8)
    axes.set_xlabel(f"layers, {widths.sum():,.0f} parameters together")
    legend_above(axes)
    style_axes(axes)
    return figure


def labelled(places: np.ndarray, importance: np.ndarray) -> list[int]:
    """Which of `places` (in [0, 1]) get a label: the most important first, none nearer than LEAST_GAP to another."""
    taken: list[int] = []
    for i in np.argsort(-importance, kind="stable"):
        if all(abs(places[i] - places[j]) >= LEAST_GAP for j in taken):
            taken.append(int(i))
    return sorted(taken)
