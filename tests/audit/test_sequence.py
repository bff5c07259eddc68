"""What an audit says of images whose number hung on what they showed."""

import numpy as np
import pytest

from leadline.audit import measure
from leadline.audit.anytime import anytime_interval, centre
from leadline.audit.intervals import share_interval
from leadline.audit.sequence import Rule
from leadline.recipe import AuditSpec
from leadline.records import ImageSet

SPEC = AuditSpec(metrics=("bias",), encoders=("labeler",), stopping="anytime", labeler_epochs=6, confidence=0.8)


@pytest.fixture(scope="module")
def audited(splits):
    """200 samples: 120 left, 70 middle, 10 right, of which the training data has none."""
    held = splits.labeler
    order = np.concatenate(
        [np.resize(np.flatnonzero(held.labels == label), n) for label, n in ((0, 120), (1, 70), (2, 10))]
    )
    noise = np.random.default_rng(5).integers(0, 9, (200, 1, 8, 8))
    samples = ImageSet(name="samples", pixels=np.clip(held.pixels[order] + noise, 0, 255).astype(np.uint8))
    return measure(samples, splits, spec=SPEC)


def test_its_shares_have_intervals_that_hold_at_every_look(audited):
    share = audited.find("share", "middle", set="samples")[0]
    count = round(share.value * 200)
    lower, upper = anytime_interval(count, 200, around=centre(0.25))
    assert share.lower <= lower  # wider where it is one of several
    assert share.upper >= upper
    right = audited.find("share_difference", "right")[0]
    assert right.lower == anytime_interval(round(right.value * right.n), right.n, around=centre(0.0))[0]
    assert all("valid at every look" in m.method for m in (share, right))


def test_its_corrected_shares_hold_at_every_look(audited):
    for name, true in (("left", 0.6), ("middle", 0.35)):
        found = audited.find("corrected_share", name)[0]
        assert "valid at every look" in found.method
        assert found.lower < true < found.upper
    difference = audited.find("corrected_difference", "middle")[0]
    assert difference.lower < 70 / 190 - 0.25 < difference.upper
    assert difference.value == pytest.approx(difference.params["share"] - 0.25)


def test_what_holds_for_a_fixed_number_alone_is_not_said(audited):
    for name in ("labeled_difference", "detectable_difference"):
        assert all("fixed beforehand" in m.reason for m in audited.find(name))
        assert {m.group for m in audited.find(name)} == {"left", "middle"}


def test_how_many_intervals_hold_together_does_not_hang_on_what_the_images_show(splits):
    """All 60 are of one class: "other classes" and "unclassified" are counted all the same, as another look may show
    them."""
    samples = ImageSet(name="samples", pixels=splits.labeler.pixels[:60])
    found = measure(samples, splits, labels=["left"] * 60, spec=SPEC).find("share", "left", set="samples")[0]
    assert (found.lower, found.upper) == anytime_interval(60, 60, 1 - 0.05 / 4, around=centre(0.75))
    fixed = SPEC.model_copy(update={"stopping": "fixed"})
    alone = measure(samples, splits, labels=["left"] * 60, spec=fixed).find("share", "left", set="samples")[0]
    assert alone.lower == share_interval(60, 60, 0.95)[0][0]


def test_given_labels_have_no_errors_to_correct(splits):
    samples = ImageSet(name="samples", pixels=splits.labeler.pixels[:60])
    found = measure(samples, splits, labels=["left"] * 40 + ["middle"] * 20, spec=SPEC)
    assert "there is no labeler whose errors were counted" in found.find("corrected_share")[0].reason


def test_images_that_were_there_already_are_not_said_to_have_been_asked_for() -> None:
    rule = Rule(width=0.02, at_most=60)
    assert rule.ended(60) == "60 images were drawn, the most that was asked for (--at-most)"
    assert rule.ended(132) == "132 images were there already, more than the 60 that may be drawn (--at-most)"
