"""What the page says of the labeler: on which images it was judged, in the words of its own measurement."""

from typing import Any

import pytest

from leadline.records import Measurement
from leadline.report.sections import labeler
from leadline.report.views import open_views


def accuracy(unit: str) -> Measurement:
    bounds = {"lower": 0.8, "upper": 0.95, "level": 0.95, "method": "Wilson"}
    return Measurement(name="labeler_accuracy", value=0.9, n=100, unit=f"share of {unit}", **bounds)


@pytest.mark.parametrize("unit", ["labelled images it has not seen", "labelled training images"])
def test_the_lead_names_the_images_that_it_was_judged_on_and_claims_no_others(make_run: Any, unit: str) -> None:
    section = labeler(open_views([make_run(measurements=[accuracy(unit)])]))
    assert section.lead == (
        "A classifier labels the images. How often it is right: "
        f"90.0\xa0% (95\xa0% interval 80.0 to 95.0\xa0%) of {unit}."
    )


def test_two_labelers_are_told_apart(make_run: Any) -> None:
    units = ("labelled held-out images", "labelled training images")
    runs = [make_run(blocks, measurements=[accuracy(unit)]) for blocks, unit in zip((2, 4), units, strict=True)]
    lead = labeler(open_views(runs)).lead
    assert "of labelled held-out images (digits69, 2 blocks); " in lead
    assert "of labelled training images (digits69, 4 blocks)." in lead


def test_an_accuracy_that_is_not_measurable_has_its_reason(make_run: Any) -> None:
    missing = Measurement.not_measurable("labeler_accuracy", "no labelled images: give some (--labeler DATA)")
    lead = labeler(open_views([make_run(measurements=[missing])])).lead
    assert "How often it is right: not measurable: no labelled images" in lead
