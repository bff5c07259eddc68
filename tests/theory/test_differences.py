"""Score difference of denoisers whose difference is known."""

import math

import pytest
import torch

from leadline.errors import NotMeasurable
from leadline.theory.differences import score_difference
from leadline.theory.exact import MultiDeltaDenoiser


def test_it_is_the_rms_difference_of_two_estimates():
    # One image each: D is that image wherever x is.
    one, two = MultiDeltaDenoiser(torch.zeros(1, 1, 2, 2)), MultiDeltaDenoiser(torch.full((1, 1, 2, 2), 0.5))
    x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert score_difference(one, two, x, 0.7).tolist() == pytest.approx([0.5] * 3)
    assert score_difference(one, two, x, 0.7).dtype == torch.float64


def test_it_follows_the_formula_and_is_symmetric():
    generator = torch.Generator().manual_seed(0)
    first, second = (MultiDeltaDenoiser(torch.rand(5, 1, 3, 3, generator=generator)) for _ in range(2))
    x, sigma = torch.randn(4, 1, 3, 3, generator=generator), 0.3
    expected = [((first(p, sigma) - second(p, sigma)).norm() / 3).item() for p in x.split(1)]
    assert score_difference(first, second, x, sigma).tolist() == pytest.approx(expected)
    assert torch.equal(score_difference(first, second, x, sigma), score_difference(second, first, x, sigma))
    assert score_difference(first, first, x, sigma).tolist() == [0.0] * 4


def test_output_that_is_no_number_is_not_measurable_and_says_whose():
    class Broken(MultiDeltaDenoiser):
        def __call__(self, x, sigma):
            return super().__call__(x, sigma) * math.nan

    sound, broken = (kind(torch.zeros(1, 1, 2, 2)) for kind in (MultiDeltaDenoiser, Broken))
    with pytest.raises(NotMeasurable, match="output of the second denoiser is not finite"):
        score_difference(sound, broken, torch.zeros(3, 1, 2, 2), 0.7)
