"""The metric "prompted": agreement with the prompts, nearness to the start, baselines, and reasons."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import leadline
from leadline.audit.intervals import mean_interval, wilson
from leadline.audit.prompted import (
    agreement,
    distances_to_others,
    init_distances,
    init_similarities,
    similarities_to_others,
)
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageSet, Splits

CLASSES = ("six", "nine", "one")
PIXELS, RAW = "pixels", "raw pixels features"


def noise(n: int, seed: int, name: str = "noise") -> ImageSet:
    """4×4 grey noise of three classes in turn."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 1, 4, 4), dtype=np.uint8)
    return ImageSet(name=name, pixels=pixels, labels=np.arange(n) % 3, classes=CLASSES)


TRAINING, HELD_OUT = noise(30, 0), noise(8, 1)
SPLITS = Splits(train=TRAINING, held_out=HELD_OUT)
SAMPLES = replace(
    noise(6, 2, "samples"),
    labels=None,
    # Its own order of classes, as a run's samples have it.
    classes=("nine", "six"),
    prompted=np.array([0, 1, 1, 1, 0, 1]),
    init=np.array([7, 0, 3, 4, 1, 6]),
)
SHOWN = ["nine", "six", "nine", "six", "unclassified", "six"]


def audit(samples: ImageSet = SAMPLES, splits: Splits = SPLITS, **given: Any) -> AuditResult:
    options: dict[str, Any] = {"labels": SHOWN, "spec": AuditSpec(encoders=("pixels",)), **given}
    return leadline.measure(samples, splits, metrics="prompted", **options)


def test_an_image_agrees_when_it_shows_the_class_and_never_when_it_is_unclassified() -> None:
    found = agreement(np.array([0, 1, 2, -1, -1]), np.array([0, 2, 2, 0, -1]))
    assert found.tolist() == [True, False, True, False, False]


def test_distances_and_similarities_are_what_they_say() -> None:
    black, white = np.zeros((2, 3, 2, 2), np.uint8), np.full((2, 3, 2, 2), 255, np.uint8)
    white[1, :, 0] = 0
    assert init_distances(black, white) == pytest.approx([255, 255 / np.sqrt(2)])
    ours, theirs = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [-2.0, -2.0], [1.0, 0.0]])
    assert init_similarities(ours, theirs) == pytest.approx([np.sqrt(0.5), -1, 0])


def test_the_baseline_is_the_mean_over_all_other_held_out_images() -> None:
    ours, theirs, init = SAMPLES.pixels, HELD_OUT.pixels, SAMPLES.init
    each = np.array([[init_distances(a[None], b[None])[0] for b in theirs] for a in ours])
    expected = [np.delete(row, i).mean() for row, i in zip(each, init, strict=True)]
    assert distances_to_others(ours, theirs, init) == pytest.approx(expected, rel=1e-12)
    ours, theirs = (images.reshape(len(images), -1).astype(np.float32) for images in (ours, theirs))
    each = np.array([[init_similarities(a[None], b[None])[0] for b in theirs] for a in ours])
    expected = [np.delete(row, i).mean() for row, i in zip(each, init, strict=True)]
    assert similarities_to_others(ours, theirs, init) == pytest.approx(expected, rel=1e-12)


def test_a_copy_of_an_other_held_out_image_is_at_distance_zero_of_it() -> None:
    """The sums of squares are whole numbers: their difference is 0, not the square root of rounding."""
    two = np.concatenate([HELD_OUT.pixels[:1], HELD_OUT.pixels[3:4]])
    assert distances_to_others(two[1:], two, np.array([0])).tolist() == [0.0]


def test_agreement_over_all_and_by_class_with_what_chance_would_give() -> None:
    found = audit()
    (whole,) = (m for m in found.find("prompt_agreement") if m.group is None)
    assert (whole.value, whole.n) == (4 / 6, 6)
    assert (whole.lower, whole.upper) == wilson(4, 6)
    # Asked: nine 2, six 4 of 6. Shown: nine 2, six 3 of 6.
    assert whole.params["by_chance"] == pytest.approx((2 * 2 + 4 * 3) / 36)
    of_class = {m.group: (m.value, m.n, m.lower) for m in found.find("prompt_agreement") if m.group is not None}
    assert of_class == {"six": (3 / 4, 4, wilson(3, 4)[0]), "nine": (1 / 2, 2, wilson(1, 2)[0])}
    assert whole.computed_from.keys() == {"samples"}


