"""The page of Figure 3: what it says follows the numbers, what it draws is all there."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from leadline.lab.abstraction import AbstractionSpec, abstraction, even_rest
from leadline.records import Measurement
from leadline.report.lab import build_lab


def built(folder, result):
    page = build_lab(result, folder)
    return page.read_text(), json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def two():
    return abstraction(AbstractionSpec(mixtures=((0.5, 0.5), (0.8, 0.2)), size=16, replicates=300))


@pytest.fixture(scope="module")
def page(two, tmp_path_factory):
    """HTML, JSON and the folder of the page."""
    folder = tmp_path_factory.mktemp("page")
    return *built(folder, two), folder


def test_the_headline_has_the_first_steps_gains(page, two):
    html, content, _ = page
    [headline] = content["headlines"]
    gain = two.find("share_difference", mixture="80/20", step=1)[0]
    assert f"+{100 * gain.value:.1f} points from 80/20" in headline["headline"]
    assert "the largest gain is from 80/20" in headline["headline"]
    assert "From even shares upward the gain grows with the share" in headline["sentences"]["In log-odds"]
    assert "standard errors in" in headline["sentences"]["Against the law"]
    assert html.count("<svg") == 3


def test_figure_3_has_a_share_above_every_level(page, two):
    svg = (page[2] / "figures" / "figure-3.svg").read_text()
    shown = re.findall(r">([\d.]+) %<", svg)
    wanted = [f"{100 * float((two.arrays[f'grid_{i}_{step}'] == 0).mean()):.1f}" for i in (0, 1) for step in range(5)]
    assert [float(value) for value in shown] == [float(value) for value in wanted]
    assert "#0102" not in svg  # colours of the page written out


def test_a_gain_whose_interval_holds_0_is_said_to(tmp_path, two):
    def flat(m: Measurement) -> Measurement:
        moved = m.name == "share_difference" and m.params["mixture"] == "80/20" and m.params["step"] == 1
        return m.model_copy(update={"value": 0.01, "lower": -0.01, "upper": 0.03}) if moved else m

    _, content = built(tmp_path, replace(two, measurements=tuple(map(flat, two.measurements))))
    assert "+1.0 points (the interval holds 0) from 80/20" in content["headlines"][0]["headline"]


def test_log_odds_that_do_not_grow_are_said_to(tmp_path, two):
    def swapped(m: Measurement) -> Measurement:
        low = m.name == "share_log_odds" and m.params == {"mixture": "80/20", "start": 0.8, "step": 1}
        return m.model_copy(update={"value": -1.0}) if low else m

    _, content = built(tmp_path, replace(two, measurements=tuple(map(swapped, two.measurements))))
    assert "does not grow throughout" in content["headlines"][0]["sentences"]["In log-odds"]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_nothing_or_all_has_no_finite_log_odds_and_no_line(tmp_path, share):
    alone = abstraction(AbstractionSpec(mixtures=(even_rest(share, 2),), size=4, replicates=2))
    html, content = built(tmp_path / "alone", alone)
    assert "its log-odds are infinite" in content["headlines"][0]["sentences"]["In log-odds"]
    assert html.count("<svg") == 2
    assert not (tmp_path / "alone" / "figures" / "levels-2.svg").exists()
    beside = abstraction(AbstractionSpec(mixtures=(even_rest(share, 2), (0.6, 0.4)), size=8, replicates=20))
    html, _ = built(tmp_path / "beside", beside)
    assert f"{100 * share:g}/{100 * (1 - share):g}: infinite at every level" in html
    assert html.count("<svg") == 3


def test_three_classes_have_shades_and_a_table_of_all(tmp_path):
    result = abstraction(AbstractionSpec(mixtures=(even_rest(0.5, 3),), size=9, window=3, replicates=20))
    html, _ = built(tmp_path, result)
    assert "Share of every class" in html
    svg = (tmp_path / "figures" / "figure-3.svg").read_text()
    assert {"opacity: 0.56", "opacity: 0.12"} <= set(re.findall(r"opacity: [\d.]+", svg))


def test_without_a_law_the_page_says_why_and_draws_the_grids(tmp_path):
    result = abstraction(AbstractionSpec(mixtures=(even_rest(0.3, 10),), size=4, window=4, replicates=10))
    _, content = built(tmp_path, result)
    assert "fewer classes" in content["headlines"][0]["sentences"]["Against the law"]


def test_ties_that_look_at_the_grid_are_told_of(tmp_path):
    result = abstraction(AbstractionSpec(mixtures=((0.5, 0.5),), size=4, replicates=20, ties="majority"))
    html, _ = built(tmp_path, result)
    assert "cells are not independent" in html


def test_arrays_are_kept_beside_the_page(page, two):
    with np.load(page[2] / "arrays.npz", allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["grid_1_0"], two.arrays["grid_1_0"])
