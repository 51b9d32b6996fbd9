"""A comparison on the screen: one table where it fits, else one below the other."""

from collections.abc import Sequence
from typing import Literal, TextIO

from rich.cells import cell_len
from rich.console import Console

from export.comparison.comparison import Comparison
from export.comparison.tables import Column, Table, main_tables
from export.comparison.texts import flag_value
from utils.printing import printable
from utils.tables import plain_text, terminal, titled_table

GAP = 2  # blanks between columns
LONGEST_NAME = 40  # of a run, before it is folded
STAR = " *"
COMMON = ("net", "learner", "seed")  # said by name where they are the same; the page has all of them


def print_comparison(comparison: Comparison, stream: TextIO) -> None:
    """Prints the tables: as wide as a terminal, or plain and as wide as need be (no terminal, or NO_COLOR)."""
    console = terminal(stream)
    if console is not None:
        _draw(console, comparison, console.width)
    else:
        stream.write(format_comparison(comparison))
        stream.flush()


def format_comparison(comparison: Comparison) -> str:
    """The tables as plain text, each in one piece."""
    width = max([100, *(_width(table.columns) for table in main_tables(comparison))])
    return plain_text(lambda console: _draw(console, comparison, width), width)


def _draw(console: Console, comparison: Comparison, width: int) -> None:
    first = comparison.runs[0].report
    console.print(printable(f"{len(comparison.runs)} runs. Data: {first['data_title']}", keep=""))
    console.print(printable(said_of_the_same(comparison), keep=""))
    for table in main_tables(comparison):
        for columns in _pieces(table, width):
            console.print()
            _draw_table(console, table.title, columns)
        console.print(table.note)
    if comparison.notes:
        console.print()
    for note in comparison.notes:
        console.print(printable(f"Note: {note}", keep=""))


def said_of_the_same(comparison: Comparison) -> str:
    """What does not differ, in one line."""
    same = comparison.differences.same
    named = [f"{name} {flag_value(same[name])}" for name in COMMON if name in same]
    rest = len(same) - len(named)
    return "The same in all: " + ", ".join([*named, f"{rest} other flags" if rest != 1 else "1 other flag"]) + "."


def _pieces(table: Table, width: int) -> list[list[Column]]:
    """The columns in as few pieces as fit the width, each of them beginning with the first column."""
    first, *others = table.columns
    pieces: list[list[Column]] = []
    for column in others:
        if pieces and _width([*pieces[-1], column]) <= width:
            pieces[-1].append(column)
        else:
            pieces.append([first, column])
    return pieces


def _width(columns: Sequence[Column]) -> int:
    """Letters that the columns take beside each other."""
    return sum(_column_width(column, i == 0) + GAP for i, column in enumerate(columns))


def _column_width(column: Column, is_first: bool) -> int:
    texts = [*column.head.split("\n"), *_cell_texts(column)]
    width = max(map(cell_len, texts))
    return min(width, LONGEST_NAME) if is_first else width


def _cell_texts(column: Column) -> list[str]:
    """The cells; where one has a star the others keep its place, so that numbers stay below each other."""
    blank = " " * len(STAR) if column.has_stars else ""
    return [printable(cell.text, keep="") + (STAR if cell.is_on_front else blank) for cell in column.cells]


def _draw_table(console: Console, title: str, columns: Sequence[Column]) -> None:
    table = titled_table(title, column_gap=GAP - 1)  # a box of rich adds one
    heads = [column.head.split("\n") for column in columns]
    most = max(map(len, heads))
    for i, (column, lines) in enumerate(zip(columns, heads, strict=True)):
        head = "\n".join([""] * (most - len(lines)) + [printable(line, keep="") for line in lines])
        width = None if i else _column_width(column, is_first=True)
        justify: Literal["left", "right"] = "left" if column.is_text else "right"
        table.add_column(head, justify=justify, overflow="fold", no_wrap=i > 0, width=width)
    for row in zip(*map(_cell_texts, columns), strict=True):
        table.add_row(*row)
    console.print(table)
