"""The page of `leadline steer` from made-up measurements: what it says, hostile words, and a browser that shows it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver

from leadline.records import AuditResult, Measurement, Panel, Table
from leadline.report.prompts import build_prompts
from leadline.report.sheet import GAP, LEAST, sheet

HOSTILE = "<script>alert(1)</script> & a very long prompt " + "of_a_word_without_any_place_to_break_it" * 4
COLUMNS = {"strength 0": 0.0, "FreeU": None, "strength 0.5": 0.5, "strength 1": 1.0}


def mean(name: str, value: float | None, half: float | None, **params: Any) -> Measurement:
    params = {"space": "raw pixels", **params}
    if value is None:
        return Measurement.not_measurable(name, "there is one prompt: give more", params=params)
    ends = {} if half is None else {"lower": value - half, "upper": value + half, "level": 0.95, "method": "by hand"}
    return Measurement(name=name, value=value, unit="greys", n=4, params=params, **ends)


def result(
    *,
    prompts: tuple[str, ...] = ("a woman", "a girl", HOSTILE),
    change: float = -4.0,
    half: float | None = 1.0,
    schedule: str = "ramp(0, 1)",
    width: int = 8,
    whole: str | None = "strength 1",
) -> AuditResult:
    two = [{"first": a, "second": b} for i, a in enumerate(prompts) for b in prompts[i + 1 :]]
    pairs: list[dict[str, str]] = [{"pair": "all pairs"}, *two]
    known = len(prompts) > 1
    found = []
    for index, column in enumerate(COLUMNS):
        for pair in pairs:
            found.append(mean("prompt_distance", 9.0 - index if known else None, half, setting=column, **pair))
        if column != "strength 0":
            found.append(mean("prompt_distance_change", change if known else None, half, setting=column, **pairs[0]))
        found.append(mean("seed_distance", 20.0, half, setting=column))
    tiles = np.random.default_rng(0).integers(0, 256, (len(prompts), 4, 3, width, width)).astype(np.uint8)
    panel = Panel(
        name="grid", title="Grid", tiles=tiles, caption="All.", column_titles=tuple(COLUMNS), row_titles=prompts
    )
    rows = tuple((call, 8.0 / call, 0.1 * call, 0.2 * call) for call in range(1, 5))
    table = Table(name="schedule", title="Strengths", columns=("call", "σ", "strength 0.5", "strength 1"), rows=rows)
    settings = {
        "columns": COLUMNS,
        "wholly bypassed": whole,
        "steer": {"schedule": schedule},
        "sampler": "ddim",
        "steps": 4,
        "num_images": 4 if half else 1,
        "FreeU": "b1 1.5",
        "cut prompts": ["a very long one"],
        "packages": {"leadline": "0.1.0"},
    }
    return AuditResult(tuple(found), (table,), (panel,), settings)


def built(folder: Path, **fields: Any) -> tuple[str, dict[str, Any]]:
    page = build_prompts(result(**fields), "tiny", folder)
    return page.read_text(), json.loads(page.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of three prompts under a ramp."""
    folder = tmp_path_factory.mktemp("page")
    built(folder)
    return folder


def test_the_answer_gives_both_ends_the_change_and_the_measure(folder: Path) -> None:
    (answer,) = json.loads((folder / "report.json").read_text())["headlines"]
    assert answer["headline"].startswith("tiny: mean distance between the pictures of different prompts")
    for words in (
        "9.0 (95\xa0% interval 8.0 to 10.0) at strength 0",
        "6.0 (95\xa0% interval 5.0 to 7.0) at strength 1",
    ):
        assert words in answer["headline"]
    assert "20.0" in answer["sentences"]["Measured against"]
    (section, *_) = json.loads((folder / "report.json").read_text())["sections"]
    assert any("“a very long one…” is longer than the text encoder reads" in caveat for caveat in section["caveats"])
    assert "claims" in answer["sentences"]["The paper"]


