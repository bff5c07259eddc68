"""Human labels: the file is read strictly, and an audit with them says what holds whatever the labeler gets wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadline.audit import measure
from leadline.audit.human_labels import (
    NONE,
    UNSURE,
    human_labels_digest,
    names_of,
    page_id,
    pixels_fingerprint,
    read_human_labels,
    sampled_order,
)
from leadline.audit.human_shares import with_human
from leadline.audit.labeler import Labeler
from leadline.audit.prediction_powered import prediction_powered
from leadline.errors import LeadlineError
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageSet, Measurement, Splits

CLASSES = ("left", "middle")
KNOWN = ("left", "middle", "right")
Save = Callable[..., Path]


@pytest.fixture(scope="module")
def samples() -> ImageSet:
    """240 images in known order; the labels that a person sees are kept apart from them, in TRUTH."""
    pixels = np.random.default_rng(7).integers(0, 60, (240, 1, 8, 8))
    for index, label in enumerate(TRUTH):
        pixels[index, 0, :, 3 * label : 3 * label + 2] += 180
    return ImageSet(name="samples", pixels=pixels.astype(np.uint8), ids=tuple(f"0/{i}" for i in range(240)))


TRUTH = np.random.default_rng(3).permutation(np.repeat([0, 1, 2], [170, 50, 20]))
GIVEN = [KNOWN[label] if index % 10 else "middle" for index, label in enumerate(TRUTH)]
"""Labels from elsewhere that call each tenth image middle, whatever it is."""


def with_page(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the identity of the page that it describes."""
    return content | {
        "page": page_id(content["samples"]["fingerprint"], *(content[k] for k in ("seed", "n", "classes")))
    }


def answer(label: int) -> str:
    return KNOWN[label] if label < 2 else NONE


@pytest.fixture
def save(samples: ImageSet, tmp_path: Path) -> Save:
    """Writes the file of a page on which the first m of 100 images were labelled; fields may be given otherwise."""

    def write(m: int = 80, **fields: Any) -> Path:
        order = sampled_order(len(samples), 100, 0)[:m]
        content = {
            "format": "leadline-human-labels",
            "version": 1,
            "samples": {"name": "samples", "fingerprint": pixels_fingerprint(samples), "n": 240},
            "seed": 0,
            "n": 100,
            "classes": list(CLASSES),
            "labels": [{"id": f"0/{i}", "label": answer(int(TRUTH[i]))} for i in order],
            "saved": "2026-01-02T03:04:05.000Z",
        }
        content |= fields
        file = tmp_path / "human.json"
        file.write_text(json.dumps(with_page(content)), encoding="utf-8")
        return file

    return write


def test_any_beginning_of_the_order_is_read(samples: ImageSet, save: Save) -> None:
    for m in (1, 80, 100):
        found = read_human_labels(save(m), samples, KNOWN)
        assert found.indices.tolist() == sampled_order(240, 100, 0)[:m].tolist()
        assert found.answers == tuple(answer(int(TRUTH[i])) for i in found.indices)
    assert found.said("left", "middle").sum() == sum(TRUTH[found.indices] < 2)
    assert sampled_order(240, 240, 0)[:100].tolist() == sampled_order(240, 100, 0).tolist()


def test_labels_prompts_and_captions_of_the_images_make_no_difference(samples: ImageSet) -> None:
    with_more = ImageSet(name="else", pixels=samples.pixels, labels=TRUTH, classes=KNOWN, captions=("a",) * 240)
    assert pixels_fingerprint(with_more) == pixels_fingerprint(samples)
    assert names_of(with_more)[:2] == ("0", "1")


def test_when_it_was_saved_is_not_in_the_digest_and_a_label_is(save: Save) -> None:
    first = human_labels_digest(save())
    assert human_labels_digest(save(saved="later")) == first
    assert human_labels_digest(save(79)) != first


