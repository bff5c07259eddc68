"""Fréchet distance against closed forms, torch-fidelity, and the spread over replicates."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from leadline.audit import frechet
from leadline.audit.frechet import Gaussian, fit_gaussian, frechet_distance
from leadline.errors import LeadlineError


def mixed(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Skewed features, 0 or more, that depend on each other, as an encoder's do; the same mixing for every seed."""
    weights = np.random.default_rng(99).normal(size=(d, d)) * np.exp(-np.arange(d) / 8)
    z = np.random.default_rng(seed).exponential(size=(n, d))
    return np.maximum(z @ weights.T / 4 + 1 + shift, 0).astype(np.float32)


def with_moments(mean: np.ndarray, root: np.ndarray, n: int, seed: int) -> np.ndarray:
    """float64 features whose mean and covariance are exactly `mean` and rootᵀ·root."""
    z = np.random.default_rng(seed).normal(size=(n, len(mean)))
    z -= z.mean(0)
    orthonormal = np.linalg.qr(z)[0] * math.sqrt(n - 1)
    return orthonormal @ root + mean


def by_torch_fidelity(first: np.ndarray, second: np.ndarray, dtype: type = np.float64) -> float:
    statistics = [fid_features_to_statistics(torch.from_numpy(x.astype(dtype))) for x in (first, second)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


@pytest.mark.parametrize("chunk_rows", [1, 4096])
def test_equals_torch_fidelity(chunk_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "CHUNK_ROWS", chunk_rows)  # several chunks: 2·d rows
    samples, reference = mixed(300, 40, 1, shift=0.2), mixed(400, 40, 2)
    found = frechet_distance(samples, fit_gaussian(reference)).value
    assert found == pytest.approx(by_torch_fidelity(samples, reference), rel=1e-8)
    assert found == pytest.approx(by_torch_fidelity(samples, reference, np.float32), rel=1e-5)  # its mean is float32


def test_fewer_images_than_dimensions_equal_torch_fidelity_which_loses_digits_there() -> None:
    samples, reference = mixed(30, 50, 1, shift=0.2), mixed(40, 50, 2)
    found = frechet_distance(samples, fit_gaussian(reference)).value
    assert found == pytest.approx(by_torch_fidelity(samples, reference), rel=1e-5)


def test_closed_form_of_covariances_that_commute() -> None:
    mean, other_mean = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
    sd, other_sd = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 1.5])
    samples = with_moments(mean, np.diag(sd), 50, 1)
    reference = with_moments(other_mean, np.diag(other_sd), 60, 2)
    expected = np.square(mean - other_mean).sum() + np.square(sd - other_sd).sum()
    assert frechet_distance(samples, fit_gaussian(reference)).value == pytest.approx(expected, rel=1e-12)


def test_closed_form_in_two_dimensions() -> None:
    # tr A^½ = √(tr A + 2√det A) for 2×2 matrices.
    root, other = np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([[1.0, -0.5], [0.5, 3.0]])
    samples = with_moments(np.zeros(2), root, 30, 1)
    reference = Gaussian(mean=torch.zeros(2, dtype=torch.float64), root=torch.from_numpy(other))
    product = root.T @ root @ other.T @ other
    cross = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    expected = np.square(root).sum() + np.square(other).sum() - 2 * cross
    assert frechet_distance(samples, reference).value == pytest.approx(expected, rel=1e-12)


def test_a_set_against_itself_is_at_distance_zero_with_no_error() -> None:
    features = mixed(200, 30, 1)
    features[:, 3] = 0  # a dead unit: the covariance is singular
    found = frechet_distance(features, fit_gaussian(features))
    assert found.value == pytest.approx(0, abs=1e-10)
    assert found.error == pytest.approx(0, abs=1e-10)
    assert found.bias > 0


def test_a_turn_and_a_common_shift_change_nothing_and_scale_its_square() -> None:
    samples, reference = mixed(80, 12, 1, shift=0.3), mixed(90, 12, 2)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    plain = frechet_distance(samples, fit_gaussian(reference))
    moved = frechet_distance(3 * samples @ turn + 5, fit_gaussian(3 * reference @ turn + 5))
    assert moved.value == pytest.approx(9 * plain.value, rel=1e-6)
    assert moved.error == pytest.approx(9 * plain.error, rel=1e-6)
    assert moved.bias == pytest.approx(9 * plain.bias, rel=1e-6)


@pytest.mark.parametrize(
    ("n", "d", "shift", "scale", "largest"),
    [(400, 8, 1.0, 1.0, 1.15), (300, 30, 0.5, 1.5, 1.15), (20, 40, 0.5, 1.5, 1.4)],
)
def test_the_error_is_the_spread_over_replicates(n: int, d: int, shift: float, scale: float, largest: float) -> None:
    """And somewhat more than that where fewer images than dimensions make the covariance singular."""
    sd = np.exp(-np.arange(d) / 8)
    reference = Gaussian(mean=torch.zeros(d, dtype=torch.float64), root=torch.from_numpy(np.diag(sd)))
    generator = np.random.default_rng(5)
    found = [
        frechet_distance(generator.normal(size=(n, d)) * sd * scale + shift / math.sqrt(d), reference)
        for _ in range(200)
    ]
    spread = np.std([one.value for one in found], ddof=1)
    # 200 replicates know their spread to 5 %.
    assert 0.87 < np.mean([one.error for one in found]) / spread < largest


@pytest.mark.parametrize("scale", [1.0, 1.4])
def test_the_bias_is_what_replicates_are_too_large_by(scale: float) -> None:
    n, d = 200, 25
    sd = np.exp(-np.arange(d) / 8)
    reference = Gaussian(mean=torch.zeros(d, dtype=torch.float64), root=torch.from_numpy(np.diag(sd)))
    generator = np.random.default_rng(6)
    found = [frechet_distance(generator.normal(size=(n, d)) * sd * scale, reference) for _ in range(100)]
    truth = np.square(sd * (scale - 1)).sum()
    excess = np.mean([one.value for one in found]) - truth
    assert excess > 0
    assert np.mean([one.bias for one in found]) == pytest.approx(excess, rel=0.2)


def test_a_memory_map_gives_the_same(tmp_path: Path) -> None:
    features = mixed(70, 6, 1)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    reference = fit_gaussian(mixed(80, 6, 2))
    assert frechet_distance(mapped, reference) == frechet_distance(features, reference)


def test_equal_images_have_no_spread_and_still_a_distance() -> None:
    reference = fit_gaussian(np.ones((5, 3), np.float32))
    found = frechet_distance(np.full((4, 3), 3, np.float32), reference)
    assert (found.value, found.error, found.bias) == (12, 0, 0)


def test_what_cannot_be_compared_is_refused() -> None:
    good = mixed(9, 3, 1)
    with pytest.raises(LeadlineError, match=r"needs 2 images or more in each set, 1 given"):
        fit_gaussian(good[:1])
    with pytest.raises(LeadlineError, match=r"the samples have 2 features and the reference 3"):
        frechet_distance(good[:, :2], fit_gaussian(good))
    bad = good.copy()
    bad[4, 1] = np.nan
    with pytest.raises(LeadlineError, match=r"the features of image 4 are not finite"):
        fit_gaussian(bad)
    with pytest.raises(LeadlineError, match=r"up to 4,096 dimensions, these features have 12,288"):
        fit_gaussian(np.zeros((2, 12288), np.float32))
