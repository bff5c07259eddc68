"""Linearity of denoisers whose cosine is known."""

import pytest
import torch

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.theory.exact import MultiDeltaDenoiser
from leadline.theory.linearity import linearity, pairs
from leadline.theory.noise import noisy


class Map(Denoiser):
    """Any function of x as a denoiser."""

    shape, device, sigmas = (1, 2, 2), torch.device("cpu"), ddpm_sigmas()

    def __init__(self, function):
        self.function = function

    def __call__(self, x, sigma):
        return self.function(x.flatten(1)).reshape(x.shape)


@pytest.fixture
def points():
    return pairs(torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


MATRIX = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
OFFSET = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64)


def test_pairs_share_no_image():
    x = torch.arange(5.0).reshape(5, 1, 1, 1)
    first, second = pairs(x)
    assert (first.flatten().tolist(), second.flatten().tolist()) == ([0, 2], [1, 3])
    with pytest.raises(LeadlineError, match="two images or more"):
        pairs(x[:1])


@pytest.mark.parametrize(("alpha", "beta"), [(2**-0.5, 2**-0.5), (0.2, -3.0)])
def test_a_linear_denoiser_has_one(points, alpha, beta):
    linear = Map(lambda flat: flat @ MATRIX.T)
    assert linearity(linear, *points, 1.0, alpha, beta).tolist() == pytest.approx([1] * 4, abs=1e-12)
    quadratic = Map(lambda flat: flat.square())
    assert linearity(quadratic, *points, 1.0, alpha, beta).max() < 0.999


def test_an_affine_one_falls_short_by_its_offset_unless_centred(points):
    affine = Map(lambda flat: flat @ MATRIX.T + OFFSET)
    x1, x2 = points
    a = 2**-0.5
    one = a * (x1 + x2).flatten(1) @ MATRIX.T
    expected = torch.nn.functional.cosine_similarity(one + OFFSET, one + 2 * a * OFFSET)
    torch.testing.assert_close(linearity(affine, x1, x2, 1.0), expected)
    assert expected.max() < 1 - 1e-4
    centre = torch.full((1, 2, 2), 0.3, dtype=torch.float64)
    assert linearity(affine, x1, x2, 1.0, centre=centre).tolist() == pytest.approx([1] * 4, abs=1e-12)


def test_the_centred_one_is_the_plain_one_of_the_moved_map(points):
    centre = torch.full((1, 2, 2), 0.3, dtype=torch.float64)
    c = centre.flatten()
    moved = Map(lambda flat: (flat + c).square() - c.square())
    expected = linearity(moved, points[0] - centre, points[1] - centre, 1.0)
    torch.testing.assert_close(
        linearity(Map(lambda flat: flat.square()), *points, 1.0, centre=centre), expected, rtol=1e-9, atol=1e-9
    )


def test_recall_of_single_images_is_not_linear():
    images = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    denoiser = MultiDeltaDenoiser(images)
    assert linearity(denoiser, *pairs(noisy(images, 0.05, seed=0)), 0.05).mean() < 0.9


def test_an_output_of_nothing_has_no_direction(points):
    with pytest.raises(NotMeasurable, match="no direction"):
        linearity(Map(torch.zeros_like), *points, 1.0)


def test_output_that_is_no_number_is_not_measurable(points):
    with pytest.raises(NotMeasurable, match=r"linearity at sigma = 1: the denoiser's output is not finite"):
        linearity(Map(lambda flat: flat * torch.nan), *points, 1.0)
