"""Corrected shares that hold at every look: against the closed form of two classes, vertices and simulated labelers."""

import numpy as np
import pytest

from leadline.audit.anytime import anytime_corrected
from leadline.audit.confusion import corrected_shares
from leadline.audit.corrected_sequence import corrected_sequence
from leadline.errors import LeadlineError

TRAINING = np.array([0.7, 0.3, 0.0])
LABELER = np.array([[0.90, 0.02, 0.01, 0.07], [0.05, 0.85, 0.02, 0.08], [0.01, 0.04, 0.90, 0.05]])
NONE = np.array([0, 0, 0, 1.0])


def judged(per_class: int, rng: np.random.Generator) -> np.ndarray:
    return np.stack([rng.multinomial(per_class, row) for row in LABELER])


def test_of_two_classes_it_is_the_closed_form():
    found = corrected_sequence(np.array([381, 619]), np.array([[180, 20], [10, 990]]), np.array([0.4, 0.6]))
    around = 0.4 * 0.9 + 0.6 * 0.01
    wanted = anytime_corrected(381, 1000, 180, 200, 990, 1000, around=around)
    assert (found.values[0], found.lower[0], found.upper[0]) == pytest.approx(
        (wanted.value, wanted.lower, wanted.upper), abs=1e-6
    )
    assert found.lower[1] == pytest.approx(1 - found.upper[0], abs=1e-6)
    assert found.upper[2] == 0  # nothing is left unclassified, so no image is of no class


def test_its_values_are_those_of_the_matrix_and_groups_are_within_their_parts():
    rng = np.random.default_rng(0)
    observed = rng.multinomial(3000, np.array([0.6, 0.25, 0.1]) @ LABELER + 0.05 * NONE)
    confusion = judged(400, rng)
    found = corrected_sequence(observed, confusion, TRAINING)
    assert np.array_equal(found.values, corrected_shares(observed, confusion).values)
    both = found.of([[0, 1], [2], [3]])
    assert both.values[0] == pytest.approx(found.values[:2].sum())
    assert found.lower[:2].sum() - 1e-9 <= both.lower[0] <= both.upper[0] <= found.upper[:2].sum() + 1e-9
    assert (both.lower[1], both.upper[1]) == pytest.approx((found.lower[2], found.upper[2]))


def test_shares_among_classes_are_within_what_their_parts_allow():
    rng = np.random.default_rng(1)
    observed = rng.multinomial(3000, np.array([0.6, 0.25, 0.1]) @ LABELER + 0.05 * NONE)
    found = corrected_sequence(observed, judged(400, rng), TRAINING)
    among = found.among([0, 1])
    assert among.values.sum() == pytest.approx(1)
    assert among.lower[0] == pytest.approx(1 - among.upper[1], abs=1e-6)
    assert among.lower[0] >= found.lower[0] / (found.lower[0] + found.upper[1]) - 1e-9
    assert among.lower[0] < 0.6 / 0.85 < among.upper[0]


def test_it_contains_the_true_shares_at_all_looks():
    rng = np.random.default_rng(2)
    shares = np.array([0.65, 0.2, 0.05])
    q = shares @ LABELER + 0.1 * NONE
    covered = []
    for _ in range(12):
        confusion = judged(150, rng)
        counts = np.cumsum([rng.multinomial(n, q) for n in (300, 2700)], 0)
        looks = [corrected_sequence(observed, confusion, TRAINING) for observed in counts]
        ratios = [look.among([0, 1]) for look in looks]
        inside = [(look.lower[:3] <= shares) & (shares <= look.upper[:3]) for look in looks]
        inside += [np.array([r.lower[0] <= 0.65 / 0.85 <= r.upper[0]]) for r in ratios]
        covered.append(np.concatenate(inside).all())
    assert np.mean(covered) >= 0.95


def test_labels_that_no_shares_explain_are_said_to_be_so():
    never_unsure = np.array([[1000, 0, 0], [0, 1000, 0]])
    with pytest.raises(LeadlineError, match="no image is of these classes"):
        corrected_sequence(np.array([0, 0, 3000]), never_unsure, np.array([0.5, 0.5])).among([0, 1])
    leaning = np.array([[9000, 1000], [1000, 9000]])
    with pytest.raises(LeadlineError, match="no shares of the classes fit the labels"):
        corrected_sequence(np.array([10_000, 0]), leaning, np.array([0.5, 0.5]))
