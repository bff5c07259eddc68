"""The multi-delta denoiser against its formula in float64, and its limits, score and density."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.errors import NotMeasurable
from leadline.models.denoiser import score
from leadline.theory.exact import MultiDeltaDenoiser


def direct(images, x, sigma):
    """P2 Eq. 4 as written, in float64."""
    y, q = images.flatten(1).double(), x.flatten(1).double()
    weights = torch.softmax(-(q[:, None] - y[None]).square().sum(-1) / (2 * sigma**2), dim=1)
    return (weights @ y).reshape(x.shape)


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 80.0])
@pytest.mark.parametrize("tile", [3, 4096])
def test_it_is_the_softmax_weighted_mean(sigma, tile):
    stream = torch.Generator().manual_seed(0)
    images, noise = torch.rand(10, 1, 3, 3, generator=stream) * 2 - 1, torch.randn(4, 1, 3, 3, generator=stream)
    images[1] = images[0] + 1e-3  # a near-duplicate
    denoiser = MultiDeltaDenoiser(images, tile=tile)
    x = images[:4] + sigma * noise
    torch.testing.assert_close(denoiser(x, sigma), direct(images, x, sigma).float(), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 20))
def test_its_limits_are_the_nearest_image_and_the_mean(seed, n):
    stream = torch.Generator().manual_seed(seed)
    images, x = torch.rand(n, 1, 2, 2, generator=stream) * 2 - 1, torch.randn(3, 1, 2, 2, generator=stream)
    denoiser = MultiDeltaDenoiser(images)
    nearest = denoiser.neighbors(x, 1e-7).indices[:, 0]
    distances = torch.cdist(x.flatten(1).double(), images.flatten(1).double())
    torch.testing.assert_close(distances.gather(1, nearest[:, None])[:, 0], distances.amin(1))
    torch.testing.assert_close(denoiser(x, 1e-7), images[nearest])
    torch.testing.assert_close(denoiser(x, 1e5), images.mean(0, keepdim=True).expand_as(x), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), log_sigma=st.floats(-2.6, 1.9))
def test_its_score_is_the_gradient_of_its_log_density(seed, log_sigma):
    stream = torch.Generator().manual_seed(seed)
    images, sigma = torch.rand(15, 1, 2, 3, generator=stream) * 2 - 1, 10**log_sigma
    x = (images[:4] + sigma * torch.randn(4, 1, 2, 3, generator=stream)).double().requires_grad_()
    denoiser = MultiDeltaDenoiser(images)
    (gradient,) = torch.autograd.grad(denoiser.log_density(x, sigma).sum(), x)
    torch.testing.assert_close(gradient, score(denoiser, x.detach(), sigma), rtol=1e-7, atol=1e-7)


def test_its_density_is_that_of_a_mixture_of_normal_laws():
    stream = torch.Generator().manual_seed(0)
    images, x = torch.randn(7, 1, 2, 2, generator=stream), torch.randn(3, 1, 2, 2, generator=stream)
    centers = torch.distributions.Normal(images.flatten(1).double(), 0.7)
    expected = centers.log_prob(x.flatten(1).double()[:, None]).sum(-1).logsumexp(1) - math.log(7)
    torch.testing.assert_close(MultiDeltaDenoiser(images).log_density(x, 0.7), expected, rtol=1e-6, atol=1e-6)


def test_one_level_per_image():
    stream = torch.Generator().manual_seed(0)
    denoiser = MultiDeltaDenoiser(torch.rand(5, 1, 2, 2, generator=stream))
    x = torch.randn(2, 1, 2, 2, generator=stream)
    both = denoiser(x, torch.tensor([0.3, 3.0]))
    torch.testing.assert_close(both, torch.cat([denoiser(x[:1], 0.3), denoiser(x[1:], 3.0)]))


def test_pixels_are_images():
    pixels = torch.arange(48, dtype=torch.uint8).reshape(3, 1, 4, 4) * 5
    images = pixels.float() / 127.5 - 1
    x = images + 0.3
    for given_pixels in (pixels, pixels.numpy()):
        assert torch.equal(MultiDeltaDenoiser(given_pixels)(x, 0.5), MultiDeltaDenoiser(images)(x, 0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_it_answers_in_the_type_of_x(dtype):
    denoiser = MultiDeltaDenoiser(torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0)))
    x = torch.zeros(1, 1, 2, 2, dtype=dtype)
    assert denoiser(x, 1).dtype == dtype
    torch.testing.assert_close(denoiser(x, 1).float(), denoiser(x.float(), 1), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_a_level_that_is_none_is_not_measurable(sigma):
    denoiser = MultiDeltaDenoiser(torch.zeros(1, 1, 2, 2))
    assert denoiser.sigma_range == (0, math.inf)
    with pytest.raises(NotMeasurable, match="defined at noise levels above 0, not at sigma ="):
        denoiser(torch.zeros(2, 1, 2, 2), sigma)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"at least one image, \[n, c, h, w\]"):
        MultiDeltaDenoiser(torch.zeros(0, 1, 2, 2))
    with pytest.raises(ValueError, match=r"x has images of \[1, 4, 1\], the denoiser's are \[1, 2, 2\]"):
        MultiDeltaDenoiser(torch.zeros(1, 1, 2, 2))(torch.zeros(1, 1, 4, 1), 1.0)
