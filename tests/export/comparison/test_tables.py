import io
import re

import pytest

from export.comparison import texts
from export.comparison.comparison import compare_runs
from export.comparison.groups import spread_of
from export.comparison.markdown import format_markdown
from export.comparison.runs import read_runs
from export.comparison.tables import file_table, group_table, run_table, tables_of
from export.comparison.terminal import format_comparison, print_comparison
from export.page.markdown import escaped
from tests.export.comparison.small_runs import exports_of, file_row, refused_row, write_accuracy, write_run


@pytest.fixture
def comparison(tmp_path):
    """Two ratios, the first with two seeds and files, the last without."""
    rows = [
        (file_row("litert", 500_000, 0.9, 1.5), file_row("trim", 90_000, 0.9)),
        (file_row("litert", 510_000, 0.8, 1.7), refused_row("onnx")),
    ]
    places = [
        write_accuracy(
            tmp_path / f"half_{seed}", 0.9 - 0.1 * seed, {"seed": seed, "ws_prune_ratio": 0.5}, exports=exports_of(*r)
        )
        for seed, r in enumerate(rows)
    ]
    return compare_runs(read_runs([*places, write_accuracy(tmp_path / "alone", 0.85, {"ws_prune_ratio": 0.99})]))


def heads(table):
    return [column.head.replace("\n", " ") for column in table.columns]


def rows(table):
    return [[cell.text + "*" * cell.is_on_front for cell in row] for row in table.rows()]


def test_the_table_of_runs_by_hand(comparison):
    table = run_table(comparison)
    assert dict(zip(heads(table), rows(table)[0], strict=False)) == {
        "Run": "half_0",
        "ws_prune_ratio": "0.5",
        "seed": "0",
        "Dense accuracy": "90.00%",
        "Final accuracy": "90.00%",
        "Change": "+0.00",
        "Sparsity": "90.00%",
        "MFLOPs sparse": "0.40*",
        "MFLOPs real": "4.00",
        "Smallest file (kB)": "90.0*",
        "which is": "litert",
        "Gzipped weights (kB)": "140.0",
        "Fastest file, 1 thread (ms)": "1.50*",
        "Search time": "1 min 05 s",
        "Total time": "2 min 15 s",
    }
    assert rows(table)[2] == [
        "alone", "0.99", "0", "90.00%", "85.00%", "-5.00", "90.00%", "0.40*", "4.00", "-", "-", "140.0", "-", "-",
        "1 min 05 s", "2 min 15 s",
    ]  # fmt: skip


def test_a_column_that_says_nothing_is_left_out(tmp_path):
    bare = {"compressed": None, "search": None, "layers": []}
    places = [write_run(tmp_path / str(seed), {"seed": seed}, **bare) for seed in range(2)]
    assert heads(run_table(compare_runs(read_runs(places)))) == [
        "Run", "seed", "Dense accuracy", "Final accuracy", "Gzipped weights (kB)", "Total time",
    ]  # fmt: skip


def test_the_table_of_groups_has_means_and_ranges(comparison):
    table = group_table(comparison)
    first = dict(zip(heads(table), rows(table)[0], strict=True))
    assert first["Group"] == "ws_prune_ratio 0.5"
    assert first["Seeds"] == "2"
    assert first["Final accuracy"] == "85.00% (80.00% to 90.00%)"
    assert first["Dense accuracy"] == "90.00%"
    assert first["kB"] == "300.0 (90.0 to 510.0)*"
    assert "Standard error" not in first  # of two seeds there is none


def test_three_seeds_have_a_standard_error_in_points(tmp_path):
    places = [write_accuracy(tmp_path / str(seed), 0.9 + 0.01 * seed, {"seed": seed}) for seed in range(3)]
    table = group_table(compare_runs(read_runs(places)))
    assert dict(zip(heads(table), rows(table)[0], strict=True))["Standard error"] == "0.58"  # 1 / sqrt(3)


def test_runs_of_one_seed_each_need_no_table_of_groups(tmp_path):
    places = [write_run(tmp_path / str(ratio), {"ws_prune_ratio": ratio}) for ratio in (0.5, 0.9)]
    assert [table.title for table in tables_of(compare_runs(read_runs(places)))] == ["Runs"]


def test_the_table_of_files_has_each_format_that_some_run_has(comparison):
    table = file_table(comparison)
    assert heads(table) == ["Run", "litert", "trim"]
    assert rows(table) == [["half_0", "500,000", "90,000"], ["half_1", "510,000", "-"], ["alone", "-", "-"]]


