"""What all pictures of a run share: colours, frames, and a file that is replaced as a whole.

Colours are those of Okabe and Ito (2008), which colour-blind people can tell apart; shapes say the same as colours.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.run_dir import write_atomically

DPI = 120
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PURPLE, SKY, GREY, LIGHT_GREY = "#cc79a7", "#56b4e9", "#8c8c8c", "#d9d9d9"


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of `width` by `height` inches; a long title makes it wider rather than being cut."""
    figure = Figure(figsize=(max(width, 0.5 + 0.1 * len(title)), height), dpi=DPI, layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=12)
    return figure


def legend_above(axes: Axes) -> None:
    """A legend in one row above the axes, where it cannot cover data."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=8, fontsize=9, frameon=False, columnspacing=1.4)


def say_no_data(axes: Axes, text: str) -> None:
    """Writes `text` in place of a plot."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=14, color=GREY)


def style_axes(axes: Axes) -> None:
    """Light lines across, no frame above and at the right."""
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes the figure as a PNG file; an older one stays unless the new one is whole."""
    write_atomically(Path(path), lambda temporary: figure.savefig(temporary, format="png"))
