"""report.md: the report of a run for a repository or a pull request."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from export.page.blocks import Block, Bullets, Cell, KeyFigures, Pairs, Paragraph, Picture, Table, Warning
from export.page.content import report_document
from export.run_record import RunRecord
from utils.files import write_atomically

PLOTS = "plots"
# What would begin markup: all of it can stand anywhere, an underscore only where no letter or digit is on one side.
MARKUP = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")
LINE_START = re.compile(r"^(?:#(?=[#\s]|$)|[+-](?=[+\s-]|$)|\d+[.)](?=\s|$))")


def write_markdown(record: RunRecord, path: Path, configuration: Mapping[str, Any] | None = None) -> None:
    """Writes the report of a run as Markdown (GitHub's), with links to the files that `picture_files` makes in `plots`.

    Args:
        configuration: what `config.json` holds, shown at the end.

    Raises:
        RunError: the disk is full; a file that was there stays.
    """
    content = markdown_text(record, configuration).encode("utf-8", errors="replace")  # names of files need not be UTF-8
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))


def markdown_text(record: RunRecord, configuration: Mapping[str, Any] | None = None) -> str:
    """The whole text."""
    document = report_document(record, configuration)
    parts = [f"# {escaped(document.title)}", escaped(document.lead), escaped(document.subtitle)]
    for section in document.sections:
        blocks = [text for block in section.blocks for text in _block(block)]
        parts += [f"## {escaped(section.title)}", *blocks]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """`text` on one line, with a backslash before all that Markdown would take for markup."""
    line = " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text).split())
    line = MARKUP.sub(r"\\\g<0>", line)
    # A heading, a list or a rule begins only at the start; of a number it is the dot that makes it a list.
    return LINE_START.sub(lambda match: match[0][:-1] + "\\" + match[0][-1], line)


def markdown_table(table: Table) -> str:
    """The table with columns padded to the same width; what spans several columns stands in the first of them."""
    width = len(table.columns)
    lines = [[escaped(column.name) for column in table.columns]]
    lines += [_cells(row.cells, width) for row in table.rows]
    lines += [[f"**{text}**" if text else "" for text in _cells(table.footer, width)]] if table.footer else []
    widths = [max(3, *(len(line[i]) for line in lines if not _is_spanned(line, i))) for i in range(width)]
    texts = [i == 0 or column.is_text for i, column in enumerate(table.columns)]
    rule = ["-" * size if text else "-" * (size - 1) + ":" for size, text in zip(widths, texts, strict=True)]
    padded = [
        [part.ljust(size) if text else part.rjust(size) for part, size, text in zip(line, widths, texts, strict=True)]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _cells(cells: Sequence[Cell], width: int) -> list[str]:
    texts = []
    for cell in cells:
        text = escaped(cell.text)
        texts.append(f"{text} ({escaped(cell.aside)})" if cell.aside else text)
        texts += [""] * (cell.span - 1)
    assert len(texts) == width
    return texts


def _is_spanned(line: Sequence[str], place: int) -> bool:
    """Whether a long text fills the row: it must not make its column as wide as itself."""
    return place > 0 and bool(line[place]) and place + 2 < len(line) and not any(line[place + 1 :])


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield escaped(block.text)
    elif isinstance(block, Warning):
        yield f"> **Mind the data.** {escaped(block.text)}"
    elif isinstance(block, KeyFigures):
        rows = ((figure.name, figure.value, figure.aside) for figure in block.figures)
        yield "\n".join(_figure_line(*row) for row in rows)
    elif isinstance(block, Table):
        yield escaped(block.caption)
        yield markdown_table(block)
    elif isinstance(block, Pairs):
        yield f"### {escaped(block.caption)}"
        yield "\n".join(_figure_line(name, value, "") for name, value in block.pairs)
    elif isinstance(block, Bullets):
        yield "\n".join(f"- {escaped(item)}" for item in block.items)
    elif isinstance(block, Picture):
        yield from _picture(block)


def _figure_line(name: str, value: str, aside: str) -> str:
    return f"- {escaped(name)}: **{escaped(value)}**" + (f" ({escaped(aside)})" if aside else "")


def _picture(picture: Picture) -> Iterator[str]:
    # A name is made of letters, digits and underscores, but for a training of somebody's own.
    target = f"<{PLOTS}/{re.sub(r'[^A-Za-z0-9_.-]', '_', picture.name)}.png>"
    yield f"![{escaped(f'{picture.title}. {picture.alt}')}]({target})"
    yield escaped(picture.caption)