@pytest.mark.parametrize(
    ("change", "half", "words"),
    [
        (-4.0, 1.0, "grow alike."),
        (4.0, 1.0, "grow apart."),
        (-0.5, 1.0, "The interval holds 0"),
        (-4.0, None, "no interval: chance is not excluded"),
    ],
)
def test_the_change_is_worded_by_its_interval(change: float, half: float | None, words: str, tmp_path: Path) -> None:
    _, content = built(tmp_path, change=change, half=half, prompts=("a", "b"), schedule="")
    assert words in content["headlines"][0]["sentences"]["Change"]


def test_what_the_paper_claims_stands_only_beside_a_whole_bypass(folder: Path, tmp_path: Path) -> None:
    assert "2505.17560" in (folder / "report.html").read_text()
    page, content = built(tmp_path, prompts=("a", "b"), whole=None)
    assert "The paper" not in content["headlines"][0]["sentences"]
    assert "2505.17560" not in page
    assert "factor of the schedule" in page


def test_one_prompt_is_a_page_without_distances(tmp_path: Path) -> None:
    page, content = built(tmp_path, prompts=("a woman",), schedule="")
    assert "not measurable: there is one prompt" in content["headlines"][0]["headline"]
    assert "not measurable: there is one prompt" in page


def test_a_constant_strength_needs_no_drawing_of_its_schedule(folder: Path, tmp_path: Path) -> None:
    def sections(content: dict[str, Any]) -> list[str]:
        return [section["id"] for section in content["sections"]]

    constant = built(tmp_path, prompts=("a", "b"), schedule="")[1]
    assert sections(constant) == ["answer", "grid", "distances", "settings"]
    scheduled = json.loads((folder / "report.json").read_text())
    assert sections(scheduled) == ["answer", "grid", "distances", "schedule", "settings"]


def test_large_images_are_made_smaller_on_the_page_and_kept_in_the_grid(tmp_path: Path) -> None:
    page, _ = built(tmp_path, width=300, prompts=("a woman",), schedule="")
    assert "Shown 190 px wide" in page
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > 4 * 300


def test_the_sheet_keeps_pixels_and_makes_room_for_words() -> None:
    panel = result().panels[0]
    drawn = np.asarray(sheet(panel))
    scale = LEAST // 8
    for row in range(3):
        for column in range(4):
            bottom = drawn.shape[0] - (3 - row) * (LEAST + GAP)
            right = drawn.shape[1] - (4 - column) * (LEAST + GAP)
            tile = drawn[bottom : bottom + LEAST : scale, right : right + LEAST : scale]
            assert (tile == panel.tiles[row, column].transpose(1, 2, 0)).all()
    margin = drawn[:, : drawn.shape[1] - 4 * (LEAST + GAP)]
    assert (margin[-LEAST - GAP :] != 255).any(), "the long prompt is written"
    assert (margin[:, :4] == 255).all()
    assert (margin[:, -GAP:] == 255).all()


def test_a_sheet_of_grey_tiles_without_titles_is_the_tiles() -> None:
    tiles = np.full((1, 2, 1, 200, 200), 7, dtype=np.uint8)
    drawn = np.asarray(sheet(Panel(name="grid", title="", tiles=tiles)))
    assert drawn.shape == (200 + 2 * GAP, 2 * 200 + 3 * GAP, 3)
    assert (drawn[GAP : GAP + 200, GAP : GAP + 200] == 7).all()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_a_browser_shows_it(browser: webdriver.Chrome, folder: Path, width: int, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")
    browser.get((folder / "report.html").as_uri())
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.scripts.length") == 0
    assert HOSTILE in browser.execute_script("return document.body.innerText")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    pictures = browser.execute_script(
        "return [...document.querySelectorAll('img')].map(e => [e.alt, e.naturalWidth, e.width])"
    )
    assert len(pictures) == 3 * 4
    assert all(words and natural == 8 and shown % 8 == 0 for words, natural, shown in pictures)