def swapped(labels: list[dict[str, str]]) -> list[dict[str, str]]:
    return [labels[1], labels[0], *labels[2:]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c | {"format": "else"}, "holds no human labels"),
        (lambda c: c | {"version": 2}, "of version 2, this leadline reads 1"),
        (lambda c: {k: v for k, v in c.items() if k != "seed"}, "seed: Field required"),
        (lambda c: c | {"extra": 1}, "extra: Extra inputs"),
        (lambda c: c | {"labels": []}, "holds no label yet"),
        (
            lambda c: with_page(c | {"samples": c["samples"] | {"fingerprint": "0" * 16}}),
            "these are labels of other images",
        ),
        (lambda c: with_page(c | {"classes": ["left", "rihgt"]}), "asked for the class 'rihgt'.* did you mean 'right'"),
        (lambda c: c | {"labels": [c["labels"][0] | {"label": "right"}]}, "'right', which the page did not offer"),
        (lambda c: c | {"labels": [c["labels"][0] | {"id": "9/9"}]}, "'9/9' is no image of 'samples'"),
        (lambda c: c | {"labels": c["labels"][:1] * 2}, "is labelled twice"),
        (
            lambda c: c | {"labels": swapped(c["labels"])},
            "are not the first 80 of the random order.*no valid",
        ),
        (lambda c: c | {"labels": c["labels"][1:]}, "are not the first 79 of the random order"),
        (lambda c: with_page(c | {"seed": 1}), "are not the first 80 of the random order of seed 1"),
        (lambda c: with_page(c | {"n": 79}), "human.json: 80 labels of a page with n = 79 of 240 images"),
        (
            lambda c: with_page(c | {"n": 10**9}),
            r"human.json: 80 labels of a page with n = 1,000,000,000 of 240 images",
        ),
        (lambda c: c | {"page": "0" * 16}, "its page .0{16}. is not that of its images, seed, n and classes"),
        (lambda c: c | {"n": 99}, "is not that of its images, seed, n and classes"),
        (lambda c: with_page(c | {"classes": ["left", "left", "middle"]}), "the class 'left' is there twice"),
    ],
)
def test_what_does_not_fit_is_refused(samples: ImageSet, save: Save, change: Any, words: str) -> None:
    file = save()
    file.write_text(json.dumps(change(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")
    with pytest.raises(LeadlineError, match=words):
        read_human_labels(file, samples, KNOWN)


def test_a_file_that_is_no_json_or_not_there_is_refused(samples: ImageSet, tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    with pytest.raises(LeadlineError, match="cannot be read"):
        read_human_labels(file, samples, KNOWN)
    for text in ("[" * 100_000, "left\nmiddle"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(LeadlineError, match="is not valid JSON"):
            read_human_labels(file, samples, KNOWN)


@pytest.mark.parametrize("n", [0, 241])
def test_more_images_than_there_are_cannot_be_asked_for(n: int) -> None:
    with pytest.raises(LeadlineError, match=f"--n {n}: from 1 to all 240"):
        sampled_order(240, n, 0)


def one(found: AuditResult, name: str, group: str | None = None) -> Measurement:
    (m,) = found.find(name, group)
    return m


def test_an_audit_estimates_shares_from_both_labels(samples: ImageSet, splits: Splits, save: Save) -> None:
    """Labels that make too many images middle: the raw share is wrong, the prediction-powered interval holds it."""
    found = measure(samples, splits.train, labels=GIVEN, human_labels=save(), metrics="bias")
    indices = sampled_order(240, 100, 0)[:80]
    human = np.array([TRUTH[i] == 1 for i in indices], dtype=float)
    given = np.array([label == "middle" for label in GIVEN], dtype=float)
    rest = np.delete(given, indices)
    expected = prediction_powered(human, given[indices], rest)
    powered, alone = one(found, "prediction_powered_share", "middle"), one(found, "human_share", "middle")
    assert (powered.value, powered.lower, powered.upper) == (expected.value, expected.lower, expected.upper)
    assert (alone.value, alone.lower) == (human.mean(), expected.classical_lower)
    assert powered.params["labelled"] + powered.params["unlabelled"] == 240
    assert one(found, "human_label_gain", "middle").value == pytest.approx(expected.gain)
    assert one(found, "human_share", UNSURE).value == 0
    shares = [one(found, "human_share", group).value for group in (*CLASSES, NONE, UNSURE)]
    assert sum(value or 0.0 for value in shares) == pytest.approx(1)
    difference = one(found, "prediction_powered_difference", "middle")
    among = sum(TRUTH[indices] == 1) / sum(TRUTH[indices] < 2)
    assert difference.params["training_share"] == 0.25
    assert difference.value == pytest.approx(difference.params["share"] - 0.25)
    assert abs(difference.params["share"] - among) < 0.06
    both = sum(one(found, "prediction_powered_difference", group).value or 0.0 for group in CLASSES)
    assert both == pytest.approx(0, abs=0.002)
    right = [GIVEN[i] == KNOWN[TRUTH[i]] for i in indices if TRUTH[i] < 2]
    assert one(found, "labeler_agreement_on_samples").value == pytest.approx(np.mean(right))
    (table,) = [t for t in found.tables if t.name == "human_confusion"]
    assert sum(sum(c for c in row[1:] if isinstance(c, int)) for row in table.rows) == 80
    assert found.settings["human_labels"]["labelled"] == 80


def test_the_labelers_error_on_generated_images_is_tested(
    samples: ImageSet, splits: Splits, labeler: Labeler, save: Save
) -> None:
    """The labeler knows its bars; a person who calls every second left bar middle disagrees with it."""
    file = save()
    content = json.loads(file.read_text(encoding="utf-8"))

    def agreement() -> Measurement:
        found = measure(samples, splits, labeler=labeler, human_labels=file, metrics="memorization")
        return one(found, "labeler_agreement_on_samples")

    m = agreement()
    assert (m.value, m.params["expected_from_real_images"]) == (1, 1)
    assert "p" not in m.params
    for entry in content["labels"][::2]:
        if entry["label"] == "left":
            entry["label"] = "middle"
    file.write_text(json.dumps(content), encoding="utf-8")
    m = agreement()
    assert m.value is not None
    assert m.value < 0.7
    assert m.params["p"] < 1e-4


def test_what_to_expect_is_counted_on_images_labelled_as_the_samples_are(
    samples: ImageSet, splits: Splits, labeler: Labeler, save: Save
) -> None:
    """Labels of single networks on the labeler's own images, here of one that is always wrong, are not the samples'."""
    assert labeler.cross_fitted
    assert labeler.held_out_probabilities is not None
    wrong = replace(labeler, held_out_probabilities=np.roll(labeler.held_out_probabilities, 1, axis=1))
    found = measure(samples, splits, labeler=wrong, human_labels=save(), metrics="memorization")
    assert one(found, "labeler_agreement_on_samples").params["expected_from_real_images"] == 1


def test_images_drawn_until_a_share_was_known_well_enough_have_no_interval_from_human_labels(
    samples: ImageSet, splits: Splits, save: Save
) -> None:
    spec = AuditSpec(metrics=("bias",), stopping="anytime")
    found = measure(samples, splits.train, spec=spec, labels=GIVEN, human_labels=save())
    for name in ("human_share", "prediction_powered_share", "labeler_agreement_on_samples"):
        assert "images were drawn until a share was known well enough" in (one(found, name).reason or "")


def test_without_predictions_the_labels_stand_alone(samples: ImageSet, splits: Splits, save: Save) -> None:
    found = measure(samples, splits.train, human_labels=save(), metrics="memorization")
    assert one(found, "human_share", "left").value == pytest.approx(
        np.mean(TRUTH[sampled_order(240, 100, 0)[:80]] == 0)
    )
    for name in ("prediction_powered_share", "prediction_powered_difference", "labeler_agreement_on_samples"):
        assert "no labeler" in (one(found, name).reason or "")


def test_what_was_measured_on_other_images_or_by_other_packages_is_not_joined(
    samples: ImageSet, splits: Splits, save: Save
) -> None:
    found = measure(samples, splits.train, human_labels=save(), labels=GIVEN, metrics="bias")
    assert with_human(found, found) == found
    for name, other in (("samples", "fingerprints"), ("torch", "packages")):
        settings = {**found.settings, other: {**found.settings[other], name: "else"}}
        assert with_human(replace(found, settings=settings), found) is None


def test_a_page_that_left_a_training_class_out_gives_no_difference(
    samples: ImageSet, splits: Splits, save: Save
) -> None:
    file = save()
    content = json.loads(file.read_text(encoding="utf-8"))
    labels = [e | {"label": e["label"] if e["label"] == "left" else NONE} for e in content["labels"]]
    file.write_text(json.dumps(with_page(content | {"classes": ["left"], "labels": labels})), encoding="utf-8")
    found = measure(samples, splits.train, labels=GIVEN, human_labels=file, metrics="bias")
    assert "did not offer the training data's class 'middle'" in (
        one(found, "prediction_powered_difference").reason or ""
    )
    assert one(found, "prediction_powered_share", NONE).value is not None
