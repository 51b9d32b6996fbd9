"""The tables of a comparison as plain text, made once for the terminal, the page and the Markdown file."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from export.comparison import texts
from export.comparison.comparison import Comparison
from export.comparison.groups import SEED, seeds_of, spread_over_seeds
from export.comparison.measures import ACCURACY
from export.comparison.runs import ComparedRun
from export.comparison.texts import ABSENT, Quality
from export.report_tables import duration


class Cell(NamedTuple):
    """A text, and whether it is a cost for which its row is on the Pareto front."""

    text: str
    is_on_front: bool = False


class Column(NamedTuple):
    """A head of one or more short lines, the cells below it, and whether they are words rather than numbers."""

    head: str
    cells: list[Cell]
    is_text: bool = False

    @property
    def has_stars(self) -> bool:
        """Whether some row of it is on a front."""
        return any(cell.is_on_front for cell in self.cells)


class Table(NamedTuple):
    """Columns of equal length, of which the first names the rows; what they are, and how to read them."""

    title: str
    columns: list[Column]
    caption: str
    note: str = ""

    def rows(self) -> Iterable[tuple[Cell, ...]]:
        """The cells, row by row."""
        return zip(*(column.cells for column in self.columns), strict=True)


def tables_of(comparison: Comparison) -> list[Table]:
    """All tables: those of `main_tables`, and the bytes of every exported file, if any."""
    return main_tables(comparison) + ([file_table(comparison)] if comparison.formats else [])


def main_tables(comparison: Comparison) -> list[Table]:
    """The runs; the groups, if any holds several seeds."""
    has_groups = len(comparison.groups) < len(comparison.runs)
    return [run_table(comparison)] + ([group_table(comparison)] if has_groups else [])


def run_table(comparison: Comparison) -> Table:
    """A row for each run: what differs in its configuration, and all it was measured for."""
    runs, quality = comparison.runs, Quality.of(comparison.metric)
    stars = _stars_of_runs(comparison)
    measures = [run.measures for run in runs]

    def number(head: str, values: Iterable[float | None], show: Callable[[float], str], front: str = "") -> Column:
        on_front = stars.get(front, [False] * len(runs))
        cells = [
            Cell(ABSENT) if value is None else Cell(show(value), star)
            for value, star in zip(values, on_front, strict=True)
        ]
        return Column(head, cells)

    def words(head: str, values: Iterable[Any]) -> Column:
        return Column(head, [Cell(ABSENT if value is None else value) for value in values], is_text=True)

    smallest, fastest = [m.smallest for m in measures], [m.fastest for m in measures]
    columns = [
        words("Run", (run.name for run in runs)),
        *(_flag_column(name, runs) for name in sorted(comparison.differences.varying, key=lambda name: name == SEED)),
        number(f"Dense\n{quality.name}", (m.dense_accuracy for m in measures), quality.value),
        number(f"Final\n{quality.name}", (m.accuracy for m in measures), quality.value),
        number("Change", (m.change for m in measures), quality.change),
        number("Sparsity", (m.sparsity for m in measures), texts.percent),
        number("MFLOPs\nsparse", (m.flops_sparse for m in measures), texts.millions, "flops"),
        number("MFLOPs\nreal", (m.flops_real for m in measures), texts.millions),
        number("Smallest\nfile (kB)", (f and f.bytes for f in smallest), texts.kilobytes, "bytes"),
        words("which is", (f and f.format for f in smallest)),
    ]
    if not all(smallest):
        star = "" if any(smallest) else "bytes"
        columns.append(number("Gzipped\nweights (kB)", (m.gzip_bytes for m in measures), texts.kilobytes, star))
    columns += [
        number(
            "Fastest file,\n1 thread (ms)",
            (f and f.median for f in fastest),
            texts.milliseconds,
            "latency",
        ),
        words("which is", (f and f.format for f in fastest)),
        number("Search\ntime", (m.search_seconds for m in measures), duration),
        number("Total\ntime", (m.total_seconds for m in measures), duration),
    ]
    columns = [column for column in columns if _says_something(column)]
    return Table("Runs", columns, "One row a run, as given", _run_note(comparison))


def group_table(comparison: Comparison) -> Table:
    """A row for each group of runs that differ in nothing but the seed."""
    quality = Quality.of(comparison.metric)
    members = [comparison.members(group) for group in comparison.groups]
    stars = {front.cost.key: front.members for front in comparison.fronts}

    def column(head: str, value: Any, show: Callable[[float], str], front: str = "") -> Column:
        cells = [texts.spread(spread_over_seeds(runs, value), show) for runs in members]
        return Column(head, [Cell(text, number in stars.get(front, ())) for number, text in enumerate(cells)])

    def error(runs: Sequence[ComparedRun]) -> str:
        accuracy = spread_over_seeds(runs, lambda run: run.measures.accuracy)
        assert accuracy is not None, "every run has one"
        return ABSENT if accuracy.standard_error is None else quality.change(accuracy.standard_error).lstrip("+")

    columns = [
        Column("Group", [Cell(group.name) for group in comparison.groups], is_text=True),
        Column("Seeds", [Cell(str(len(seeds_of(runs)))) for runs in members]),
        column(f"Dense\n{quality.name}", lambda run: run.measures.dense_accuracy, quality.value),
        column(f"Final\n{quality.name}", lambda run: run.measures.accuracy, quality.value),
        Column("Standard\nerror", [Cell(error(runs)) for runs in members]),
        column("Change", lambda run: run.measures.change, quality.change),
        column("Sparsity", lambda run: run.measures.sparsity, texts.percent),
    ]
    shows = {"bytes": ("kB", texts.kilobytes), "flops": ("MFLOPs\nsparse", texts.millions)}
    for front in comparison.fronts:
        head, show = shows.get(front.cost.key, ("1 thread\n(ms)", texts.milliseconds))
        columns.append(column(head, front.cost.value, show, front.cost.key))
    note = "Means over the seeds, with the lowest and the highest. The standard error of the mean needs three seeds."
    columns = [column for column in columns if _says_something(column)]
    return Table("Groups: the same but for the seed", columns, "One row a configuration", note)


def file_table(comparison: Comparison) -> Table:
    """A row for each run, a column for each format: the bytes of its file."""
    columns = [Column("Run", [Cell(run.name) for run in comparison.runs], is_text=True)]
    for name in comparison.formats:
        files = [run.measures.files.get(name) for run in comparison.runs]
        columns.append(Column(name, [Cell(f"{file.bytes:,}" if file else ABSENT) for file in files]))
    return Table(
        "Exported files", columns, "Bytes of each file, whatever its accuracy; none where its runtime refused it"
    )


def _flag_column(name: str, runs: Sequence[ComparedRun]) -> Column:
    cells = [Cell(texts.flag_value(run.config[name]) if name in run.config else ABSENT) for run in runs]
    return Column(name, cells, is_text=any(isinstance(run.config.get(name), str) for run in runs))


def _stars_of_runs(comparison: Comparison) -> dict[str, list[bool]]:
    """Key of a front -> for each run, whether its group is on it."""
    group_of = {run: number for number, group in enumerate(comparison.groups) for run in group.members}
    return {
        front.cost.key: [group_of[run] in front.members for run in range(len(comparison.runs))]
        for front in comparison.fronts
    }


def _says_something(column: Column) -> bool:
    return any(cell.text != ABSENT for cell in column.cells)


def _run_note(comparison: Comparison) -> str:
    said = ["A star marks a cost at which nothing else is better for as little or as good for less: the Pareto front."]
    if len(comparison.groups) < len(comparison.runs):
        said.append("Runs that differ in nothing but the seed are ranked by their mean.")
    if any(run.measures.smallest for run in comparison.runs):
        loss = "one point" if comparison.metric == ACCURACY else "a hundredth"
        said.append(
            f"Files count whose own {comparison.metric} is within {loss} of their model's; they are ranked by it."
        )
    return " ".join(said)
