"""Corrected shares of samples whose true classes are known, by a labeler whose errors are known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

import leadline
from leadline.audit.corrected import labeler_error
from leadline.audit.intervals import corrected_share, wilson
from leadline.audit.judged import AttributeLabeler
from leadline.audit.planning import detectable, detectable_estimated
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageSet, Splits

SHAPE = (1, 2, 2)
Rates = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader(AttributeLabeler):
    """Reads the true class in the first pixel and, in the second, how its lot falls: a draw from that class's row.

    rates: one row per class, the probabilities of each label and, last, of being unsure.
    """

    rates: Rates
    doubt = "its probability"
    batch_size = 64

    @property
    def description(self) -> str:
        return "a reader of pixels"

    @property
    def outputs(self) -> Mapping[str, int]:
        return {"probabilities": len(self.classes)}

    def details(self) -> dict[str, Any]:
        return {}

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        pixels = np.rint((images + 1) * 127.5).astype(int)
        rows = np.cumsum(self.rates, 1)[pixels[:, 0, 0, 0]]
        labels = (pixels[:, 0, 0, 1, None] / 255 >= rows).sum(1)
        unsure = np.full(len(self.classes), 1 / len(self.classes))
        return {"probabilities": np.vstack([np.eye(len(self.classes)), unsure])[labels].astype(np.float32)}


def reader(rates: Rates, classes: tuple[str, ...] = ("a", "b"), confidence: float = 0.0) -> Reader:
    return Reader(classes=classes, shape=SHAPE, confidence=confidence, fingerprint=repr(rates), rates=rates)


def drawn(counts: dict[str, int], seed: int, *, known: bool = True) -> ImageSet:
    """Images of those true classes, their lots drawn anew; the other pixels number them, so that none is twice."""
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    pixels = np.random.default_rng(seed).integers(0, 255, (len(labels), *SHAPE))
    pixels[:, 0, 0, 0] = labels
    pixels[:, 0, 1, 0], pixels[:, 0, 1, 1] = seed, np.arange(len(labels)) % 256
    name = f"images {seed}"
    images = ImageSet(name=name, pixels=pixels.astype(np.uint8), labels=labels, classes=tuple(counts))
    return images if known else ImageSet(name=name, pixels=images.pixels)


def audit(labeler: Reader, samples: ImageSet, training: ImageSet, held_out: ImageSet | None = None) -> AuditResult:
    spec = AuditSpec(metrics=("bias",), confidence=labeler.confidence)
    return leadline.measure(samples, Splits(train=training, held_out=held_out), labeler=labeler, spec=spec)


def test_the_corrected_interval_contains_the_truth_where_the_plain_one_misses_it() -> None:
    labeler = reader(((0.8, 0.2), (0.05, 0.95)))
    training, held_out = drawn({"a": 400, "b": 600}, 1), drawn({"a": 250, "b": 250}, 2)
    result = audit(labeler, drawn({"a": 1200, "b": 1800}, 3, known=False), training, held_out)
    (plain,) = result.find("share_difference", "a")
    (corrected,) = result.find("corrected_difference", "a")
    assert plain.upper < 0  # type: ignore[operator]
    assert corrected.lower < 0 < corrected.upper  # type: ignore[operator]
    table = next(table for table in result.tables if table.name == "labeler_confusion")
    assert [sum(row[1:]) for row in table.rows] == [650, 850]  # type: ignore[arg-type]
    (_, found, wrong, _), (_, missed, spared, _) = table.rows
    counted = next(m for m in result.find("share", "a", set="samples")).value * 3000  # type: ignore[operator]
    known = corrected_share(round(counted), 3000, found, found + wrong, spared, missed + spared)  # type: ignore[operator, arg-type]
    assert corrected.params["share"] == pytest.approx(known.value)
    assert (corrected.lower, corrected.upper) == pytest.approx((known.lower - 0.4, known.upper - 0.4))  # type: ignore[operator]
    assert corrected.params["sensitivity"] == pytest.approx(found / 650)  # type: ignore[operator]


def test_both_sets_as_labelled_differ_by_the_samples_and_the_labelers_errors_alone() -> None:
    """By hand: the training set has 400 of a, so that its share as labelled varies with the labeler's errors only."""
    labeler = reader(((0.8, 0.2), (0.1, 0.9)))
    result = audit(labeler, drawn({"a": 300, "b": 700}, 4, known=False), drawn({"a": 400, "b": 600}, 5))
    (shares,) = (table for table in result.tables if table.name == "shares")
    (_, _, samples, training), *_ = shares.rows
    (found,) = result.find("labeled_difference", "a")
    q, t = samples / 1000, training / 1000  # type: ignore[operator]
    assert found.value == pytest.approx(q - t)
    table = next(table for table in result.tables if table.name == "labeler_confusion")
    rates = [(table.rows[0][1] + 1) / 402, (table.rows[1][1] + 1) / 602]  # type: ignore[operator]
    variances = [rate * (1 - rate) / (n + 3) for rate, n in zip(rates, (400, 600), strict=True)]
    error = 1.959964 * math.sqrt(0.4**2 * variances[0] + 0.6**2 * variances[1])
    lower, upper = wilson(samples, 1000)  # type: ignore[arg-type]
    assert found.lower == pytest.approx(q - t - math.hypot(q - lower, error), abs=1e-6)
    assert found.upper == pytest.approx(q - t + math.hypot(upper - q, error), abs=1e-6)
    alike = confint_proportions_2indep(samples, 1000, training, 1000, method="newcomb")
    assert found.upper - found.lower < 0.93 * (alike[1] - alike[0])  # type: ignore[operator]


