"""The section on a steering sweep: what differs is counted and marked, the choice and its confirmation are told."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from leadline.frontier import Choice, Confirmation, PairedTest, Setting, SteerSweep, adjusted, alone
from leadline.recipe import SteerSpec
from leadline.records import Measurement
from leadline.report import build
from leadline.report.content import Plot, Section
from leadline.report.doses import MOST_DOSES, dose_plots, doses
from leadline.report.frontier import frontier_section, sweep_finding
from leadline.report.views import open_views
from leadline.runs import Run

WINDOW = "window(1.0, sigma_max=5.0, sigma_min=0.5)"
HOSTILE = "<script>alert(1)</script>"
STEERS = [SteerSpec(strength=s, schedule=kind) for kind in ("", WINDOW) for s in (0.5, 1.0)]
KINDS = ("constant, blend", "window(1, sigma_max=5, sigma_min=0.5), blend")
LABELER = "labeler features"

Effect = dict[str, tuple[float, float]]
"""Measurement -> (its difference from strength 0, the p of that)."""


def measured(name: str, value: float, group: str | None = None, **params: Any) -> Measurement:
    ends = {"lower": value - 0.02, "upper": value + 0.02, "level": 0.95, "method": "t"}
    shown = {"direction": "smaller: nearer to training images; fewer images read larger"} if "distance" in name else {}
    return Measurement(name=name, value=value, n=60, group=group, params={"set": "samples", **params}, **ends, **shown)


def values(moved: Effect) -> tuple[Measurement, ...]:
    """Quality in two spaces, neighbours for two k, copies by two rules and shares of two classes."""
    found = [measured(name, 0.5, space=space) for space in (LABELER, "clip features")
             for name in ("frechet_distance", "recall")]  # fmt: skip
    found += [measured("nearest_distance", 20.0 + k, space="pixels", k=k) for k in (1, 5)]
    found += [measured("nearest_copy_rate", 0.1, space="pixels", rule=rule) for rule in ("d1/d2", "calibrated")]
    found += [measured("share", share, group) for group, share in (("6", 0.9), (HOSTILE, 0.06), ("unclassified", 0.04))]
    return tuple(_moved(m, moved.get(m.name, (0.0, 1.0))[0]) for m in found)


def _moved(m: Measurement, by: float) -> Measurement:
    assert m.value is not None
    assert m.lower is not None
    assert m.upper is not None
    return m.model_copy(update={"value": m.value + by, "lower": m.lower + by, "upper": m.upper + by})


def differences(moved: Effect) -> list[Measurement]:
    """A paired difference for each value, ± .01, and one that could not be tested."""
    found = []
    for m in values({}):
        by, p = moved.get(m.name, (0.0, 1.0))
        ends = {"value": by, "lower": by - 0.01, "upper": by + 0.01, "direction": "", "name": "paired_difference"}
        params = m.params | {"of": m.name, "p": p, "base": m.value, "other": (m.value or 0.0) + by}
        found.append(m.model_copy(update={**ends, "params": params}))
    reason = {"of": "vendi_score", "space": LABELER}
    return [*found, Measurement.not_measurable("paired_difference", "needs 100 images: draw more", params=reason)]


def swept(*effects: Effect, choice: int | None = None, fresh: Effect | list[Effect] = []) -> SteerSweep:  # noqa: B006
    """Strength 0 and one setting per effect; the chosen one, confirmed as `fresh` says on seeds from 7 on."""
    zero = Setting(steer=SteerSpec(), folder="zero", values=values({}))
    settings = [
        Setting(steer=steer, folder=f"setting-{i}", values=values(moved), tests=alone(differences(moved), 0.95))
        for i, (steer, moved) in enumerate(zip(STEERS, effects, strict=False))
    ]
    chosen = None if choice is None else Choice(name="frechet_distance", space=LABELER, index=choice)
    confirmations = []
    for seed, moved in enumerate(fresh if isinstance(fresh, list) else [fresh], 7):
        update = {"values": values(moved), "tests": alone(differences(moved), 0.95)}
        again = settings[(choice or 0) - 1].model_copy(update=update)
        confirmations.append(Confirmation(seed=seed, zero=zero, chosen=again))
    whole = adjusted([zero, *settings], 0.95, lambda ps: [min(1.0, len(ps) * p) for p in ps])
    return SteerSweep(title="mnist69, 2 blocks", seed=0, num_images=60, level=0.95, settings=whole, choice=chosen,
                      confirmations=tuple(confirmations))  # fmt: skip


def sentences(sweep: SteerSweep) -> dict[str, str]:
    found = sweep_finding(sweep)
    return {"headline": found.headline, **dict(found.sentences)}


NOTHING: Effect = {}
WORSE: Effect = {"frechet_distance": (0.3, 0.001), "nearest_distance": (2.0, 0.002), "share": (0.05, 0.4)}
BETTER: Effect = {"frechet_distance": (-0.2, 0.01), "recall": (-0.1, 0.02)}


@pytest.fixture
def views(make_run: Any) -> Any:
    """Opens a sweep's page on runs whose folders have the names of its settings."""

    def opened(sweep: SteerSweep) -> tuple[list[Run], Any]:
        runs = []
        for setting in sweep.settings:
            steer = setting.steer.model_dump(mode="json")
            title = ", ".join(filter(None, ("mnist69, 2 blocks", setting.steer.words)))
            drawn = {"steer": steer}
            runs.append(make_run(folder=setting.folder, title=title, minority=HOSTILE, sample=drawn))
        return runs, open_views(runs, sweep)

    return opened


