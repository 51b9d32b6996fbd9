"""The page of a comparison in a real browser, from a phone to paper."""

import pytest

from export.comparison import write_comparison
from tests.browser import check, needs_chromium, open_browser, print_to_pdf, show
from tests.export.comparison.small_runs import exports_of, file_row, write_accuracy

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with open_browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Three ratios of three seeds, one run apart with a long name and other flags: all that a page can have."""
    family = tmp_path_factory.mktemp("family")
    places = []
    for ratio in (0.5, 0.9, 0.95):
        for seed in range(3):
            accuracy = 0.95 - 0.1 * ratio + 0.003 * seed
            rows = [
                file_row("litert", 1_100_000, accuracy, 1.5),
                file_row("litert-int8", int(300_000 * (1 - ratio / 2)), accuracy - 0.002, 0.4 + ratio),
                file_row("trim-16", int(200_000 * (1 - ratio)), accuracy - 0.001),
            ]
            config = {"seed": seed, "ws_prune_ratio": ratio}
            place = family / f"ratio_{ratio}_seed_{seed}"
            places.append(write_accuracy(place, accuracy, config, exports=exports_of(*rows)))
    (places[0] / "report.html").write_text("<!DOCTYPE html><title>a run</title>")
    name = "a_run_with_a_name_that_is_far_too_long_for_any_phone_and_has_no_blanks_at_all" * 2
    places.append(write_accuracy(family / name, 0.7, {"ws_prune_ratio": 0.99, "flag_of_a_newer_version": "x" * 200}))
    return write_comparison(places)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_asks_for_nothing_and_can_be_read(browser, page, width, scheme):
    check(browser, page, width, scheme)


def test_each_picture_is_seen_and_has_words(browser, page):
    show(browser, page, 360, "light")
    pictures = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map((e) => [e.getBoundingClientRect().width, e.role || "
        "e.getAttribute('role'), e.getAttribute('aria-labelledby').split(' ').every((id) => "
        "document.getElementById(id).textContent.length > 10)])"
    )
    assert len(pictures) == 3
    for width, role, has_words in pictures:
        assert 200 < width <= 360
        assert role == "img"
        assert has_words


def test_a_wide_table_scrolls_in_its_own_frame_and_keeps_the_names_in_view(browser, page):
    show(browser, page, 360, "light")
    frame, moved, left = browser.execute_script(
        "const f = document.querySelector('.frame'); const name = f.querySelector('tbody th'); f.scrollLeft = 150;"
        "return [f.scrollWidth > f.clientWidth, f.scrollLeft, "
        "name.getBoundingClientRect().left - f.getBoundingClientRect().left]"
    )
    assert frame
    assert moved == 150
    assert left == pytest.approx(0, abs=1)


def test_the_link_leads_to_the_run(browser, page):
    show(browser, page, 1280, "light")
    browser.get(browser.execute_script("return document.querySelector('tbody a').href"))
    assert browser.title == "a run"


def test_on_paper_no_table_is_cut(browser, page):
    assert print_to_pdf(page).startswith(b"%PDF")
    show(browser, page, 1280, "dark")
    # A landscape A4 page between its margins of 12 mm is 1,032 CSS pixels wide.
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    metrics = {"width": 1032, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    widths = browser.execute_script("return [...document.querySelectorAll('table')].map((e) => e.scrollWidth)")
    assert len(widths) == 3
    assert max(widths) <= 1032
    assert browser.execute_script("return getComputedStyle(document.documentElement).colorScheme") == "light"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
