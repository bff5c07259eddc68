"""The simulation of Figure 3: intervals that hold the law, levels, mixtures, what is refused."""

import numpy as np
import pytest
from scipy.stats import binom

from leadline.errors import LeadlineError
from leadline.lab.abstraction import AbstractionSpec, abstraction, even_rest, mixture_name, share_interval
from leadline.theory.abstraction import abstract, expected_share


@pytest.fixture(scope="module")
def found():
    mixtures = ((0.5, 0.5), (0.8, 0.2))
    return abstraction(AbstractionSpec(mixtures=mixtures, size=16, replicates=400))


def test_means_lie_where_the_law_has_them(found):
    assert len(found.find("share", mixture="80/20")) == 5
    for share, p in (("50/50", 0.5), ("80/20", 0.8)):
        for measured, law in zip(found.find("share", mixture=share), expected_share(p, 4), strict=True):
            assert measured.lower is not None
            assert measured.upper is not None
            width = measured.upper - measured.lower
            assert measured.lower - width / 2 <= law <= measured.upper + width / 2  # 4 standard errors of 2
    [deviation] = found.find("largest_deviation_from_law")
    assert deviation.value is not None
    assert deviation.value < 4.5
    assert deviation.n == len([v for i in (0, 1) for v in found.arrays[f"deviation_{i}"][:, 0] if np.isfinite(v)])


def test_a_step_adds_what_its_two_levels_differ_by(found):
    shares = [m.value for m in found.find("share", mixture="80/20")]
    steps = [m.value for m in found.find("share_difference", mixture="80/20")]
    np.testing.assert_allclose(steps, np.diff(shares), atol=1e-12)
    assert steps[0] == pytest.approx(0.096, abs=0.006)


def test_the_grids_shown_are_levels_of_one_another(found):
    grids = [found.arrays[f"grid_1_{step}"] for step in range(5)]
    assert [grid.shape for grid in grids] == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    certain = grids[0].reshape(8, 2, 8, 2).sum((1, 3)) != 2
    np.testing.assert_array_equal(grids[1][certain], abstract(grids[0])[certain])


def test_a_mixture_does_not_depend_on_what_is_simulated_beside_it(found):
    alone = abstraction(AbstractionSpec(mixtures=((0.8, 0.2),), size=16, replicates=400))
    assert [m.value for m in alone.find("share")] == [m.value for m in found.find("share", mixture="80/20")]


def test_all_classes_of_three_are_measured_and_sum_to_one():
    found = abstraction(AbstractionSpec(mixtures=((0.5, 0.3, 0.2),), size=9, window=3, replicates=50))
    ends = [found.find("share", f"class {c}", step=2)[0].value or 0 for c in (1, 2, 3)]
    assert sum(ends) == pytest.approx(1)
    assert not found.tables  # the table of the law is of two classes


def test_a_law_of_too_many_counts_is_not_measurable_and_the_rest_is_measured():
    found = abstraction(AbstractionSpec(mixtures=(even_rest(0.3, 10),), size=4, window=4, replicates=10))
    [deviation] = found.find("largest_deviation_from_law")
    assert deviation.value is None
    assert "fewer classes" in (deviation.reason or "")
    assert len(found.find("share")) == 20


def test_the_interval_of_shares_covers():
    stream = np.random.default_rng(0)
    p, cells, n = 0.98, 16, 200
    hits = 0
    for _ in range(300):
        lower, upper, _ = share_interval(stream.binomial(cells, p, n) / cells, 0.9)
        assert 0 < lower < upper < 1
        hits += lower <= p <= upper
    assert hits >= binom.ppf(1e-4, 300, 0.88)
    assert share_interval(np.ones(100), 0.95)[:2] == (pytest.approx(0.963, abs=1e-3), 1.0)


def test_names_of_mixtures():
    assert even_rest(0.4, 3) == (0.4, 0.3, 0.3)
    assert mixture_name(even_rest(0.5, 3)) == "50/25/25"
    assert mixture_name(even_rest(0.5, 200)) == "50/199×0.2513"
    assert mixture_name((0.3, 0.3, 0.2, 0.1, 0.1)) == "2×30/20/2×10"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 15}, "15 cells to a side can be abstracted by windows of 2 0 times"),
        ({"size": 16, "levels": 5}, "4 times, not 5.*--size"),
        ({"replicates": 1}, "--replicates"),
        ({"window": 1}, "--window"),
        ({"mixtures": ((0.5, 0.5), (0.4, 0.3, 0.3))}, "one number of classes"),
        ({"mixtures": ((0.5, 0.5), (0.5, 0.5))}, "given twice"),
        ({"mixtures": ((1.5, -0.5),), "size": 4}, "from 0 to 1"),
    ],
)
def test_what_cannot_be_simulated_is_refused(fields, message):
    with pytest.raises(LeadlineError, match=message):
        abstraction(AbstractionSpec(**{"mixtures": ((0.5, 0.5),), **fields}))


def test_an_unknown_number_of_classes_is_refused():
    with pytest.raises(LeadlineError, match="--classes"):
        even_rest(0.5, 1)
