"""The labelling page in headless Chromium, opened from file:// and used with real keys; what it saves is read back."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from leadline.audit.human_labels import (
    FORMAT,
    NONE,
    UNSURE,
    VERSION,
    page_id,
    pixels_fingerprint,
    read_human_labels,
    sampled_order,
)
from leadline.errors import LeadlineError
from leadline.records import ImageSet
from leadline.report.label_page import KEYS, LabelTask, build_label_page, smaller

HOSTILE = "</script><script>document.title='owned'</script>"
CLASSES = ("six", HOSTILE, 'n"ine')
N = 6


def images(num: int = 20, size: int = 8) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (num, 1, size, size), dtype=np.uint8)
    return ImageSet(name="samples <b>of</b> a run", pixels=pixels, ids=tuple(f"0/{i}" for i in range(num)))


def task_of(samples: ImageSet, n: int = N, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> LabelTask:
    order = sampled_order(len(samples), n, seed)
    return LabelTask(
        samples_name=samples.name,
        fingerprint=pixels_fingerprint(samples),
        num_samples=len(samples),
        seed=seed,
        pixels=samples.pixels[order],
        ids=tuple(samples.ids[i] for i in order),
        classes=classes,
        none=NONE,
        unsure=UNSURE,
        format=FORMAT,
        version=VERSION,
        page=page_id(pixels_fingerprint(samples), seed, n, classes),
    )


Open = Callable[..., webdriver.Chrome]


@pytest.fixture
def visit(browser: webdriver.Chrome, tmp_path: Path) -> Open:
    """Opens the page of six images in an empty store, downloads going to tmp_path; `again` keeps the store."""
    page = build_label_page(task_of(images()), tmp_path / "label.html")

    def open_page(
        *, again: bool = False, width: int = 1000, scheme: str = "light", before: str = ""
    ) -> webdriver.Chrome:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path / "saved")}
        )
        for log in ("browser", "performance"):
            browser.get_log(log)
        script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": before})
        browser.get(page.as_uri())
        if not (again or before):
            browser.execute_script("localStorage.clear()")
            browser.refresh()
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
        return browser

    return open_page


def press(browser: webdriver.Chrome, *keys: str) -> None:
    body = browser.find_element(By.TAG_NAME, "body")
    for key in keys:
        body.send_keys(key)


def told(browser: webdriver.Chrome, part: str = "progress") -> str:
    return browser.find_element(By.ID, part).text


def saved(browser: webdriver.Chrome, folder: Path) -> Path:
    """Press save and wait for the file."""
    browser.find_element(By.ID, "save").click()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if files := sorted(folder.glob("*.json")):
            return files[-1]
        time.sleep(0.02)
    raise AssertionError("nothing was downloaded")


@pytest.mark.browser
def test_labels_by_key_survive_a_reload_and_come_back_from_the_saved_file(visit: Open, tmp_path: Path) -> None:
    browser = visit()
    assert told(browser) == f"Image 1 of {N}"
    press(browser, "1", "2", "u", Keys.BACKSPACE, "3", Keys.ARROW_LEFT, "u", "0")
    assert told(browser) == f"Image 5 of {N}"
    browser = visit(again=True)
    assert told(browser) == f"Image 5 of {N}"
    assert "still here" in told(browser, "note")
    press(browser, "n")
    file = saved(browser, tmp_path / "saved")
    samples = images()
    found = read_human_labels(file, samples, CLASSES)
    assert found.answers == ("six", HOSTILE, UNSURE, NONE, NONE)
    assert found.indices.tolist() == sampled_order(len(samples), N, 0)[:5].tolist()
    assert (found.classes, found.asked) == (CLASSES, N)
    with pytest.raises(LeadlineError, match="labels of other images"):
        read_human_labels(file, images(19), CLASSES)
    # Elsewhere: an empty store, the file opened, the last image labelled.
    browser = visit()
    browser.find_element(By.ID, "open").send_keys(str(file))
    WebDriverWait(browser, 20).until(lambda b: told(b, "note") == "Opened 5 labels.")
    press(browser, "1")
    assert told(browser) == f"All {N} images are labelled"
    assert browser.find_element(By.ID, "finished").is_displayed()
    assert browser.execute_script("return document.activeElement.id") == "finished-title"
    press(browser, "2")
    assert told(browser) == f"All {N} images are labelled"
    browser.find_element(By.ID, "back").click()
    assert told(browser) == f"Image {N} of {N}, labelled already"
    pressed = browser.execute_script("return document.querySelector('[aria-pressed=true]').textContent")
    assert pressed == "1 six"


@pytest.mark.browser
def test_buttons_do_what_keys_do_and_the_text_can_be_copied(visit: Open) -> None:
    browser = visit()
    buttons = browser.find_elements(By.CSS_SELECTOR, "#answers button")
    assert [button.text for button in buttons] == ["1 six", f"2 {HOSTILE}", '3 n"ine', f"0 {NONE}", f"u {UNSURE}"]
    buttons[2].click()
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert told(browser) == f"Image 3 of {N}"
    browser.find_element(By.CSS_SELECTOR, "#copy summary").click()
    press(browser, "4", Keys.CONTROL + "u")
    WebDriverWait(browser, 20).until(lambda b: b.find_element(By.ID, "text").get_property("value"))
    content = json.loads(browser.find_element(By.ID, "text").get_property("value"))
    assert [answer["label"] for answer in content["labels"]] == ['n"ine'] * 2


@pytest.mark.browser
def test_the_page_is_hostile_to_no_one(visit: Open) -> None:
    """Class names are text, the console is silent, nothing is requested; narrow and dark it stays readable."""
    browser = visit(width=400, scheme="dark")
    press(browser, "1")
    # The model's name is in the saved file alone: the person is to be blind to it.
    assert browser.title == f"Label {N} images · Leadline"
    assert "samples <b>of</b>" not in browser.execute_script("return document.body.innerText")
    assert browser.execute_script("return document.scripts.length") == 2
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    assert browser.execute_script("return document.getElementById('image').naturalWidth") == 8
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(20, 23, 27)"
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}


@pytest.mark.browser
def test_a_store_that_is_refused_is_said_and_labelling_goes_on(visit: Open) -> None:
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
    browser = visit(before=refuse)
    assert "save them before you close it" in told(browser, "note")
    press(browser, "1")
    assert told(browser) == f"Image 2 of {N}"
    assert browser.find_element(By.ID, "save").is_enabled()


@pytest.mark.browser
def test_a_file_of_another_page_is_refused(visit: Open, tmp_path: Path) -> None:
    browser = visit()
    good = {"format": FORMAT, "version": VERSION, "page": "0" * 16, "labels": []}
    for name, text, words in (
        ("broken.json", "{", "not valid JSON"),
        ("other.json", json.dumps({**good, "format": "else"}), "not a file of labels that this page reads"),
        ("page.json", json.dumps(good), "belongs to another page"),
        ("odd.json", json.dumps({**good, "page": task_of(images()).page, "labels": [{"id": "x"}]}), "do not fit"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        browser.find_element(By.ID, "open").send_keys(str(tmp_path / name))
        WebDriverWait(browser, 20).until(lambda b, name=name: told(b, "note").startswith(name))
        assert words in told(browser, "note")
    assert told(browser) == f"Image 1 of {N}"


def test_the_page_depends_on_the_task_alone_and_names_it(tmp_path: Path) -> None:
    one, two = (build_label_page(task_of(images()), tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == two
    tasks = [task_of(images()), task_of(images(), seed=1), task_of(images(), n=5), task_of(images(), classes=("a",))]
    assert len({task.page for task in tasks}) == len(tasks)
    with pytest.raises(LeadlineError, match="is a folder"):
        build_label_page(task_of(images()), tmp_path)


def test_large_images_are_made_smaller_and_their_shape_kept() -> None:
    wide = np.random.default_rng(1).integers(0, 256, (2, 3, 200, 640), dtype=np.uint8)
    assert smaller(wide).shape == (2, 3, 100, 320)
    small = wide[:, :, :100, :320]
    assert smaller(small) is small


def test_keys_of_classes_are_none_of_the_other_answers() -> None:
    assert len(set(KEYS)) == len(KEYS) == 33
    assert not set(KEYS) & {"0", "n", "u"}
