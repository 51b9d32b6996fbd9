"""A headless Chromium to look at pages with, and what any page must be in it."""

import base64
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
needs_chromium = pytest.mark.skipif(
    not (os.access(CHROMIUM, os.X_OK) and os.access(DRIVER, os.X_OK)),
    reason=f"there is no Chromium here ({CHROMIUM} and {DRIVER}); .ci/run installs it",
)
# Contrast as WCAG 2 defines it, of each text against the nearest background that is not transparent.
LOW_CONTRAST = """
const luminance = (c) => {
  const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => {
    const share = v / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)" && colour !== "transparent") return colour;
  }
  return "rgb(255, 255, 255)";
};
const low = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || ["TITLE", "DESC", "STYLE"].includes(element.tagName.toUpperCase())) continue;
  const style = getComputedStyle(element);
  const ink = luminance(element instanceof SVGElement ? style.fill : style.color);
  const paper = luminance(ground(element));
  const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (contrast < 4.5) low.push([walker.currentNode.data.trim(), contrast]);
}
return low;
"""


@contextmanager
def open_browser() -> Iterator[webdriver.Chrome]:
    """A browser with a profile of its own, which keeps a log of all requests."""
    profile = tempfile.mkdtemp(prefix="chromium-")
    options = Options()
    options.binary_location = CHROMIUM
    for argument in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(30)
    try:
        driver.get("data:,")  # away from the page of a new tab, which asks for parts of its own
        driver.get_log("performance")
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def show(driver: webdriver.Chrome, page: Path, width: int, scheme: str) -> None:
    """Opens `page` in a window of that width (CSS pixels), in the "light" or the "dark" scheme."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(page.as_uri())


def print_to_pdf(page: Path) -> bytes:
    """`page` as a PDF, in the sizes that it asks for.

    On a busy machine a headless Chromium now and then answers "Printing failed" for a page that it prints the next
    time: then up to two more attempts are made, each in a new browser.
    """
    for attempts_left in (2, 1, 0):
        with open_browser() as driver:
            show(driver, page, 1280, "dark")
            try:
                return base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
            except WebDriverException as error:
                if not attempts_left or "Printing failed" not in str(error.msg):
                    raise
    raise AssertionError("the last attempt returns or raises")


def requests_of(driver: webdriver.Chrome) -> list[str]:
    """The addresses asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def check(driver: webdriver.Chrome, page: Path, width: int, scheme: str) -> None:
    """Asserts that the page fits, asks for nothing, has no error, can be read and follows the scheme."""
    show(driver, page, width, scheme)
    size = driver.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    assert size == [width, width]
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    requests = requests_of(driver)
    assert page.as_uri() in requests
    assert {urlsplit(url).scheme for url in requests} <= {"file", "data"}
    assert driver.execute_script(LOW_CONTRAST) == []
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 3 * 128) == (scheme == "light")
