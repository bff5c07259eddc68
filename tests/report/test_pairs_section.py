"""The section on pairs of the same seeds: both directions in the same words, and nothing hidden."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from paired_runs import made_run, recipe_of

from leadline.across import gathered
from leadline.across.pairing import drawn_by, pairing
from leadline.across.pairs import compare, pairs_of_runs
from leadline.records import AuditResult
from leadline.report.content import Tiles
from leadline.report.pairs import NOTHING, pairs_section, section_of
from leadline.report.pairs_page import build_pairs
from leadline.report.pairs_words import pairs_sentence
from leadline.report.views import open_views

MANY, FEW = ["nine"] * 60 + ["six"] * 140, ["nine"] * 20 + ["six"] * 40 + ["nine"] * 5 + ["six"] * 135


def found_in(tmp_path: Path, shallow: list[str], deep: list[str]) -> AuditResult:
    runs = [
        made_run(tmp_path / f"{blocks}", labels, recipe_of(model={"blocks": blocks}))
        for blocks, labels in ((2, shallow), (4, deep))
    ]
    return gathered(pairs_of_runs(runs))


@pytest.mark.parametrize(
    ("shallow", "deep", "counts", "word", "ways"),
    [
        (MANY, FEW, "40 are nine at 2 blocks alone and 5 at 4 blocks alone", "less", (40, 5)),
        (FEW, MANY, "5 are nine at 2 blocks alone and 40 at 4 blocks alone", "more", (5, 40)),
    ],
)
def test_either_direction_is_told_in_the_same_words(
    tmp_path: Path, shallow: list[str], deep: list[str], counts: str, word: str, ways: tuple[int, int]
) -> None:
    section = section_of(found_in(tmp_path, shallow, deep))
    told = section.findings[0]
    assert told.run == "2 blocks → 4 blocks (made, training seed 0)"
    sign = {"less": "\N{MINUS SIGN}17.5", "more": "+17.5"}[word]
    assert told.headline.startswith(f"of 200 pairs of the same seeds, {counts}: 4 blocks makes it {word} often (exact")
    assert f"(exact McNemar p < 0.001; difference {sign} points, 95" in told.headline
    way = dict(told.sentences)["Which way"]
    assert f"{ways[0]} went from nine to six, and {ways[1]} from six to nine." in way
    assert "changed in 45 pairs" in way
    titles = [figure.title for figure in section.figures if isinstance(figure, Tiles)]
    assert titles == [f"Same seeds: 2 blocks → 4 blocks: from {x}" for x in ("nine to six", "six to nine")]
    assert [len(figure.rows) for figure in section.figures if isinstance(figure, Tiles)] == [min(8, n) for n in ways]
    assert section.tables[0].columns[-1] == "Holm over 1 test"
    assert section.tables[1].style == "matrix"


def test_no_difference_and_an_empty_gallery_are_said(tmp_path: Path) -> None:
    section = section_of(found_in(tmp_path, ["nine", *["six"] * 9], ["six"] * 10))
    assert (
        "1 are nine at 2 blocks alone and 0 at 4 blocks alone: no difference is shown" in section.findings[0].headline
    )
    empty = section.figures[1]
    assert isinstance(empty, Tiles)
    assert (empty.caption, empty.rows) == ("0 found among 10 pairs.", ())


def test_a_class_outside_the_training_data_is_told_as_such(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path / str(blocks), labels, recipe_of(model={"blocks": blocks}))
        for blocks, labels in ((2, ["seven", *["six"] * 9]), (4, ["six"] * 10))
    ]
    found = gathered(compare([pairing(*map(drawn_by, runs))], "seven"))
    assert found.find("paired_flips", "seven")[0].params["training_share"] == 0
    section = section_of(found)
    assert "1 are seven (which no training image is) at 2 blocks alone and 0 at" in section.findings[0].headline
    assert [(row[1].text, row[1].detail) for row in section.tables[0].rows] == [("seven", "not in the training data")]
    known = section_of(gathered(pairs_of_runs(runs)))
    assert "which no training image is" not in known.findings[0].headline
    assert {row[1].detail for row in known.tables[0].rows} == {""}


def test_a_verdict_never_contradicts_the_interval_beside_it(tmp_path: Path) -> None:
    """5 gained, 0 lost, of 100: p = 0.0625, so the interval has 0 within."""
    section = section_of(found_in(tmp_path, ["six"] * 100, ["nine"] * 5 + ["six"] * 95))
    told = section.findings[0].headline.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")
    assert "no difference is shown (exact McNemar p = 0.062; difference +5.0 points, 95 % interval -0.2" in told


def test_what_holm_alone_shows_is_undecided(tmp_path: Path) -> None:
    """y gains 20 of x's; z loses 6 of 6 to x, p = 0.031: Holm's test shows it, Bonferroni's interval does not."""
    counts = {"x": 50, "y": 30, "z": 20}
    recipes = [recipe_of(model={"blocks": blocks}) for blocks in (2, 4)]
    labels = (["x"] * 20 + ["z"] * 6 + ["x"] * 50 + ["y"] * 50, ["y"] * 20 + ["x"] * 6 + ["x"] * 50 + ["y"] * 50)
    runs = [made_run(tmp_path / str(i), labels[i], recipes[i], counts=counts) for i in (0, 1)]
    found = gathered(pairs_of_runs(runs))
    told = section_of(found).findings[0].headline
    assert "20 at 4 blocks alone: 4 blocks makes it more often" in told
    assert "6 are z at 2 blocks alone and 0 at 4 blocks alone: undecided" in told
    assert "points for all 3 tests at once" in told
    m = found.find("paired_flips", "z")[0]
    assert m.params["p_holm"] < 0.05
    assert m.lower < 0 < m.upper


