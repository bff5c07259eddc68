"""measure(): inputs are checked before anything is trained, what cannot be measured is said, the rest is there."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import bars, unlabelled

import leadline
from leadline.audit import METRICS, AuditContext, AuditFailed, Metric
from leadline.audit import measure as package_measure
from leadline.errors import LeadlineError, NotMeasurable
from leadline.recipe import AuditSpec
from leadline.records import ImageSet, Measurement, Panel, Splits

FAST = AuditSpec(labeler_epochs=6, confidence=0.8)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where the labeler is trained: what is wrong must be found before."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the labeler was trained before the inputs were checked")

    monkeypatch.setattr("leadline.audit.preparing.train_labeler", refuse)


def test_the_whole_audit_finds_what_was_put_in(splits: Splits) -> None:
    samples = bars((90, 10, 5), 60, "samples")
    result = package_measure(unlabelled(samples), splits, spec=FAST)
    assert {m.group: m.value for m in result.find("share", set="samples")} == {
        "left": 90 / 105,
        "middle": 10 / 105,
        "other classes": 5 / 105,
        "right": 5 / 105,
        "unclassified": 0.0,
    }
    (amplification,) = result.find("share_amplification", "middle")
    assert amplification.value == pytest.approx(np.log(10 / 90) - np.log(20 / 60))
    assert amplification.upper < 0  # type: ignore[operator]
    assert set(amplification.computed_from) == {"samples", "training", "labeler"}
    assert amplification.computed_from["training"] == splits.train.fingerprint()
    assert [table.name for table in result.tables] == [
        "labeler_confusion",
        "shares",
        "copy_rate_sweep",
        "suspicious_images",
    ]
    # Of right, which has no training or held-out image, the cross-fitted networks' own images stand in.
    assert [sum(row[1:]) for row in result.tables[0].rows] == [72, 24, 40]  # type: ignore[arg-type]
    assert result.tables[1].columns[-1] == "training images, by the labeler"
    assert [row[1] for row in result.tables[1].rows[:2]] == [row[3] for row in result.tables[1].rows[:2]]
    missing = [m for m in result if m.value is None]
    calibrated = [m for m in missing if m.params.get("rule") == "calibrated"]
    assert all("takes 198 held-out images or more" in str(m.reason) for m in calibrated)
    absent = [m for m in missing if m not in calibrated]
    assert [(m.name, m.group) for m in absent] == [("share_ratio", "right"), ("share_amplification", "right")]
    assert all("no image of this class" in str(m.reason) for m in absent)
    assert {m.name for m in result} == {
        "labeler_accuracy",
        *(name for metric in AuditSpec().metrics for name in METRICS[metric].reports),
    }


def test_images_to_look_at_are_always_there(splits: Splits) -> None:
    samples = bars((70, 1, 0), 61)
    panels = {p.name: p for p in leadline.measure(samples, splits.train, metrics="bias").panels}
    np.testing.assert_array_equal(panels["samples"].tiles.reshape(64, 1, 8, 8), samples.pixels[:64])
    assert panels["training"].tiles.shape == (8, 8, 1, 8, 8)
    assert leadline.measure(samples.take(range(10)), splits.train, metrics="bias").panels[0].tiles.shape[:2] == (1, 8)


def test_settings_say_all_that_decided_the_numbers(splits: Splits) -> None:
    overlapping = replace(splits, labeler=splits.labeler.take([0, *range(120)]))  # type: ignore[union-attr]
    samples = unlabelled(overlapping.labeler.take([100]))  # type: ignore[union-attr]
    settings = leadline.measure(samples, overlapping, metrics="bias", spec=FAST).settings
    assert settings["audit"] == {**FAST.model_dump(mode="json"), "metrics": ["bias"]}
    assert settings["labeler"]["left_out"] == {"training": 0, "held_out": 0, "samples": 1, "repeats": 1}
    assert settings["images"]["labeler"]["n"] == 119
    assert settings["images"]["training"]["counts"] == {"left": 60, "middle": 20, "right": 0}
    assert set(settings["fingerprints"]) == {"samples", "training", "held_out", "labeler"}
    json.dumps(settings)


@pytest.mark.usefixtures("no_training")
def test_a_labeler_set_that_is_the_training_data_is_no_labeler(splits: Splits) -> None:
    result = leadline.measure(bars((3, 3, 3), 62).pixels, splits.train, labeler=splits.train)
    (found,) = result.find("share")
    assert "leaves 0 images of 0 classes after those that are elsewhere too (80 in training)" in str(found.reason)
    assert all(m.value is not None for m in result.find("nearest_distance", set="samples"))


def test_a_labeler_that_lacks_a_class_of_the_training_data_is_not_asked_for_shares(splits: Splits) -> None:
    lacking = splits.labeler.take(range(40, 120))  # type: ignore[union-attr]
    result = leadline.measure(bars((3, 3, 3), 63).pixels, splits, labeler=lacking, spec=FAST)
    (found,) = result.find("share_amplification")
    assert "no images of the training data's class 'left' (it knows middle, right)" in str(found.reason)
    assert all(m.value is not None for m in result.find("mean_pairwise_distance"))


@pytest.mark.usefixtures("no_training")
def test_labels_that_are_given_need_no_labeler(splits: Splits) -> None:
    samples = bars((6, 3, 1), 64)
    names = [samples.classes[label] for label in samples.labels]  # type: ignore[union-attr]
    by_hand = leadline.measure(unlabelled(samples), splits, metrics="bias", labels=names)
    own = leadline.measure(samples, splits, metrics="bias")
    assert [m.value for m in own] == [m.value for m in by_hand]
    assert own.find("share", "left", set="samples")[0].params["labels"] == "the samples' own"
    assert "labeler" not in own[0].computed_from


def test_labels_of_the_samples_that_are_no_classes_are_left_aside_and_said(splits: Splits) -> None:
    samples = replace(bars((5, 1, 0), 65), classes=("shard-0", "shard-1", "shard-2"))
    result = leadline.measure(samples, splits, metrics="bias", spec=FAST)
    assert "such as 'shard-0', are no classes" in result.settings["labels"]
    assert result.find("share", "left", set="samples")[0].value == 5 / 6


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": "bais"}, "unknown metric 'bais': did you mean 'bias'"),
        ({"metrics": ()}, "AuditSpec.metrics: Tuple should have at least 1 item"),
        ({"samples": np.zeros((2, 3, 8, 8), np.uint8)}, r"reference images are 1×8×8, but .samples. is 3×8×8"),
        ({"samples": np.full((2, 1, 8, 8), np.nan)}, "2 of 2 images hold values that are not finite"),
        ({"held_out": np.zeros((2, 1, 9, 9), np.uint8)}, "held-out images are 1×9×9"),
        ({"labeler": np.zeros((2, 1, 9, 9), np.uint8)}, "labeler images are 1×9×9"),
        ({"labels": ["left"]}, "1 labels for 9 samples"),
        ({"labels": ["lift"] * 9}, "unknown class 'lift': did you mean 'left'"),
        ({"groups": "Male"}, "groups='Male' names a column"),
        ({"samples": "no/such/folder"}, "neither a file or folder nor a data set"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_anything_is_trained(
    splits: Splits, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(LeadlineError, match=words):
        leadline.measure(**{"samples": bars((3, 3, 3), 66).pixels, "reference": splits, **changes})


@pytest.mark.usefixtures("no_training")
def test_a_class_may_not_be_named_as_what_is_no_class(splits: Splits) -> None:
    training = replace(splits.train, classes=("left", "unclassified", "right"))
    with pytest.raises(LeadlineError, match="no class may be named 'unclassified'"):
        leadline.measure(bars((3, 3, 3), 67).pixels, training)


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Registers a metric for the length of a test."""
    entries = dict(METRICS)
    monkeypatch.setattr(METRICS, "_entries", entries)

    def register(function: Any, **fields: Any) -> None:
        entries["trial"] = Metric(measure=function, reports=("first", "second"), **fields)

    return register


