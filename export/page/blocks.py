"""What a page consists of, whether it becomes HTML or Markdown: sections of paragraphs, tables, pictures and lists.

All strings here are plain text. Who writes a page escapes them; nothing before that does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from matplotlib.figure import Figure


class Cell(NamedTuple):
    """A table's cell: its text, something less important below it, and over how many columns it goes."""

    text: str
    aside: str = ""
    span: int = 1


class Column(NamedTuple):
    """A table's column; numbers stand at the right, text at the left. The first column names the rows."""

    name: str
    is_text: bool = False


class Row(NamedTuple):
    """Cells of a table's row; the best one is marked, by its words too."""

    cells: Sequence[Cell]
    is_best: bool = False


class KeyFigure(NamedTuple):
    """One number that matters, what it is, and what it was before or how it was found."""

    name: str
    value: str
    aside: str = ""


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    text: str
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Warning:
    """A paragraph that must not be overlooked."""

    text: str
    kind: ClassVar[str] = "warning"


@dataclass(frozen=True)
class KeyFigures:
    """The numbers that most readers come for."""

    figures: Sequence[KeyFigure]
    kind: ClassVar[str] = "key_figures"


@dataclass(frozen=True)
class Table:
    """A table; `footer` is a last row of totals."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    footer: Sequence[Cell] = ()
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Pairs:
    """Names and their values, many and short."""

    caption: str
    pairs: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "pairs"


@dataclass(frozen=True)
class Picture:
    """A picture, drawn when it is needed.

    Args:
        name: of its file, without the ending.
        alt: what it says, for those who do not see it.
        caption: how it is to be read.
        draw: makes the figure.
        is_on_page: whether the report shows it; some are for the `plots` folder alone.
    """

    name: str
    title: str
    alt: str
    caption: str
    draw: Callable[[], Figure]
    is_on_page: bool = True
    kind: ClassVar[str] = "picture"


Block = Paragraph | Warning | KeyFigures | Table | Bullets | Pairs | Picture


class Section(NamedTuple):
    """A heading, a short name for links to it, and what stands below."""

    identity: str
    title: str
    blocks: Sequence[Block]


class Document(NamedTuple):
    """A whole page."""

    title: str
    subtitle: str
    lead: str
    sections: Sequence[Section]