def test_three_classes_or_more_have_joint_intervals() -> None:
    samples = replace(SAMPLES, classes=("nine", "six", "one"), prompted=np.array([0, 1, 1, 1, 0, 2]))
    (six,) = audit(samples).find("prompt_agreement", group="six")
    assert (six.level, six.lower) == (0.95, wilson(2, 3, 1 - 0.05 / 3)[0])
    assert "Bonferroni" in six.method


def test_nearness_to_the_start_stands_beside_that_to_others() -> None:
    found = audit()
    starts = HELD_OUT.pixels[SAMPLES.init]
    expected = {
        ("init_distance", PIXELS, "samples"): init_distances(SAMPLES.pixels, starts),
        ("init_distance", PIXELS, "other_starts"): distances_to_others(SAMPLES.pixels, HELD_OUT.pixels, SAMPLES.init),
    }
    for (name, space, subset), values in expected.items():
        (one,) = found.find(name, space=space, set=subset)
        assert one.value == pytest.approx(values.mean())
        assert (one.lower, one.upper) == pytest.approx(mean_interval(values))
        assert one.n == 6
    (own,) = found.find("init_similarity", space=RAW, set="samples")
    flat = [(x.reshape(6, -1).astype(np.float64) / 127.5 - 1) for x in (SAMPLES.pixels, starts)]
    assert own.value == pytest.approx(init_similarities(*flat).mean(), rel=1e-5)


def test_held_out_images_that_are_left_out_do_not_shift_the_starts() -> None:
    """The first held-out image is a training image: the audit leaves it out, and counts on."""
    pixels = HELD_OUT.pixels.copy()
    pixels[2] = TRAINING.pixels[5]
    splits = replace(SPLITS, held_out=replace(HELD_OUT, pixels=pixels))
    (before,), (after,) = (audit(splits=s).find("init_distance", set="samples") for s in (SPLITS, splits))
    assert before.value == after.value
    begun = replace(SAMPLES, init=np.array([7, 0, 2, 4, 1, 6]))
    with pytest.raises(ValueError, match="samples: some started from held-out image 2, which is not there or is a tr"):
        audit(begun, splits)


def test_real_images_say_what_the_labeler_allows(splits: Splits) -> None:
    assert splits.held_out is not None
    samples = replace(splits.held_out, labels=None, prompted=splits.held_out.labels)
    found = leadline.measure(samples, splits, metrics="prompted", spec=AuditSpec(labeler_epochs=4, confidence=0.5))
    (ours,) = (m for m in found.find("prompt_agreement", set="samples") if m.group is None)
    (real,) = found.find("prompt_agreement", set="held_out")
    # The same images, and prompts that ask for what they are.
    assert (real.value, real.n) == (ours.value, ours.n)
    assert ours.params["by_chance"] < ours.value
    assert {"held_out", "labeler"} == real.computed_from.keys()
    assert not found.find("init_distance")


@pytest.mark.parametrize(
    ("samples", "splits", "names", "reason"),
    [
        (
            replace(SAMPLES, prompted=None, init=None),
            SPLITS,
            {"prompt_agreement", "init_distance", "init_similarity"},
            "bring no prompts with a class",
        ),
        (replace(SAMPLES, prompted=None), SPLITS, {"prompt_agreement"}, "bring no prompts with a class"),
        (
            replace(SAMPLES, classes=("nine", "ten")),
            SPLITS,
            {"prompt_agreement"},
            r"asked for 'ten', which is no class of the training data \(six, nine, one\)",
        ),
        (SAMPLES, replace(SPLITS, held_out=None), {"init_distance", "init_similarity"}, "no held-out real images"),
    ],
)
def test_what_cannot_be_measured_has_its_reason(
    samples: ImageSet, splits: Splits, names: set[str], reason: str
) -> None:
    missing = [m for m in audit(samples, splits) if m.value is None]
    assert {m.name for m in missing} == names
    assert all(re.search(reason, str(m.reason)) for m in missing)


def test_without_a_labeler_the_starts_are_still_measured() -> None:
    found = audit(labels=None, spec=AuditSpec())
    assert found.find("init_distance", set="samples")[0].value is not None
    missing = {m.name: m.reason for m in found if m.value is None}
    assert missing.keys() == {"prompt_agreement", "init_similarity"}
    assert all("no labeler" in reason for reason in missing.values())


def test_one_held_out_image_has_no_others() -> None:
    splits = replace(SPLITS, held_out=HELD_OUT.take([3]))
    found = audit(replace(SAMPLES, init=np.zeros(6, np.int64)), splits).find("init_distance")
    assert [m.value is None for m in found] == [False, True]
    assert "there is one held-out image" in found[1].reason
