"""Distances to the training images: copies are at 0, held-out images stand beside, panels show the nearest."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import bars, unlabelled

import leadline
from leadline.audit.copies import halves
from leadline.audit.intervals import mean_interval
from leadline.audit.neighbors import nearest_neighbors
from leadline.audit.proximity import Judged, Nearest
from leadline.audit.suspects import suspect_rows
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
    assert panel.captions[:2] == ("generated e, d1/d2 0.00", "#61: 0.0")
    ratios = [float(caption.rsplit(" ", 1)[1]) for caption in panel.captions[::5]]
    assert ratios == sorted(ratios)
    assert panel.column_titles == ("generated", "nearest 1", "nearest 2", "nearest 3", "nearest 4")
    assert panels["nearest_neighbors_held_out"].captions[0].startswith("held-out #")
    assert "nearest_neighbors" not in {p.name for p in audit(samples, without_labeler(splits), num_panels=0).panels}


def test_every_space_has_panels_with_its_own_nearest_images(splits: Splits) -> None:
    samples = bars((3, 3, 3), 55)
    samples.pixels[4] = splits.train.pixels[61]
    result = audit(samples, splits, num_panels=3, labeler_epochs=1, encoders=("pixels", "labeler"))
    panels = {p.name: p for p in result.panels if p.name.startswith("nearest")}
    assert list(panels) == [
        "nearest_neighbors",
        "nearest_neighbors_held_out",
        "nearest_neighbors_labeler",
        "nearest_neighbors_held_out_labeler",
        "nearest_neighbors_raw-pixels",
        "nearest_neighbors_held_out_raw-pixels",
    ]
    for name, space in (("labeler", "labeler features"), ("raw-pixels", "raw pixels features")):
        panel = panels[f"nearest_neighbors_{name}"]
        assert space in panel.title
        assert panel.captions[:2] == ("generated #4, d1/d2 0.00", "#61: cosine 1.000")
        np.testing.assert_array_equal(panel.tiles[0, 0], panel.tiles[0, 1])
    assert panels["nearest_neighbors"].title == "The 3 generated images most likely to be copies, in pixels"


def test_images_that_count_as_copies_are_listed_first_with_the_rules_that_count_them() -> None:
    pixels = np.concatenate(
        [STRANGERS, TRAINING.pixels[7:8], near_copies(TRAINING, [3], 40), near_copies(TRAINING, [9])]
    )
    names = tuple(f"<b>{i}</b>" for i in range(18))
    samples = ImageSet(name="samples", pixels=pixels, ids=names)
    options = AuditSpec(metrics="memorization", ks=(1,), copy_ratio=0.1, carlini_alpha=0.5, num_panels=0)
    result = leadline.measure(samples, Splits(train=TRAINING, held_out=HELD_OUT), spec=options)
    (table,) = (t for t in result.tables if t.name == "suspicious_images")
    assert table.columns[:3] == ("id", "space", "nearest training id")
    assert [(row[0], row[2], row[6]) for row in table.rows[:3]] == [
        ("<b>15</b>", "#7", "d1/d2, carlini"),
        ("<b>17</b>", "#9", "d1/d2, carlini"),
        ("<b>16</b>", "#3", "carlini"),
    ]
    assert len(table.rows) == 18
    assert all(row[6] is None for row in table.rows[3:])
    ratios = [row[4] for row in table.rows[3:]]
    assert ratios == sorted(ratios)  # type: ignore[type-var]
    distances = np.sort(np.sqrt(np.square(pixels[16].astype(float) - TRAINING.pixels).mean((1, 2, 3))))
    expected = (distances[0], distances[0] / distances[1], distances[0] / distances[:50].mean())
    assert table.rows[2][3:6] == pytest.approx(expected)


def test_images_counted_by_any_rule_stand_before_nearer_ones_and_fifty_are_listed() -> None:
    samples = noise(60, 70)
    near = Judged(
        Nearest(np.linspace(1, 2, 60)[:, None], np.zeros((60, 1), np.int64), np.zeros((60, 1), bool)),
        np.full((60, 1), 4.0),
        np.ones(60),
    )
    rows = suspect_rows(samples, TRAINING, near, {"carlini": np.arange(60) == 59}, "labeler features")
    assert [row[0] for row in rows] == ["#59", *(f"#{i}" for i in range(49))]
    assert rows[0][3:] == pytest.approx((1 - 2**2 / 2, 0.5, 2 / 3, "carlini"))
    lone = Judged(near.nearest, np.full((60, 1), np.nan), np.full(60, np.nan))
    assert suspect_rows(samples, TRAINING, lone, {}, "pixels")[0] == ("#0", "pixels", "#0", 1.0, None, None, None)


def rates(result: AuditResult, name: str = "nearest_copy_rate", **params: object) -> dict[str, float | None]:
    return {m.params["rule"]: m.value for m in result.find(name, space="pixels", **params)}


def noise(n: int, seed: int, name: str = "noise") -> ImageSet:
    """Images with no structure at all: every pair is about as far apart."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8)).astype(np.uint8)
    return ImageSet(name=name, pixels=pixels)