def plots(section: Section) -> dict[str, str]:
    """Caption -> alternative text of each drawing."""
    return {figure.caption: figure.alt for figure in section.figures if isinstance(figure, Plot)}


def test_without_a_sweep_it_says_how_to_make_one(make_run: Any) -> None:
    found = frontier_section(open_views([make_run()]))
    assert "leadline steer-sweep RUN --strength 0 .25 .5 1" in found.lead
    assert (found.figures, found.tables) == ((), ())


def test_nothing_that_differs_is_an_answer() -> None:
    told = sentences(swept(NOTHING, NOTHING))
    assert told["headline"] == (
        "none of 4 quality measures differs from strength 0 at any of 2 settings (paired tests, Holm over the "
        "settings). Differing measurements of memorization 0 of 4 and bias 0 of 3."
    )
    assert told["Memorization"] == "None of 4 measurements differs from strength 0 at any setting."


def test_what_differs_is_counted_by_its_way_and_named_where_it_is_furthest() -> None:
    told = sentences(swept(WORSE, {**WORSE, "frechet_distance": (0.1, 0.001)}, NOTHING))
    assert told["headline"].startswith(
        "2 of 4 quality measures differ from strength 0 at some of 3 settings: 0 for the better, 2 for the worse "
    )
    assert "memorization 2 of 4 and bias 0 of 3" in told["headline"]
    furthest = "at 2 settings, most at bypass 0.5 (constant, blend): 0.500 → 0.800, "
    assert f"Fréchet distance in labeler features {furthest}" in told["Quality"]
    assert "+0.300 (0.290 to 0.310)" in told["Quality"]
    # Of several k only the first is named, and all are counted.
    assert told["Memorization"].startswith(
        "2 of 4 measurements differ from strength 0: nearest distance in pixels (k = 1) "
    )
    assert "k = 5" not in told["Memorization"]
    assert told["Memorization"].endswith("and 1 more (see the tables).")


def test_better_and_worse_are_both_counted() -> None:
    told = sentences(swept(BETTER, {"frechet_distance": (0.3, 0.001)}))
    # Both Fréchet distances go either way, both recalls down.
    assert (
        "4 of 4 quality measures differ from strength 0 at some of 2 settings: 2 for the better, 4 for the worse"
        in (told["headline"])
    )


def test_a_p_above_the_level_after_holm_is_not_marked() -> None:
    moved = {"frechet_distance": (0.3, 0.03)}
    assert "differ from strength 0 at some" in sentences(swept(moved))["headline"]
    assert "none of 4" in sentences(swept(moved, NOTHING))["headline"]


@pytest.mark.parametrize(
    ("fresh", "verdict"),
    [
        ({"frechet_distance": (-0.1, 0.01)}, "p = 0.01: the choice is confirmed. One test, without correction."),
        ({"frechet_distance": (-0.1, 0.2)}, "p = 0.2: no difference is shown, so the choice is not confirmed"),
        ({"frechet_distance": (0.1, 0.01)}, "the difference goes the other way, so the choice is refuted"),
    ],
)
def test_a_choice_is_confirmed_or_not(fresh: Effect, verdict: str) -> None:
    told = sentences(swept(BETTER, choice=1, fresh=fresh))
    assert told["Chosen"].startswith(
        "By frechet_distance [labeler features] (smaller is better) on seed 0 the best is "
        "bypass 0.5 (constant, blend): 0.300 (95\xa0% interval 0.280 to 0.320), against 0.500"
    )
    assert "difference −0.200 (95\xa0% interval −0.210 to −0.190), differs, Holm p = 0.01" in told["Chosen"]
    assert "It was chosen as the best of 2, so this number is optimistic." in told["Chosen"]
    assert "not confirmed on other seeds" not in told["Chosen"]
    assert "On 60 fresh images of seed 7" in told["Confirmation"]
    assert verdict in told["Confirmation"]


