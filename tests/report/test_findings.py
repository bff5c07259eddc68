"""The answer's sentences, against sentences written by hand for runs with known numbers."""

import pytest

from leadline.records import Measurement
from leadline.report.content import Finding
from leadline.report.findings import finding
from leadline.report.views import open_views


def found(run) -> Finding:
    return finding(open_views([run])[0])


def sentence(run, label: str) -> str:
    return dict(found(run).sentences)[label]


def test_less_often_with_both_shares_interval_and_basis(make_run) -> None:
    assert found(make_run(share=0.061)).headline == (
        "makes 9 less often than its training data: 6.1\xa0% against 10.0\xa0%, 95\xa0% interval 4.6 to 7.6\xa0%; "
        "960 of 1,000 images recognised as one of its classes, one training run."
    )


def test_more_often(make_run) -> None:
    assert found(make_run(share=0.2)).headline.startswith("makes 9 more often than its training data: 20.0\xa0%")


def test_an_interval_with_the_training_share_shows_no_difference_and_says_what_fits(make_run) -> None:
    headline = found(make_run(share=0.09)).headline
    assert headline.startswith("no difference from the training data is shown for 9: 9.0\xa0% against 10.0\xa0%")
    assert "a true difference anywhere between −2.8 and +0.8 points fits" in headline
    assert "no bias" not in headline


def test_a_share_of_zero_is_a_finding(make_run) -> None:
    assert "makes 9 less often than its training data: 0\xa0% against 10.0\xa0%" in found(make_run(share=0.0)).headline


def test_an_audit_of_foreign_images_claims_no_training_run(make_run) -> None:
    assert "training run" not in found(make_run(kind="audit")).headline


def test_without_an_audit_the_reason_stands(make_run) -> None:
    headline = found(make_run(audit=False)).headline
    assert headline == (
        "nothing was measured: the audit is not finished (the run's status is sampled): start the same command again."
    )


def test_bias_that_could_not_be_measured_has_its_reason(make_run) -> None:
    run = make_run(measurements=[Measurement.not_measurable("share", "name the column with the classes (--groups)")])
    assert found(run).headline == "bias is not measurable: name the column with the classes (--groups)"


def test_memorization_is_read_by_the_held_out_baseline(make_run) -> None:
    assert sentence(make_run(4), "Memorization") == (
        "The mean distance to the nearest training image (RMS per value, 0–255) is 29.0 "
        "(95\xa0% interval 28.5 to 29.5) for generated images, 27.0 (95\xa0% interval 26.5 to 27.5) for held-out real "
        "images: no sign of copying on average. Single copies would show among the nearest neighbours. "
        "None is identical to a training image."
    )
    assert "closer to the training data than new real images" in sentence(make_run(2), "Memorization")
    assert "intervals overlap" in sentence(make_run(3), "Memorization")


def test_memorization_without_a_baseline_says_so(make_run) -> None:
    samples = Measurement(name="nearest_distance", value=25.0, n=10, params={"k": 1, "set": "samples"})
    missing = Measurement.not_measurable("nearest_distance", "give --held-out DATA", params={"set": "held_out"})
    text = sentence(make_run(measurements=[samples, missing]), "Memorization")
    assert "There is no held-out baseline to read it by: give --held-out DATA" in text


def test_exact_copies_are_counted(make_run) -> None:
    params = {"k": 1, "set": "samples", "identical_to_training": 3}
    run = make_run(measurements=[Measurement(name="nearest_distance", value=2.5, n=10, params=params)])
    assert sentence(run, "Memorization").endswith("Identical to a training image: 3 images.")


def test_diversity_beside_the_training_data(make_run) -> None:
    assert "no difference is shown" in sentence(make_run(2), "Diversity")
    assert "generated images are more diverse" in sentence(make_run(5), "Diversity")


def test_unclassified_and_other_classes_are_told(make_run) -> None:
    assert sentence(make_run(), "Unclassified") == (
        "3.0\xa0% of 1,000 images are unclassified and 1.0\xa0% look like classes outside the training data."
    )


@pytest.mark.parametrize(("every", "turns"), [(0.067, True), (-0.015, False)])
def test_unclassified_images_that_could_turn_the_answer_are_named_so(make_run, every: float, turns: bool) -> None:
    bounds = {"if_none_unclassified_belong": -0.047, "if_all_unclassified_belong": every}
    shares = {"6": (0.9, 0.85, 0.04), "9": (0.1, 0.05, -0.04), "unclassified": (None, 0.1, None)}
    measurements = []
    for group, (training, samples, difference) in shares.items():
        measurements.append(Measurement(name="share", value=samples, n=600, group=group, params={"set": "samples"}))
        if training is not None and difference is not None:
            ends = {"lower": difference - 0.02, "upper": difference + 0.02}
            measurements += [
                Measurement(name="share", value=training, group=group, params={"set": "training"}),
                Measurement(name="share_difference", value=difference, group=group, params=bounds, **ends),
            ]
    run = make_run(measurements=measurements)
    text, headline = sentence(run, "Unclassified"), found(run).headline
    assert ("the unclassified ones could turn that around" in headline) is turns
    assert headline.startswith("makes 9 less often") is not turns
    assert text.startswith("10.0\xa0% of 600 images are unclassified. Were none or all of the unclassified of class 9,")
    assert ("would be −4.7 or +6.7 points: they could turn the answer around." in text) is turns