def near_copies(images: ImageSet, indices: list[int], noise: int = 2, flip: bool = False) -> np.ndarray:
    """Training images with a little noise, mirrored where asked."""
    pixels = images.pixels[indices].astype(int)
    pixels = pixels + np.random.default_rng(60).integers(-noise, noise + 1, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., :: -1 if flip else 1]


TRAINING, HELD_OUT = noise(120, 61), noise(60, 62)
STRANGERS = noise(15, 63).pixels


def audit_noise(pixels: np.ndarray, training: ImageSet = TRAINING, **spec: object) -> AuditResult:
    samples = ImageSet(name="samples", pixels=pixels)
    options = AuditSpec(**{"metrics": "memorization", "ks": (1,), "false_positive_rate": 0.05, **spec})
    return leadline.measure(samples, Splits(train=training, held_out=HELD_OUT), spec=options)


def test_planted_copies_are_found_by_every_rule_and_are_an_excess_over_held_out_images() -> None:
    result = audit_noise(np.concatenate([near_copies(TRAINING, [1, 5, 9, 13, 17]), STRANGERS]))
    found = rates(result, set="samples")
    assert found["d1/d2"] == found["carlini"] == 0.25
    assert found["calibrated"] >= 0.25  # type: ignore[operator]
    held_out = rates(result, set="held_out")
    assert held_out["d1/d2"] == held_out["carlini"] == 0
    for excess in result.find("copy_rate_excess", space="pixels", rule="d1/d2"):
        assert excess.value == 0.25
        assert excess.lower > 0  # type: ignore[operator]
        assert excess.params["p"] == pytest.approx(0.0006, abs=1e-4)  # C(20,5) / C(80,5)


def test_the_calibrated_rule_says_what_it_was_calibrated_and_checked_on() -> None:
    result = audit_noise(STRANGERS)
    samples, held_out = (result.find("nearest_copy_rate", set=s, rule="calibrated")[0] for s in ("samples", "held_out"))
    calibrating, checking = halves(HELD_OUT.pixels, 0)
    nearest = np.sqrt(np.square(HELD_OUT.pixels[:, None].astype(float) - TRAINING.pixels).mean((2, 3, 4))).min(1)
    threshold = np.sort(nearest[calibrating])[0]  # floor(31 · 0.05) = 1: the smallest
    assert samples.params["threshold"] == pytest.approx(threshold)
    assert held_out.value == samples.params["achieved_false_positive_rate"] == (nearest[checking] < threshold).mean()
    assert (samples.n, held_out.n, samples.params["calibrated_on"], samples.params["checked_on"]) == (15, 30, 30, 30)
    (reason,) = (
        m.reason
        for m in audit_noise(STRANGERS, false_positive_rate=0.01).find(
            "copy_rate_excess", rule="calibrated", space="pixels"
        )
    )
    assert "takes 198 held-out images or more" in str(reason)


def test_repeats_in_the_training_set_do_not_hide_copies() -> None:
    repeats = ImageSet(name="repeats", pixels=np.concatenate([TRAINING.pixels, near_copies(TRAINING, [5] * 90, 1)]))
    copies = near_copies(TRAINING, [5, 5, 7])
    for carlini_neighbors in (2, 50):
        found = rates(audit_noise(copies, repeats, carlini_neighbors=carlini_neighbors), set="samples")
        assert found["d1/d2"] == found["carlini"] == 1
    assert rates(audit_noise(copies, repeats, duplicate_rms=0), set="samples")["d1/d2"] == pytest.approx(1 / 3)