def doubtful(tests: Sequence[PairedTest]) -> tuple[PairedTest, ...]:
    """As of a Fréchet distance of few images in many dimensions."""
    return tuple(
        t.model_copy(
            update={
                "difference": t.difference.model_copy(
                    update={"params": t.difference.params | {"plain": -1.0, "doubt": "60 images in 64 dimensions"}}
                )
            }
        )
        if t.family == "frechet_distance [labeler features]"
        else t
        for t in tests
    )


def test_where_the_sign_is_in_doubt_nothing_is_better_or_confirmed(views: Any) -> None:
    plain = swept(BETTER, choice=1, fresh=BETTER)
    zero, setting = (s.model_copy(update={"tests": doubtful(s.tests)}) for s in plain.settings)
    again = plain.confirmations[0].chosen.model_copy(update={"tests": doubtful(plain.confirmations[0].chosen.tests)})
    confirmations = (plain.confirmations[0].model_copy(update={"chosen": again}),)
    sweep = plain.model_copy(update={"settings": (zero, setting), "confirmations": confirmations})
    told = sentences(sweep)
    assert "4 of 4 quality measures differ" in told["headline"]
    assert "1 for the better, 2 for the worse, 1 without saying which" in told["headline"]
    assert (
        "its sign is not to be relied on, so the choice is not confirmed (60 images in 64 dimensions)"
        in (told["Confirmation"])
    )
    section = frontier_section(views(sweep)[1])
    assert sum("corrected (jackknife) for the bias of so few images" in text for text in section.caveats) == 1
    of = "Fréchet distance in labeler features at bypass 0.5 (constant, blend)"
    assert (
        f"The sign of a difference that is marked is in doubt: {of} and {of}, seed 7: 60 images in 64 dimensions"
        in (section.caveats)
    )
    cells = {row[0].text: row[2].text for row in section.tables[1].rows}
    assert cells["Fréchet distance in labeler features"] == "−0.200 differs (sign in doubt)"
    assert cells["Fréchet distance in clip features"] == "−0.200 differs"


def test_every_confirmation_is_shown_and_those_of_other_settings_are_counted() -> None:
    sweep = swept(BETTER, BETTER, choice=2, fresh=[{"frechet_distance": (-0.1, 0.3)}, BETTER])
    told = sentences(sweep)["Confirmation"]
    assert "of seed 7" in told
    assert "p = 0.3: no difference is shown, so the choice is not confirmed." in told
    assert "of seed 8" in told
    assert "p = 0.01: the choice is confirmed. 2 tests on as many seeds" in told
    assert "sooner one differs by chance (of these 0.10 on average)." in told
    assert "sweep.json" not in told
    other = sweep.model_copy(update={"choice": Choice(name="recall", space=LABELER, index=1)})
    assert other.confirmed == ()
    assert sentences(other)["Confirmation"] == (
        "2 confirmations of what was chosen before, by another measure, stand in sweep.json."
    )
    assert "not confirmed on other seeds" in sentences(other)["Chosen"]


def test_strength_0_as_the_best_needs_no_confirmation() -> None:
    told = sentences(swept(WORSE, choice=0))
    assert told["Chosen"].endswith("no bypass has a better value, so there is nothing to confirm.")
    assert "Confirmation" not in told
    assert "not confirmed on other seeds (--confirm-seed)" in sentences(swept(BETTER, choice=1))["Chosen"]


def test_the_tables_have_every_difference_with_both_p(views: Any) -> None:
    _, opened = views(swept(WORSE, NOTHING, BETTER, choice=3, fresh=[BETTER, NOTHING]))
    found = frontier_section(opened)
    confirmation, constant, window = found.tables
    assert [table.caption for table in (constant, window)] == [f"{kind}: differences from strength 0" for kind in KINDS]
    assert constant.columns == ("Measurement", "At strength 0", "At strength 0.5", "At strength 1")
    rows = {row[0].text: row[1:] for row in constant.rows}
    zero, half, whole = rows["Fréchet distance in labeler features"]
    assert (zero.text, zero.detail) == ("0.500", "0.480 to 0.520")
    assert (half.text, half.detail) == ("+0.300 differs", "0.290 to 0.310; p = 0.001, Holm p = 0.003")
    assert (whole.text, whole.detail) == ("0.000", "−0.010 to 0.010; p = 1, Holm p = 1")
    assert rows[f"Share of “{HOSTILE}”"][1].text == "+5.0 points"
    assert rows["Vendi score in labeler features"][1].text == "not tested"
    assert "Not tested: vendi score in labeler features: needs 100 images: draw more" in found.caveats
    assert confirmation.columns == ("Measurement", "Seed 0, chosen on it", "Seed 7, fresh", "Seed 8, fresh")
    cells = {row[0].text: [cell.text for cell in row[1:]] for row in confirmation.rows}
    assert cells["Recall in labeler features"] == ["−0.100", "−0.100 differs", "0.000"]
    assert "of 11 up to about 0.55 would differ at some setting by chance alone" in found.caveats[0]


