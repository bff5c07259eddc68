"""Schedules: values by hand, laws over random ones, text that reads back, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline import bump, constant, ramp, window
from leadline.schedules import (
    MAX_PARTS,
    Bump,
    Constant,
    Product,
    Schedule,
    Sum,
    as_schedule,
    highest,
    parse,
    strengths,
)

EXAMPLE = ramp(0.0, 0.6) & window(sigma_max=5.0, sigma_min=0.5)
LEVELS = np.array([0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 157.0, math.inf])

share = st.floats(0.0, 1.0)
spans = st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)).filter(
    lambda ends: math.log(ends[0]) != math.log(ends[1])
)


def between(maker: object, *strengths_of: st.SearchStrategy[float]) -> st.SearchStrategy[Schedule]:
    """Schedules that `maker` makes of strengths and a span."""
    return st.builds(
        lambda values, ends: maker(*values, sigma_max=max(ends), sigma_min=min(ends)),  # type: ignore[operator]
        st.tuples(*strengths_of),
        spans,
    )


parts = st.one_of(st.builds(constant, share), between(ramp, share, share), between(window, share), between(bump, share))
products = st.recursive(parts, lambda inner: st.builds(lambda a, b: a & b, inner, inner), max_leaves=5)
# Halves, so that no sum passes 1.
schedules = st.recursive(
    products, lambda inner: st.builds(lambda a, b: (0.5 * a) + (0.5 & b), inner, inner), max_leaves=4
)


def test_known_values() -> None:
    assert constant(0.3)(7.0) == 0.3
    assert ramp(0.0, 0.6)(1.0) == pytest.approx(0.3)  # the geometric mean of 10 and 0.1
    assert ramp(0.2, 0.8, sigma_max=math.e**2, sigma_min=1.0)(math.e) == pytest.approx(0.5)
    assert bump(0.7)(1.0) == pytest.approx(0.7)
    assert bump(0.8)(math.sqrt(10)) == pytest.approx(0.4)  # a quarter of the way: half the height
    assert [window(0.4, sigma_max=5.0, sigma_min=0.5)(s) for s in (5.1, 5.0, 1.0, 0.5, 0.4)] == [0, 0.4, 0.4, 0.4, 0]
    assert EXAMPLE(2.0) == pytest.approx(0.6 * math.log(10 / 2) / math.log(100))
    assert [EXAMPLE(6.0), EXAMPLE(0.4)] == [0, 0]
    assert (window(0.3, sigma_min=5.0) + window(0.2, sigma_max=1.0))(6.0) == 0.3


def test_outside_its_span_a_ramp_holds_its_ends_to_the_bit() -> None:
    schedule = ramp(0.7, 0.1, sigma_max=5.0, sigma_min=0.3)
    assert [schedule(s) for s in (math.inf, 100.0, 5.0)] == [0.7] * 3
    assert [schedule(s) for s in (0.3, 0.001, 0.0)] == [0.1] * 3
    levels = torch.tensor([math.inf, 5.0, 0.3, 0.0])
    assert torch.equal(schedule(levels), torch.tensor([0.7, 0.7, 0.1, 0.1]))


def test_a_bump_is_zero_to_the_bit_at_its_ends_and_outside() -> None:
    assert [bump(0.9, sigma_max=5.0, sigma_min=0.3)(s) for s in (math.inf, 5.0, 0.3, 0.0)] == [0.0] * 4
    assert not bump(0.9)(torch.tensor([10.0, 0.1, 1e9, 0.0])).any()


def test_a_window_is_open_where_no_end_is_given() -> None:
    assert list(window(0.5)(LEVELS)) == [0.5] * len(LEVELS)
    assert [window(sigma_max=2.0)(s) for s in (0.0, 2.0, 2.1)] == [1, 1, 0]
    assert [window(sigma_min=2.0)(s) for s in (1.9, 2.0, math.inf)] == [0, 1, 1]


def test_the_ends_may_be_log_snr() -> None:
    # log-SNR = -2 ln sigma: the smallest one is the largest noise level.
    levels = {"sigma_max": math.exp(1.5), "sigma_min": math.exp(-2)}
    for maker in (lambda **ends: ramp(0.1, 0.9, **ends), window, bump):
        assert maker(log_snr_min=-3.0, log_snr_max=4.0) == maker(**levels)
        assert maker(log_snr_min=-3.0, sigma_min=0.2) == maker(sigma_max=math.exp(1.5), sigma_min=0.2)
    assert window(log_snr_min=-1e9, log_snr_max=1e9) == window()


@given(schedules)
@settings(max_examples=60, deadline=None)
def test_laws_of_every_schedule(schedule: Schedule) -> None:
    found = strengths(schedule, LEVELS)
    assert found.shape == LEVELS.shape
    assert ((found >= 0) & (found <= 1)).all()
    # Text that reads back as the same schedule.
    assert parse(str(schedule)) == schedule
    # Numbers, arrays and tensors agree, each answered in kind.
    assert [schedule(float(s)) for s in LEVELS] == list(found)
    assert all(type(schedule(float(s))) is float for s in LEVELS)
    precise = schedule(torch.from_numpy(LEVELS))
    assert precise.dtype == torch.float64
    np.testing.assert_allclose(precise.numpy(), found, rtol=0, atol=1e-12)


@given(parts, share)
@settings(max_examples=30, deadline=None)
def test_a_product_scales_and_commutes(schedule: Schedule, factor: float) -> None:
    scaled = strengths(factor * schedule, LEVELS)
    np.testing.assert_allclose(scaled, factor * strengths(schedule, LEVELS), rtol=1e-12, atol=1e-300)
    for other in (schedule * factor, factor & schedule, schedule & factor, schedule & constant(factor)):
        np.testing.assert_array_equal(strengths(other, LEVELS), scaled)


def test_a_tensor_keeps_its_dtype_and_shape() -> None:
    for schedule in (constant(0.25), ramp(0.25, 0.25), window(0.25), 0.5 & window(0.5), EXAMPLE):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            found = schedule(torch.full((2, 3), 1.0, dtype=dtype))
            assert (found.dtype, found.shape) == (dtype, (2, 3))
    assert constant(0.25)(torch.tensor(3)).item() == 0.25  # whole noise levels are no reason to fail
    assert constant(0.25)(3) == 0.25
    assert constant(0.25)(np.float32(3)) == 0.25
    np.testing.assert_array_equal(window(0.5, sigma_max=2.0)([1, 3]), [0.5, 0.0])


def test_numbers_join_schedules_on_either_side() -> None:
    assert constant(0.3) & EXAMPLE == 0.3 & EXAMPLE
    assert EXAMPLE & constant(0.3) == EXAMPLE & 0.3
    assert np.float64(0.3) * EXAMPLE == 0.3 * EXAMPLE
    assert 0.1 + window(0.3) == constant(0.1) + window(0.3)
    assert window(0.3) + 0.1 == window(0.3) + constant(0.1)
    assert sum([window(0.3), bump(0.2)]) == window(0.3) + bump(0.2)
    with pytest.raises(TypeError, match="unsupported operand"):
        EXAMPLE & "0.3"
    with pytest.raises(TypeError, match="unsupported operand"):
        None + EXAMPLE
    with pytest.raises(ValueError, match=r"in \[0, 1\], not 2"):
        2 * EXAMPLE


def test_constants_join_into_a_constant() -> None:
    assert 0.5 * constant(0.5) == constant(0.25)
    assert constant(0.5) + 0.25 == constant(0.75)
    assert constant(0.7) + 0.2 + 0.1 == constant(1.0)  # whatever the rounding
    assert 1 & EXAMPLE == EXAMPLE == EXAMPLE & constant(1)
    assert 0 + EXAMPLE == EXAMPLE == EXAMPLE + 0.0
    with pytest.raises(ValueError, match=r"in \[0, 1\], not 1\.1"):
        constant(0.8) + 0.3


def test_a_sum_that_is_meant_to_be_full_is_full() -> None:
    parts_of_one = window(0.7) + window(0.2) + window(0.1)
    assert 0.7 + 0.2 + 0.1 != 1
    assert parts_of_one(1.0) == 1
    assert parts_of_one(torch.tensor([1.0])).item() == 1


def test_a_sum_that_passes_one_is_named_with_its_noise_level() -> None:
    schedule = window(0.8, sigma_max=3.0) + window(0.7, sigma_min=1.0)
    np.testing.assert_array_equal(strengths(schedule, [0.5, 4.0]), [0.8, 0.7])
    with pytest.raises(ValueError, match=r"has strength 1\.5 at noise level 2: strengths lie in \[0, 1\]"):
        strengths(schedule, [0.5, 2.0])


@pytest.mark.parametrize("level", [-1.0, math.nan])
def test_no_noise_level(level: float) -> None:
    with pytest.raises(ValueError, match="is no noise level"):
        strengths(window(), [1.0, level])


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0.3", constant(0.3)),
        (" constant(0.3) ", constant(0.3)),
        ("1", constant(1.0)),
        ("0.5 * bump()", 0.5 & bump()),
        ("ramp(0, 0.6) & window(sigma_max=5, sigma_min=0.5)", EXAMPLE),
        ("window(0.3, log_snr_min=-2, sigma_min=0)", window(0.3, log_snr_min=-2.0)),
        ("window(sigma_max=inf)", window()),
        ("window(sigma_max=1e999)", window()),
        # As Python reads it: the sum first.
        ("window() & bump(0.2) + ramp(0, 0.5)", window() & (bump(0.2) + ramp(0.0, 0.5))),
        ("(window() & bump(0.2)) + ramp(0, 0.5)", Sum(window() & bump(0.2), ramp(0.0, 0.5))),
    ],
)
def test_text(text: str, schedule: Schedule) -> None:
    assert parse(text) == as_schedule(text) == schedule


def test_text_of_a_schedule() -> None:
    assert str(EXAMPLE) == "ramp(0, 0.6, sigma_max=10, sigma_min=0.1) & window(1, sigma_max=5, sigma_min=0.5)"
    first, second, third = window(), bump(0.2), ramp(0.0, 0.5)
    for schedule in (
        Product(first, Product(second, third)),
        Sum(Product(first, second), third),
        Sum(first, Sum(second, third)),
    ):
        assert parse(str(schedule)) == schedule
    assert str(Sum(Product(first, second), third)).startswith("(window(")
    assert str(constant(1e-300)) == "1e-300"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not understood: write ramp"),
        ("ramp(0, 1", "is not understood: write ramp"),
        ("rampe(0, 1)", "unknown 'rampe': did you mean 'ramp'"),
        ("__import__('os')", "unknown '__import__'"),
        ("ramp.__class__(0, 1)", "'ramp.__class__.*' is not understood"),
        ("ramp", "'ramp' is not understood where it stands"),
        ("ramp(0)", "missing .* argument"),
        ("ramp(0, 1, 2)", "positional arguments"),
        ("ramp(0, 1, sigma=2)", "unexpected keyword argument 'sigma'"),
        ("ramp(0, 1, start=0)", "multiple values for argument 'start'"),
        ("ramp(0, 1, sigma_max=5, sigma_max=6)", "ramp is given the same argument twice"),
        ("ramp(*[0, 1])", r"'\*\[0, 1\]' is not understood"),
        ("ramp(0, **{})", "'{}' is not understood"),
        ("ramp(0, window())", r"'window\(\)' is not understood where it stands"),
        ("ramp(0, 0.3 + 0.3)", r"'0.3 \+ 0.3' is not understood where it stands"),
        ("ramp(0, 0.5) - 0.2", "is not understood"),
        ("0.5 ** 2", "is not understood"),
        ("True", "'True' is not understood"),
        ("'0.3'", "is not understood"),
        ("0.3j", "is not understood"),
        ("None", "is not understood"),
        ("lambda: 0.3", "is not understood"),
        ("--0.3", "is not understood"),
        ("-0.3", r"a strength is a number in \[0, 1\], not -0.3"),
        ("1.5", r"not 1.5"),
        ("inf", r"not inf"),
        ("9" * 400, "is not understood"),
        ("x\0", "is not understood"),
    ],
)
def test_text_that_is_not_understood(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["(" * 3900, "-" * 3900 + "1", "~" * 3900 + "1", "+".join(["0"] * 1900), "a" * 10**6, "ramp(" * 500, "[" * 90],
)
def test_long_and_deep_text_is_refused_in_a_short_message(text: str) -> None:
    with pytest.raises(ValueError, match=r"the schedule '.{0,80}'") as caught:
        parse(text)
    assert len(str(caught.value)) < 400


def test_as_many_parts_as_are_allowed() -> None:
    assert isinstance(parse(" & ".join(["bump()"] * MAX_PARTS)), Product)
    with pytest.raises(ValueError, match=f"{MAX_PARTS + 1} parts, {MAX_PARTS} at most"):
        parse(" & ".join(["bump()"] * (MAX_PARTS + 1)))


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan, math.inf, True, None, "x" * 500, [0.3], np.bool_(True)])
def test_no_strength(strength: object) -> None:
    with pytest.raises(ValueError, match=r"a strength is a number in \[0, 1\]|is not understood") as caught:
        as_schedule(strength)
    assert len(str(caught.value)) < 400


def test_numbers_of_other_libraries_are_strengths() -> None:
    for strength in (0, 1, np.float32(0.25), np.int64(1)):
        assert as_schedule(strength) == Constant(float(strength))
    assert math.copysign(1, as_schedule(-0.0)(1.0)) == 1  # -0.0 is 0


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"sigma_max": 1.0, "sigma_min": 2.0}, r"sigma_max 1\.0 and sigma_min 2\.0"),
        ({"sigma_max": 1.0, "sigma_min": 1.0}, "are expected"),
        ({"sigma_min": -1.0}, "are expected"),
        ({"sigma_max": math.nan}, "sigma_max nan"),
        ({"sigma_max": 1.0, "log_snr_min": 0.0}, "not as both"),
        ({"sigma_min": 1.0, "log_snr_max": 0.0}, "not as both"),
        ({"log_snr_min": 4.0, "log_snr_max": -3.0}, "log_snr_min stands for sigma_max"),
        ({"log_snr_max": math.nan}, "a log-SNR is a number, not nan"),
    ],
)
def test_no_span(ends: dict[str, float], message: str) -> None:
    for maker in (lambda **given: ramp(0.0, 1.0, **given), window, bump):
        with pytest.raises(ValueError, match=message):
            maker(**ends)


def test_only_a_window_may_be_open_or_as_narrow_as_can_be() -> None:
    assert window(sigma_max=math.inf, sigma_min=0.0) == window()
    closest = {"sigma_max": 1000.0, "sigma_min": math.nextafter(1000.0, 0.0)}  # of one logarithm
    for ends in ({"sigma_max": math.inf}, {"sigma_min": 0.0}, {"log_snr_min": -1e9}, closest):
        with pytest.raises(ValueError, match="bump: sigma_max .* infinity > sigma_max > sigma_min > 0"):
            bump(**ends)


def test_a_schedule_can_be_compared_and_hashed() -> None:
    assert len({EXAMPLE, parse(str(EXAMPLE)), bump()}) == 2
    assert Bump(1) == bump()


def test_no_strength_passes_the_bound() -> None:
    levels = np.geomspace(1e-3, 1e3, 500)
    made = [constant(0.3), ramp(0.2, 0.7), ramp(0.7, 0.2), window(0.4), bump(0.6), EXAMPLE, 0.3 * bump() + window(0.5)]
    for schedule in made:
        assert 0 < strengths(schedule, levels).max() <= schedule.bound <= 1
    for nothing in (constant(0), ramp(0, 0), window(0), bump(0), window() & ramp(0, 0), window(0) + bump(0)):
        assert nothing.bound == 0
        assert highest(nothing, levels) == 0


def test_the_highest_strength_and_the_refusal_of_a_schedule_that_is_nowhere() -> None:
    assert highest(ramp(0.2, 0.8, sigma_max=10, sigma_min=0.1), [0.1, 1.0]) == 0.8
    for nowhere in (window(sigma_min=20), window(sigma_max=1) & window(sigma_min=2)):
        with pytest.raises(ValueError, match=r"is 0 at every noise level there is, 0\.03 to 15, .*widen it"):
            highest(nowhere, [0.03, 1.5, 15.0])