def test_a_search_in_small_blocks_finds_the_same_and_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    repeats = ImageSet(name="repeats", pixels=np.concatenate([TRAINING.pixels, near_copies(TRAINING, [5] * 400, 1)]))
    copies = np.concatenate([near_copies(TRAINING, [5] * 6), near_copies(TRAINING, [7]), STRANGERS])
    expected = audit_noise(copies, repeats).measurements
    held: list[tuple[int, int]] = []

    def search(queries: np.ndarray, reference: np.ndarray, k: int, *args: object, **options: object) -> object:
        held.append((len(queries), k))
        return nearest_neighbors(queries, reference, k, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("leadline.audit.proximity.nearest_neighbors", search)
    for entries in (1, 450):
        monkeypatch.setattr("leadline.audit.proximity.ENTRIES", entries)
        held.clear()
        assert audit_noise(copies, repeats).measurements == expected
        deeper = [(rows, k) for rows, k in held if k > 50]
        assert max(k for _, k in deeper) == 520
        assert all(rows == 1 or rows * k <= entries for rows, k in deeper)
        assert any(rows > 1 for rows, _ in deeper) == (entries == 450)


def test_held_out_images_at_distance_zero_leave_no_threshold_and_are_told() -> None:
    training = ImageSet(name="mirrored", pixels=np.concatenate([TRAINING.pixels, HELD_OUT.pixels[..., ::-1]]))
    result = audit_noise(training.pixels[:4], training, flips=True)
    for found in result.find("nearest_copy_rate", rule="calibrated", space="pixels"):
        assert "30 of the 30 held-out images that calibrate the threshold are at distance 0" in str(found.reason)
    assert not [row for t in result.tables for row in t.rows if t.name == "copy_rate_sweep" and row[0] == "calibrated"]
    assert rates(result, set="samples")["d1/d2"] == 1


def test_mirrored_copies_are_found_where_flips_are_asked_for_also_among_mirrored_repeats() -> None:
    both = ImageSet(name="both", pixels=np.concatenate([TRAINING.pixels, TRAINING.pixels[..., ::-1]]))
    copies = near_copies(TRAINING, [1, 2, 3], flip=True)
    assert rates(audit_noise(copies), set="samples")["d1/d2"] == 0
    result = audit_noise(copies, flips=True)
    assert rates(result, set="samples", flips=True)["d1/d2"] == 1
    assert ", mirrored" in next(p for p in result.panels if p.name == "nearest_neighbors").captions[1]
    assert rates(audit_noise(copies, both, flips=True), set="samples")["d1/d2"] == 1


def test_one_picture_as_training_set_leaves_ratios_open_but_not_distances() -> None:
    one = ImageSet(name="one", pixels=np.repeat(TRAINING.pixels[:1], 30, axis=0))
    result = audit_noise(STRANGERS, one)
    assert result.find("nearest_distance", set="samples")[0].value is not None
    for name in ("nearest_copy_rate", "authentic_rate"):
        (found,) = result.find(name, set="samples", space="pixels", **({"rule": "d1/d2"} if "copy" in name else {}))
        assert "all show one picture, to within 2 RMS per value (--set audit.duplicate_rms)" in str(found.reason)


def test_authentic_rate_is_the_definitions_by_brute_force() -> None:
    pixels = np.concatenate([near_copies(TRAINING, [3, 4], 90), near_copies(TRAINING, [5], 3), STRANGERS])
    (found,) = audit_noise(pixels).find("authentic_rate", set="samples", space="pixels")

    def distances(queries: np.ndarray) -> np.ndarray:
        return np.linalg.norm(queries[:, None].astype(float) - TRAINING.pixels, axis=(3, 4))[..., 0]

    among = distances(TRAINING.pixels)
    np.fill_diagonal(among, np.inf)
    to = distances(pixels)
    expected = (among.min(1)[to.argmin(1)] < to.min(1)).mean()
    assert 0 < expected < 1
    assert found.value == expected
    assert found.n == 18


def test_differences_are_samples_minus_held_out_by_welch(splits: Splits) -> None:
    result = audit(splits.train.take([1, 2, 3, 70]), splits, ks=(2,), labeler_epochs=1)
    for name, sign in (("nearest_distance", -1), ("nearest_similarity", 1)):
        (found,) = result.find(f"{name}_difference", k=2)
        ours, theirs = (result.find(name, set=s, k=2)[0] for s in ("samples", "held_out"))
        assert found.value == pytest.approx(ours.value - theirs.value)  # type: ignore[operator]
        assert found.value * sign > 0  # type: ignore[operator]
        assert found.lower < found.value < found.upper  # type: ignore[operator]
        assert 0 < found.params["p"] < 0.05
        assert (found.n, found.params["n_held_out"]) == (4, 16)


def test_the_sweep_rises_with_the_threshold_and_agrees_with_the_rates() -> None:
    result = audit_noise(np.concatenate([near_copies(TRAINING, [1, 5], 40), STRANGERS]))
    (table,) = (t for t in result.tables if t.name == "copy_rate_sweep")
    for rule in ("d1/d2", "carlini", "calibrated"):
        shares = [row[3:] for row in table.rows if row[:2] == (rule, "pixels")]
        assert len(shares) > 5
        assert all(np.diff(np.array(shares, dtype=float), axis=0).flatten() >= 0)
    for rule, threshold in (("d1/d2", 1 / 3), ("carlini", 0.5)):
        used = next(row for row in table.rows if row[0] == rule and row[2] == pytest.approx(threshold))
        assert used[3:] == tuple(rates(result, set=part)[rule] for part in ("samples", "held_out"))
