"""Numbers into words: checked against strings written by hand."""

import math

import pytest

from leadline.records import Measurement
from leadline.report.words import (
    brief_cell,
    counted,
    interval_note,
    like,
    listed,
    measurement_cell,
    measurement_text,
    number,
    p_text,
    percent,
    plain,
    quoted,
    setting,
    short,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (1000, "1,000"),
        (1002883, "1,002,883"),
        (0.123456, "0.1235"),
        (-12.3456, "−12.35"),
        (1234.5678, "1,235"),
        (0.00001234, "1.234e-05"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.061, "6.1\xa0%"), (0.0, "0\xa0%"), (1.0, "100.0\xa0%"), (0.00086, "0.086\xa0%")]
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_a_share_stands_in_per_cent_with_its_interval() -> None:
    m = Measurement(name="share", value=0.061, lower=0.048, upper=0.077, level=0.95, n=1000)
    assert measurement_text(m) == "6.1\xa0% (95\xa0% interval 4.8 to 7.7\xa0%)"


def test_a_difference_of_shares_stands_in_points() -> None:
    m = Measurement(name="share_difference", value=-0.039, lower=-0.052, upper=0.0123, level=0.9)
    assert measurement_text(m) == "−3.9 points (90\xa0% interval −5.2 to +1.2 points)"


def test_the_interval_sets_the_decimals() -> None:
    wide = Measurement(name="share_amplification", value=-0.53667, lower=-0.83105, upper=-0.30309)
    narrow = Measurement(name="nearest_similarity", value=0.875, lower=0.871, upper=0.879)
    assert like(wide, -0.53667) == "−0.54"
    assert like(narrow, 0.875) == "0.8750"


def test_infinite_values_and_ends_are_written() -> None:
    m = Measurement(name="share_amplification", value=-math.inf, lower=-math.inf, upper=-1.5)
    cell = measurement_cell(m)
    assert (cell.text, cell.detail) == ("−∞", "−∞ to −1.500")


def test_what_was_not_measured_has_its_reason_and_no_number() -> None:
    cell = measurement_cell(Measurement.not_measurable("share", "give --labels FILE"))
    assert cell.text == "not measurable: give --labels FILE"
    assert cell.muted
    assert not cell.numeric


def test_the_note_of_a_table_names_levels_and_methods_once() -> None:
    m = Measurement(name="share", value=0.5, lower=0.4, upper=0.6, level=0.95, method="Wilson")
    assert interval_note([m, m, None]) == "Below a value: its 95\xa0% interval (Wilson)."
    assert interval_note([None]) == ""


def test_settings_in_words() -> None:
    assert setting(None) == "–"
    assert setting(True) == "yes"
    assert setting([["6", 0.9], ["9", 0.1]]) == "6: 0.9, 9: 0.1"
    assert setting((1, 2, 5, 10)) == "1, 2, 5, 10"
    assert setting((1, 2)) == "1, 2"
    assert setting({}) == "none"
    assert setting("") == "–"


def test_text_that_html_cannot_hold_is_escaped() -> None:
    assert plain("a\x00b\ud800c\td") == "a\\x00b\\ud800c\td"


def test_sentences() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert counted(1, "image") == "1 image"
    assert counted(2000, "class", "classes") == "2,000 classes"
    assert quoted("9") == "9"
    assert quoted("not Male") == "“not Male”"


def test_numbers_without_zeros_at_their_end() -> None:
    assert [short(x) for x in (0.5, 1 / 3, 18.5, 1000, 0, -0.25)] == ["0.5", "0.3333", "18.5", "1,000", "0", "−0.25"]


def test_p_values() -> None:
    assert [p_text(p) for p in (0.0321, 0.0004, 0.5, 0.999)] == ["p = 0.032", "p < 0.001", "p = 0.5", "p = 1"]


def test_a_brief_cell_leaves_the_reason_to_its_section() -> None:
    m = Measurement(name="copy_rate_excess", value=0.03, lower=0.01, upper=0.05)
    cell = brief_cell(m, ", p = 0.01")
    assert (cell.text, cell.detail) == ("+3.0 points, p = 0.01", "+1.0 to +5.0 points")
    assert brief_cell(Measurement.not_measurable("share", "give --labels FILE")).text == "not measurable"
    assert brief_cell(None).text == "–"
