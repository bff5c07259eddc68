"""The page of bias and variance: neutral words by the intervals, what is missing with its reason."""

import json

import numpy as np
import pytest

from leadline.records import Measurement, Panel, Table, TheoryResult
from leadline.report.lab import build_lab

SIGMAS = (10.0, 1.0, 0.002)
CLASSES = ["<6>", "9", "other classes", "unclassified"]


def measured(name, value, half=0.02, group=None, **params):
    return Measurement(
        name=name, value=value, lower=value - half, upper=value + half, level=0.95, n=12, group=group, params=params
    )


def subject(model, bias, depth=None, training=0.05):
    found = []
    for place in [*({"sigma": sigma} for sigma in SIGMAS[:2]), {"levels": 2}]:
        of = {"model": model, **place}
        found += [measured("class_bias", v, group=c, **of) for c, v in zip(CLASSES, (bias, -bias, 0, 0), strict=True)]
        found += [measured("squared_bias", 0.2, **of), measured("noise_variance", 0.3, **of)]
        if training is None:
            found += [Measurement.not_measurable(n, "one training run", params=of) for n in BETWEEN]
        else:
            found += [measured("training_variance", training, **of), measured("variance", 0.3 + training, **of)]
    missing = {"model": model, "sigma": SIGMAS[2]}
    names = ("class_bias", "squared_bias", "noise_variance", *BETWEEN)
    return found + [Measurement.not_measurable(n, "the model is defined from 0.01 up", params=missing) for n in names]


BETWEEN = ("training_variance", "variance")


@pytest.fixture(scope="module")
def result():
    found = subject("soft k-NN", 0.1) + subject("2 blocks", 0.0, training=None) + subject("4 blocks", -0.1)
    against = {"model": "4 blocks", "levels": 2, "compared_with": "3 blocks"}
    found += [
        measured("class_bias_change", -0.1, group="<6>", **against),
        measured("squared_bias_change", 0.01, **against),
        measured("noise_variance_change", 0.05, **against),
        measured("labeler_accuracy", 0.98, 0.01),
    ]
    runs = Table(name="runs", title="Runs", columns=("model", "run"), rows=(("soft k-NN", "bootstrap 1"),))
    subjects = {"soft k-NN": ["a", "b"], "2 blocks": ["c"], "4 blocks": ["d", "e"]}
    settings = {
        "sigmas": SIGMAS,
        "draws": 4,
        "images": 12,
        "training_images": 100,
        "classes": CLASSES,
        "majority": "<6>",
        "subjects": subjects,
        "labeler": "a small network",
        "packages": {"leadline": "0"},
    }
    return TheoryResult(tuple(found), tables=(runs,), settings=settings, kind="bias_variance")


@pytest.fixture(scope="module")
def page(result, tmp_path_factory):
    """HTML, JSON and the folder of the page."""
    folder = tmp_path_factory.mktemp("page")
    return *content(result, folder), folder


def content(result, folder):
    page = build_lab(result, folder)
    return page.read_text(), json.loads((folder / "report.json").read_text())


def test_words_follow_the_intervals(page):
    _, found, _ = page
    knn, two, four = found["headlines"]
    label = "Class “<6>”, the most frequent"
    assert "bias of class “<6>” +10.0 points" in knn["headline"]
    assert knn["sentences"][label] == "Bias over training runs: it is made more often than encoded."
    assert two["sentences"][label] == "Bias of this run: not decided: the interval holds 0."
    assert four["sentences"][label] == "Bias over training runs: it is made less often than encoded."
    against = four["sentences"]["Against 3 blocks"]
    assert "−10.0 points (95 % interval −12.0 to −8.0 points), lower" in against.replace("\N{NO-BREAK SPACE}", " ")
    assert "squared bias" in against
    assert "not decided: the interval holds 0" in against
    assert "variance by noise" in against
    assert "higher" in against


def test_a_single_run_has_no_sum_and_says_so(page):
    html, found, _ = page
    _, two, four = found["headlines"]
    assert "variance by noise" in two["headline"]
    assert "Parts of the variance" not in two["sentences"]
    assert "variance between training runs" in four["sentences"]["Parts of the variance"]
    assert "One training run (2 blocks)" in html
    assert two["headline"].startswith("2 blocks: in its one training run, mean over 2 noise levels")


def test_single_runs_of_depths_are_not_compared(tmp_path, result):
    against = {"model": "4 blocks", "levels": 2, "compared_with": "2 blocks"}
    kept = tuple(m for m in result if "compared_with" not in m.params)
    reason = "one training run of a depth"
    missing = Measurement.not_measurable("class_bias_change", reason, group="<6>", params=against)
    whole = TheoryResult((*kept, missing), result.tables, settings=result.settings, kind="bias_variance")
    _, found = content(whole, tmp_path)
    assert found["headlines"][2]["sentences"]["Against 2 blocks"] == "not compared: one training run of a depth."


def test_what_is_not_measurable_stands_with_its_level(page):
    html, _, _ = page
    assert "2 blocks: Not measurable at σ = 0.002: the model is defined from 0.01 up." in html


def test_names_are_text_and_figures_have_a_line_per_subject(page):
    html, _, folder = page
    assert "<6>" not in html
    assert "&lt;6&gt;" in html
    for number in (1, 2):
        svg = (folder / "figures" / f"bias-{number}.svg").read_text()
        assert all(name in svg for name in ("soft k-NN", "2 blocks", "4 blocks"))
    assert "Accuracy on labelled images" in html


def test_the_exchange_stands_beside_what_the_encoder_gives_back(tmp_path, result):
    of = {"encoder": "2 blocks", "sigma": 10.0}
    more = (
        measured("class_changed", 0.05, decoder="2 blocks", **of),
        measured("class_changed", 0.25, decoder="4 blocks", **of),
        measured("exchange_distance", 3.0, decoder="2 blocks", **of),
        measured("exchange_distance", 40.0, decoder="4 blocks", **of),
    )
    tables = (*result.tables, Table(name="exchange", title="Exchange", columns=("a", "b"), rows=(("x", 1),)))
    panel = Panel(name="exchange", title="t", tiles=np.zeros((1, 3, 1, 4, 4), np.uint8), captions=("a", "b", "c"))
    whole = TheoryResult(
        (*result.measurements, *more), tables, (panel,), settings=result.settings, kind="bias_variance"
    )
    html, found = content(whole, tmp_path)
    last = found["headlines"][-1]
    assert last["headline"].startswith("Encoded by 2 blocks, decoded by 4 blocks: 25.0")
    assert "decoded by 2 blocks itself 5.0" in last["headline"]
    assert 'id="exchange"' in html


def test_without_a_common_level_there_is_no_mean(tmp_path, result):
    alone = tuple(m for m in result if "levels" not in m.params)
    _, found = content(TheoryResult(alone, result.tables, settings=result.settings, kind="bias_variance"), tmp_path)
    assert found["headlines"][0]["headline"] == "soft k-NN: no noise level is measurable for all."
