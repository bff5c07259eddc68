"""Abstraction of grids: by hand, against the exact law, and what cannot be abstracted."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from leadline.errors import LeadlineError, NotMeasurable
from leadline.theory.abstraction import (
    abstract,
    expected_share,
    expected_shares,
    largest_gain,
    levels_of,
    log_odds,
    random_grids,
)

TIES = ["random", "keep", "majority", "minority"]


def by_hand(grid, window):
    """The classes that are most frequent in each window, as sets."""
    h, w = grid.shape[0] // window, grid.shape[1] // window
    found = []
    for i in range(h):
        for j in range(w):
            cells = grid[i * window : (i + 1) * window, j * window : (j + 1) * window].flatten().tolist()
            most = max(cells.count(value) for value in cells)
            found.append({value for value in cells if cells.count(value) == most})
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([2, 3]).flatmap(
        lambda window: st.tuples(
            st.just(window),
            arrays(
                np.int16, st.tuples(*[st.integers(1, 3).map(lambda n: n * window)] * 2), elements=st.integers(-1, 3)
            ),
        )
    ),
    st.sampled_from(TIES),
)
def test_every_window_becomes_one_of_its_most_frequent_classes(case, ties):
    window, grid = case
    found = abstract(grid, window, ties=ties)
    assert found.dtype == grid.dtype
    assert found.shape == (grid.shape[0] // window, grid.shape[1] // window)
    for value, allowed in zip(found.flatten().tolist(), by_hand(grid, window), strict=True):
        assert value in allowed


def test_a_grid_by_hand_under_each_rule_for_ties():
    grid = np.array([[1, 0, 7, 7, 0, 0], [0, 1, 7, 1, 0, 0]])  # 6 zeros, 3 ones, 3 sevens; the first window ties
    assert abstract(grid, ties="keep").tolist() == [[1, 7, 0]]
    assert abstract(grid, ties="majority").tolist() == [[0, 7, 0]]
    assert abstract(grid, ties="minority").tolist() == [[1, 7, 0]]
    assert {abstract(grid, 2, np.random.default_rng(seed)).tolist()[0][0] for seed in range(20)} == {0, 1}


def test_keep_takes_the_first_of_the_tied_cells_not_of_all():
    grid = np.array([[5, 1, 1], [2, 2, 0], [3, 4, 6]])  # 5 comes first, but 1 and 2 are tied at the most
    assert abstract(grid, 3, ties="keep").tolist() == [[1]]


def test_arrays_and_tensors_agree_and_leading_dimensions_are_grids_of_their_own():
    grids = random_grids((0.5, 0.5), (3, 2, 8, 8), np.random.default_rng(0))
    as_array = abstract(grids, 2, torch.Generator().manual_seed(1))
    as_tensor = abstract(torch.from_numpy(grids), 2, torch.Generator().manual_seed(1))
    assert isinstance(as_tensor, torch.Tensor)
    assert as_tensor.dtype == torch.int8
    np.testing.assert_array_equal(as_array, as_tensor.numpy())
    # Of the rules that look at the whole grid, each grid is looked at by itself.
    apart = np.stack([abstract(grid, ties="minority") for grid in grids.reshape(-1, 8, 8)])
    together = abstract(grids, ties="minority").reshape(-1, 4, 4)
    tied = (grids.reshape(6, 4, 2, 4, 2).sum((2, 4)) == 2) & (grids.mean((-2, -1)).reshape(6, 1, 1) == 0.5)
    np.testing.assert_array_equal(apart[~tied], together[~tied])


def test_without_a_generator_ties_come_from_a_stream_of_our_own():
    grids = random_grids((0.5, 0.5), (64, 64), np.random.default_rng(0))
    state = torch.get_rng_state()
    first = abstract(grids)
    torch.manual_seed(123)
    np.testing.assert_array_equal(first, abstract(grids))
    torch.set_rng_state(state)


def test_the_law_of_two_classes_in_windows_of_two():
    for p in (0.0, 0.1, 0.5, 0.789, 0.9, 1.0):
        found = expected_share(p, 4)
        assert len(found) == 5
        assert found[0] == p
        np.testing.assert_allclose(found[1:], 3 * found[:-1] ** 2 - 2 * found[:-1] ** 3, rtol=0, atol=1e-12)


def test_the_law_of_windows_of_three_is_a_binomial_majority():
    p = 0.6
    wins = sum(math.comb(9, k) * p**k * (1 - p) ** (9 - k) for k in range(5, 10))
    assert expected_share(p, 1, window=3)[1] == pytest.approx(wins, abs=1e-12)


def test_points_are_gained_most_at_789_and_log_odds_ever_more():
    share, gain = largest_gain()
    assert share == pytest.approx((1 + 1 / math.sqrt(3)) / 2, abs=1e-5)
    assert gain == pytest.approx(math.sqrt(3) / 18, abs=1e-9)
    odds = [log_odds(expected_shares((p, 1 - p), 1))[:, 0] for p in np.linspace(0.5, 0.999, 50)]
    assert (np.diff([after - before for before, after in odds]) > 0).all()


@pytest.mark.parametrize("ties", TIES)
def test_even_shares_stay_even_at_every_level(ties):
    np.testing.assert_allclose(expected_shares((1 / 3, 1 / 3, 1 / 3), 8, ties=ties), 1 / 3, atol=1e-6)


def test_log_odds_of_a_share_that_rounds_to_one():
    odds = log_odds(expected_shares((0.9, 0.1), 7))[:, 0]
    lost = expected_shares((0.9, 0.1), 7)[:, 1]
    np.testing.assert_allclose(odds[-1], -math.log(lost[-1]), rtol=1e-12)
    assert lost[-1] < 1e-30


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=4), st.sampled_from([2, 3]), st.sampled_from(TIES))
def test_the_law_stays_a_distribution_and_names_do_not_matter(parts, window, ties):
    shares = np.array(parts) / sum(parts)
    found = expected_shares(shares.tolist(), 3, window=window, ties=ties)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-9)
    backwards = expected_shares(shares[::-1].tolist(), 3, window=window, ties=ties)
    np.testing.assert_allclose(found, backwards[:, ::-1], atol=1e-9)


@pytest.mark.parametrize(
    ("shares", "window", "ties"),
    [
        ((0.8, 0.2), 2, "random"),
        ((0.8, 0.2), 2, "keep"),
        ((0.5, 0.3, 0.2), 2, "random"),
        ((0.4, 0.35, 0.25), 3, "keep"),
    ],
)
def test_grids_follow_the_law_in_mean_and_variance(shares, window, ties):
    side, replicates, levels = window**3, 1000, 2
    stream = np.random.default_rng(5)
    grids = random_grids(shares, (replicates, side, side), stream)
    law = expected_shares(shares, levels, window=window, ties=ties)
    for step in range(levels + 1):
        cells = (side // window**step) ** 2
        found = (grids == 0).mean((-2, -1))
        variance = law[step, 0] * (1 - law[step, 0]) / cells
        assert abs(found.mean() - law[step, 0]) < 4 * math.sqrt(variance / replicates)
        # The cells of a level are independent: the variance over grids is binomial. Its estimate has a relative
        # standard error of √((2 + excess kurtosis) / replicates); small levels of rare classes are left out.
        if law[step, 0] * cells > 5 < (1 - law[step, 0]) * cells:
            assert found.var(ddof=1) == pytest.approx(variance, rel=4 * math.sqrt(2.5 / replicates))
        grids = abstract(grids, window, stream, ties=ties)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_without_a_generator_every_level_draws_anew(kind):
    """One stream for all grids repeats its draws level by level: even shares then drift to one class."""
    grids = random_grids((0.5, 0.5), (400, 32, 32), np.random.default_rng(0))
    grids = grids if kind == "numpy" else torch.from_numpy(grids)
    again = abstract(abstract(grids))
    assert (again == abstract(abstract(grids))).all()
    for level in range(1, 5):
        grids = abstract(grids)
        cells = grids.shape[-1] ** 2
        share = float((grids == 0).sum()) / (400 * cells)
        assert abs(share - 0.5) < 4 * math.sqrt(0.25 / (400 * cells)), level


def test_many_classes_have_numbers_of_their_own():
    for classes, kind in ((128, np.int8), (129, np.int16), (200, np.int16)):
        found = random_grids([1 / classes] * classes, (100, 100), np.random.default_rng(0))
        assert found.dtype == kind
        assert (int(found.min()), int(found.max())) == (0, classes - 1)


@pytest.mark.parametrize("ties", ["majority", "minority"])
def test_rules_that_look_at_the_grid_follow_their_law_on_large_grids(ties):
    stream = np.random.default_rng(0)
    grids = abstract(random_grids((0.7, 0.3), (40, 64, 64), stream), 2, stream, ties=ties)
    p = 0.7
    certain, tied = 4 * p**3 * (1 - p) + p**4, 6 * p**2 * (1 - p) ** 2
    wanted = certain + (tied if ties == "majority" else 0)
    assert expected_share(p, 1, ties=ties)[1] == pytest.approx(wanted, abs=1e-12)
    assert abs((grids == 0).mean() - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / grids.size)


def test_how_often_a_side_can_be_abstracted():
    assert [levels_of(64), levels_of(48), levels_of(81, 3), levels_of(7), levels_of(1)] == [6, 4, 4, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: abstract(np.zeros((6, 5), int)), "multiples of the window 2.*--size"),
        (lambda: abstract(np.zeros(4, int)), "multiples of the window"),
        (lambda: abstract(np.zeros((4, 4), int), 1), "2 cells or more.*--window"),
        (lambda: abstract(np.zeros((4, 4))), "integers are expected, not float64"),
        (lambda: abstract(torch.zeros(4, 4, dtype=torch.bool)), "integers are expected"),
        (lambda: expected_share(1.2, 1), "from 0 to 1"),
        (lambda: expected_shares((0.5, 0.2), 1), "sum 1"),
        (lambda: expected_share(0.5, -1), "0 or more"),
    ],
)
def test_what_cannot_be_abstracted_says_why(call, message):
    with pytest.raises(LeadlineError, match=message):
        call()


def test_a_law_over_too_many_counts_is_not_measurable():
    with pytest.raises(NotMeasurable, match="fewer classes"):
        expected_shares([0.1] * 10, 1, window=4)
