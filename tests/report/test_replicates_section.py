"""The section on replicates, and what the answer says of them."""

import json
from dataclasses import replace

import pytest

from leadline.across import measure_across
from leadline.records import AuditResult, Measurement
from leadline.report import build
from leadline.report.replicates import one_run_per_depth, replicate_findings, replicates_section
from leadline.report.views import open_views


def views(runs):
    return open_views(runs, across=measure_across(runs))


@pytest.fixture
def replicated(make_run):
    """Two depths, four runs each, n of 960 images recognised: 3 to 4 % at depth 2, 6 to 8 % at depth 4."""
    shares = {2: [0.030, 0.035, 0.040, 0.032], 4: [0.060, 0.080, 0.070, 0.065]}
    return [
        make_run(blocks, share=share, train={"seed": seed})
        for blocks, found in shares.items()
        for seed, share in enumerate(found)
    ]


def test_the_answer_speaks_of_the_mean_of_the_runs_and_of_the_trend(replicated) -> None:
    found = replicate_findings(views(replicated))
    assert [each.run for each in found] == [
        "2 blocks, 4 training runs",
        "4 blocks, 4 training runs",
        "Over 2 and 4 blocks",
    ]
    assert found[0].headline.startswith("9 in 3.4\xa0% of the recognised images (95\xa0% interval 2.")
    assert found[0].headline.endswith("training data 10.0\xa0%: less often than the training data.")
    assert "a trend over depth is shown, taking the images of any two runs for independent (p = 0.029" in (
        found[2].headline
    )
    assert "8 training runs); in these runs the share rises with depth; slope 0." in found[2].headline


def test_the_section_has_each_run_the_mean_and_where_the_variance_comes_from(replicated) -> None:
    section = replicates_section(views(replicated))
    assert "4 runs of 2 blocks and 4 runs of 4 blocks" in section.lead
    assert "2 blocks: 3.0, 3.5, 4.0, 3.2 %, mean 3.4" in section.figures[0].alt
    assert [table.key for table in section.tables] == ["replicates", "variance_split", "trends"]
    rows = section.tables[0].to_json()["rows"]
    nine = next(row for row in rows if row[:2] == ["4 blocks", "9"])
    assert nine[2:4] == ["4", "6.0, 8.0, 7.0, 6.5 %"]
    parts = {row[2]: row[3:] for row in section.tables[1].to_json()["rows"] if row[0] == "4 blocks"}
    assert list(parts) == ["training run", "own images", "common noise", "classifier"]
    assert parts["classifier"] == ["not measured"] * 3
    assert parts["common noise"] == ["not measured"] * 3
    tests = {row[2].split(";")[0]: row for row in section.tables[2].to_json()["rows"] if row[1] == "9"}
    assert tests["Jonckheere-Terpstra, exact permutation distribution"][3:] == [
        "1",
        "share of pairs of runs whose deeper one has the larger share",
        "p = 0.029",
    ]
    assert any("with twice the runs" in caveat for caveat in section.caveats)


def test_one_run_per_depth_is_said_beside_the_answer(make_run, tmp_path) -> None:
    runs = [make_run(2), make_run(4)]
    assert replicate_findings(views(runs)) == []
    said = "One training run per depth: differences between depths may be differences between runs."
    assert one_run_per_depth(views(runs)) == said
    page = build(runs, tmp_path / "page.html", across=measure_across(runs))
    answer = json.loads(page.with_suffix(".json").read_text())["sections"][0]
    assert said in answer["caveats"]
    section = replicates_section(views(runs))
    assert section.lead.startswith("No recipe was trained more than once here: one training run: its interval")
    assert not section.figures


def test_a_depth_without_replicates_is_named_and_single_runs_alone_need_no_warning(make_run, replicated) -> None:
    runs = [*replicated, make_run(6)]
    assert one_run_per_depth(views(runs)).startswith("One training run at 6 blocks: ")
    assert any(
        text.startswith("6 blocks: not measurable: one training run")
        for text in replicates_section(views(runs)).caveats
    )
    assert one_run_per_depth(views(replicated)) == ""
    assert one_run_per_depth(views([make_run(2, train={"seed": 9})])) == ""


def test_pages_without_shares_or_without_a_comparison_say_so(make_run) -> None:
    foreign = [make_run(2, kind="audit")]
    assert "no run of this page has both a recipe and measured shares" in replicates_section(views(foreign)).lead
    assert "Nothing to compare" in replicates_section(open_views(foreign)).lead


