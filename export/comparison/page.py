"""The page of a comparison: one HTML file that needs nothing else."""

import os
from pathlib import Path
from urllib.parse import quote

from export.comparison import texts
from export.comparison.comparison import Comparison
from export.comparison.pictures import draw_fronts
from export.comparison.record import relative_directory
from export.comparison.runs import ComparedRun
from export.comparison.tables import tables_of
from export.comparison.texts import Quality
from export.page.rendering import figure_svg, render
from export.report_tables import EMBEDDED_DATASETS

RUN_PAGE = "report.html"


def format_page(comparison: Comparison, output: Path) -> str:
    """The text of `compare.html`, which will lie in `output`; runs that have a page are linked."""
    pictures = draw_fronts(comparison)
    return render(
        "compare.html",
        title=f"Comparison of {len(comparison.runs)} runs",
        data_title=comparison.runs[0].report["data_title"],
        is_embedded=comparison.runs[0].report["dataset"] in EMBEDDED_DATASETS,
        sentences=summary_sentences(comparison),
        notes=comparison.notes,
        pictures=[(picture, figure_svg(picture.figure, *picture[:3])) for picture in pictures],
        tables=tables_of(comparison),
        links=[_link(run, output) for run in comparison.runs],
        same={name: texts.flag_value(value) for name, value in comparison.differences.same.items()},
        partial={name: texts.flag_value(value) for name, value in comparison.differences.partial.items()},
    )


def summary_sentences(comparison: Comparison) -> list[str]:
    """What the Pareto fronts say: for each cost, the most accurate result and the cheapest one."""
    quality = Quality.of(comparison.metric)
    sentences = []
    for front in comparison.fronts:
        members = sorted((p for p in front.points if p.group in front.members), key=lambda p: p.cost.mean)
        show = texts.cost_text(front.cost.key)
        cheapest, best = (
            f"{comparison.groups[point.group].name} ({quality.value(point.accuracy.mean)} at {show(point.cost.mean)})"
            for point in (members[0], members[-1])
        )
        what = front.cost.title.rpartition(" (")[0] or front.cost.title
        if len(members) == 1:
            sentences.append(f"Best in both {quality.name} and {what}: {best}.")
        else:
            sentences.append(
                f"{quality.name.capitalize()} against {what}: {len(members)} of {len(front.points)} on the front, "
                f"from {cheapest} to {best}."
            )
    return sentences


def _link(run: ComparedRun, output: Path) -> str | None:
    """The address of the run's own page as seen from `output`; None where it has none."""
    if not (run.directory / RUN_PAGE).is_file():
        return None
    # "./" in front, or a name such as "a:b" would be read as a protocol.
    return quote(os.fsencode(f"./{relative_directory(run, output)}/{RUN_PAGE}"))
