import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from export.page.blocks import Cell, Column, Row, Table
from export.page.markdown import escaped, markdown_table, markdown_text, write_markdown
from export.page.pictures import pictures
from tests.export.page.records import HOSTILE, bare_record, full_record, hostile_record

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tokens(text):
    """All tokens that a reader of GitHub's Markdown finds, those inside lines included."""
    for token in READER.parse(text):
        yield token
        yield from token.children or ()


def plain(text):
    """What a reader sees of one paragraph; fails where it is anything else."""
    kinds = [(token.type, token.content) for token in READER.parse(text)]
    assert [kind for kind, _ in kinds] == ["paragraph_open", "inline", "paragraph_close"], text
    (inline,) = [token for token in READER.parse(text) if token.type == "inline"]
    assert {token.type for token in inline.children} <= {"text", "text_special"}, text
    return "".join(token.content for token in inline.children)


def cells_of(text):
    rows, current = [], []
    for token in READER.parse(text):
        if token.type == "inline":
            current.append("".join(t.content for t in token.children))
        elif token.type == "tr_close":
            rows.append(current)
            current = []
    return rows


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "a|b*c",
        "# no",
        "1. no",
        "12) no",
        "- no",
        "+ no",
        "---",
        "***",
        "_a_ b_c __d__",
        "<!-- x",
        "&lt;",
        "~~a~~",
    ],
)
def test_what_would_be_markup_is_shown_as_it_is(text):
    assert plain(escaped(text)) == text


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_any_text_is_shown_as_it_is_but_for_white_space(text):
    shown = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split())
    if shown:
        assert " ".join(plain(escaped(text)).split()) == shown


def test_plain_words_and_numbers_stay_readable():
    for text in ("91.15% (90.30% before, +0.85 points)", "ws_prune_ratio", "layer3.0.conv2", "2.3x, 1.10 MB", "-0.5"):
        assert escaped(text) == text


def test_a_table_is_aligned_and_a_pipe_does_not_break_it():
    table = Table("c", [Column("Name", True), Column("Bytes")], [Row([Cell("a|b*c", "x"), Cell("1,024")])])
    lines = markdown_table(table).split("\n")
    assert lines == [
        "| Name        | Bytes |",
        "| ----------- | ----: |",
        "| a\\|b\\*c (x) | 1,024 |",
    ]
    assert cells_of("\n".join(lines)) == [["Name", "Bytes"], ["a|b*c (x)", "1,024"]]


def test_a_reason_over_several_columns_does_not_widen_them():
    columns = [Column("F", True), Column("A"), Column("B"), Column("C")]
    rows = [Row([Cell("x"), Cell("no " * 40, span=3)]), Row([Cell("y"), Cell("1"), Cell("2"), Cell("3")])]
    text = markdown_table(Table("c", columns, rows, [Cell("Total"), Cell("1"), Cell(""), Cell("3")]))
    assert len(text.split("\n")[0]) < 40
    assert cells_of(text)[1] == ["x", ("no " * 40).strip(), "", ""]
    assert cells_of(text)[3] == ["Total", "1", "", "3"]


def test_the_text_has_what_the_page_has_and_links_its_pictures():
    text = markdown_text(full_record(), {"seed": 0})
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings[:2] == ["Key figures", "Exported files"]
    assert headings[-1] == "Notes"
    images = [token.attrs["src"] for token in tokens(text) if token.type == "image"]
    shown = [name for name, picture in pictures(full_record()).items() if picture.is_on_page]
    assert sorted(images) == sorted(f"plots/{name}.png" for name in shown)
    assert "(TrimFlow, 256 values)" in text


def test_a_bare_run_has_no_pictures_and_no_empty_headings():
    text = markdown_text(bare_record())
    assert "plots/" not in text
    assert not re.search(r"^(#+) .*\n\n\1 ", text, re.M)


def test_hostile_names_make_no_markup():
    text = markdown_text(hostile_record(), {HOSTILE: HOSTILE})
    found = list(tokens(text))
    assert not {"html_block", "html_inline", "link_open", "code_inline", "em_open", "fence"} & {t.type for t in found}
    assert {t.attrs["src"][:6] for t in found if t.type == "image"} == {"plots/"}
    widths = [len(line) for line in cells_of(text)]
    assert HOSTILE.split()[0] in text.replace("\\", "")
    assert all(width > 1 for width in widths)
    headings = [t.tag for t in found if t.type == "heading_open"]
    assert headings.count("h1") == 1


def test_names_that_are_not_utf_8_do_not_stop_the_report(tmp_path):
    record = bare_record()
    record.report["data_title"] = "photos \udcff"
    write_markdown(record, tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# ResNet-20 on photos ?")
