"""Theorem 2's odds and the exponent that fits, against laws that hold exactly."""

import math

import numpy as np
import pytest

from leadline.errors import LeadlineError, NotMeasurable
from leadline.theory.energy import fit_exponent, merged_counts, merged_odds


def test_merged_odds_are_the_counts_odds_to_the_features() -> None:
    assert merged_odds(6, 2, 1) == 3
    assert merged_odds(6, 2, 3) == 27
    assert merged_odds(2, 6, 2) == pytest.approx(1 / 9)
    assert merged_odds(5, 5, 9) == 1
    assert merged_odds(10, 1, 10_000) == math.inf
    with pytest.raises(LeadlineError, match="above 0 each: p = 3, q = 0"):
        merged_odds(3, 0, 1)


def test_counts_leave_out_ties_and_what_has_not_settled() -> None:
    ancestor = np.array([0, 0, 0, 1, 1, -1, 2])
    followed = np.array([1, 1, 0, 0, -1, 1, 1])
    p, q = merged_counts(ancestor, followed, 4)
    assert p.tolist() == [2, 0, 1, 0]
    assert q.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_a_law_that_holds_is_found(exponent: float) -> None:
    p, q = np.array([2, 1, 5, 3, 4]), np.array([1, 4, 2, 3, 0])
    odds = np.array([merged_odds(int(a), max(int(b), 1), exponent) for a, b in zip(p, q, strict=True)])
    fit = fit_exponent(p, q, odds)
    assert fit.exponent == pytest.approx(exponent)
    # p = q and q = 0 say nothing.
    assert fit.num == 3
    assert fit.r_squared == pytest.approx(1 if exponent else 0)


def test_odds_without_a_law_are_not_explained() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.integers(1, 9, 200), rng.integers(1, 9, 200)
    fit = fit_exponent(p, q, np.exp(rng.normal(size=200)))
    assert abs(fit.exponent) < 0.3
    assert fit.r_squared < 0.05


def test_too_few_merged_minima_are_not_measurable() -> None:
    p, q = np.array([1, 2, 3, 4]), np.array([1, 1, 1, 1])
    with pytest.raises(NotMeasurable, match="3 minima merged from unequal numbers of both classes, here 2"):
        fit_exponent(p, q, np.array([1.0, 2.0, 3.0, np.inf]))
