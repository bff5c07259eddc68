"""The gate and what changed since an earlier audit on the page: as kept in the run folder, first what failed."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from selenium import webdriver

from leadline.comparison import ASSUMED, compare
from leadline.gate import check, parse
from leadline.records import AuditResult, Measurement
from leadline.report import build
from leadline.report.bars import Bar, draw_bars
from leadline.report.comparison import MOST_BARS, MOST_ROWS, comparison_section
from leadline.report.sections import answer
from leadline.report.views import open_views
from leadline.runs import Run

HOSTILE = "<script>alert(1)</script>"
SVG = "{http://www.w3.org/2000/svg}"


def section(*runs: Run) -> dict[str, Any]:
    """The section as it stands in the JSON."""
    return comparison_section(open_views(runs)).to_json()


def around(name: str, value: float, half: float, group: str | None = None, **params: object) -> Measurement:
    """A measurement of 1,000 images with the interval value ± half."""
    interval = {"lower": value - half, "upper": value + half, "level": 0.95, "method": "t"}
    return Measurement(name=name, value=value, n=1000, group=group, params=params, **interval)


def measured(share: float, distance: float) -> list[Measurement]:
    """Shares of two classes, distances for 16 k, and what has no interval, no number, or is of held-out images."""
    found = [around("share", p, 0.015, group, set="samples") for group, p in (("6", 1 - share), (HOSTILE, share))]
    found += [around("nearest_distance", distance + k, 0.5, set="samples", space="pixels", k=k) for k in range(1, 17)]
    return [
        *found,
        around("nearest_distance", 26.0 + share, 0.5, set="held_out", space="pixels", k=1),
        Measurement(name="vendi_score", value=7.25, n=1000),
        Measurement.not_measurable("nearest_copy_rate", "needs 200 held-out images: give --held-out DATA"),
    ]


@pytest.fixture
def judged(make_run: Any) -> Run:
    """A run that was compared with an earlier one and checked by three conditions, each with another end."""
    old, new = make_run(2, measurements=measured(0.06, 24)), make_run(4, measurements=measured(0.09, 28))
    new.save_comparison(compare(old.audit(), new.audit(), names=(old.title, new.title)))
    known = ("share", "vendi_score", "nearest_copy_rate")
    texts = ("share[group=6].upper > 0.99", "vendi_score > 7", "nearest_copy_rate > 0.01")
    new.save_gate(check(new.audit(), [parse(text, known) for text in texts]))
    return new


def test_without_gate_and_comparison_it_says_how_to_get_them(make_run: Any) -> None:
    found = section(make_run())
    assert found["lead"] == ("No condition was set (--fail-if), and no earlier audit was given to compare (--compare).")
    assert (found["tables"], found["figures"], found["caveats"]) == ([], [], [])


def test_the_lead_counts_what_failed_and_what_changed(judged: Run) -> None:
    found = section(judged)
    assert found["lead"].startswith("digits69, 4 blocks: 2 of 3 conditions failed. digits69, 4 blocks: ")
    assert judged.comparison().headline in found["lead"]
    assert ASSUMED in found["caveats"]


def test_a_failed_gate_stands_at_the_top_of_the_page(judged: Run, make_run: Any) -> None:
    found = answer(open_views([judged, make_run(2)]))
    assert found.caveats[0] == (
        "The gate failed (digits69, 4 blocks: vendi_score > 7; digits69, 4 blocks: nearest_copy_rate > 0.01): "
        "see Gate and comparison."
    )


def test_every_condition_has_its_verdict_and_its_numbers(judged: Run) -> None:
    found = section(judged)
    gate = next(table for table in found["tables"] if table["name"] == "gate")
    assert [row[:2] for row in gate["rows"]] == [
        ["share[group=6].upper > 0.99", "passed"],
        ["vendi_score > 7", "failed"],
        ["nearest_copy_rate > 0.01", "failed: could not be checked"],
    ]
    assert "7.25" in gate["rows"][1][2]
    assert "needs 200 held-out images" in gate["rows"][2][2]


def test_changes_are_shown_before_now_and_as_difference(judged: Run) -> None:
    found = section(judged)
    changes = next(table for table in found["tables"] if table["name"] == "changes")
    rows = {row[0]: row for row in changes["rows"]}
    minority = rows[f"share [{HOSTILE}, samples]"]
    assert minority[1:5] == ["1,000", "6.0\xa0% (4.5 to 7.5\xa0%)", "1,000", "9.0\xa0% (7.5 to 10.5\xa0%)"]
    assert minority[5] == "+3.0 points (+0.9 to +5.1 points)"
    assert minority[6] == "yes"
    assert rows["nearest_distance [samples, pixels, k = 1]"][5] == "+4.0 (3.3 to 4.7)"
    assert rows["nearest_distance [held_out, pixels, k = 1]"][6] == "no"
    assert rows["vendi_score"][6:] == ["–", "no interval: the value has none before and now"]
    unmatched = next(table for table in found["tables"] if table["name"] == "unmatched")
    assert [
        "nearest_copy_rate",
        "not measurable in both audits: needs 200 held-out images: give --held-out DATA",
    ] in unmatched["rows"]


def test_the_drawing_has_every_weighty_change_in_words(judged: Run) -> None:
    found = section(judged)
    (figure,) = found["figures"]
    assert "nearest_distance [samples, pixels, k = 1]: 25 → 29, differs" in figure["alt"]
    assert figure["alt"].count("→") == MOST_BARS


def test_more_changes_than_the_table_holds_are_counted(make_run: Any) -> None:
    def audited(value: float) -> AuditResult:
        found = [Measurement(name="share", value=value, group=str(i)) for i in range(MOST_ROWS + 3)]
        return AuditResult(tuple(found))

    run = make_run(measurements=list(audited(0.5)))
    run.save_comparison(compare(audited(0.4), run.audit()))
    found = section(run)
    (changes,) = found["tables"]
    assert len(changes["rows"]) == MOST_ROWS
    assert "3 more are in comparison.json" in changes["note"]
    assert found["figures"] == []


@pytest.mark.parametrize("name", ["gate.json", "comparison.json"])
def test_a_damaged_file_is_a_reason_and_the_rest_is_drawn(judged: Run, name: str) -> None:
    (judged.folder / name).write_text('{"a": ')
    found = section(judged)
    assert "what was said before a release cannot be read" in found["caveats"][0]
    assert name in found["caveats"][0]


def test_bars_are_clipped_at_the_edge_with_an_arrow() -> None:
    bars = [
        Bar(label=HOSTILE, words="1 → 90", value=40.0, lower=39.0, upper=41.0, strong=True),
        Bar(label="x" * 200, words="1 → 1", value=0.1, lower=-0.9, upper=1.1, strong=False),
    ]
    plot = draw_bars(bars, name="bars", alt="the alt", caption="c", x_label="x")
    written = ["".join(t.itertext()) for t in ElementTree.fromstring(plot.svg).iter(f"{SVG}text")]
    assert HOSTILE in written
    assert "1 → 90" in written
    assert any(text.endswith("…") and len(text) < 80 for text in written)
    assert "7.5" in written
    assert not {"10", "40"} & set(written)
    assert "#0101" not in plot.svg


@pytest.mark.browser
def test_the_words_above_the_bars_do_not_touch(browser: webdriver.Chrome, judged: Run, tmp_path: Path) -> None:
    build([judged], tmp_path / "report.html")
    browser.get((tmp_path / "report.html").as_uri())
    script = """const boxes = [...document.querySelectorAll('#comparison svg text')]
            .map(e => e.getBoundingClientRect());
        return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => a.left < b.right - 1 && b.left < a.right - 1
            && a.top < b.bottom - 1 && b.top < a.bottom - 1)).length"""
    assert browser.execute_script("return document.querySelectorAll('#comparison svg text').length") > 2 * MOST_BARS
    assert browser.execute_script(script) == 0
    assert browser.execute_script("return document.scripts.length") == 0
    assert HOSTILE in browser.execute_script("return document.querySelector('#comparison').innerText")
