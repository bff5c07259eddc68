"""Distances to the training images: copies are at 0, held-out images stand beside, panels show the nearest."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import bars, unlabelled

import leadline
from leadline.audit.intervals import mean_interval
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageSet, Splits


def audit(samples: ImageSet, splits: Splits, **spec: object) -> AuditResult:
    return leadline.measure(unlabelled(samples), splits, metrics="memorization", spec=AuditSpec(**spec))


def without_labeler(splits: Splits) -> Splits:
    return replace(splits, labeler=None)


def test_copies_of_training_images_are_at_distance_zero_and_counted(splits: Splits) -> None:
    samples = splits.train.take([5, 6, 7, 70])
    result = audit(samples, splits, ks=(1, 3), labeler_epochs=2)
    (distance,) = result.find("nearest_distance", set="samples", k=1)
    (similarity,) = result.find("nearest_similarity", set="samples", k=1)
    assert distance.value == distance.params["l2"] == 0.0
    assert distance.params["identical_to_training"] == 4
    assert similarity.value == pytest.approx(1, abs=1e-6)
    (held_out,) = result.find("nearest_distance", set="held_out", k=1)
    assert held_out.value > 10  # type: ignore[operator]
    assert held_out.params["identical_to_training"] == 0
    assert held_out.n == 16


def test_distances_are_rms_per_value_and_the_mean_over_the_k_nearest(splits: Splits) -> None:
    samples = bars((6, 3, 2), 50)
    (found,) = audit(samples, without_labeler(splits), ks=(5,)).find("nearest_distance", set="samples", k=5)
    differences = samples.pixels.astype(float)[:, None] - splits.train.pixels[None]
    nearest = np.sort(np.sqrt(np.square(differences).mean((2, 3, 4))), 1)[:, :5].mean(1)
    assert found.value == pytest.approx(nearest.mean())
    assert found.params["l2"] == pytest.approx(8 * nearest.mean())
    assert found.params["image_size"] == "8×8×1"
    assert (found.lower, found.upper) == pytest.approx(mean_interval(nearest))
    assert found.n == 11


def test_without_a_labeler_pixels_are_measured_and_features_say_how(splits: Splits) -> None:
    result = audit(bars((2, 2, 0), 51), without_labeler(splits), ks=(1,))
    assert [m.value is not None for m in result.find("nearest_distance")] == [True, True]
    for found in result.find("nearest_similarity"):
        assert "no labeler" in str(found.reason)
        assert "--labeler DATA" in str(found.reason)


def test_without_held_out_images_the_baseline_says_how(splits: Splits) -> None:
    result = audit(bars((2, 2, 0), 52), replace(splits, held_out=None), ks=(1, 2), labeler_epochs=1)
    for name in ("nearest_distance", "nearest_similarity"):
        assert all(m.value is not None for m in result.find(name, set="samples"))
        (found,) = result.find(name, set="held_out")
        assert "--held-out DATA" in str(found.reason)


def test_more_neighbours_than_training_images_are_refused_alone(splits: Splits) -> None:
    small = Splits(train=splits.train.take([0, 1, 2]))
    one, many = audit(bars((2, 2, 0), 53), small, ks=(3, 4)).find("nearest_distance", set="samples")
    assert one.value is not None
    assert "k = 4 neighbours asked of 3 training images" in str(many.reason)


def test_one_sample_has_a_distance_but_no_interval(splits: Splits) -> None:
    (found,) = audit(bars((1, 0, 0), 54), without_labeler(splits), ks=(1,)).find("nearest_distance", set="samples")
    assert found.value is not None
    assert found.lower is found.upper is found.level is None
    assert found.method == "no interval: one image"


def test_panels_show_the_nearest_first_each_with_its_training_images(splits: Splits) -> None:
    samples = replace(bars((3, 3, 3), 55), ids=tuple("abcdefghi"))
    samples.pixels[4] = splits.train.pixels[61]
    panels = {p.name: p for p in audit(samples, without_labeler(splits), num_panels=2).panels}
    panel = panels["nearest_neighbors"]
    assert panel.tiles.shape == (2, 5, 1, 8, 8)
    np.testing.assert_array_equal(panel.tiles[0, 0], samples.pixels[4])
    np.testing.assert_array_equal(panel.tiles[0, 1], splits.train.pixels[61])
    assert panel.captions[:2] == ("generated e", "#61: 0.0")
    assert panel.column_titles == ("generated", "nearest 1", "nearest 2", "nearest 3", "nearest 4")
    assert panels["nearest_neighbors_held_out"].captions[0].startswith("held-out #")
    assert "nearest_neighbors" not in {p.name for p in audit(samples, without_labeler(splits), num_panels=0).panels}
