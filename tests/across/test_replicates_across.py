"""Replicates over run folders: which runs are of one recipe, what their shares say, what cannot be said of them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadline.across import measure_across
from leadline.audit.replicates import between_runs, shared_noise
from leadline.audit.trends import count_covariance, jonckheere, logistic_trend, page
from leadline.recipe import recipe_from_json
from leadline.records import AuditResult, ImageLabels, Measurement
from leadline.runs import Run

MakeRun = Callable[..., Run]
N = 200


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A finished run of 9 among 6 and 9, of which `nines` of 200 images were recognised as 9 and 20 as nothing."""

    def make(
        blocks: int = 2,
        seed: int = 0,
        nines: int = 14,
        *,
        corrected: float | None = None,
        labels: np.ndarray | None = None,
        share: float | None = 0.1,
        root: str = "",
        origin: str = "the labeler",
        labeler: str = "l",
        first: int = 0,
        train: dict[str, Any] | None = None,
        audit: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
    ) -> Run:
        content = {
            "name": "digits69",
            "data": {"dataset": "digits", "shares": "6:0.9,9:0.1", "num_images": 140},
            "model": {"blocks": blocks, **(model or {})},
            "train": {"seed": seed, **(train or {})},
            "sample": {"num_images": N},
            "audit": audit or {},
        }
        recipe = recipe_from_json(content)
        run = Run.create(tmp_path / root / recipe.folder_name(), title="", recipe=recipe.model_dump(mode="json"))
        found = []
        for group, count in (("6", N - 20 - nines), ("9", nines)):
            p = 0.9 if group == "6" else 0.1
            found.append(Measurement(name="share", value=p, group=group, params={"set": "training"}))
            params = {"share": count / (N - 20), "training_share": p, "labels": origin}
            if share is None:
                found.append(Measurement.not_measurable("share_difference", "no image was recognised", group=group))
                continue
            compared = Measurement(
                name="share_difference", value=count / (N - 20) - p, n=N - 20, level=0.95, group=group, params=params
            )
            found.append(compared)
            if corrected is not None:
                value = corrected if group == "9" else 1 - corrected
                ends = {"share": value, "share_lower": value - 0.06, "share_upper": value + 0.06, "floor": 0.04}
                found.append(Measurement(name="corrected_difference", value=value - p, group=group, params=ends))
        # A class of no training image has a difference too, and no replicates.
        found.append(Measurement(name="share_difference", value=0.01, group="8", params={"training_share": 0.0}))
        kept = None
        if labels is not None:
            kept = ImageLabels(
                ids=tuple(map(str, range(first, first + N))), labels=tuple(map(str, labels)), origin="the labeler"
            )
        settings = {
            "audit": recipe.audit.model_dump(mode="json"),
            "labels": origin,
            "fingerprints": {"labeler": labeler},
        }
        run.save_audit(AuditResult(measurements=tuple(found), labels=kept, settings=settings))
        run.update(status="complete")
        return run

    return make


def of(result: AuditResult, name: str, group: str = "9", **params: Any) -> Measurement:
    (found,) = result.find(name, group, **params)
    return found


def test_runs_of_one_recipe_are_one_measurement_of_their_shares(make_run) -> None:
    counts = [14, 22, 9]
    found = measure_across([make_run(seed=seed, nines=n) for seed, n in enumerate(counts)])
    expected = between_runs(counts, [N - 20] * 3)
    share = of(found, "share_between_runs")
    assert (share.value, share.lower, share.upper) == (expected.value, expected.lower, expected.upper)
    assert share.n == 3
    assert share.params["seeds"] == [0, 1, 2]
    assert share.params["shares"] == pytest.approx([n / 180 for n in counts])
    assert "labels image by image" in (share.method or "")
    difference = of(found, "share_between_runs_difference", corrected=False)
    assert difference.lower == pytest.approx(expected.lower - 0.1)
    sd = of(found, "training_run_sd")
    assert sd.value == pytest.approx(math.sqrt(expected.tau2))
    assert {m.group for m in found if m.name == "share_between_runs"} == {"6", "9"}


def test_one_run_is_not_measurable_and_neither_is_the_same_seed_twice(make_run) -> None:
    alone = measure_across([make_run()])
    assert "one training run" in (of(alone, "share_between_runs").reason or "")
    assert not alone.tables
    twice = measure_across([make_run(), make_run(root="elsewhere")])
    assert "training seed 0" in (of(twice, "share_between_runs").reason or "")


