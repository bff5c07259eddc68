"""Each mode against its definition."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pipelines import draw

from leadline.steering.modes import MODES, check_choice, combine, ranking

H, M = draw(3, 6, 4, 4, seed=1), draw(3, 6, 4, 4, seed=2)


def at(*strengths):
    return torch.tensor(strengths, dtype=torch.float64).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_at_strength_0_the_output_is_untouched_to_the_bit(mode, dtype):
    """Also where h - M overflows, and the sign of a zero."""
    h, m = H.to(dtype).clone(), M.to(dtype).clone()
    m[0, 0, 0, :2] = torch.tensor([-0.0, 0.0], dtype=dtype)
    h[0, 0, 0, 2], m[0, 0, 0, 2] = torch.finfo(dtype).max, -torch.finfo(dtype).max
    same = combine(mode, 0, h, m, at(0.0))
    assert same.dtype == dtype
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(same.view(bits), m.view(bits))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_at_strength_1_the_input_takes_the_whole_place(dtype):
    for mode in ("blend", "elements", "channels"):
        assert torch.equal(combine(mode, 0, H.to(dtype), M.to(dtype), at(1.0)), H.to(dtype))
    assert (combine("attenuate", 0, H.to(dtype), M.to(dtype), at(1.0)) == 0).all()


def test_the_mixing_modes_by_their_formula_with_a_strength_for_each_image():
    a = at(0.1, 0.5, 0.9)
    torch.testing.assert_close(combine("blend", 0, H, M, a), ((1 - a) * M + a * H).float())
    torch.testing.assert_close(combine("attenuate", 0, H, M, a), ((1 - a) * M).float())


@given(st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_exactly_the_rounded_fraction_takes_the_input(strength):
    elements = combine("elements", 3, H, M, at(strength)) == H
    assert (elements.flatten(1).sum(1) == round(strength * 96)).all()
    channels = (combine("channels", 3, H, M, at(strength)) == H).flatten(2)
    assert (channels.all(2) == channels.any(2)).all()
    assert (channels.all(2).sum(1) == round(strength * 6)).all()


@pytest.mark.parametrize("mode", ["elements", "channels"])
def test_the_choice_grows_with_the_strength_and_hangs_on_the_seed_alone(mode):
    chosen = [combine(mode, 3, H, M, at(strength)) == H for strength in (0.2, 0.5, 0.8)]
    for smaller, larger in pairwise(chosen):
        assert (larger | ~smaller).all()
        assert (larger & ~smaller).any()
    assert all(torch.equal(image, chosen[1][0]) for image in chosen[1])
    assert torch.equal(combine(mode, 3, H, M, at(0.5)) == H, chosen[1])
    others = [combine(mode, seed, H, M, at(0.5)) == H for seed in range(4, 9)]
    assert any(not torch.equal(other, chosen[1]) for other in others)


@pytest.mark.parametrize("mode", MODES)
def test_activations_of_fewer_and_more_axes(mode):
    """Signals [n, c, l] and videos [n, c, t, h, w] are mixed as images of the same numbers are."""
    mixed = combine(mode, 3, H, M, at(0.1, 0.5, 0.9))
    for shape in ((3, 6, 16), (3, 6, 2, 2, 4)):
        a = at(0.1, 0.5, 0.9).reshape(-1, *[1] * (len(shape) - 1))
        assert torch.equal(combine(mode, 3, H.reshape(shape), M.reshape(shape), a), mixed.reshape(shape))


def test_a_fraction_that_rounds_to_none_is_refused():
    for mode, count in (("channels", 16), ("elements", 256)):
        with pytest.raises(ValueError, match=rf"= 0 of the {count} {mode}.*strength above"):
            check_choice(mode, 0.5 / count, count)
        check_choice(mode, 0.51 / count, count)
        check_choice(mode, 0.0, count)
        check_choice(mode, 1e-9, None)
    check_choice("blend", 1e-9, 16)


def test_the_global_generator_is_not_touched():
    before = torch.get_rng_state()
    ranking.cache_clear()
    ranking("elements", 1, 48, "cpu")
    assert torch.equal(torch.get_rng_state(), before)
