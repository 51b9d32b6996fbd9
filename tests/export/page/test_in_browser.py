"""The report of a run in a real browser, from a phone to paper."""

import dataclasses
import json

import pytest

from export.page.html import write_html
from tests.browser import LOW_CONTRAST, check, needs_chromium, open_browser, print_to_pdf, show
from tests.export.page.records import HOSTILE, bare_record, full_record, hostile_record

pytestmark = needs_chromium
SETTINGS = {"seed": 0, "enbl_dst": True, "save_path": "", "a_flag_" * 12: "x" * 300, HOSTILE: HOSTILE}
PRINTED_WIDTH = 703  # of A4 between margins of 12 mm, in CSS pixels


def long_record():
    """Many layers, and names without a blank that are longer than a phone is wide."""
    record = full_record()
    layers = [row | {"path": f"{'deep' * 12}{i}/kernel"} for i, row in enumerate(record.report["layers"] * 30)]
    kernels = dict(zip((row["path"] for row in layers), record.kernels.values(), strict=False))
    report = {**record.report, "layers": layers, "data_title": "a_data_set_" * 20, "model": "network" * 20}
    return dataclasses.replace(record, report=report, kernels=kernels)


RECORDS = {"full": full_record, "bare": bare_record, "hostile": hostile_record, "long": long_record}


@pytest.fixture(scope="module")
def browser():
    with open_browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, make in RECORDS.items():
        write_html(make(), folder / f"{name}.html", SETTINGS)
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", RECORDS)
def test_the_page_fits_asks_for_nothing_and_can_be_read(browser, pages, name, width, scheme):
    check(browser, pages / f"{name}.html", width, scheme)


def test_the_measure_of_contrast_finds_what_cannot_be_read(browser, pages):
    show(browser, pages / "bare.html", 1280, "light")
    browser.execute_script("document.querySelector('h1').style.color = '#999'")
    ((text, contrast),) = browser.execute_script(LOW_CONTRAST)
    assert text.startswith("ResNet-20")
    assert contrast == pytest.approx(2.6, abs=0.2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_take_the_colours_of_the_scheme(browser, pages, scheme):
    show(browser, pages / "full.html", 1280, scheme)
    papers, frame = browser.execute_script(
        "return [[...document.querySelectorAll('svg')].map((e) => getComputedStyle(e.querySelector('path')).fill),"
        "getComputedStyle(document.querySelector('section')).backgroundColor]"
    )
    assert len(papers) == 10
    assert set(papers) == {frame}


@pytest.mark.parametrize("width", [360, 1280])
def test_each_picture_is_seen_and_has_words(browser, pages, width):
    show(browser, pages / "full.html", width, "light")
    pictures = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map((e) => [e.getBoundingClientRect().width, "
        "e.getBoundingClientRect().width / e.getBoundingClientRect().height / "
        "(e.viewBox.baseVal.width / e.viewBox.baseVal.height), e.getAttribute('role'), "
        "e.getAttribute('aria-labelledby').split(' ').map((id) => document.getElementById(id).textContent.length)])"
    )
    assert len(pictures) == 10
    for shown, stretch, role, (title, words) in pictures:
        assert 300 <= shown <= 1100  # readable: a phone scrolls
        assert stretch == pytest.approx(1, abs=0.02)
        assert role == "img"
        assert title > 10
        assert words > 40


def test_what_is_wider_than_a_phone_scrolls_in_a_frame_that_keys_reach(browser, pages):
    show(browser, pages / "full.html", 360, "light")
    frames = browser.execute_script(
        "return [...document.querySelectorAll('.frame')].map((f) => [f.scrollWidth > f.clientWidth, f.tabIndex, "
        "getComputedStyle(f).overflowX])"
    )
    assert sum(is_wide for is_wide, _, _ in frames) >= 5
    assert {(index, overflow) for _, index, overflow in frames} == {(0, "auto")}
    left = browser.execute_script(
        "const f = document.querySelector('.frame'); f.scrollLeft = 200;"
        "const at = (q) => f.querySelector(q).getBoundingClientRect().left - f.getBoundingClientRect().left;"
        "return [f.scrollLeft, at('tbody th'), at('caption > span')]"
    )
    assert left == [200, pytest.approx(0, abs=1), pytest.approx(0, abs=1)]


def test_browsers_see_tables_with_captions_and_headings(browser, pages):
    show(browser, pages / "full.html", 1280, "light")
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = [(node.get("role", {}).get("value"), node.get("name", {}).get("value", "")) for node in tree]
    images = [name for role, name in roles if role == "image" or role == "img"]
    assert len(images) == 10
    assert all(images)
    assert len([1 for role, _ in roles if role == "table"]) == 5
    assert {"columnheader", "rowheader", "caption", "contentinfo", "banner", "main"} <= {role for role, _ in roles}


@pytest.mark.parametrize("name", RECORDS)
def test_on_paper_nothing_is_cut(browser, pages, name):
    assert print_to_pdf(pages / f"{name}.html").startswith(b"%PDF")
    show(browser, pages / f"{name}.html", 1280, "dark")
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    metrics = {"width": PRINTED_WIDTH, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    widest, scheme = browser.execute_script(
        "return [Math.max(...[...document.querySelectorAll('table, svg, .pairs, p')].map((e) => "
        "e.getBoundingClientRect().right)), getComputedStyle(document.documentElement).colorScheme]"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert widest <= PRINTED_WIDTH
    assert scheme == "light"


def test_the_page_is_small(pages):
    for name in RECORDS:
        assert (pages / f"{name}.html").stat().st_size < 1_000_000, name


def test_no_program_of_a_hostile_name_runs(browser, pages):
    show(browser, pages / "hostile.html", 1280, "light")
    assert browser.execute_script("return document.scripts.length") == 0
    assert json.dumps(HOSTILE)[1:20] in json.dumps(browser.title)
