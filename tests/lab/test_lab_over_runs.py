"""Intervals over training runs: pseudo-values, coverage under an effect of the run, what few runs cannot tell."""

import numpy as np
import pytest

from leadline.lab.over_runs import BIAS, averaged, change, estimates, measured

CLASSES = ("a", "b")
ENCODED = np.arange(40) % 2


def made_by(generator, runs, shift=0.8, draws=4):
    """Classes [40, runs, draws] of which a run gives more or fewer to b, for all images alike; b by 1/2 on average."""
    chances = 1 / (1 + np.exp(-shift * generator.normal(size=(1, runs, 1))))
    return (generator.random((len(ENCODED), runs, draws)) < chances).astype(np.int64)


def interval(found, name, runs, group=None):
    return measured(found[name, group], name, runs, 0.95, group=group, direction="", params={})


def test_pseudo_values_of_a_mean_over_runs_are_the_runs_own_and_others_have_their_estimates_mean():
    made = made_by(np.random.default_rng(0), 5)
    found = estimates(made, ENCODED, CLASSES)
    own = (made == 1).mean((0, 2)) - ENCODED.mean()
    np.testing.assert_allclose(found[BIAS, "b"].runs, own, atol=1e-12)
    np.testing.assert_allclose(found["noise_variance", None].runs.sum() / 5, found["noise_variance", None].value)
    for name in ("squared_bias", "training_variance", "variance"):
        assert found[name, None].runs.mean() == pytest.approx(found[name, None].value, abs=1e-9)


def test_intervals_cover_what_other_runs_would_give():
    # Over images alone, 3 runs with such an effect have their bias in the interval in one case of three.
    generator, hits, trials = np.random.default_rng(1), 0, 150
    for _ in range(trials):
        m = interval(estimates(made_by(generator, 3), ENCODED, CLASSES), BIAS, 3, "b")
        hits += m.lower <= 0 <= m.upper
    assert hits / trials > 0.88  # 0.95 less four standard errors


def test_two_runs_tell_no_interval_of_what_compares_runs_and_one_run_none_of_other_runs():
    generator = np.random.default_rng(2)
    two = estimates(made_by(generator, 2), ENCODED, CLASSES)
    assert interval(two, "squared_bias", 2).lower is None
    assert interval(two, "training_variance", 2).lower is None
    assert interval(two, "noise_variance", 2).lower is not None
    one = estimates(made_by(generator, 1), ENCODED, CLASSES)
    assert ("training_variance", None) not in one
    assert "of this one training run" in interval(one, BIAS, 1, "b").method
    refused = change(two[BIAS, "b"], one[BIAS, "b"], (2, 1), "x_change", 0.95, group="b", params={})
    assert "train two or more of each" in refused.reason


def test_runs_that_do_not_differ_measure_no_spread():
    same = np.repeat(made_by(np.random.default_rng(3), 1), 3, axis=1)
    found = estimates(same, ENCODED, CLASSES)
    assert interval(found, BIAS, 3, "b").lower is None
    assert change(found[BIAS, "b"], found[BIAS, "b"], (3, 3), "x_change", 0.95, group="b", params={}).lower is None


def test_means_over_levels_are_taken_run_by_run():
    generator = np.random.default_rng(4)
    levels = [estimates(made_by(generator, 4), ENCODED, CLASSES) for _ in range(2)]
    mean = averaged(levels)
    np.testing.assert_allclose(mean[BIAS, "b"].runs, (levels[0][BIAS, "b"].runs + levels[1][BIAS, "b"].runs) / 2)
    assert mean["variance", None].value == pytest.approx(np.mean([level["variance", None].value for level in levels]))
