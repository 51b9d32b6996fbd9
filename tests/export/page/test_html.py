import re
from html.parser import HTMLParser

import pytest

from export.page.html import html_text, write_html
from export.page.pictures import pictures
from tests.export.page.records import HOSTILE, bare_record, full_record, hostile_record

VOID = {"meta", "link", "br"}


class Outline(HTMLParser):
    """Tags, attributes, texts and headings of a page; fails where tags do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.headings, self._open = [], [], [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, key, value) for key, value in attributes]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, key, value) for key, value in attributes]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and re.fullmatch(r"h[1-6]", self._open[-1]):
            self.headings.append((int(self._open[-1][1]), data))
        self.texts.append(data)


RECORDS = {"full": full_record, "bare": bare_record, "hostile": hostile_record}


@pytest.fixture(scope="module")
def pages():
    return {name: Outline(html_text(make(), {"seed": 0, HOSTILE: HOSTILE})) for name, make in RECORDS.items()}


@pytest.mark.parametrize("name", RECORDS)
def test_the_page_has_no_program_and_asks_for_nothing(pages, name):
    page = pages[name]
    assert not {"script", "img", "iframe", "object", "form"} & set(page.tags)
    links = [value for _, key, value in page.attributes if key in ("href", "src", "srcset", "action", "xlink:href")]
    assert {value for value in links if not value.startswith("#")} == {"data:,"}
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    assert not re.search(r"@import|url\((?!#)", "".join(page.texts))


@pytest.mark.parametrize("name", RECORDS)
def test_headings_tables_and_ids_are_in_order(pages, name):
    page = pages[name]
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = [value for _, key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    wanted = [value.split() for _, key, value in page.attributes if key == "aria-labelledby"]
    assert {identity for values in wanted for identity in values} <= set(ids)
    assert page.tags.count("table") == page.tags.count("caption")
    scopes = [value for tag, key, value in page.attributes if (tag, key) == ("th", "scope")]
    assert len(scopes) == page.tags.count("th")


def test_every_picture_of_the_run_is_on_the_page_with_its_words(pages):
    text = "".join(pages["full"].texts)
    shown = [picture for picture in pictures(full_record()).values() if picture.is_on_page]
    assert pages["full"].tags.count("svg") == len(shown) == 10
    for picture in shown:
        assert picture.alt in text
        assert picture.caption in text


def test_hostile_names_are_shown_as_they_are(pages):
    text = "".join(pages["hostile"].texts)
    assert text.count(HOSTILE) > 30
    assert pages["hostile"].tags.count("script") == 0


def test_the_same_record_gives_the_same_bytes_and_an_older_file_is_replaced(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("older")
    write_html(full_record(), path)
    first = path.read_bytes()
    write_html(full_record(), path)
    assert path.read_bytes() == first
    assert first.startswith(b"<!DOCTYPE html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_names_that_are_not_utf_8_do_not_stop_the_report(tmp_path):
    record = bare_record()
    record.report["data_title"] = "photos \udcff"
    write_html(record, tmp_path / "report.html")
    assert "on photos ?" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_no_size_is_parted_from_its_unit_in_the_summary(pages):
    assert any("1.10\N{NO-BREAK SPACE}MB" in text for text in pages["full"].texts)