def test_runs_that_differ_otherwise_stand_apart(make_run) -> None:
    runs = [make_run(seed=0), make_run(seed=1), make_run(seed=0, train={"steps": 500})]
    found = measure_across(runs).find("share_between_runs", "9")
    assert [m.value is None for m in found] in ([False, True], [True, False])
    words = [m.params["model"] for m in found]
    assert len(set(words)) == 2
    assert all(word.startswith("2 blocks (") for word in words)


def test_runs_audited_unlike_are_not_pooled_and_missing_shares_have_their_reason(make_run) -> None:
    unlike = measure_across([make_run(seed=0), make_run(seed=1, audit={"confidence": 0.5})])
    told = of(unlike, "share_between_runs").reason or ""
    assert "were not labelled alike (audit.confidence: 0.9 and 0.5)" in told
    unlike = measure_across([make_run(seed=2), make_run(seed=3, labeler="other")])
    assert "(the labeler's weights: l and other)" in (of(unlike, "share_between_runs").reason or "")
    unlike = measure_across([make_run(seed=4), make_run(seed=5, audit={"level": 0.9})])
    assert "audited with different training data, classes or level" in (of(unlike, "share_between_runs").reason or "")
    missing = measure_across([make_run(seed=0), make_run(seed=1, share=None)])
    assert "no image was recognised" in (of(missing, "share_between_runs").reason or "")


def test_noise_that_the_runs_share_is_taken_from_their_labels(make_run) -> None:
    rng = np.random.default_rng(0)
    common = rng.random(N)
    rows = []
    for _ in range(3):
        own = np.where(common < 0.1, "9", "6").astype("<U12")
        flipped = rng.random(N) < 0.03
        row = np.where(flipped, np.where(own == "9", "6", "9"), own)
        row[rng.permutation(N)[:20]] = "unclassified"
        rows.append(row)
    counts = [int((row == "9").sum()) for row in rows]
    found = measure_across([make_run(seed=i, nines=counts[i], labels=rows[i]) for i in range(3)])
    labels = np.stack(rows)
    shared = shared_noise(labels == "9", labels != "unclassified")
    share = of(found, "share_between_runs")
    expected = between_runs(counts, [180] * 3, shared=shared)
    assert shared > 0
    assert (share.lower, share.upper) == (expected.lower, expected.upper)
    assert "labels image by image" not in (share.method or "")
    rows_of_nine = {row[2]: row for row in found.tables[0].rows if row[1] == "9"}
    assert rows_of_nine["common noise"][3] == pytest.approx(math.sqrt(shared))
    assert rows_of_nine["classifier"][3:] == (None, None, None)


def test_the_labelers_error_is_common_to_the_runs(make_run) -> None:
    runs = [make_run(seed=i, nines=n, corrected=c) for i, (n, c) in enumerate([(14, 0.08), (18, 0.11), (10, 0.05)])]
    found = measure_across(runs)
    raw, corrected = of(found, "share_between_runs"), of(found, "corrected_share_between_runs")
    assert corrected.value == pytest.approx(0.08)
    assert corrected.upper is not None
    assert corrected.lower is not None
    assert raw.upper is not None
    assert raw.lower is not None
    assert corrected.upper - corrected.lower > raw.upper - raw.lower
    split = {row[2]: row for row in found.tables[0].rows if row[1] == "9"}
    assert split["classifier"][3] == pytest.approx(0.04 / 1.959964)
    # Alike as they are, the runs have no spread beyond that of their images: the rest of each interval.
    assert split["own images"][3] ** 2 == pytest.approx((0.06**2 - 0.04**2) / 1.959964**2)
    difference = of(found, "share_between_runs_difference", corrected=True)
    assert difference.value == pytest.approx(-0.02)
    assert (difference.lower, difference.upper) == pytest.approx((corrected.lower - 0.1, corrected.upper - 0.1))
    assert of(found, "share_between_runs_difference", corrected=False).value == pytest.approx(raw.value - 0.1)
    assert split["common noise"][3:] == (None, None, None)
    assert sum(row[4] or 0 for row in split.values()) == pytest.approx(1)
    assert sum(row[5] or 0 for row in split.values()) == pytest.approx(1)


def test_a_labeler_without_a_correction_has_no_corrected_difference(make_run) -> None:
    found = measure_across([make_run(seed=0), make_run(seed=1, corrected=0.1)])
    for name in ("corrected_share_between_runs", "share_between_runs_difference"):
        m = of(found, name, corrected=True)
        assert "older leadline" in (m.reason or "")
    given = measure_across([make_run(seed=seed, origin="the samples' own") for seed in (0, 1)])
    assert not given.find("corrected_share_between_runs")
    assert [m.params["corrected"] for m in given.find("share_between_runs_difference", "9")] == [False]


