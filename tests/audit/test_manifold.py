"""Precision, recall, density and coverage against prdc and torch-fidelity, and their expectation in closed form."""

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from torch_fidelity.metric_prc import calculate_precision_recall_full

from leadline.audit.manifold import neighborhoods
from leadline.errors import LeadlineError


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) + shift).astype(np.float32)


def counted(samples: np.ndarray, reference: np.ndarray, k: int) -> dict[str, float]:
    real, generated = neighborhoods(reference, k), neighborhoods(samples, k)
    holding = real.number_holding(samples)
    return {
        "precision": float((holding > 0).mean()),
        "recall": float((generated.number_holding(reference) > 0).mean()),
        "density": float(holding.mean() / k),
        "coverage": float(real.holding_any(samples).mean()),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("n", "m", "d", "shift"), [(60, 80, 4, 0.5), (90, 40, 16, 0.2), (50, 50, 2, 2.0)])
def test_equals_prdc(n: int, m: int, d: int, shift: float, k: int) -> None:
    samples, reference = features(n, d, 1, shift), features(m, d, 2)
    expected = compute_prdc(reference.astype(np.float64), samples.astype(np.float64), nearest_k=k)
    assert counted(samples, reference, k) == pytest.approx(expected, rel=1e-12)


def test_equals_torch_fidelity_where_no_image_is_at_a_radius_itself() -> None:
    samples, reference = features(60, 4, 1, 0.5), features(80, 4, 2)
    expected = calculate_precision_recall_full(*(torch.from_numpy(x).double() for x in (samples, reference)), 3)
    found = counted(samples, reference, 3)
    assert (found["precision"], found["recall"]) == pytest.approx(expected, rel=1e-6)


def test_copies_and_images_at_a_radius_are_counted_as_prdc_counts_them() -> None:
    # On a grid most distances are ties, and every sample is a copy.
    reference = np.stack(np.meshgrid(np.arange(6.0), np.arange(5.0)), -1).reshape(-1, 2)
    reference = np.concatenate([reference, reference[:7]])
    expected = compute_prdc(reference, reference[3:20], nearest_k=2)
    assert counted(reference[3:20], reference, 2) == pytest.approx(expected, rel=1e-12)


def test_density_and_coverage_of_one_kind_are_what_the_closed_form_says() -> None:
    n, m, k = 150, 100, 5
    found = [counted(features(n, 3, 2 * seed), features(m, 3, 2 * seed + 1), k) for seed in range(30)]
    means = {name: np.mean([one[name] for one in found]) for name in ("density", "coverage")}
    errors = {name: np.std([one[name] for one in found]) / np.sqrt(30) for name in means}
    # A ball holds no sample where the k nearest of all others are real.
    missed = np.prod([(m - 1 - i) / (m + n - 1 - i) for i in range(k)])
    # A sample is within the k nearest of itself and the m - 1 others with probability k / m, for each of m balls.
    assert abs(means["density"] - 1) < 4 * errors["density"]
    assert abs(means["coverage"] - (1 - missed)) < 4 * errors["coverage"]


def test_equal_images_have_the_radius_zero_and_hold_nothing() -> None:
    balls = neighborhoods(np.ones((7, 3), np.float32), 5)
    assert balls.radii.tolist() == [0] * 7
    assert balls.number_holding(np.ones((2, 3), np.float32)).tolist() == [0, 0]
    assert not balls.holding_any(np.ones((2, 3), np.float32)).any()


def test_too_few_images_are_refused_with_both_numbers() -> None:
    with pytest.raises(LeadlineError, match=r"5 nearest others .* need 6 images or more, there are 5: .*nearest_k"):
        neighborhoods(features(5, 2, 1), 5)