def test_the_training_sets_error_as_labelled_is_that_of_a_simulation() -> None:
    """Also where images are left unclassified in one class more than in the other."""
    rates, sizes = np.array([[0.8, 0.05, 0.15], [0.1, 0.85, 0.05], [0.02, 0.08, 0.9]]), (400, 600, 0)
    generator = np.random.default_rng(3)
    draws = np.stack([generator.multinomial(n, row, 4000) for n, row in zip(sizes[:2], rates, strict=False)], 1)
    shares = draws[:, :, :2].sum(1) / draws[:, :, :2].sum((1, 2))[:, None]
    errors = np.mean([labeler_error(labeled) for labeled in draws[:200]], 0)
    assert errors == pytest.approx(shares.std(0), rel=0.05)


def test_what_many_images_can_tell_allows_for_how_few_known_ones_judge_the_labeler() -> None:
    result = audit(
        reader(((0.9, 0.1), (0.05, 0.95))),
        drawn({"a": 1000, "b": 9000}, 21, known=False),
        drawn({"a": 100, "b": 900}, 22),
    )
    (found,) = result.find("detectable_difference", "a")
    (support,) = result.find("corrected_difference", "a")
    hits, spared = round(100 * support.params["sensitivity"]), round(900 * support.params["specificity"])
    below, above = (found.params[f"share_{side}"] for side in ("below", "above"))
    rates = {"sensitivity": (hits + 1) / 102, "specificity": (spared + 1) / 902}
    assert (below, above) == pytest.approx(detectable_estimated(0.1, 10_000, 102, 902, **rates))
    exact = detectable(0.1, 10_000, **rates)
    assert found.value > 2 * max(0.1 - exact[0], exact[1] - 0.1)  # type: ignore[operator]
    generator = np.random.default_rng(23)
    labels = np.array([[hits / 100], [1 - spared / 900]])
    for end in (below, above):
        counts = generator.binomial(10_000, end * labels[0] + (1 - end) * labels[1], 150)
        judged = generator.binomial(100, hits / 100, 150), generator.binomial(900, spared / 900, 150)
        told = 0
        for count, right, clear in zip(counts, *judged, strict=True):
            m = corrected_share(count, 10_000, right, 100, clear, 900)
            told += m.upper < 0.1 if end < 0.1 else m.lower > 0.1  # type: ignore[operator]
        assert 0.7 <= told / 150 <= 0.93