def test_a_metric_that_cannot_be_made_says_so_for_what_it_has_not_found(splits: Splits, metric: Any) -> None:
    def half(_: AuditContext) -> Iterator[Measurement]:
        yield Measurement(name="first", value=1.0)
        raise NotMeasurable("needs more light: turn on the lamp")

    metric(half)
    result = leadline.measure(bars((3, 3, 3), 68).pixels, splits.train, metrics=["trial", "memorization"])
    assert [m.value for m in result.find("first")] == [1.0]
    assert [m.reason for m in result.find("second")] == ["needs more light: turn on the lamp"]
    assert result.find("nearest_distance", set="samples")[0].value is not None


def test_a_fault_in_one_metric_is_raised_with_what_the_others_found(splits: Splits, metric: Any) -> None:
    def faulty(_: AuditContext) -> Iterator[Measurement]:
        yield Measurement(name="first", value=1.0)
        raise ZeroDivisionError("a fault")

    metric(faulty)
    with pytest.raises(AuditFailed, match="trial: ZeroDivisionError: a fault") as caught:
        leadline.measure(bars((3, 3, 3), 69).pixels, splits.train, metrics=["trial", "memorization"])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.result.find("first")[0].value == 1.0
    assert caught.value.result.find("nearest_distance", set="samples")[0].value is not None


