"""The closed form against the loop over pairs, its error against repeated draws."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leadline
from leadline.audit import diversity
from leadline.audit.diversity import mean_pairwise_distance
from leadline.errors import LeadlineError
from leadline.recipe import AuditSpec
from leadline.records import Splits


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 30), dimension=st.integers(1, 9), offset=st.sampled_from([0.0, 1e3]), chunk=st.integers(1, 40))
def test_is_the_mean_over_all_pairs(n: int, dimension: int, offset: float, chunk: int) -> None:
    features = np.random.default_rng(n).normal(size=(n, dimension)) + offset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "CHUNK_ROWS", chunk)
        mean, error = mean_pairwise_distance(features)
    pairs = {(i, j): np.square(features[i] - features[j]).sum() for i, j in combinations(range(n), 2)}
    to_others = [np.mean([d for pair, d in pairs.items() if i in pair]) for i in range(n)]
    assert mean == pytest.approx(np.mean(list(pairs.values())), rel=1e-9)
    assert error == pytest.approx(2 * np.std(to_others, ddof=1) / np.sqrt(n), rel=1e-6, abs=1e-9)


def test_the_error_is_the_spread_over_repeated_draws() -> None:
    generator = np.random.default_rng(0)
    draws = [mean_pairwise_distance(generator.exponential(size=(100, 3))) for _ in range(400)]
    means, errors = np.array(draws).T
    assert np.mean(errors) == pytest.approx(means.std(ddof=1), rel=0.15)
    assert means.mean() == pytest.approx(2 * 3, rel=0.02), "unbiased: twice the total variance"


def test_equal_images_have_no_diversity_not_a_negative_one() -> None:
    assert mean_pairwise_distance(np.full((50, 7), 0.1, dtype=np.float32)) == pytest.approx((0, 0), abs=1e-12)


def test_float32_far_from_zero_costs_no_digits() -> None:
    features = (np.random.default_rng(1).integers(0, 2, (40, 5)) + 2**20).astype(np.float32)
    pairs = [np.square(a - b).sum() for a, b in combinations(features.astype(np.float64), 2)]
    assert mean_pairwise_distance(features)[0] == pytest.approx(np.mean(pairs), rel=1e-9)


def test_one_image_has_no_pairs() -> None:
    with pytest.raises(LeadlineError, match="2 images or more, 1 given"):
        mean_pairwise_distance(np.zeros((1, 3)))


def test_features_that_are_not_finite_are_refused_by_their_place() -> None:
    features = np.zeros((4, 3))
    features[2, 1] = np.nan
    with pytest.raises(LeadlineError, match="image 2 are not finite"):
        mean_pairwise_distance(features)


def test_copies_of_one_image_are_less_diverse_than_the_training_data(splits: Splits) -> None:
    samples = splits.train.pixels[[0] * 9 + [1]]
    result = leadline.measure(samples, splits, metrics="diversity", spec=AuditSpec(labeler_epochs=3))
    made, real = (result.find("mean_pairwise_distance", set=name)[0] for name in ("samples", "training"))
    assert made.value < real.value  # type: ignore[operator]
    assert (made.n, real.n) == (10, 80)
    assert made.lower is not None
    assert 0 <= made.lower <= made.value <= made.upper  # type: ignore[operator]


def test_one_sample_is_said_and_the_training_data_measured(splits: Splits) -> None:
    result = leadline.measure(splits.train.pixels[:1], splits, metrics="diversity", spec=AuditSpec(labeler_epochs=3))
    made, real = (result.find("mean_pairwise_distance", set=name)[0] for name in ("samples", "training"))
    assert "needs 2 images or more, the samples are 1" in str(made.reason)
    assert real.value is not None