def test_many_known_images_of_a_class_that_is_never_mistaken_tell_little() -> None:
    """Stratified: the mistakes come from class b, of which 100 images are known, and not from the 4,800 of class c."""
    rates = ((0.9, 0.05, 0.05), (0.2, 0.75, 0.05), (0.0, 0.05, 0.95))
    training = drawn({"a": 100, "b": 100, "c": 800}, 24)
    labeler = reader(rates, classes=("a", "b", "c"))
    samples, held_out = drawn({"a": 100, "b": 100, "c": 800}, 25, known=False), drawn({"a": 0, "b": 0, "c": 4000}, 26)
    result = audit(labeler, samples, training, held_out)
    (found,) = result.find("detectable_difference", "a")
    assert found.params["labeled_images_of_class"] == 100
    assert 1000 < found.params["negatives"] < 1600


def test_samples_of_no_class_are_told_from_those_that_the_labeler_is_always_unsure_of() -> None:
    rates = ((0.85, 0.05, 0.10), (0.05, 0.90, 0.05), (0.0, 0.0, 1.0))
    labeler = reader(rates, confidence=0.9)
    training = drawn({"a": 500, "b": 500}, 6)
    usual = audit(labeler, drawn({"a": 300, "b": 700}, 7, known=False), training)
    strange = audit(labeler, drawn({"a": 240, "b": 560, "none": 200}, 8, known=False), training)
    for result, none in ((usual, 0.0), (strange, 0.2)):
        (found,) = result.find("corrected_share", "no class")
        assert found.lower <= none <= found.upper  # type: ignore[operator]
        (difference,) = result.find("corrected_difference", "a")
        assert difference.lower <= -0.2 <= difference.upper  # type: ignore[operator]
        assert difference.params["unclassified_expected"] == pytest.approx(0.065, abs=0.02)
        assert (difference.params["no_class_lower"] > 0) == (none > 0)
    ends = [difference.params[f"if_{which}_of_no_class_belong"] for which in ("none", "all")]
    value = found.value
    assert value is not None
    assert ends[1] - ends[0] == pytest.approx(value, abs=1e-6)


def test_classes_that_no_image_shows_are_pooled_with_the_unsure() -> None:
    rates = ((0.9, 0.0, 0.1), (0.0, 0.9, 0.1), (0.0, 0.0, 1.0))
    labeler = reader(rates, classes=("a", "b", "c"))
    result = audit(labeler, drawn({"a": 100, "b": 300}, 9, known=False), drawn({"a": 100, "b": 300}, 10))
    assert result.find("corrected_share", "c") == []
    (difference,) = result.find("corrected_difference", "a")
    assert difference.lower < 0 < difference.upper  # type: ignore[operator]


def test_a_labeler_that_guesses_corrects_nothing() -> None:
    labeler = reader(((0.5, 0.5), (0.5, 0.5)))
    result = audit(labeler, drawn({"a": 50, "b": 50}, 11, known=False), drawn({"a": 40, "b": 60}, 12))
    for name in ("corrected_share", "corrected_difference"):
        found = result.find(name)
        assert [m.group for m in found] == ["a", "b"]
        assert all("a" in str(m.reason) and m.value is None for m in found)
    assert result.find("labeled_difference", "a")[0].value is not None


def test_a_rare_class_carries_the_false_positives_that_bury_it() -> None:
    labeler = reader(((0.9, 0.1), (0.02, 0.98)))
    result = audit(labeler, drawn({"a": 20, "b": 1980}, 13, known=False), drawn({"a": 40, "b": 3960}, 14))
    (found,) = result.find("corrected_difference", "a")
    assert found.params["true_positive_share"] == pytest.approx(0.009, abs=0.002)
    assert found.params["false_positive_share"] > 0.5 * found.params["true_positive_share"]
    assert found.params["labeled_images_of_class"] == 40


def test_images_that_a_given_labeler_was_judged_on_count_once() -> None:
    labeler = reader(((0.9, 0.1), (0.1, 0.9)))
    training, own = drawn({"a": 30, "b": 30}, 15), drawn({"a": 25, "b": 25}, 16)
    spec = AuditSpec(metrics=("bias",))
    samples = drawn({"a": 10, "b": 10}, 17, known=False)
    for splits, expected in (
        (Splits(train=training), [30, 30]),
        (Splits(train=training, held_out=own), [55, 55]),
    ):
        result = leadline.measure(samples, splits, labeler=labeler, spec=spec)
        table = next(table for table in result.tables if table.name == "labeler_confusion")
        assert [sum(row[1:]) for row in table.rows] == expected  # type: ignore[arg-type]
