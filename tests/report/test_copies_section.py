"""The section on copies: every rule in every space, read against held-out real images."""

import re
from pathlib import Path

import pytest

from leadline.records import AuditResult, Measurement, Table
from leadline.report import SECTIONS, build
from leadline.report.content import Section
from leadline.report.copies import copies_section, kinds, plots
from leadline.report.views import open_views


def section(*runs) -> Section:
    return copies_section(open_views(runs))


def table(found: Section, key: str) -> dict[tuple[str, ...], list[str]]:
    """(rule or space, ...) -> the other cells of the row, as the JSON has them."""
    content = next(t for t in found.tables if t.key == key).to_json()
    heads = content["columns"].index("Run") + 1
    return {tuple(row[:heads]): row[heads:] for row in content["rows"]}


def test_a_row_has_threshold_both_rates_and_the_excess_with_its_test(make_run) -> None:
    rows = table(section(make_run(2, full=True)), "nearest_copy_rate")
    name = "digits69, 2 blocks"
    assert list(rows) == [
        (rule, space, name) for rule in ("d1/d2", "carlini", "calibrated") for space in ("pixels", "labeler features")
    ]
    assert rows["calibrated", "pixels", name] == [
        "18.5 (set on 250 images)",
        "4.0\xa0% of 1,000 (2.8 to 5.2\xa0%)",
        "1.0\xa0% of 250 (0 to 2.2\xa0%)",
        "+3.0 points, p = 0.032 (+1.5 to +4.5 points)",
    ]
    assert rows["carlini", "pixels", name][0] == "0.5 (mean of 50 nearest)"
    assert rows["d1/d2", "pixels", name][0] == "0.3333"


def test_runs_stand_below_each_other_within_a_rule_and_space(make_run) -> None:
    found = section(make_run(4, full=True), make_run(2, full=True))
    keys = list(table(found, "nearest_copy_rate"))
    assert keys[0] == ("d1/d2", "pixels", "digits69, 2 blocks")
    assert keys[1] == ("d1/d2", "pixels", "digits69, 4 blocks")


def test_the_authentic_rate_stands_beside_that_of_held_out_images(make_run) -> None:
    rows = table(section(make_run(2, full=True)), "authentic_rate")
    assert rows["pixels", "digits69, 2 blocks"] == [
        "40.0\xa0% of 1,000 (37.0 to 43.0\xa0%)",
        "50.0\xa0% of 1,000 (46.9 to 53.1\xa0%)",
    ]


def test_one_run_has_a_row_of_dots_per_rule_and_space(make_run) -> None:
    drawn = plots(open_views([make_run(2, full=True)]))[0]
    assert "calibrated in labeler features: generated 1.0\xa0%" in drawn.alt
    assert "allowed 1.0\xa0%" in re.sub(r"<[^>]+>", "", drawn.svg)


def test_several_runs_are_drawn_against_depth_with_the_held_out_rate_as_level(make_run) -> None:
    drawn = plots(open_views([make_run(2, full=True), make_run(4, full=True)]))
    pixels = next(p for p in drawn if "calibrated rule in pixels" in p.alt)
    assert "2 blocks: 4.0\xa0%" in pixels.alt
    assert "4 blocks: 8.0\xa0%" in pixels.alt
    assert "held-out real: 1.0\xa0%." in pixels.alt


def test_the_sweep_leaves_out_the_ratio_at_which_every_image_counts(make_run) -> None:
    drawn = plots(open_views([make_run(2, full=True)]))
    ratios, distances = (p for p in drawn if "against the threshold" in p.alt)
    assert "2 blocks: 9.0\xa0% at 0.1, 29.0\xa0% at 0.5, 49.0\xa0% at 0.9; held-out real: 5.0\xa0% at 0.1" in ratios.alt
    assert "at 1" not in ratios.alt.replace("at 1.", "")
    assert "40.0\xa0% at 40" in distances.alt