def test_the_cache_changes_nothing_but_the_time(splits: Splits, tmp_path: Path) -> None:
    samples = bars((8, 3, 1), 70).pixels
    words: list[str] = []
    plain = leadline.measure(samples, splits, spec=FAST)
    first = leadline.measure(samples, splits, spec=FAST, cache=tmp_path)
    again = leadline.measure(samples, splits, spec=FAST, cache=tmp_path, progress=lambda stage, *_: words.append(stage))
    assert plain.measurements == first.measurements == again.measurements
    assert "audit, labeler: taken from the cache" in words


def test_images_are_named_by_path_and_reference_by_path_too(tmp_path: Path, splits: Splits) -> None:
    from PIL import Image

    for part, images in (("samples", bars((4, 2, 0), 71)), ("train", splits.train), ("labeled", splits.labeler)):
        assert isinstance(images, ImageSet)
        assert images.labels is not None
        for index, label in enumerate(images.labels):
            folder = tmp_path / part / ("" if part == "samples" else images.classes[label])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.pixels[index, 0]).save(folder / f"{index:03d}.png")
    result = leadline.measure(
        str(tmp_path / "samples"), f"imagefolder:{tmp_path / 'train'}", labeler=tmp_path / "labeled", spec=FAST
    )
    assert {m.group: m.value for m in result.find("share", set="samples")} == {
        "left": 4 / 6,
        "middle": 2 / 6,
        "other classes": 0.0,
        "unclassified": 0.0,
    }
    assert all(isinstance(panel, Panel) for panel in result.panels)
    assert str(result).count("\n") == len(result) - 1


def test_held_out_images_that_are_training_images_are_left_out_and_counted(splits: Splits) -> None:
    assert splits.held_out is not None
    both = np.concatenate([splits.held_out.pixels, splits.train.pixels[:5]])
    result = leadline.measure(bars((6, 0, 0), 75), splits.train, held_out=both, metrics="memorization", spec=FAST)
    assert result.find("nearest_distance", set="held_out")[0].n == 16
    assert result.settings["images"]["held_out"]["notes"]["training_images_left_out"] == 5
    with pytest.raises(LeadlineError, match="all 5 are training images to the byte"):
        leadline.measure(bars((6, 0, 0), 75), splits.train, held_out=splits.train.pixels[:5], spec=FAST)