def test_a_number_of_images_that_hung_on_what_they_showed_is_refused(make_run) -> None:
    runs = [make_run(blocks, seed, audit={"stopping": "anytime"}) for blocks in (2, 4) for seed in (0, 1)]
    found = measure_across(runs)
    assert all("audit.stopping=anytime" in (m.reason or "") for m in found if m.name.startswith("share_"))


def test_the_slope_holds_the_noise_that_runs_share_and_says_where_it_cannot(make_run) -> None:
    rng = np.random.default_rng(1)
    rows = {}
    for blocks in (2, 4):
        common = rng.random(N) < 0.1
        for seed in range(2):
            row = np.where(common ^ (rng.random(N) < 0.02), "9", "6").astype("<U12")
            row[rng.permutation(N)[:20]] = "unclassified"
            rows[blocks, seed] = row
    nines = {key: int((row == "9").sum()) for key, row in rows.items()}
    kept = [make_run(*key, nines[key], labels=row, root="kept") for key, row in rows.items()]
    labels = np.stack(list(rows.values()))
    expected = logistic_trend(
        list(nines.values()),
        [180] * 4,
        [2, 2, 4, 4],
        covariance=count_covariance(labels == "9", labels != "unclassified"),
    )
    slope = of(measure_across(kept), "share_slope")
    assert (slope.lower, slope.upper) == (expected.lower, expected.upper)
    assert slope.params["noises"] == "shared"
    assert slope.params["image_part"] > 0
    apart = [
        make_run(*key, nines[key], labels=row, root="apart", first=1000 * i)
        for i, (key, row) in enumerate(rows.items())
    ]
    slope = of(measure_across(apart), "share_slope")
    assert (slope.params["noises"], slope.params["image_part"]) == ("apart", 0)
    slope = of(measure_across([make_run(*key, nines[key], root="none") for key in rows]), "share_slope")
    assert slope.params["noises"] == "unknown"
    assert "taken for independent" in (slope.method or "")


def test_trends_over_depth_take_the_run_as_the_unit(make_run) -> None:
    counts = {2: [14, 22, 18], 3: [12, 17, 15], 4: [9, 16, 8]}
    runs = [make_run(blocks, seed, n) for blocks, nines in counts.items() for seed, n in enumerate(nines)]
    found = measure_across(runs)
    trend = of(found, "share_trend")
    expected = jonckheere([[n / 180 for n in nines] for nines in counts.values()])
    assert "conditional on the starting noises" in (trend.method or "")
    assert (trend.value, trend.params["p"]) == (expected.effect, expected.p)
    assert trend.n == 9
    assert trend.params["depths"] == [2, 3, 4]
    by_seed = of(found, "share_trend_by_seed")
    assert by_seed.params["p"] == page(np.array(list(counts.values())).T / 180).p
    slope = of(found, "share_slope")
    assert slope.value is not None
    assert slope.value < 0
    assert of(found, "share_trend", "6").value == pytest.approx(1 - expected.effect)


def test_too_few_runs_for_any_trend_say_so_and_members_stand_apart(make_run) -> None:
    found = measure_across([make_run(blocks, seed, 10 + blocks) for blocks in (2, 4) for seed in (0, 1)])
    assert "p = 0.33, not below 0.05" in (of(found, "share_trend").reason or "")
    assert not found.find("share_trend_by_seed")
    wide = measure_across([make_run(2), make_run(2, model={"wide": True})])
    assert not wide.find("share_trend")
    matched = [make_run(b, s, model={"match": ["width"]}) for b in (2, 4) for s in range(4)]
    series = measure_across([*matched, make_run(2), make_run(4)]).find("share_trend", "9")
    assert {m.params["member"]: m.n for m in series} == {"": 2, "width matched": 8}


def test_damaged_unfinished_and_foreign_folders_are_left_to_the_report(make_run, tmp_path) -> None:
    damaged = make_run()
    (damaged.folder / "measurements.jsonl").write_text("{")
    unfinished = make_run(seed=1)
    (unfinished.folder / "audit.json").unlink()
    foreign = Run.create(tmp_path / "foreign", title="foreign", kind="audit")
    assert not measure_across([damaged, unfinished, foreign]).find("share_between_runs")
