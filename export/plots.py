"""Pictures of a run as PNG files: the search, the ratio of each layer, the training.

Each `draw_` function makes one figure, the `plot_` function of the same name writes it as a file. Every title holds the
data title, so that a picture of the embedded set is never taken for one of CIFAR-10.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from export.figures import (
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    layer_name,
    legend_above,
    log_ticks,
    new_figure,
    save_figure,
    say_no_data,
    style_axes,
)

AGENT = "agent"
LABEL_GAP = 0.045  # least distance of two labels at the right of the search plot, as a share of its height


def draw_search(
    records: Sequence[Mapping[str, Any]], data_title: str, finalists: Sequence[Mapping[str, Any]] = ()
) -> Figure:
    """The reward of each roll-out: the agent's, the other protocols' by name, the best so far, the finalists.

    Roll-outs far below the protocols are drawn as triangles on the lower edge, so that the good ones can be told apart.

    Args:
        records: lines of `search.jsonl`: "index", "source" ("agent" or a protocol's name), "reward".
        finalists: "index" (of the roll-out it was), "reward" (when re-solved) and "merit" of each; most merit
            is chosen.
    """
    figure = new_figure(9.5, 5.6, f"Search for pruning ratios: {data_title}")
    axes = figure.subplots()
    axes.set_xlabel("roll-out")
    axes.set_ylabel("reward")
    if records:
        _draw_search(axes, records, finalists)
    else:
        say_no_data(axes, "no roll-outs")
    return figure


def draw_ratios(layers: Sequence[Mapping[str, Any]], data_title: str) -> Figure:
    """Each layer's sparsity and target, and below it how many of its parameters are kept (log scale).

    Args:
        layers: rows of `report.json`: "path", "parameters", "target_ratio" (None: the weights decide), "sparsity".
    """
    figure = new_figure(max(7.5, 2.0 + 0.26 * len(layers)), 6.8, f"Pruning ratio of each layer: {data_title}")
    ratio_axes, size_axes = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    ratio_axes.set_ylabel("weights removed")
    size_axes.set_ylabel("parameters")
    if layers:
        _draw_ratios(ratio_axes, size_axes, layers)
    else:
        say_no_data(ratio_axes, "no prunable layers")
    return figure


def draw_training(history: Sequence[Mapping[str, Any]], data_title: str, metric: str = "accuracy") -> Figure:
    """Accuracy, loss, sparsity (where any is above 0) and learning rate over training iterations, in panels.

    A training with a teacher has another panel with the loss against that.

    Args:
        history: "step", "loss", "accuracy" (running, of training batches), "sparsity", "learning_rate" of each record,
            with a teacher "distillation_loss", and "validation_accuracy" of some.
        metric: what accuracy is called.
    """
    has_sparsity = any(record["sparsity"] for record in history)
    is_taught = any("distillation_loss" in record for record in history)
    names = ["accuracy", "loss"]
    names += ["distillation loss"] * is_taught + ["sparsity"] * has_sparsity + ["learning rate"]
    figure = new_figure(9.0, 1.6 + 1.7 * len(names), f"Training: {data_title}")
    panels = dict(zip(names, figure.subplots(len(names), sharex=True), strict=True))
    panels["learning rate"].set_xlabel("iteration")
    for name, axes in panels.items():
        axes.set_ylabel(metric if name == "accuracy" else name)
        style_axes(axes)
    if history:
        _draw_training(panels, history)
    else:
        say_no_data(panels["accuracy"], "no iterations")
    figure.align_ylabels()
    return figure


def plot_search(
    records: Sequence[Mapping[str, Any]],
    path: str | Path,
    data_title: str,
    finalists: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes `draw_search` as a PNG file."""
    save_figure(draw_search(records, data_title, finalists), path)


def plot_ratios(layers: Sequence[Mapping[str, Any]], path: str | Path, data_title: str) -> None:
    """Writes `draw_ratios` as a PNG file."""
    save_figure(draw_ratios(layers, data_title), path)


def plot_training(
    history: Sequence[Mapping[str, Any]], path: str | Path, data_title: str, metric: str = "accuracy"
) -> None:
    """Writes `draw_training` as a PNG file."""
    save_figure(draw_training(history, data_title, metric), path)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Positions moved up or down so that neighbours are at least `gap` apart and, where there is room, in [low, high].

    Their order is kept: labels beside a plot stay in the order of what they name.
    """
    order = np.argsort(positions, kind="stable")
    ranks = np.arange(len(order))
    # In terms of q = position - rank * gap, "gap apart" is "never falling": the running maximum from below, limited so
    # that the uppermost label stays below `high`.
    lifted = np.maximum.accumulate(np.asarray(positions, float)[order] - ranks * gap)
    limited = np.maximum(np.minimum(lifted, high - (len(order) - 1) * gap), low)
    moved = np.empty(len(order))
    moved[order] = limited + ranks * gap
    return moved


def _draw_search(axes: Axes, records: Sequence[Mapping[str, Any]], finalists: Sequence[Mapping[str, Any]]) -> None:
    agent = [r for r in records if r["source"] == AGENT]
    baselines = [r for r in records if r["source"] != AGENT]
    low, high = _reward_limits([*records, *finalists], baselines)
    axes.set_ylim(low, high)
    last = max(r["index"] for r in records)
    axes.set_xlim(-0.02 * last - 1, 1.02 * last + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    best = np.maximum.accumulate([r["reward"] for r in records])
    axes.step([r["index"] for r in records], best, where="post", color=BLUE, linewidth=1.8, label="best so far")
    _scatter(axes, [r for r in agent if r["reward"] >= low], color=SKY, s=18, label="agent", zorder=3)
    below = [r for r in agent if r["reward"] < low]
    if below:
        axes.scatter(
            [r["index"] for r in below],
            np.full(len(below), low + 0.012 * (high - low)),
            marker="v",
            s=16,
            color=GREY,
            zorder=3,
            label=f"agent, below {low:.2f} ({len(below)})",
        )
    if finalists:
        rollout_rewards = {r["index"]: r["reward"] for r in records}
        places = [f["index"] for f in finalists]
        gains = [rollout_rewards[place] for place in places], [f["reward"] for f in finalists]
        axes.vlines(places, *gains, color=GREEN, linewidth=1.2, zorder=2)
        _scatter(
            axes, finalists, color=GREEN, marker="D", s=46, edgecolor="white", label="finalists re-solved", zorder=5
        )
        winner = max(finalists, key=lambda f: f["merit"])
        label = f"chosen ({winner['reward']:.3f})"
        _scatter(axes, [winner], color=VERMILION, marker="*", s=200, edgecolor="white", label=label, zorder=6)
    _draw_baselines(axes, baselines, last)
    legend_above(axes)
    style_axes(axes)


def _reward_limits(records: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The axis from somewhat below the worst baseline (or the worst of all) to somewhat above the best record."""
    rewards = [r["reward"] for r in records]
    lowest = min(r["reward"] for r in baselines) if baselines else min(rewards)
    span = max(max(rewards) - lowest, 0.02)
    return max(lowest - 0.5 * span, min(rewards) - 0.05 * span), max(rewards) + 0.12 * span


def _draw_baselines(axes: Axes, baselines: Sequence[Mapping[str, Any]], last: int) -> None:
    """A line across at each baseline's reward, with its name and value at the right."""
    low, high = axes.get_ylim()
    heights = [(r["reward"] - low) / (high - low) for r in baselines]
    edge = axes.get_xlim()[1]
    leader = {"arrowstyle": "-", "color": GREY, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
    _scatter(axes, baselines, color=ORANGE, marker="s", s=40, edgecolor="black", label="other protocols", zorder=4)
    for record, place in zip(baselines, spread(heights, LABEL_GAP, 0.01, 0.99), strict=True):
        reward = record["reward"]
        axes.axhline(reward, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"{record['source']} {reward:.3f}",
            xy=(edge, reward),
            xytext=(1.04, place),
            textcoords="axes fraction",
            fontsize=9,
            verticalalignment="center",
            arrowprops=leader,
        )


def _draw_ratios(ratio_axes: Axes, size_axes: Axes, layers: Sequence[Mapping[str, Any]]) -> None:
    places = np.arange(len(layers))
    parameters = np.array([layer["parameters"] for layer in layers])
    sparsity = np.array([layer["sparsity"] for layer in layers])
    targets = np.array([layer["target_ratio"] for layer in layers], float)  # None becomes NaN, which is not drawn
    overall = float(sparsity @ parameters / parameters.sum())
    ratio_axes.bar(places, sparsity, width=0.72, color=BLUE, label="removed")
    if not np.isnan(targets).all():
        ratio_axes.hlines(targets, places - 0.46, places + 0.46, color=ORANGE, linewidth=2.2, label="target")
    ratio_axes.axhline(
        overall, color=VERMILION, linestyle=(0, (4, 3)), linewidth=1.2, label=f"all layers together ({overall:.1%})"
    )
    ratio_axes.set_ylim(0, 1.02)
    ratio_axes.yaxis.set_major_formatter(PercentFormatter(1.0))

    size_axes.bar(places, parameters, width=0.72, color=LIGHT_GREY, edgecolor=GREY, linewidth=0.6, label="before")
    # A layer of which nothing is kept has no bar on a log scale.
    kept = np.round((1 - sparsity) * parameters)
    size_axes.bar(places, kept, width=0.72, color=GREEN, label="kept")
    size_axes.set_yscale("log")
    log_ticks(size_axes.yaxis)
    size_axes.set_ylim(bottom=max(kept[kept > 0].min(initial=parameters.min()) / 3, 0.5))
    size_axes.set_xticks(places, [layer_name(layer["path"]) for layer in layers], rotation=90, fontsize=8)
    size_axes.set_xlim(-0.7, len(layers) - 0.3)
    for axes in (ratio_axes, size_axes):
        legend_above(axes)
        style_axes(axes)


def _draw_training(panels: Mapping[str, Axes], history: Sequence[Mapping[str, Any]]) -> None:
    steps = [record["step"] for record in history]
    marker = "o" if len(steps) == 1 else ""
    for name, key, color, label in (
        ("accuracy", "accuracy", SKY, "training (running)"),
        ("loss", "loss", PURPLE, None),
        ("distillation loss", "distillation_loss", GREEN, None),
        ("sparsity", "sparsity", VERMILION, None),
        ("learning rate", "learning_rate", GREY, None),
    ):
        if name in panels:
            values = [record[key] for record in history]
            panels[name].plot(steps, values, marker=marker, color=color, linewidth=1.6, label=label)
    validated = [r for r in history if r.get("validation_accuracy") is not None]
    if validated:
        values = [r["validation_accuracy"] for r in validated]
        panels["accuracy"].plot(
            [r["step"] for r in validated],
            values,
            "o-",
            color=BLUE,
            markersize=5,
            label=f"validation (last {values[-1]:.3f})",
        )
    legend_above(panels["accuracy"])
    if "sparsity" in panels:
        panels["sparsity"].set_ylim(0, 1.02)
        panels["sparsity"].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels["learning rate"].set_ylim(bottom=0)


def _scatter(axes: Axes, records: Sequence[Mapping[str, Any]], **style: Any) -> None:
    if records:
        axes.scatter([r["index"] for r in records], [r["reward"] for r in records], **style)
