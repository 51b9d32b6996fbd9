"""A comparison as Markdown, for a repository or a pull request."""

from rich.cells import cell_len

from export.comparison.comparison import Comparison
from export.comparison.tables import Column, Table, tables_of
from export.comparison.terminal import said_of_the_same
from export.page.markdown import escaped

STAR = " \N{BLACK STAR}"


def format_markdown(comparison: Comparison) -> str:
    """The tables and notes of a comparison, strings escaped, columns aligned in the source too."""
    first = comparison.runs[0].report
    parts = [
        f"# Comparison of {len(comparison.runs)} runs",
        f"Data: {escaped(first['data_title'])}. {escaped(said_of_the_same(comparison))}",
    ]
    for table in tables_of(comparison):
        parts += [f"## {escaped(table.title)}", _format_table(table)]
        parts += [escaped(table.note)] if table.note else []
    if comparison.notes:
        parts += ["## Notes", "\n".join(f"- {escaped(note)}" for note in comparison.notes)]
    return "\n\n".join(parts) + "\n"


def _format_table(table: Table) -> str:
    columns = [_cell_texts(column) for column in table.columns]
    widths = [max(3, *map(cell_len, texts)) for texts in columns]
    numbers = [not column.is_text for column in table.columns]
    rows = [
        [_padded(text, width, number) for text, width, number in zip(row, widths, numbers, strict=True)]
        for row in zip(*columns, strict=True)
    ]
    rule = ["-" * (width - 1) + ":" if number else "-" * width for width, number in zip(widths, numbers, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def _cell_texts(column: Column) -> list[str]:
    """The head and the cells."""
    head = escaped(column.head.replace("\n", " "))
    return [head, *(escaped(cell.text) + (STAR if cell.is_on_front else "") for cell in column.cells)]


def _padded(text: str, width: int, is_number: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if is_number else text + blanks
