"""Values per image -> Measurements: no interval without spread, none past what a value can be."""

import math

import numpy as np
import pytest

from leadline.lab.summaries import STUDENT, mean_of, ratio_of


def test_values_that_are_all_alike_have_no_interval() -> None:
    found = mean_of("linearity", np.full(64, 0.1, dtype=np.float32), ceiling=1.0)
    assert found.value == pytest.approx(0.1)
    assert (found.lower, found.upper, found.level, found.method, found.n) == (None, None, None, None, 64)
    once = mean_of("linearity", np.array([0.3]))
    assert (once.lower, once.method) == (None, None)


def test_an_end_that_no_value_can_have_is_cut_and_said() -> None:
    near = mean_of("linearity", np.array([0.9, 1.0]), floor=-1.0, ceiling=1.0)
    half = 12.7062 * 0.05
    assert near.lower == pytest.approx(0.95 - half, abs=1e-4)
    assert (near.upper, near.method) == (1.0, f"{STUDENT}, cut at 1")
    low = mean_of("distance", np.array([0.0, 0.1]), floor=0.0, method="Student t over pairs")
    assert (low.lower, low.method) == (0.0, "Student t over pairs, cut at 0")
    assert low.upper == pytest.approx(0.05 + half, abs=1e-4)
    far = mean_of("distance", np.array([5.0, 5.1, 5.2]), floor=0.0, ceiling=9.0)
    assert far.method == STUDENT
    assert far.lower is not None
    assert 4 < far.lower < 5.1


def test_a_ratio_is_cut_too_and_has_no_interval_where_it_is_the_same_for_all() -> None:
    below = np.array([1.0, 3.0])
    wide = ratio_of("share", np.array([0.0, 0.4]), below, floor=0.0)
    assert (wide.value, wide.lower) == (pytest.approx(0.1), 0.0)
    assert wide.method is not None
    assert wide.method.endswith("ratio linearised, cut at 0")
    values = np.linspace(0.1, 7, 33)
    alike = ratio_of("share", 0.3 * values, values, floor=0.0)
    assert math.isclose(alike.value or 0, 0.3)
    assert (alike.lower, alike.level, alike.method) == (None, None, None)
