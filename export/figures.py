"""What all pictures of a run share: colours, frames, and a file that is replaced as a whole.

The series' colours are those of Okabe and Ito (2008), which colour-blind people can tell apart, two of them darker so
that each stands out from white at least 3 to 1; shapes say the same as colours. In a page each colour is a CSS variable
with another shade on a dark background.
"""

import io
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullFormatter

from utils.files import write_atomically

DPI = 120
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LONGEST_TITLE, LONGEST_NAME = 180, 40  # characters
# Name -> shade on a light and on a dark background. Pictures are drawn in the light ones.
SERIES = MappingProxyType(
    {
        "blue": ("#0072b2", "#4aa3df"),
        "orange": ("#b87f00", "#e69f00"),
        "green": ("#008a65", "#1fb98c"),
        "vermilion": ("#d55e00", "#f0813a"),
        "purple": ("#b8608f", "#d98bb5"),
        "sky": ("#2f8fc7", "#7cc6f0"),
        "grey": ("#808080", "#8f979f"),
        "light-grey": ("#d9d9d9", "#3c444d"),
    }
)
NEUTRALS = MappingProxyType(
    {
        "ink": ("#1b1f24", "#e6e9ec"),
        "muted": ("#5b636b", "#a4adb6"),
        "grid": ("#e6e6e6", "#30373f"),
        "paper": ("#ffffff", "#14181c"),
    }
)
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY, LIGHT_GREY = (light for light, _ in SERIES.values())
INK, MUTED, GRID, PAPER = (light for light, _ in NEUTRALS.values())


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of `width` by `height` inches; a long title makes it wider rather than being cut."""
    title = title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1] + "\N{HORIZONTAL ELLIPSIS}"
    figure = Figure(figsize=(max(width, 0.5 + 0.1 * len(title)), height), dpi=DPI, layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=12)
    return figure


def layer_name(path: str) -> str:
    """A kernel's path as pictures name it: without "/kernel", of a long one the end, which tells layers apart."""
    name = path.removesuffix("/kernel")
    return name if len(name) <= LONGEST_NAME else "\N{HORIZONTAL ELLIPSIS}" + name[1 - LONGEST_NAME :]


def legend_above(axes: Axes, **style: Any) -> None:
    """A legend in one row above the axes, where it cannot cover data."""
    style = {"ncols": 8, "fontsize": 9, "frameon": False, "columnspacing": 1.4} | style
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), **style)


def legend_below(figure: Figure, axes: Axes) -> None:
    """The legend of `axes` below all panels of the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=6, fontsize=9, frameon=False, columnspacing=1.4)


def say_no_data(axes: Axes, text: str) -> None:
    """Writes `text` in place of a plot."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=14, color=MUTED)


def style_axes(axes: Axes, lines: Literal["both", "x", "y"] = "y") -> None:
    """Light lines across from the axis `lines`, no frame above and at the right."""
    axes.grid(axis=lines, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)


def log_ticks(axis: Axis) -> None:
    """Labels of a log axis as plain numbers ("10,000"), at powers of ten only."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_formatter(NullFormatter())


def prepare_texts(figure: Figure) -> None:
    """Makes every text of the figure plain: a name such as `a$b$` is no formula, and none has control characters."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text("".join(c if c.isprintable() or c == "\n" else REPLACEMENT for c in text.get_text()))


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    prepare_texts(figure)
    file = io.BytesIO()
    with matplotlib.rc_context({"text.parse_math": False}):
        figure.savefig(file, format="png")
    return file.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes the figure as a PNG file; an older one stays unless the new one is whole."""

    content = figure_png(figure)
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))