def test_of_many_classes_those_that_differ_are_named_largest_first(make_run) -> None:
    differences = {"a": (-0.02, -0.03, -0.01), "b": (0.0, -0.01, 0.01), "c": (0.1, 0.05, 0.15), "d": (0.0, -0.1, 0.1)}
    measurements = []
    for group, (value, lower, upper) in differences.items():
        measurements += [
            Measurement(name="share", value=0.25, n=100, group=group, params={"set": "training"}),
            Measurement(name="share", value=0.25 + value, n=100, group=group, params={"set": "samples"}),
            Measurement(name="share_difference", value=value, lower=lower, upper=upper, group=group),
        ]
    headline = found(make_run(measurements=measurements)).headline
    assert headline.index("makes c more often") < headline.index("makes a less often")
    assert "The other 2 classes are in the table." in headline
    assert " b " not in headline


def test_many_classes_that_could_not_be_compared_are_not_called_without_difference(make_run) -> None:
    measurements = []
    for group in "abc":
        measurements += [
            Measurement(name="share", value=1 / 3, n=90, group=group, params={"set": "training"}),
            Measurement(name="share", value=0.0, n=20, group=group, params={"set": "samples"}),
            Measurement.not_measurable("share_difference", "none was recognised", group=group),
        ]
    headline = found(make_run(measurements=measurements)).headline
    assert headline == "the difference from the training data's 3 classes is not measurable: none was recognised"


def test_a_calibrated_copy_rate_is_the_answer_on_memorization(make_run) -> None:
    assert sentence(make_run(2, full=True), "Memorization") == (
        "4.0\xa0% of 1,000 images (95\xa0% interval 2.8 to 5.2\xa0%) count as copies in pixels by a threshold that "
        "calls at most 1.0\xa0% of new real images copies (held-out check: 1.0\xa0% of 250 images): excess +3.0 points "
        "(95\xa0% interval +1.5 to +4.5 points), more than new real images, as copies would be. "
        "None is identical to a training image."
    )


def calibrated(excess: tuple[float, float, float] | None, space: str = "pixels") -> list[Measurement]:
    where = {"rule": "calibrated", "space": space, "false_positive_rate": 0.01}
    rate = Measurement(
        name="nearest_copy_rate", value=0.02, lower=0.01, upper=0.03, n=100, params={"set": "samples", **where}
    )
    if excess is None:
        return [rate, Measurement.not_measurable("copy_rate_excess", "give --held-out DATA", params=where)]
    value, lower, upper = excess
    return [rate, Measurement(name="copy_rate_excess", value=value, lower=lower, upper=upper, params=where)]


def test_an_excess_is_claimed_only_where_its_interval_leaves_out_0(make_run) -> None:
    text = sentence(make_run(measurements=calibrated((0.01, -0.002, 0.022))), "Memorization")
    assert "excess +1.0 points (interval −0.2 to +2.2 points), no excess over new real images is shown." in text
    fewer = sentence(make_run(measurements=calibrated((-0.02, -0.03, -0.01)), folder="fewer"), "Memorization")
    assert "fewer than new real images." in fewer
    unknown = sentence(make_run(measurements=calibrated(None), folder="unknown"), "Memorization")
    assert "the excess over held-out real images is not measurable: give --held-out DATA." in unknown


def test_an_excess_in_another_space_is_told_too(make_run) -> None:
    measurements = calibrated((0.0, -0.01, 0.01)) + calibrated((0.05, 0.02, 0.08), "labeler features")
    text = sentence(make_run(measurements=measurements), "Memorization")
    assert "no excess over new real images is shown. An excess is shown also in labeler features." in text


def test_why_copies_could_not_be_counted_is_told_where_there_is_a_baseline(make_run) -> None:
    distances = [
        Measurement(name="nearest_distance", value=25.0, n=10, params={"k": 1, "set": subset})
        for subset in ("samples", "held_out")
    ]
    where = {"rule": "calibrated", "space": "pixels", "set": "samples"}
    missing = Measurement.not_measurable("nearest_copy_rate", "give 198 held-out images", params=where)
    text = sentence(make_run(measurements=[*distances, missing]), "Memorization")
    assert text.startswith("The mean distance to the nearest training image is 25")
    assert text.endswith("by a threshold of known mistakes is not measurable: give 198 held-out images")
    alone = sentence(make_run(measurements=[distances[0], missing], folder="alone"), "Memorization")
    assert "198" not in alone
