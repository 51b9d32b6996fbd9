"""The picture of what a search tried: accuracy against the share of weights removed, and against how uneven it was."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from export.figures import GREY, ORANGE, SKY, VERMILION, legend_below, new_figure, say_no_data, style_axes
from export.plots import AGENT

MARKERS = "sDPX^phd<>"  # of the given protocols, in turn
NARROW = 0.01  # where most roll-outs remove the same share to within this, another axis tells them apart


def draw_accuracy(
    records: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, int],
    data_title: str,
    finalists: Sequence[Mapping[str, Any]] = (),
    metric: str = "accuracy",
) -> Figure:
    """Accuracy of each roll-out over the share of weights it removed; the given protocols and the chosen one stand out.

    Under the reward single-obj nearly all remove the same share. Then a second panel has the same roll-outs over the
    unevenness of their ratios, see `unevenness`.

    Args:
        records: lines of `search.jsonl`: "index", "source", "ratios" (of layers), "accuracy", "accuracy_after".
        parameters: kernel path -> its number of parameters.
        finalists: "index" and "merit"; that of most merit was chosen.
    """
    figure = new_figure(9.5, 4.8, f"All roll-outs, {metric} before training: {data_title}")
    if not records:
        say_no_data(figure.subplots(), "no roll-outs")
        return figure
    removed = np.array([overall_ratio(record["ratios"], parameters) for record in records])
    uneven = np.array([unevenness(record["ratios"], parameters) for record in records])
    axes_values = [("weights removed", removed)]
    if is_narrow(records, parameters):
        axes_values.append(("unevenness of the ratios over the layers", uneven))
    panels = np.atleast_1d(figure.subplots(1, len(axes_values), sharey=True))
    accuracy = np.array([rollout_accuracy(record) for record in records])
    limits = _limits(accuracy, [r["source"] != AGENT for r in records])
    for axes, (name, values) in zip(panels, axes_values, strict=True):
        axes.set_ylim(limits)
        _draw_panel(axes, records, values, accuracy, chosen_index(records, finalists))
        axes.set_xlabel(name)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.margins(x=0.06)
    panels[0].set_ylabel(metric)
    legend_below(figure, panels[0])
    return figure


def is_narrow(records: Sequence[Mapping[str, Any]], parameters: Mapping[str, int]) -> bool:
    """Whether four in five roll-outs remove the same share, to within NARROW, and differ in where they remove it."""
    low, high = np.quantile([overall_ratio(record["ratios"], parameters) for record in records], (0.1, 0.9))
    return high - low < NARROW and np.ptp([unevenness(record["ratios"], parameters) for record in records]) > 0


def overall_ratio(ratios: Mapping[str, float], parameters: Mapping[str, int]) -> float:
    """The share of all weights removed: the mean of the ratios r weighted by parameters n, sum r n / sum n."""
    return sum(ratios[path] * parameters[path] for path in ratios) / sum(parameters[path] for path in ratios)


def unevenness(ratios: Mapping[str, float], parameters: Mapping[str, int]) -> float:
    """The standard deviation of the layers' ratios weighted by parameters, sqrt(sum n (r - mean)^2 / sum n)."""
    mean = overall_ratio(ratios, parameters)
    square = sum(parameters[path] * (ratio - mean) ** 2 for path, ratio in ratios.items())
    return (square / sum(parameters[path] for path in ratios)) ** 0.5


def rollout_accuracy(record: Mapping[str, Any]) -> float:
    """What the roll-out was judged by: its accuracy after its training, where it had one."""
    after = record.get("accuracy_after")
    return record["accuracy"] if after is None else after


def chosen_index(records: Sequence[Mapping[str, Any]], finalists: Sequence[Mapping[str, Any]]) -> int:
    """The roll-out that was chosen: the finalist of most merit, without finalists the first of best reward."""
    if finalists:
        return max(finalists, key=lambda finalist: finalist["merit"])["index"]
    return max(records, key=lambda record: record["reward"])["index"]


def _limits(accuracy: np.ndarray, is_given: Sequence[bool]) -> tuple[float, float]:
    """From somewhat below the worst given protocol (or of all) to above the best: a bad beginning hides nothing."""
    given = accuracy[np.array(is_given)]
    lowest, highest = (given if given.size else accuracy).min(), accuracy.max()
    span = max(highest - lowest, 0.02)
    return max(lowest - 0.5 * span, accuracy.min() - 0.05 * span), highest + 0.1 * span


def _draw_panel(
    axes: Axes, records: Sequence[Mapping[str, Any]], values: np.ndarray, accuracy: np.ndarray, chosen: int
) -> None:
    low, high = axes.get_ylim()
    is_agent = np.array([record["source"] == AGENT for record in records])
    is_low = accuracy < low
    shown = is_agent & ~is_low
    axes.scatter(values[shown], accuracy[shown], s=18, color=SKY, label="agent", zorder=3)
    if is_low.any():
        edge = np.full(is_low.sum(), low + 0.015 * (high - low))
        label = f"below {low:.2f} ({is_low.sum()})"
        axes.scatter(values[is_low], edge, s=16, marker="v", color=GREY, label=label, zorder=3)
    if not is_agent.all():
        given = [i for i, agent in enumerate(is_agent) if not agent]
        style: dict[str, Any] = {"color": ORANGE, "edgecolor": "black", "linewidth": 0.8, "zorder": 4}
        for i, marker in zip(given, itertools.cycle(MARKERS)):
            label = f"{records[i]['source']} {accuracy[i]:.3f}"
            axes.scatter([values[i]], [accuracy[i]], s=40, marker=marker, label=label, **style)
    place = next((i for i, record in enumerate(records) if record["index"] == chosen), None)
    if place is not None:
        label = f"chosen ({records[place]['source']})"
        height = max(accuracy[place], low)
        star: dict[str, Any] = {"marker": "*", "edgecolor": "white", "label": label, "zorder": 5}
        axes.scatter([values[place]], [height], s=200, color=VERMILION, **star)
    style_axes(axes)