def test_the_frontier_marks_what_differs_in_words_too(views: Any) -> None:
    _, opened = views(swept(WORSE, NOTHING, BETTER))
    drawn = plots(frontier_section(opened))
    of_quality = [
        alt for caption, alt in drawn.items() if caption.startswith("Fréchet distance in labeler features against")
    ]
    memorization, bias = of_quality
    assert (
        "bypass 0.5 (constant, blend): nearest_distance 23.000 (95\xa0% interval 22.980 to 23.020), differs, "
        in memorization
    )
    assert (
        "bypass 1 (constant, blend): nearest_distance 21.000 (95\xa0% interval 20.980 to 21.020), frechet"
        in memorization
    )
    assert "share 6.0\xa0%" in bias
    assert f"against share of “{HOSTILE}”" in bias
    assert sum("clip features against" in caption for caption in drawn) == 2


def test_doses_have_a_line_per_kind_and_leave_out_what_never_moves() -> None:
    sweep = swept(WORSE, NOTHING, BETTER)
    drawn = doses(sweep, HOSTILE)
    assert list(drawn) == [
        "frechet_distance [labeler features]",
        "recall [labeler features]",
        "frechet_distance [clip features]",
        "recall [clip features]",
        "nearest_distance [pixels, k = 1]",
        f"share [{HOSTILE}]",
        "share [unclassified]",
    ]
    assert len(drawn) <= MOST_DOSES
    first = dose_plots(sweep, HOSTILE)[0]
    assert "bypass 0.5 (constant, blend): +0.300 (95\xa0% interval 0.290 to 0.310), differs" in first.alt
    assert all(first.svg.count(kind.split("(")[0].split(",")[0]) >= 1 for kind in KINDS)
    assert HOSTILE not in "".join(plot.svg for plot in dose_plots(sweep, HOSTILE))


def test_an_infinite_difference_is_in_the_table_and_not_drawn() -> None:
    sweep = swept({"frechet_distance": (math.inf, 0.001)})
    assert all("Fréchet" not in plot.caption for plot in dose_plots(sweep, None))
    assert "∞" in sentences(sweep)["Quality"]


def test_the_answer_is_the_sweep_s_and_the_other_sections_draw_two_of_the_runs(views: Any, tmp_path: Path) -> None:
    sweep = swept(WORSE, NOTHING, BETTER, choice=3)
    runs, opened = views(sweep)
    assert [view.drawn for view in opened] == [True, False, False, True]
    page = build(runs, tmp_path / "report.html", sweep=sweep)
    text = page.read_text()
    assert HOSTILE not in text
    assert "mnist69, 2 blocks: bypass of the mid-block, 4 settings</h1>" in text
    assert text.count('<article class="finding">') == 2
    assert "These runs differ in more than the model" not in text
    assert build(runs, tmp_path / "again.html", sweep=sweep).read_text() == text


def test_runs_that_were_steered_otherwise_do_not_share_a_place_on_the_axis(views: Any) -> None:
    runs, _ = views(swept(WORSE, NOTHING))
    labels = [view.label for view in open_views(runs)]
    assert labels == ["2 blocks", "2 blocks, bypass 0.5 (constant, blend)", "2 blocks, bypass 1 (constant, blend)"]


@pytest.mark.browser
def test_the_drawings_keep_their_words_inside(browser: webdriver.Chrome, views: Any, tmp_path: Path) -> None:
    sweep = swept(WORSE, BETTER, NOTHING, WORSE, choice=2, fresh=BETTER)
    runs, _ = views(sweep)
    browser.get(build(runs, tmp_path / "report.html", sweep=sweep).as_uri())
    over = """return [...document.querySelectorAll('#frontier figure')].filter(figure => {
        const box = figure.getBoundingClientRect();
        return [...figure.querySelectorAll('text')].some(t => {
            const own = t.getBoundingClientRect();
            return own.left < box.left - 2 || own.right > box.right + 2 || own.top < box.top - 2;
        });
    }).length"""
    assert browser.execute_script("return document.querySelectorAll('#frontier figure').length") >= 9
    assert browser.execute_script(over) == 0
    assert browser.execute_script("return document.scripts.length") == 0