def test_carlinis_ratio_is_swept_too_and_left_out_where_every_image_counts(make_run) -> None:
    run = make_run(2, full=True)
    audit = run.audit()
    rows = [("carlini", "pixels", i / 4, i / 8, i / 10) for i in (1, 2, 3, 4)]
    tables = [
        t.model_copy(update={"rows": (*rows, *t.rows)}) if t.name == "copy_rate_sweep" else t for t in audit.tables
    ]
    run.save_audit(AuditResult(measurements=audit.measurements, tables=tuple(tables)))
    (drawn,) = (p for p in plots(open_views([run])) if "against the threshold, carlini" in p.alt)
    assert "2 blocks: 12.5\xa0% at 0.25, 25.0\xa0% at 0.5, 37.5\xa0% at 0.75; held-out real" in drawn.alt
    assert "d1 / mean distance to the nearest" in re.sub(r"<[^>]+>", "", drawn.svg)


def suspects(number: int) -> Table:
    rows = [
        (f"<b>{i}</b>", s, "#1", 2.5, 0.1, None, None) for s in ("pixels", "labeler features") for i in range(number)
    ]
    columns = ("id", "space", "nearest training id", "d1", "d1/d2", "d1/mean of nearest", "counted by")
    return Table(name="suspicious_images", title="Suspects", columns=columns, rows=tuple(rows), note="By d1/d2.")


def test_the_first_suspects_of_each_space_are_listed_here_alone_and_escaped(make_run, tmp_path: Path) -> None:
    run = make_run(2, full=True)
    audit = run.audit()
    run.save_audit(AuditResult(measurements=audit.measurements, tables=(*audit.tables, suspects(13))))
    shown = next(t for t in section(run).tables if t.key == "suspicious_images")
    assert len(shown.rows) == 20
    assert [row[1].text for row in shown.rows] == ["pixels"] * 10 + ["labeler features"] * 10
    assert shown.note == "By d1/d2. The first 10 of each space; 6 more are in the audit's own table."
    assert "suspicious_images" not in {t.key for t in SECTIONS["other"](open_views([run])).tables}
    page = build([run], tmp_path / "page.html").read_text()
    assert "&lt;b&gt;3&lt;/b&gt;" in page
    assert "<b>3" not in page


def test_a_short_list_is_shown_whole_also_without_any_rate(make_run) -> None:
    run = make_run(2)
    run.save_audit(AuditResult(measurements=(), tables=(suspects(3),)))
    found = section(run)
    assert [(t.key, len(t.rows), t.note) for t in found.tables] == [("suspicious_images", 6, "By d1/d2.")]
    assert not found.lead.startswith("Nothing")


def test_what_could_not_be_measured_has_its_reason_once_for_all_it_holds_for(make_run) -> None:
    reason = "give more held-out images (--held-out DATA)"
    missing = [
        Measurement.not_measurable(
            "nearest_copy_rate", reason, params={"set": subset, "rule": "calibrated", "space": space}
        )
        for subset in ("samples", "held_out")
        for space in ("pixels", "labeler features")
    ]
    found = section(make_run(measurements=missing))
    assert found.tables == ()
    assert found.lead.startswith("Nothing to show.")
    (told,) = found.caveats
    assert told.count(reason) == 1
    assert "nearest_copy_rate (generated, pixels, calibrated)" in told
    assert "nearest_copy_rate (held-out real, labeler features, calibrated)" in told


@pytest.mark.parametrize("flips", [True, False])
def test_mirrored_comparisons_are_told(make_run, flips: bool) -> None:
    rate = Measurement(
        name="nearest_copy_rate",
        value=0.1,
        n=10,
        params={"set": "samples", "rule": "d1/d2", "space": "pixels", "threshold": 0.3, "flips": flips},
    )
    found = section(make_run(measurements=[rate]))
    assert ("compared mirrored" in found.tables[0].note) is flips


def test_a_rule_of_another_name_is_shown_after_the_known_ones(make_run) -> None:
    run = make_run(2, full=True)
    audit = run.audit()
    extra = Measurement(
        name="nearest_copy_rate", value=0.5, n=10, params={"set": "samples", "rule": "another", "space": "pixels"}
    )
    run.save_audit(AuditResult(measurements=(extra, *audit.measurements)))
    assert kinds(open_views([run]))[-1] == ("another", "pixels")
