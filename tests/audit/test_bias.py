"""Shares and their comparisons against hand-worked numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest

import leadline
from leadline.audit.bias import share_amplification, share_difference, share_ratio
from leadline.audit.intervals import clopper_pearson, simultaneous, wilson
from leadline.audit.planning import detectable
from leadline.errors import LeadlineError
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageSet


def labelled(counts: dict[str, int], name: str = "images") -> ImageSet:
    """Images of noise with labels in those numbers."""
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    pixels = np.random.default_rng(0).integers(0, 255, (len(labels), 1, 8, 8)).astype(np.uint8)
    return ImageSet(name=name, pixels=pixels, labels=labels, classes=tuple(counts))


def audit(samples: dict[str, int], training: dict[str, int], **spec: float) -> AuditResult:
    """The bias of samples whose labels are given."""
    names = [name for name, count in samples.items() for _ in range(count)]
    images = labelled(samples)
    bare = ImageSet(name="samples", pixels=images.pixels)
    return leadline.measure(bare, labelled(training), metrics="bias", labels=names, spec=AuditSpec(**spec))


def test_the_papers_table_2_at_six_blocks() -> None:
    assert share_difference(0.2885, 0.4168) == pytest.approx(-0.1283)
    assert share_ratio(0.2885, 0.4168) == pytest.approx(0.69218, abs=1e-5)
    assert share_amplification(0.2885, 0.4168) == pytest.approx(math.log(0.2885 / 0.7115) - math.log(0.4168 / 0.5832))


def test_amplification_is_none_at_the_training_share_odd_and_infinite_at_the_ends() -> None:
    assert share_amplification(0.3, 0.3) == 0
    assert share_amplification(0.2, 0.4) == pytest.approx(-share_amplification(0.8, 0.6))
    assert share_amplification(0.0, 0.4) == -math.inf
    assert share_amplification(1.0, 0.4) == math.inf


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
@pytest.mark.parametrize("formula", [share_difference, share_ratio, share_amplification])
def test_what_is_no_share_is_refused(formula, share: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LeadlineError, match="between 0 and 1"):
        formula(share, 0.5)
    with pytest.raises(LeadlineError, match="between 0 and 1"):
        formula(0.5, share)


def test_a_class_that_the_training_data_lacks_or_is_has_no_ratio_or_odds() -> None:
    with pytest.raises(LeadlineError, match="not in the training data"):
        share_ratio(0.5, 0.0)
    with pytest.raises(LeadlineError, match="needs a training share between 0 and 1"):
        share_amplification(0.5, 1.0)


def test_comparisons_take_the_recognised_and_shares_take_all() -> None:
    result = audit({"6": 150, "9": 10, "3": 30, "unclassified": 10}, {"6": 90, "9": 10, "3": 0})
    shares = {m.group: m.value for m in result.find("share", set="samples")}
    assert shares == {"6": 0.75, "9": 0.05, "other classes": 0.15, "unclassified": 0.05, "3": 0.15}
    (difference,) = result.find("share_difference", "9")
    assert difference.n == 160
    assert difference.value == pytest.approx(10 / 160 - 0.1)
    assert (difference.lower, difference.upper) == pytest.approx([end - 0.1 for end in wilson(10, 160)])
    assert difference.params["if_none_unclassified_belong"] == pytest.approx(10 / 170 - 0.1)
    assert difference.params["if_all_unclassified_belong"] == pytest.approx(20 / 170 - 0.1)
    (amplification,) = result.find("share_amplification", "9")
    assert amplification.lower == pytest.approx(share_amplification(wilson(10, 160)[0], 0.1))
    assert "known, not estimated" in str(amplification.method)


def test_training_shares_are_counted_not_estimated() -> None:
    result = audit({"6": 5, "9": 5}, {"6": 90, "9": 10})
    shares = result.find("share", set="training")
    assert [(m.group, m.value, m.n, m.lower) for m in shares] == [("6", 0.9, 100, None), ("9", 0.1, 100, None)]


def test_more_than_two_classes_get_simultaneous_intervals() -> None:
    result = audit({"a": 50, "b": 30, "c": 20}, {"a": 10, "b": 10, "c": 10})
    ratios = result.find("share_ratio")
    for ratio, (lower, upper) in zip(ratios, simultaneous([50, 30, 20]), strict=True):
        assert (ratio.lower, ratio.upper) == pytest.approx((3 * lower, 3 * upper))
        assert "simultaneous for the 3 classes" in str(ratio.method)
    (share,) = result.find("share", "a", set="samples")
    assert (share.lower, share.upper) == pytest.approx(simultaneous([50, 30, 20])[0])


def test_a_class_that_is_never_made_has_an_infinite_amplification_with_a_finite_bound() -> None:
    (found,) = audit({"6": 100, "9": 0}, {"6": 90, "9": 10}).find("share_amplification", "9")
    assert found.value == found.lower == -math.inf
    assert found.upper == pytest.approx(share_amplification(clopper_pearson(0, 100)[1], 0.1))
    assert str(found.method).startswith("Clopper-Pearson")


def test_the_level_widens_the_interval() -> None:
    narrow, wide = (
        audit({"6": 80, "9": 20}, {"6": 9, "9": 1}, level=level).find("share_difference", "9")[0]
        for level in (0.5, 0.99)
    )
    assert wide.lower < narrow.lower < narrow.upper < wide.upper  # type: ignore[operator]


def test_samples_drawn_from_known_shares_show_no_amplification_as_often_as_the_level_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        nines = int(generator.binomial(400, 0.1))
        (found,) = audit({"6": 400 - nines, "9": nines}, {"6": 90, "9": 10}).find("share_amplification", "9")
        covered += found.lower <= 0 <= found.upper  # type: ignore[operator]
    assert 53 <= covered <= 60


def test_one_class_leaves_nothing_to_amplify() -> None:
    result = audit({"6": 10, "9": 5}, {"6": 90, "9": 0})
    for name in ("share_difference", "share_ratio", "share_amplification"):
        (found,) = result.find(name, "6")
        assert found.status == "not_measurable"
        assert "one class ('6')" in str(found.reason)
    assert [m.value for m in result.find("share", set="samples")] == [10 / 15, 5 / 15, 0, 5 / 15]


def test_a_class_without_training_images_is_reported_with_its_exact_interval() -> None:
    result = audit({"6": 150, "9": 40, "3": 9, "5": 1, "unclassified": 10}, {"6": 90, "9": 10, "3": 0, "5": 0})
    (share,) = result.find("share", "5", set="samples")
    assert (share.lower, share.upper) == pytest.approx(clopper_pearson(1, 210, 0.975))
    assert share.params["part_of"] == "other classes"
    (difference,) = result.find("share_difference", "3")
    assert (difference.value, difference.n) == (9 / 200, 200)
    assert (difference.lower, difference.upper) == pytest.approx(clopper_pearson(9, 200, 0.975))
    for name in ("share_ratio", "share_amplification"):
        (missing,) = result.find(name, "3")
        assert "no image of this class, so its share there is 0" in str(missing.reason)


def test_labels_that_were_given_have_no_labeler_to_correct_by() -> None:
    result = audit({"6": 80, "9": 20}, {"6": 90, "9": 10})
    for name in ("corrected_share", "corrected_difference", "labeled_difference"):
        (found,) = result.find(name)
        assert found.value is None
        assert "are given by hand: there is no labeler whose errors were counted" in str(found.reason)


def test_what_the_images_can_tell_is_said_first_and_of_each_class() -> None:
    said: list[str] = []
    names = ["6"] * 900 + ["9"] * 100
    bare = ImageSet(name="samples", pixels=labelled({"6": 900, "9": 100}).pixels)
    result = leadline.measure(
        bare, labelled({"6": 90, "9": 10}), metrics="bias", labels=names, progress=lambda stage, *_: said.append(stage)
    )
    below, above = detectable(0.1, 1000)
    assert below is not None
    assert above is not None
    assert said[0] == (
        f"1,000 images: of '9' (10 % of the training data) shares below {100 * below:.3g} % or above {100 * above:.3g} "
        "% would be told apart with 80 % power, by a labeler without error"
    )
    (found,) = result.find("detectable_difference", "9")
    assert found.value == pytest.approx(max(0.1 - below, above - 0.1))
    assert found.params["share_below"] == below


def test_two_classes_and_unclassified_images_are_three_shares() -> None:
    """With a third category the shares of two classes are no longer complements: two intervals, not one."""
    counts = {"6": 60, "9": 30, "unclassified": 10}
    result = audit(counts, {"6": 50, "9": 50})
    for (name, _), (lower, upper) in zip(counts.items(), simultaneous([60, 30, 10]), strict=True):
        (share,) = result.find("share", name, set="samples")
        assert (share.lower, share.upper) == pytest.approx((lower, upper))
        assert "simultaneous for the 3 groups" in str(share.method)
    (difference,) = result.find("share_difference", "9")
    assert (difference.params["share_lower"], difference.params["share_upper"]) == pytest.approx(wilson(30, 90))


def test_none_recognised_is_said_and_not_divided() -> None:
    result = audit({"6": 0, "9": 0, "3": 4, "unclassified": 6}, {"6": 9, "9": 1, "3": 0})
    (found,) = result.find("share_ratio", "9")
    assert "none of the 10 samples was recognised as 6 or 9" in str(found.reason)
    assert "--set audit.confidence" in str(found.reason)


def test_training_data_without_labels_says_how_to_name_them() -> None:
    bare = replace(labelled({"6": 5}), labels=None)
    for name in ("share", "share_difference", "share_ratio", "share_amplification"):
        (found,) = leadline.measure(bare, bare, metrics="bias", labels=["6"] * 5).find(name)
        assert "no labels" in str(found.reason)
        assert "--groups" in str(found.reason)


def test_counts_stand_in_the_table() -> None:
    (table,) = audit({"6": 7, "9": 2, "3": 1, "unclassified": 4}, {"6": 90, "9": 10, "3": 0}).tables
    assert table.columns == ("class", "training images", "samples")
    assert table.rows == (("6", 90, 7), ("9", 10, 2), ("3", 0, 1), ("unclassified", 0, 4))
