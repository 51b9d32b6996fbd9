"""The picture of the lottery ticket's rounds: accuracy against sparsity."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from export.figures import BLUE, GREY, ORANGE, legend_above, new_figure, save_figure, style_axes

MOST_LABELS = 12  # of rounds, below the plot


def plot_rounds(
    rounds: Sequence[Mapping[str, Any]], path: str | Path, data_title: str, metric: str = "accuracy"
) -> None:
    """Writes `draw_rounds` as a PNG file."""
    save_figure(draw_rounds(rounds, data_title, metric), path)


def draw_rounds(rounds: Sequence[Mapping[str, Any]], data_title: str, metric: str = "accuracy") -> Figure:
    """Test and validation accuracy of the dense network and after each round over the share of weights removed.

    The axis is logarithmic in the share that is left, as in Frankle & Carbin 2019: a round is a step of equal length.

    Args:
        rounds: rows of `report.json`, the dense network's first: "sparsity", "accuracy", "validation_accuracy".
        metric: what the accuracy is called.
    """
    figure = new_figure(8.0, 4.8, f"Lottery ticket, {metric} after each round: {data_title}")
    axes = figure.subplots()
    left = [1 - row["sparsity"] for row in rounds]
    curves = {"validation": ("validation_accuracy", "s--", ORANGE), "test": ("accuracy", "o-", BLUE)}
    for name, (key, marker, color) in curves.items():
        values = [row[key] for row in rounds]
        axes.plot(left, values, marker, color=color, markersize=5, label=f"{name} (last {values[-1]:.3f})")
    dense = rounds[0]["accuracy"]
    axes.axhline(dense, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1, label=f"dense, test ({dense:.3f})")
    axes.set_ylabel(metric)
    axes.set_xlabel("weights removed (log scale of the weights left)")
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_minor_locator(NullLocator())
    every = -(-len(rounds) // MOST_LABELS)
    labelled = list(rounds)[::-1][::every]  # the last one always
    axes.xaxis.set_major_locator(FixedLocator([1 - row["sparsity"] for row in labelled]))
    axes.xaxis.set_ticklabels([f"{100 * row['sparsity']:.4g}%" for row in labelled])
    legend_above(axes)
    style_axes(axes)
    return figure
