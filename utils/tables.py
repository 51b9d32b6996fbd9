"""Tables for the terminal: styled where there is one, plain ASCII where the output goes to a file."""

import io
import os
from collections.abc import Callable
from typing import Any, TextIO

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from utils.printing import printable

_HEAD_RULE = Box("\n".join(("    ", "    ", " -- ", "    ", "    ", "    ", "    ", "    ")) + "\n", ascii=True)

Draw = Callable[[Console], None]


class SafeConsole(Console):
    """Shows every string as it is but for what a terminal would obey, whoever gave a layer or a folder its name."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def titled_table(title: str, column_gap: int, show_footer: bool = False) -> Table:
    """A table without columns yet: a bold title at the left, and a line below the heads."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=_HEAD_RULE,
        show_edge=False,
        pad_edge=False,
        padding=(0, column_gap, 0, 0),
        show_footer=show_footer,
    )


def plain_text(draw: Draw, width: int) -> str:
    """What `draw` puts on a console of that width, as plain text without blanks at the ends of lines."""
    stream = io.StringIO()
    draw(SafeConsole(file=stream, width=width, color_system=None))
    # Rich pads every line to the table's width, which only clutters a log file.
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def terminal(stream: TextIO) -> Console | None:
    """A console as wide as the terminal; None where `stream` is none, or NO_COLOR is set."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return None
    return SafeConsole(file=stream)
