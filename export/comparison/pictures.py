"""Pictures of a comparison: accuracy against each cost, with the Pareto front."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from export.comparison import texts
from export.comparison.comparison import Comparison, CostPoint, Front
from export.comparison.texts import Quality
from export.figures import BLUE, GREY, INK, MUTED, new_figure, prepare_texts, style_axes
from utils.printing import printable

SIZE = 3.6, 3.1  # inches
LOG_FROM = 8.0  # largest over smallest cost from which the axis is logarithmic
UNITS = {"bytes": 1e3, "flops": 1e6}  # of an axis
MOST_LABELS = 12
LONGEST_LABEL = 28
LABEL_STYLE: dict[str, Any] = {"fontsize": 7.5, "color": INK, "parse_math": False, "in_layout": False}
DENSE = "dense"
SPOTS = ((5, 5, "left", "bottom"), (5, -5, "left", "top"), (-5, 5, "right", "bottom"), (-5, -5, "right", "top"))


class Picture(NamedTuple):
    """A drawn front: its name in files and ids, what it shows, and what it says to those who do not see it."""

    name: str
    title: str
    alt: str
    figure: Figure


def draw_fronts(comparison: Comparison) -> list[Picture]:
    """One picture for each front."""
    return [_draw_front(comparison, front) for front in comparison.fronts]


def _draw_front(comparison: Comparison, front: Front) -> Picture:
    quality = Quality.of(comparison.metric)
    unit, show_cost = UNITS.get(front.cost.key, 1.0), texts.cost_text(front.cost.key)
    what = front.cost.title.rpartition(" (")[0] or front.cost.title
    title = f"{quality.name.capitalize()} against {what}"
    figure = new_figure(*SIZE, "")
    axes = figure.subplots()
    style_axes(axes)
    axes.tick_params(labelsize=8)
    axes.set_xlabel(front.cost.title, fontsize=9)
    axes.set_ylabel(f"test {quality.name}", fontsize=9)
    members = sorted((p for p in front.points if p.group in front.members), key=lambda p: p.cost.mean)
    others = [point for point in front.points if point.group not in front.members]
    _draw_points(axes, others, unit, "o", GREY, "others")
    axes.plot(
        [point.cost.mean / unit for point in members],
        [point.accuracy.mean for point in members],
        color=BLUE, linewidth=1.2, linestyle="--", drawstyle="steps-post",
    )  # fmt: skip
    _draw_points(axes, members, unit, "D", BLUE, "Pareto front")
    dense = sorted({point for run in comparison.runs if (point := front.cost.dense(run)) is not None})
    if dense:
        axes.plot(
            [cost / unit for _, cost in dense], [accuracy for accuracy, _ in dense],
            linestyle="none", marker="s", markersize=5, markerfacecolor="none", color=MUTED, label=DENSE,
        )  # fmt: skip
    _scale(axes, [point.cost.mean for point in front.points] + [cost for _, cost in dense])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, quality)))
    axes.legend(loc="lower right", fontsize=7.5, frameon=False)
    axes.margins(x=0.12, y=0.14)
    _label(figure, axes, [(comparison.groups[p.group].name, p.cost.mean / unit, p.accuracy.mean) for p in members])
    return Picture(f"front-{front.cost.key}", title, _alt(comparison, front, members, show_cost), figure)


def _draw_points(axes: Axes, points: Sequence[CostPoint], unit: float, marker: str, colour: str, label: str) -> None:
    """Means, and lines from the lowest to the highest where there are several seeds."""
    if not points:
        return
    for point in points:
        if point.accuracy.low < point.accuracy.high:
            axes.vlines(point.cost.mean / unit, point.accuracy.low, point.accuracy.high, color=colour, linewidth=1)
        if point.cost.low < point.cost.high:
            axes.hlines(point.accuracy.mean, point.cost.low / unit, point.cost.high / unit, color=colour, linewidth=1)
    costs = [point.cost.mean / unit for point in points]
    axes.plot(
        costs, [point.accuracy.mean for point in points],
        linestyle="none", marker=marker, markersize=5, color=colour, label=label,
    )  # fmt: skip


def _scale(axes: Axes, costs: Sequence[float]) -> None:
    if min(costs) > 0 and max(costs) / min(costs) >= LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _tick(value: float, quality: Quality) -> str:
    return f"{100 * value:.4g}%" if quality.name == "accuracy" else f"{value:.4g}"


def _label(figure: Figure, axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Writes names beside points, each where it covers no other name and no point; where there is no room, none."""
    prepare_texts(figure)  # drawn here, before the page does it
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, frame = canvas.get_renderer(), axes.get_window_extent()
    spots = [axes.transData.transform((x, y)) for _, x, y in points]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in spots]
    legend = axes.get_legend()
    taken += [legend.get_window_extent(renderer)] if legend else []
    for name, x, y in points[:MOST_LABELS]:
        text = printable(name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 3]}...", keep="")
        for dx, dy, horizontal, vertical in SPOTS:
            aligned: dict[str, Any] = {"ha": horizontal, "va": vertical}
            note = axes.annotate(text, (x, y), (dx, dy), textcoords="offset points", **aligned, **LABEL_STYLE)
            box = note.get_window_extent(renderer)
            is_inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if is_inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()


def _alt(comparison: Comparison, front: Front, members: Sequence[CostPoint], show_cost: Callable[[float], str]) -> str:
    quality = Quality.of(comparison.metric)
    told = "; ".join(
        f"{comparison.groups[p.group].name}: {quality.value(p.accuracy.mean)} at {show_cost(p.cost.mean)}"
        for p in members[:MOST_LABELS]
    )
    more = f"; and {len(members) - MOST_LABELS} more" if len(members) > MOST_LABELS else ""
    return f"{len(front.points)} results, {len(members)} on the Pareto front, from cheap to dear: {told}{more}."