def test_of_more_classes_those_that_differ_are_named(tmp_path: Path) -> None:
    counts = {"x": 50, "y": 30, "z": 20}
    recipes = [recipe_of(model={"blocks": blocks}) for blocks in (2, 4)]
    shallow, deep = ["x"] * 60 + ["y"] * 30 + ["z"] * 30, ["x"] * 60 + ["x"] * 30 + ["z"] * 30
    runs = [
        made_run(tmp_path / f"{index}", labels, recipe, counts=counts)
        for index, (labels, recipe) in enumerate(zip((shallow, deep), recipes, strict=True))
    ]
    told = section_of(gathered(pairs_of_runs(runs))).findings[0]
    assert "90" not in told.headline.partition("30 are y")[0]
    assert "0 are x at 2 blocks alone and 30 at 4 blocks alone: 4 blocks makes it more often" in told.headline
    assert "30 are y at 2 blocks alone and 0 at 4 blocks alone: 4 blocks makes it less often" in told.headline
    assert "z 25.0" in dict(told.sentences)["The others"]
    same = [made_run(tmp_path / f"same-{each.model.blocks}", shallow, each, counts=counts) for each in recipes]
    told = section_of(gathered(pairs_of_runs(same))).findings[0]
    assert "no difference in the share of a class is shown; all labels together: p = 1" in told.headline


def test_the_answer_of_the_second_run_has_a_sentence(tmp_path: Path) -> None:
    recipes = [recipe_of(model={"blocks": blocks}) for blocks in (2, 4)]
    runs = [made_run(tmp_path / str(i), held, recipes[i]) for i, held in enumerate((MANY, FEW))]
    views = open_views(runs, across=gathered(pairs_of_runs(runs)))
    assert pairs_sentence(views[0]) == ""
    assert pairs_sentence(views[1]).startswith("Beside 2 blocks: of 200 pairs of the same seeds, 40 are nine")
    assert pairs_section(views).findings
    alone = [replace(view, across=None) for view in views]
    assert pairs_sentence(alone[1]) == ""
    assert pairs_section(alone).lead == NOTHING


def test_why_nothing_can_be_paired_is_a_caveat(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path / name, labels, recipe_of(model={"blocks": blocks}))
        for name, labels, blocks in (("a", MANY, 2), ("b", None, 4))
    ]
    section = section_of(gathered(pairs_of_runs(runs)))
    assert section.lead == NOTHING
    assert "2 blocks → 4 blocks (made, training seed 0): not measurable: the audit in" in section.caveats[0]


def test_a_stochastic_sampler_and_few_changes_are_cautioned(tmp_path: Path) -> None:
    drawn = {"sample": {"sampler": "ancestral", "steps": 250}}
    runs = [
        made_run(tmp_path / str(blocks), labels, recipe_of(model={"blocks": blocks}, **drawn))
        for blocks, labels in ((2, ["six", "nine", "unclassified", "six"]), (4, ["six", "six", "unclassified", "six"]))
    ]
    told = " ".join(section_of(gathered(pairs_of_runs(runs))).caveats)
    assert "the sampler adds noise at every step" in told
    assert "fewer than 25 labels changed, so the Stuart-Maxwell test is rough" in told


def test_the_page_escapes_names_and_has_its_json(tmp_path: Path) -> None:
    counts = {"<b>": 9, "ok": 1}
    recipes = [recipe_of(model={"blocks": blocks}) for blocks in (2, 4)]
    labels = (["ok", "<b>"], ["<b>", "ok"])
    runs = [made_run(tmp_path / str(i), held, recipes[i], counts=counts) for i, held in enumerate(labels)]
    page = build_pairs(gathered(pairs_of_runs(runs)), tmp_path / "flips.html")
    text = page.read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    content = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert content["headlines"][0]["headline"].startswith("2 blocks → 4 blocks (made, training seed 0): of 2 pairs")
    assert {m["name"] for m in content["measurements"]} == {"paired_flips", "flip_rate"}
