"""The section on diversity: spaces apart, distances within and between classes, Vendi scores with their n."""

import pytest

from leadline.report.diversity import diversity_section, plots
from leadline.report.views import open_views

UNCALIBRATED = "feature distance (uncalibrated)"
LPIPS = "Mean pairwise LPIPS in lpips-alex features"


def test_every_measure_and_space_has_a_row_beside_the_training_data(make_run) -> None:
    found = diversity_section(open_views([make_run(2, full=True)]))
    rows = [[*row[:2], row[3], row[5]] for row in found.tables[0].to_json()["rows"]]
    assert rows == [
        ["Mean pairwise distance", "labeler features", "0.540 (0.530 to 0.550)", "0.560 (0.550 to 0.570)"],
        ["Mean pairwise LPIPS", "lpips-alex features", "0.320 (0.310 to 0.330)", "0.320 (0.310 to 0.330)"],
        [f"Mean pairwise {UNCALIBRATED}", "SqueezeNet features", "4.000 (3.990 to 4.010)", "4.000 (3.990 to 4.010)"],
        ["Vendi score", "labeler features", "9.0 (8.0 to 10.0)", "12.0 (11.0 to 13.0)"],
    ]
    assert [row[4] for row in found.tables[0].to_json()["rows"]] == ["1,000", "1,000", "1,000", "140"]


def test_few_classes_are_listed_with_intervals(make_run) -> None:
    found = diversity_section(open_views([make_run(2, full=True)]))
    table = next(t for t in found.tables if LPIPS in t.caption)
    assert [row[0] for row in table.to_json()["rows"]] == ["within 6", "within 9", "6 × 9"]
    assert table.to_json()["rows"][2][1:] == ["0.352 (0.342 to 0.362)"] * 2


def test_many_classes_are_a_matrix_shaded_by_distance(make_run) -> None:
    classes = ["a", "b × c", "d", "e"]
    found = diversity_section(open_views([make_run(2, full=True, classes=classes)]))
    table = next(t for t in found.tables if LPIPS in t.caption)
    assert table.style == "matrix"
    assert table.columns == ("Class", *classes)
    cells = [[cell.text for cell in row[1:]] for row in table.rows]
    assert cells == [["0.160" if i == j else "0.352" for j in range(4)] for i in range(4)]
    assert table.rows[0][1].shade == pytest.approx(0.16 / 0.352)
    assert table.rows[0][2].detail == "0.352"


def test_several_runs_have_a_drawing_per_measure_and_one_run_no_more_than_two(make_run) -> None:
    assert len(plots(open_views([make_run(2, full=True)]))) == 2
    drawn = plots(open_views([make_run(2, full=True), make_run(4, full=True)]))
    assert len(drawn) == 4
    vendi = next(p for p in drawn if p.alt.startswith("Vendi score in labeler features"))
    assert "2 blocks: 9.0 (95\xa0% interval 8.0 to 10.0); 4 blocks: 11.0" in vendi.alt
    assert "training data: 12.0." in vendi.alt


def test_training_data_that_differ_between_runs_are_points_and_no_level(make_run) -> None:
    drawn = plots(open_views([make_run(2, full=True), make_run(4, full=True)]))
    lpips = next(p for p in drawn if p.alt.startswith(LPIPS))
    assert "training data: 2 blocks: 0.320" in lpips.alt
    assert "4 blocks: 0.340" in lpips.alt
