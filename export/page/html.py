"""report.html: one file that any browser shows without a network, without a program, on paper too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.page.blocks import Picture
from export.page.content import report_document
from export.page.rendering import figure_svg, render
from export.run_record import RunRecord
from utils.files import write_atomically

TEMPLATE = "report.html"


def write_html(record: RunRecord, path: Path, configuration: Mapping[str, Any] | None = None) -> None:
    """Writes the report of a run as one HTML file; the same record gives the same bytes.

    Args:
        configuration: what `config.json` holds, shown at the end.

    Raises:
        RunError: the disk is full; a file that was there stays.
    """
    content = html_text(record, configuration).encode("utf-8", errors="replace")  # names of files need not be UTF-8
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))


def html_text(record: RunRecord, configuration: Mapping[str, Any] | None = None) -> str:
    """The whole page."""
    return render(TEMPLATE, document=report_document(record, configuration), svg=_svg)


def _svg(picture: Picture) -> str:
    figure = picture.draw()
    figure.suptitle("")  # the page has a heading above it
    return figure_svg(figure, picture.name.replace("_", "-"), picture.title, picture.alt)