def with_errors(runs, corrected):
    """The runs as a labeler named their images; corrected: the share of each, ± 1 point, or why there is none."""
    for run, share in zip(runs, corrected, strict=True):
        audit = run.audit()
        found = []
        for m in audit:
            if m.name == "share_difference":
                m = m.model_copy(update={"params": {**m.params, "labels": "the labeler"}})
            found.append(m)
            if m.name == "share_difference" and isinstance(share, str):
                found.append(Measurement.not_measurable("corrected_difference", share, group=m.group))
            elif m.name == "share_difference":
                value = share if m.group == "9" else 1 - share
                ends = {"share": value, "share_lower": value - 0.02, "share_upper": value + 0.02, "floor": 0.01}
                found.append(Measurement(name="corrected_difference", value=value, group=m.group, params=ends))
        run.save_audit(AuditResult(measurements=tuple(found)))
    return runs


def test_the_answer_rests_on_the_corrected_share_where_a_labeler_named_the_classes(replicated) -> None:
    two = views(with_errors(replicated[:4], [0.095, 0.105, 0.100, 0.102]))
    (found,) = replicate_findings(two)
    assert found.headline.startswith(
        "9 in 10.0\xa0% of the images of its classes, corrected for the labeler's errors (95"
    )
    assert found.headline.endswith(
        "3.4\xa0% as labelled), training data 10.0\xa0%: no difference from the training data is shown."
    )
    table = replicates_section(two).tables[0].to_json()
    row = dict(zip(table["columns"], next(row for row in table["rows"] if row[1] == "9"), strict=True))
    assert row["Difference"].startswith("0.0 points") or row["Difference"].startswith("+0.")
    assert "of the corrected shares" in table["note"]


@pytest.mark.parametrize(("every", "turns"), [(-0.01, False), (0.02, True)])
def test_images_of_no_class_that_could_turn_the_verdict_are_named(replicated, every: float, turns: bool) -> None:
    runs = with_errors(replicated[:4], [0.03, 0.03, 0.031, 0.029])
    for run in runs:
        audit = run.audit()
        assert audit is not None
        ends = {"if_none_of_no_class_belong": -0.07, "if_all_of_no_class_belong": every}
        changed = [
            m.model_copy(update={"params": m.params | ends}) if m.name == "corrected_difference" else m for m in audit
        ]
        run.save_audit(replace(audit, measurements=tuple(changed)))
    (found,) = replicate_findings(views(runs))
    assert "less often than the training data" in found.headline
    assert found.headline.endswith("but the images of no class could turn that around.") == turns


def test_without_a_correction_there_is_no_verdict(replicated) -> None:
    two = views(with_errors(replicated[:4], ["the labeler guesses"] * 4))
    (found,) = replicate_findings(two)
    assert "9 in 3.4\xa0% of the recognised images as labelled" in found.headline
    assert "cannot be said" in found.headline
    assert "the labeler guesses" in found.headline
    assert "less often than" not in found.headline


@pytest.mark.parametrize(
    ("noises", "lower", "p", "shown"),
    [
        ("shared", 0.1, 0.2, True),
        ("shared", -0.1, 0.001, False),
        ("apart", -0.1, 0.001, True),
        ("unknown", -0.1, 0.001, False),
    ],
)
def test_a_trend_is_named_where_it_holds_for_other_noises(replicated, noises, lower, p, shown) -> None:
    across = measure_across(replicated)
    changes = {"share_trend": {"p": p, "noises": noises}, "share_slope": {}}
    found = tuple(
        m.model_copy(
            update={"params": {**m.params, **changes[m.name]}} | ({"lower": lower} if m.name == "share_slope" else {})
        )
        if m.name in changes
        else m
        for m in across
    )
    told = replicate_findings(open_views(replicated, across=replace(across, measurements=found)))[-1].headline
    assert ("9: a trend over depth is shown (" in told) is shown
    assert ("9: no trend over depth is shown (" in told) is not shown


def test_hostile_class_names_are_text(make_run) -> None:
    runs = [make_run(2, minority="<b>&", train={"seed": seed}) for seed in (0, 1)]
    svg = replicates_section(views(runs)).figures[0].svg
    assert "<b>" not in svg
    assert "&lt;b&gt;&amp;" in svg
