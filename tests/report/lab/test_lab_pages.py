"""The pages of `denoisers` and `linearity` from measurements made by hand: what they say, draw and leave unsaid."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver

from leadline.errors import LeadlineError
from leadline.records import Measurement, Panel, TheoryResult
from leadline.report.lab import PAGES, build_lab
from leadline.report.lab.lines import decades, verdict
from leadline.report.lab.page import LabPage, standalone

HOSTILE = "<script>alert(1)</script>"
PAIRS = [("trained", "gaussian"), ("trained", "linear"), ("linear", "gaussian")]
SHARED: dict[str, Any] = {"sigmas": (10.0, 1.0, 0.1), "num_images": 16, "seed": 0, "packages": {"leadline": "0.0"}}


def measured(name: str, value: float, half: float = 0.01, **params: Any) -> Measurement:
    interval: dict[str, Any] = {"lower": value - half, "upper": value + half, "level": 0.95, "method": "by hand"}
    return Measurement(name=name, value=value, n=16, params=params, **interval)


def denoisers_result(shares: Sequence[float], name: str = "tiny", split: str = "held-out") -> TheoryResult:
    """shares: trained against Gaussian over multi-delta against Gaussian, at each noise level."""
    found = []
    for sigma, share in zip(SHARED["sigmas"], shares, strict=True):
        at = {"model": name, "sigma": sigma, "num_train": 90}
        for first, second in PAIRS:
            found.append(measured("score_difference", 0.05 * sigma, first=first, second=second, **at))
        for (first, second), value in zip(PAIRS, (share, 0.3, 0.1), strict=True):
            found.append(measured("score_difference_share", value, first=first, second=second, **at))
        found.append(measured("linear_r_squared", 0.9, rows=100, held_out="images given for it", **at))
        found.append(Measurement(name="linear_estimation_error", value=0.004, params=at))
        found.append(measured("effective_k", 12.0, 2.0, denoiser="trained", bound="at most", **at))
        found.append(measured("effective_k_r_squared", 0.42, denoiser="trained", **at))
        found.append(measured("trajectory_distance", 0.0, first="linear", second="gaussian", **at))
    found.append(Measurement.not_measurable("score_difference", "too far out", params={"model": name, "sigma": 99.0}))
    found.append(measured("sample_distance", 0.3, first="trained", second="gaussian", model=name))
    found.append(measured("sample_distance", 0.6, first="trained", second="trained", noise="other noise", model=name))
    found.append(measured("nearest_training_distance", 0.0, 0.0, set="multi-delta", model=name))
    tiles = np.zeros((2, 3, 1, 8, 8), dtype=np.uint8)
    panels = tuple(
        Panel(name=panel, title=f"{name}: {panel}", tiles=tiles, row_titles=("trained", "Gaussian"))
        for panel in ("samples", "trajectory")
    )
    settings = {
        **SHARED,
        "num_seeds": 4,
        "sampler": "heun",
        "points": {name: split},
        "models": {name: {"run": name, "fitted_to": 40}},
    }
    return TheoryResult(tuple(found), panels=panels, settings=settings, kind="denoisers", arrays={"x": np.ones(2)})


def linearity_result(places: dict[str, int], axis: str, **shared: int) -> TheoryResult:
    """places: model -> where it stands on the axis, num_train or depth. shared: params of all."""
    found = []
    for name, place in places.items():
        for sigma in SHARED["sigmas"]:
            at = {"model": name, "sigma": sigma, axis: place, **shared}
            for denoiser in ("trained", "gaussian", "multi-delta"):
                for centred in (False, True):
                    found.append(measured("linearity", 0.97, denoiser=denoiser, centred=centred, **at))
        for which, value in (("samples", 0.2), ("held-out", 0.25)):
            for squared in (False, True):
                more = {"set": which, "squared": squared, "model": name, axis: place, **shared}
                found.append(measured("generalization_score", value, **more))
    whole = dict.fromkeys(places, "held-out")
    settings = {**SHARED, "num_samples": 50, "points": whole, "samples": dict.fromkeys(places, "drawn here")}
    settings["models"] = {name: {"run": name} for name in places}
    return TheoryResult(tuple(found), settings=settings, kind="linearity")


@cache
def usual() -> LabPage:
    return PAGES["denoisers"](denoisers_result([0.4] * 3))


def told(page: LabPage) -> dict[str, str]:
    [finding] = page.findings
    return {"headline": finding.headline, **dict(finding.sentences)}


def test_the_answer_rests_on_the_distance_that_memorization_gives() -> None:
    words = told(PAGES["denoisers"](denoisers_result([0.4, 1.2, 1.005])))
    gap = "\N{NO-BREAK SPACE}"
    assert words["headline"] == (
        f"at σ = 1 the trained denoiser is 1.200 (95{gap}% interval 1.190 to 1.210) times as far from the Gaussian "
        "one as the multi-delta denoiser, which memorizes, is (0: the Gaussian itself, 1: as far); on that scale it is "
        f"0.300 (95{gap}% interval 0.290 to 0.310) from the linear one."
    )
    near = words["Near the Gaussian"]
    assert "at 1 level of 3 the trained denoiser is nearer to the Gaussian one than the multi-delta denoiser" in near
    assert "is (σ = 10); at 1 it is farther (σ = 1); at 1 not decided, the interval holds 1 (σ = 0.1)" in near
    assert words["Linear and Gaussian"] == (
        f"P2 says that D_L ≈ D_G. They are 0.050 (95{gap}% interval 0.040 to 0.060) apart at σ = 1, 0.100 (95{gap}% "
        "interval 0.090 to 0.110) of the multi-delta's distance; the fit's own error alone would give 0.0040 (RMS per "
        "value, images in [−1, 1]). That alone does not tell a model that is near the Gaussian one from one that "
        "memorizes: see the caveats."
    )
    assert (
        "trained 12.0 (95\N{NO-BREAK SPACE}% interval 10.0 to 14.0) (a bound: at most) with R² 0.42"
        in (words["Effective k"])
    )
    assert "fitted to 100 noisy images per level, judged on held-out images" in words["Linear fit"]
    assert "two trained ones of different noise 0.600" in words["Samples"]
    assert "multi-delta 0" in words["Nearest training image"]


def test_what_holds_of_every_denoiser_is_never_told_as_support() -> None:
    page = usual()
    [fact] = [text for text in page.caveats if "no sign of a Gaussian model" in text]
    assert "E|D − D_G|² = E|D − D_L|² + E|D_L − D_G|²" in fact
    assert "memorizes its training set perfectly the best affine map is D_G itself" in fact
    whole = " ".join([*page.caveats, *(words for f in page.findings for _, words in f.sentences)])
    assert "linear denoiser is nearer to the Gaussian" not in whole
    assert any("noisy images of 40 of the 90 training images" in text for text in page.caveats)


def test_what_is_missing_and_where_the_points_come_from_are_caveats() -> None:
    page = PAGES["denoisers"](denoisers_result([0.4] * 3, split="training"))
    assert "Not measurable at σ = 99: too far out." in page.caveats
    assert any("tiny: no images are held out" in text for text in page.caveats)
    assert not any("held out" in text for text in usual().caveats)


def test_nothing_measured_is_said_with_its_reason() -> None:
    absent = Measurement.not_measurable("score_difference", "outside", params={"model": "tiny", "sigma": 1.0})
    whole = denoisers_result([0.4] * 3)
    words = told(PAGES["denoisers"](TheoryResult((absent,), settings=whole.settings, kind="denoisers")))
    assert words == {"headline": "no score difference could be measured: Not measurable at σ = 1: outside."}


def test_the_folder_has_all_files_and_no_earlier_figure(tmp_path: Path) -> None:
    once = denoisers_result([0.4] * 3)
    [first, _] = once.panels
    build_lab(replace(once, panels=(replace(first, name="earlier"),)), tmp_path)
    assert (tmp_path / "figures" / "earlier.png").exists()
    page = build_lab(denoisers_result([0.4] * 3, name=HOSTILE), tmp_path)
    figures = {file.name for file in (tmp_path / "figures").iterdir()}
    assert figures == {"score-difference.svg", "effective-k.svg", "trajectories.svg", "samples.png", "trajectory.png"}
    with Image.open(tmp_path / "figures" / "samples.png") as picture:
        assert picture.width > 3 * 128
    html = page.read_text()
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["kind"] == "denoisers"
    assert content["headlines"][0]["headline"].startswith(f"{HOSTILE}: at σ = 1 the trained denoiser is")
    assert len(content["measurements"]) == len(denoisers_result([0.4] * 3))
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as arrays:
        assert arrays["x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{}", "is a run, whose report would be replaced: choose another folder"),
        ("report.html", "<p>mine</p>", "holds report.html that no theory command wrote"),
        ("report.json", '{"kind": "audit"}', "holds report.json that no theory command wrote"),
        ("report.json", '{"kind": []}', "holds report.json that no theory command wrote"),
        ("figures/mine.png", "", "holds figures that no theory command wrote"),
    ],
)
def test_what_is_another_s_is_not_replaced(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(LeadlineError, match=message):
        build_lab(denoisers_result([0.4] * 3), tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == content


def test_a_figure_of_another_beside_the_page_stays(tmp_path: Path) -> None:
    build_lab(denoisers_result([0.4] * 3), tmp_path)
    (tmp_path / "figures" / "mine.png").write_text("mine")
    build_lab(denoisers_result([0.3] * 3), tmp_path)
    assert (tmp_path / "figures" / "mine.png").read_text() == "mine"


def test_a_figure_that_stands_alone_has_its_own_colours() -> None:
    [section] = [s for s in PAGES["denoisers"](denoisers_result([0.4] * 3)).sections if s.id == "score-difference"]
    text = standalone(section.figures[0])  # type: ignore[arg-type]
    assert text.startswith('<?xml version="1.0"')
    assert "var(--" not in text


def test_two_models_have_sections_of_their_own() -> None:
    one, two = denoisers_result([0.4] * 3, "one"), denoisers_result([0.4] * 3, "two")
    settings = {**one.settings, "models": {"one": {}, "two": {}}, "points": {"one": "held-out", "two": "held-out"}}
    page = PAGES["denoisers"](TheoryResult((*one, *two), panels=one.panels, settings=settings, kind="denoisers"))
    ids = [section.id for section in page.sections]
    assert ids[:2] == ["score-difference", "effective-k"]
    assert ids[4:6] == ["score-difference-2", "effective-k-2"]
    assert page.sections[4].title == "Score difference: two"


def test_models_are_drawn_along_what_they_differ_in() -> None:
    page = PAGES["linearity"](linearity_result({"large": 1000, "small": 10}, "num_train", depth=3))
    assert [section.id for section in page.sections] == ["linearity", "generalization", "along-num-train"]
    along = page.sections[-1]
    assert along.title == "Against training images"
    scores, cosines = along.figures
    assert "samples: 0.2000 at 10, 0.2000 at 1,000" in scores.alt
    assert "σ = 0.1: 0.9700 at 10, 0.9700 at 1,000. σ = 1: " in cosines.alt
    finding = page.findings[0]
    assert finding.headline.startswith("linearity at σ = 1: 0.970")
    assert dict(finding.sentences)["Generalization"].startswith("score of samples 0.200")


def test_words_of_an_interval() -> None:
    assert verdict(measured("d", 0.2), "above", "below") == "above"
    assert verdict(measured("d", -0.2), "above", "below") == "below"
    assert verdict(measured("d", 0.001), "above", "below") == "not decided: the interval holds 0"
    assert verdict(Measurement(name="d", value=1.0), "above", "below") == "not decided: there is no interval"


def test_ticks_are_powers_of_ten() -> None:
    assert decades([0.02, 80]) == [0.01, 0.1, 1, 10, 100]
    assert decades([10]) == [10, 100]


@pytest.mark.browser
def test_the_page_in_a_browser(browser: webdriver.Chrome, tmp_path: Path) -> None:
    page = build_lab(denoisers_result([0.4] * 3, name=HOSTILE), tmp_path)
    for width in (390, 1280):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.scripts.length") == 0
    drawn = browser.execute_script("return [...document.querySelectorAll('svg')].map(e => e.getBBox().width > 0)")
    assert drawn == [True] * 3
    assert browser.get_log("browser") == []
