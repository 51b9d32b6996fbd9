import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from export.comparison.comparison import compare_runs
from export.comparison.page import format_page, summary_sentences
from export.comparison.runs import read_runs
from tests.export.comparison.small_runs import exports_of, file_row, write_accuracy, write_run


class Page(HTMLParser):
    """The elements of a page, and its text by element; fails where tags do not match."""

    EMPTY = ("meta", "link", "br")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(output, *places):
    return format_page(compare_runs(read_runs(places)), output)


@pytest.fixture
def places(tmp_path):
    return [
        write_accuracy(
            tmp_path / f"ratio_{ratio}", accuracy, {"ws_prune_ratio": ratio},
            exports=exports_of(file_row("litert-int8", size, accuracy, 0.5)),
        )
        for ratio, accuracy, size in ((0.5, 0.91, 200_000), (0.9, 0.89, 100_000))
    ]  # fmt: skip


def test_the_page_stands_alone(tmp_path, places):
    text = page_of(tmp_path, *places)
    page = Page(text)
    assert page.all("script") == []
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert not re.search(r"(src|href)=\"?(https?:)?//", text)
    assert "url(" not in text.replace("url(#", "")
    assert len(text) < 300_000


def test_each_picture_says_in_words_what_it_shows(tmp_path, places):
    text = page_of(tmp_path, *places)
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 3
    said = [ElementTree.fromstring(picture).findtext("desc") for picture in pictures]
    assert said[0] == (
        "2 results, 2 on the Pareto front, from cheap to dear: ratio_0.9: 89.00% at 100.0 kB; "
        "ratio_0.5: 91.00% at 200.0 kB."
    )
    assert said[2] == "2 results, 1 on the Pareto front, from cheap to dear: ratio_0.5: 91.00% at 0.500 ms."
    identities = re.findall(r'\bid="([^"]+)"', text)
    assert len(identities) == len(set(identities))


def test_tables_name_their_rows_and_columns(tmp_path, places):
    page = Page(page_of(tmp_path, *places))
    tables = len(page.all("table"))
    assert tables == len(page.all("caption")) == 2
    scopes = [attributes["scope"] for attributes in page.all("th")]
    assert scopes.count("row") == 4  # two runs in either table
    stars = [attributes for attributes in page.all("span") if attributes.get("role") == "img"]
    # Fewer bytes, more accuracy: both. As many FLOPs and milliseconds: only the more accurate one.
    assert len(stars) == 4
    assert all(star["aria-label"] == "on the Pareto front" for star in stars)


def test_runs_are_linked_where_they_have_a_page(tmp_path):
    a, b = write_run(tmp_path / "family" / "a b#1%"), write_run(tmp_path / "family" / "x:y", {"seed": 1})
    c = write_run(tmp_path / "c", {"seed": 2})
    (a / "report.html").write_text("")
    (b / "report.html").write_text("")
    page = Page(page_of(tmp_path / "out", a, b, c))
    links = [attributes["href"] for attributes in page.all("a")]
    assert links == ["#main", "./../family/a%20b%231%25/report.html", "./../family/x%3Ay/report.html"]


def test_links_go_from_where_the_page_lies(tmp_path):
    (tmp_path / "disk").mkdir()
    a = write_run(tmp_path / "disk" / "a")
    (a / "report.html").write_text("")
    (tmp_path / "here").symlink_to(tmp_path / "disk")
    b = write_run(tmp_path / "here" / "b", {"seed": 1})
    page = Page(page_of(tmp_path / "here", tmp_path / "here" / "a", b))
    assert page.all("a")[1]["href"] == "./a/report.html"


HOSTILE = "<script>alert('1')</script>\"'&amp;$x$|`"


def test_hostile_strings_are_shown_as_they_are(tmp_path):
    places = [
        write_run(
            tmp_path / "<b>&'\" $a_$", {"note": HOSTILE, "same": HOSTILE, HOSTILE: 1},
            data_title=HOSTILE, model=HOSTILE, versions={"trimflow": HOSTILE},
            exports=exports_of({**file_row(HOSTILE, 100, 0.9, 1.0), "title": HOSTILE}, machine=HOSTILE),
        ),
        write_run(
            tmp_path / "b", {"note": "x", "same": HOSTILE, HOSTILE: 1}, data_title=HOSTILE, model=HOSTILE,
            versions={"trimflow": "1"}, metric="accuracy",
        ),
    ]  # fmt: skip
    page = Page(page_of(tmp_path, *places))
    assert page.all("script") == []
    assert page.all("b") == []
    for tag in ("title", "h1", "p", "td", "th", "li", "code"):
        assert "&lt;" not in "".join(page.texts[tag])
    assert HOSTILE in "".join(page.texts["td"])
    assert HOSTILE in page.texts["code"]
    assert HOSTILE in "".join(page.texts["p"])
    assert "<b>&'\" $a_$" in page.texts["text"]  # beside its point, and no formula


def test_the_sentences_name_the_ends_of_each_front(tmp_path, places):
    assert summary_sentences(compare_runs(read_runs(places))) == [
        "Accuracy against size of the smallest file: 2 of 2 on the front, from ratio_0.9 (89.00% at 100.0 kB) to "
        "ratio_0.5 (91.00% at 200.0 kB).",
        "Best in both accuracy and MFLOPs of non-zero weights: ratio_0.5 (91.00% at 0.40 MFLOPs).",
        "Best in both accuracy and latency with one thread: ratio_0.5 (91.00% at 0.500 ms).",
    ]


def test_what_is_the_same_is_said_once_and_what_only_some_have_apart(tmp_path):
    a = write_run(tmp_path / "a", {"seed": 1, "new_flag": "on"})
    page = Page(page_of(tmp_path, a, write_run(tmp_path / "b")))
    codes = page.texts["code"]
    assert codes == ["net", "learner", "batch_size", "ws_prune_ratio", "new_flag"]
    assert "Flags that only some runs have" in page.texts["h3"]


def test_the_same_runs_give_the_same_page(tmp_path, places):
    assert page_of(tmp_path, *places) == page_of(tmp_path, *places)