def test_another_metric_is_shown_by_its_name_as_a_plain_number(tmp_path):
    places = [
        write_accuracy(
            tmp_path / str(seed), -0.12, {"seed": seed}, metric="minus normalised error", dense={"accuracy": -0.1}
        )
        for seed in range(3)
    ]
    comparison = compare_runs(read_runs(places))
    first = dict(zip(heads(run_table(comparison)), rows(run_table(comparison))[0], strict=True))
    assert first["Final minus normalised error"] == "-0.1200"
    assert first["Change"] == "-0.0200"
    assert "accuracy" not in format_comparison(comparison)


# On the screen.


def test_plain_text_is_ascii_in_one_piece_with_stars(comparison):
    text = format_comparison(comparison)
    assert text.isascii()
    (head,) = (line for line in text.splitlines() if line.startswith("Run "))
    assert head.split()[-2:] == ["time", "time"]
    assert re.search(r"^half_0 +0\.5 +0 .* 90\.0 \* ", text, re.MULTILINE)
    assert "3 runs. Data: digits32 (embedded, not CIFAR-10)" in text
    assert "The same in all: net resnet_20_at_digits32, learner weight-sparse, 1 other flag." in text
    assert "Note: alone has no exported files" in text


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_narrow_terminal_gets_the_table_in_pieces_that_all_name_the_runs(comparison, monkeypatch, width):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(width))
    stream = FakeTerminal()
    print_comparison(comparison, stream)
    assert "\x1b[1m" in stream.getvalue()
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()]
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    counts = [len(re.findall(f"^{name} ", text, re.MULTILINE)) for name in ("half_0", "half_1", "alone")]
    assert counts[0] == counts[1] >= (1 if width == 200 else 2)
    assert counts[2] >= counts[0]  # it is a group too
    for word in ("ws_prune_ratio", "Sparsity", "1 min 05 s", "2 min 15 s", "90.0 *"):
        assert word in text


def test_no_color_gets_plain_text(comparison, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = FakeTerminal()
    print_comparison(comparison, stream)
    assert stream.getvalue() == format_comparison(comparison)


def test_a_name_does_not_command_the_terminal(tmp_path):
    a = write_run(tmp_path / "a\x1b[31m", {"note": "x\x1b]0;title\x07\r"}, data_title="d\x1b[2J")
    text = format_comparison(compare_runs(read_runs([a, write_run(tmp_path / "[bold]b", {"note": "y"})])))
    assert not set(text) & set("\x1b\x07\r")
    assert "[bold]b" in text


# As Markdown.


def cells_of(line):
    """The cells of a Markdown table's row, unescaped as GitHub does."""
    parts = re.split(r"(?<!\\)\|", line)[1:-1]
    return [re.sub(r"\\(.)", r"\1", part).strip() for part in parts]


def test_the_markdown_has_every_table_with_aligned_columns(comparison):
    text = format_markdown(comparison)
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3
    for block, table in zip(blocks, tables_of(comparison), strict=True):
        assert len({len(line) for line in block}) == 1
        assert cells_of(block[0]) == heads(table)
        assert len(block) == 2 + len(table.columns[0].cells)
    assert "90.0 \N{BLACK STAR}" in text
    assert "- alone has no exported files" in text


def test_hostile_names_do_not_break_the_markdown(tmp_path):
    name = "a|b*c_<script>`$\\"
    value = "one\ntwo | three"
    a = write_run(tmp_path / name, {"note": value}, data_title="# no|title")
    comparison = compare_runs(read_runs([a, write_run(tmp_path / "b", {"note": "x"})]))
    text = format_markdown(comparison)
    line = next(line for line in text.splitlines() if line.startswith("| a"))
    assert cells_of(line)[:2] == [name, value.replace("\n", " ")]
    assert "<script>" not in text.replace("\\<", "")
    assert escaped("a*b") == r"a\*b"


# Words.


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (texts.kilobytes, 98_304, "98.3"),
        (texts.kilobytes, 1_103_000, "1,103"),
        (texts.millions, 81_630_000, "81.63"),
        (texts.milliseconds, 0.4567, "0.457"),
        (texts.milliseconds, 12.345, "12.35"),
        (texts.Quality.of("accuracy").change, -1e-9, "+0.00"),
        (texts.Quality.of("accuracy").change, -0.0123, "-1.23"),
        (texts.Quality.of("error").change, 0.0123, "+0.0123"),
        (texts.flag_value, True, "true"),
        (texts.flag_value, "", '""'),
        (texts.flag_value, 0.5, "0.5"),
    ],
)
def test_figures_are_said_as_people_do(show, value, text):
    assert show(value) == text


def test_a_range_is_shown_only_where_it_can_be_seen():
    assert texts.spread(None, texts.percent) == "-"
    assert texts.spread(spread_of([0.5, 0.500001]), texts.percent) == "50.00%"
    assert texts.spread(spread_of([0.5, 0.6]), texts.percent) == "55.00% (50.00% to 60.00%)"
