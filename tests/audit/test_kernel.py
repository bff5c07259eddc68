"""Kernel distance against its definition, torch-fidelity, and the spread over replicates."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from leadline.audit import kernel
from leadline.audit.kernel import kernel_distance, mean_kernel_to_others
from leadline.errors import LeadlineError


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).exponential(size=(n, d)) + shift).astype(np.float32)


def by_torch_fidelity(first: np.ndarray, second: np.ndarray, subsets: int, size: int) -> dict[str, float]:
    with contextlib.redirect_stderr(io.StringIO()):
        found: dict[str, float] = kid_features_to_metric(
            *(torch.from_numpy(x.astype(np.float64)) for x in (first, second)),
            kid_subsets=subsets,
            kid_subset_size=size,
            rng_seed=1,
            verbose=False,
        )
    return found


@pytest.mark.parametrize("tile_rows", [7, 2048])
def test_equals_torch_fidelity_with_one_subset_that_holds_everything(
    tile_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "TILE_ROWS", tile_rows)
    samples, reference = features(60, 12, 1, shift=0.1), features(60, 12, 2)
    expected = by_torch_fidelity(samples, reference, subsets=1, size=60)[KEY_METRIC_KID_MEAN]
    assert kernel_distance(samples, reference)[0] == pytest.approx(expected, rel=1e-10)


def test_torch_fidelitys_mean_over_subsets_scatters_about_it() -> None:
    samples, reference = features(300, 12, 1, shift=0.1), features(400, 12, 2)
    found = by_torch_fidelity(samples, reference, subsets=200, size=80)
    value, _ = kernel_distance(samples, reference)
    assert abs(found[KEY_METRIC_KID_MEAN] - value) < 4 * found[KEY_METRIC_KID_STD] / np.sqrt(200)


def test_is_the_definition_at_unequal_sizes() -> None:
    samples, reference = features(9, 4, 1).astype(np.float64), features(14, 4, 2).astype(np.float64)

    def mean(first: np.ndarray, second: np.ndarray, same: bool) -> float:
        pairs = [
            (float(x @ y) / 4 + 1) ** 3
            for i, x in enumerate(first)
            for j, y in enumerate(second)
            if not (same and i == j)
        ]
        return float(np.mean(pairs))

    expected = mean(samples, samples, True) + mean(reference, reference, True) - 2 * mean(samples, reference, False)
    found = kernel_distance(samples, reference)
    assert found[0] == pytest.approx(expected, rel=1e-12)
    assert kernel_distance(samples, reference, reference_means=mean_kernel_to_others(reference)) == found


@pytest.mark.parametrize("shift", [0.05, 0.5])
def test_the_error_is_the_spread_over_replicates(shift: float) -> None:
    found = [kernel_distance(features(80, 6, 2 * seed, shift), features(120, 6, 2 * seed + 1)) for seed in range(200)]
    spread = np.std([value for value, _ in found], ddof=1)
    assert 0.85 * spread < np.mean([error for _, error in found]) < 1.25 * spread


def test_two_sets_of_one_kind_are_unbiased_and_rarely_beyond_the_interval() -> None:
    found = np.array([kernel_distance(features(40, 6, 2 * seed), features(60, 6, 2 * seed + 1)) for seed in range(200)])
    values, errors = found.T
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(200)
    assert (values < 0).any()
    assert (np.abs(values) > 2 * errors).mean() < 0.05


def test_a_memory_map_gives_the_same(tmp_path: Path) -> None:
    samples, reference = features(30, 5, 1), features(40, 5, 2)
    np.save(tmp_path / "features.npy", reference)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert kernel_distance(samples, mapped) == kernel_distance(samples, reference)


def test_equal_images_are_at_distance_zero() -> None:
    assert kernel_distance(np.ones((3, 2), np.float32), np.ones((4, 2), np.float32)) == (0, 0)


def test_what_cannot_be_compared_is_refused() -> None:
    good = features(9, 3, 1)
    with pytest.raises(LeadlineError, match=r"needs 2 images or more in each set, 1 given"):
        kernel_distance(good[:1], good)
    with pytest.raises(LeadlineError, match=r"the samples have 2 features and the reference 3"):
        kernel_distance(good[:, :2], good)
    bad = good.copy()
    bad[4, 1] = np.nan
    with pytest.raises(LeadlineError, match=r"the features of image \d are not finite"):
        kernel_distance(good, bad)
