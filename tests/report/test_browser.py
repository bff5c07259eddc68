"""The page in headless Chromium, opened from file://."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from selenium import webdriver

from leadline.report import build

pytestmark = pytest.mark.browser
HOSTILE = "<script>alert(1)</script>"
UNBROKEN = "a_name_without_any_place_to_break_it_" * 5
Visit = Callable[..., webdriver.Chrome]


@pytest.fixture(scope="module")
def page(make_shared_run) -> Path:
    """A report of two runs with a hostile class name and an audit with a long one."""
    runs = [make_shared_run(blocks, minority=HOSTILE, full=True) for blocks in (2, 4)]
    alone = make_shared_run(2, title=UNBROKEN, full=True, kind="audit", classes=[*"abcdefgh", UNBROKEN])
    return build([*runs, alone], runs[0].folder.parent / "report.html")


@pytest.fixture
def visit(browser: webdriver.Chrome, page: Path) -> Visit:
    """Opens the page at a width and in a colour scheme."""

    def open_page(width: int = 1280, scheme: str = "light") -> webdriver.Chrome:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(page.as_uri())
        return browser

    return open_page


def test_the_console_stays_silent_and_nothing_is_requested(visit: Visit) -> None:
    browser = visit()
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in asked) == 1


def test_every_image_and_drawing_has_alternative_text(visit: Visit) -> None:
    script = """return [...document.querySelectorAll('img, svg')].map(e => e.tagName == 'IMG'
        ? [e.alt, e.naturalWidth > 0] : [e.getAttribute('aria-label'), e.getBBox().width > 0])"""
    found = visit().execute_script(script)
    assert len(found) > 20
    assert all(words and drawn for words, drawn in found)


def test_a_hostile_class_name_is_read_as_text(visit: Visit) -> None:
    browser = visit()
    assert browser.execute_script("return document.scripts.length") == 0
    assert HOSTILE in browser.execute_script("return document.body.innerText")
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('svg text')].map(e => e.textContent).join(' ')"
    )
    assert HOSTILE in drawn


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(visit: Visit, width: int) -> None:
    browser = visit(width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return window.innerWidth") == width


def test_all_anchors_lead_somewhere(visit: Visit) -> None:
    browser = visit()
    targets = browser.execute_script("return [...document.querySelectorAll('a')].map(e => e.getAttribute('href'))")
    assert len(targets) > 8
    assert all(browser.execute_script("return !!document.querySelector(arguments[0])", target) for target in targets)


def test_dark_mode_changes_paper_and_ink(visit: Visit) -> None:
    script = """const s = getComputedStyle(document.body), t = getComputedStyle(document.querySelector('svg text'));
        return [s.backgroundColor, s.color, t.fill]"""
    light = visit(scheme="light").execute_script(script)
    dark = visit(scheme="dark").execute_script(script)
    assert all(one != other for one, other in zip(light, dark, strict=True))


def test_it_prints(visit: Visit) -> None:
    browser = visit(scheme="dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF-")


def test_tables_scroll_by_keyboard_within_their_box(visit: Visit) -> None:
    script = """return [...document.querySelectorAll('table')].map(t => {
        const box = t.closest('[tabindex="0"]'); return !!box && getComputedStyle(box).overflowX == 'auto'; })"""
    boxed = visit(390).execute_script(script)
    assert boxed
    assert all(boxed)
