"""The Gaussian denoiser against its formula, its two bases against each other, samplers against its flow."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from leadline.models.denoiser import score
from leadline.recipe import SampleSpec
from leadline.sampling import karras_grid, states
from leadline.theory.exact import GaussianDenoiser


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def law(d=12, seed=0):
    """Mean and covariance of rank d - 2."""
    factor = torch.randn(d, d - 2, dtype=torch.float64, generator=generator(seed))
    return torch.randn(1, 3, d // 3, dtype=torch.float64, generator=generator(seed + 1)), factor @ factor.T


@pytest.fixture(scope="module")
def digits():
    return torch.from_numpy(load_digits().images).float().unsqueeze(1) / 8 - 1


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
@pytest.mark.parametrize("num_images", [40, 400])
def test_it_is_the_formula(digits, sigma, num_images):
    """P2 Eq. 7 as u + C (C + sigma^2 I)^-1 (x - u), from fewer images than pixel values and from more."""
    images = digits[:num_images]
    flat = images.flatten(1).double()
    mean, covariance = flat.mean(0), torch.from_numpy(np.cov(flat.numpy().T, bias=True))
    x = images[:5].double() + sigma * torch.randn(5, 1, 8, 8, dtype=torch.float64, generator=generator())
    away = (x.flatten(1) - mean).T
    expected = mean + (covariance @ torch.linalg.solve(covariance + sigma**2 * torch.eye(64), away)).T
    denoiser = GaussianDenoiser(images)
    torch.testing.assert_close(denoiser(x, sigma).flatten(1), expected, rtol=1e-7, atol=1e-7)
    narrow = denoiser(x.float(), sigma).flatten(1)
    torch.testing.assert_close(narrow, expected.float(), rtol=1e-4, atol=1e-4)
    assert len(denoiser.eigenvalues) == np.linalg.matrix_rank(covariance.numpy())


def test_both_bases_give_the_same(digits):
    """Images twice over have the same moments, and change sides: 50 are fewer than the 64 values, 100 are more."""
    images, x = digits[:50], torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=generator())
    dual, full = GaussianDenoiser(images), GaussianDenoiser(torch.cat([images, images]))
    torch.testing.assert_close(dual.eigenvalues, full.eigenvalues)
    for sigma in (0.002, 1.0, 80.0):
        torch.testing.assert_close(dual(x, sigma), full(x, sigma))
        torch.testing.assert_close(dual.flow(x, 80.0, sigma), full.flow(x, 80.0, sigma))
        torch.testing.assert_close(dual.log_density(x, sigma), full.log_density(x, sigma))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), log_sigma=st.floats(-2.5, 1.9))
def test_its_score_is_the_gradient_of_its_log_density(seed, log_sigma):
    denoiser, sigma = GaussianDenoiser.from_moments(*law(seed=seed)), 10**log_sigma
    x = torch.randn(3, 1, 3, 4, dtype=torch.float64, generator=generator(seed)).requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser.log_density(x, sigma).sum(), x)
    expected = score(denoiser, x.detach(), sigma)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_its_density_is_that_of_a_normal_law():
    mean, covariance = law()
    x = torch.randn(5, 1, 3, 4, dtype=torch.float64, generator=generator(5))
    noisy = torch.distributions.MultivariateNormal(mean.flatten(), covariance + 0.25 * torch.eye(12))
    found = GaussianDenoiser.from_moments(mean, covariance).log_density(x, 0.5)
    torch.testing.assert_close(found, noisy.log_prob(x.flatten(1)))


def test_the_flow_is_a_flow_and_keeps_the_law():
    """By one way or two it leads to the same point; at every level the points have the covariance of that level."""
    mean, covariance = law()
    denoiser = GaussianDenoiser.from_moments(mean, covariance)
    x = torch.randn(3, 1, 3, 4, dtype=torch.float64, generator=generator())
    there = denoiser.flow(denoiser.flow(x, 10.0, 2.0), 2.0, 0.1)
    torch.testing.assert_close(there, denoiser.flow(x, torch.full((3,), 10.0), 0.1))
    torch.testing.assert_close(denoiser.flow(there, 0.1, 10.0), x)
    columns = denoiser.flow(mean + torch.eye(12, dtype=torch.float64).reshape(12, 1, 3, 4), 10.0, 2.0) - mean
    linear = columns.flatten(1)
    torch.testing.assert_close(
        linear.T @ (covariance + 100 * torch.eye(12)) @ linear, covariance + 4 * torch.eye(12), rtol=1e-6, atol=1e-6
    )
    # At 0 nothing is left outside the span of the law.
    ends = (denoiser.flow(x, 10.0, 0) - mean).flatten(1)
    torch.testing.assert_close(ends @ denoiser.basis @ denoiser.basis.T, ends)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("case", ["random", "digits"])
def test_samplers_converge_to_the_flow_at_their_order(digits, sampler, order, case):
    denoiser = GaussianDenoiser.from_moments(*law()) if case == "random" else GaussianDenoiser(digits[:50])
    x = 80 * torch.randn(4, *denoiser.shape, dtype=torch.float64, generator=generator())
    expected = denoiser.flow(x, 80.0, 0.05)
    ends = torch.tensor([0.05, 80.0], dtype=torch.float64)
    errors = []
    for steps in (48, 96, 192):
        spec = SampleSpec(sampler=sampler, steps=steps, clip_x0=False)
        levels = karras_grid(ends, steps + 1)[:-1].tolist()
        *_, (sigma, reached, _) = states(denoiser, x, spec, levels=levels)
        assert sigma == 0.05
        errors.append(float((reached - expected).norm()))
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_its_samples_have_its_moments():
    mean, covariance = law()
    denoiser = GaussianDenoiser.from_moments(mean, covariance)
    drawn = denoiser.sample(4000, seed=3)
    assert torch.equal(drawn[:5], denoiser.sample(5, seed=3))
    assert not torch.equal(drawn[:5], denoiser.sample(5, seed=4))
    refitted = GaussianDenoiser(drawn)
    torch.testing.assert_close(refitted.eigenvalues, denoiser.eigenvalues, rtol=0.15, atol=0)
    standard_error = (covariance.diagonal() / 4000).sqrt()
    assert ((refitted.mean - mean.flatten()).abs() < 4 * standard_error).all()


def test_one_image_is_the_answer_everywhere():
    image = torch.rand(1, 1, 2, 2, generator=generator())
    denoiser = GaussianDenoiser(image.numpy())
    assert len(denoiser.eigenvalues) == 0
    x = torch.randn(3, 1, 2, 2, generator=generator())
    torch.testing.assert_close(denoiser(x, 1.0), image.expand(3, -1, -1, -1))
    torch.testing.assert_close(denoiser.flow(x, 2.0, 1), image + (x - image) / 2)
    assert torch.equal(denoiser.sample(2, seed=0), image.expand(2, -1, -1, -1))


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (torch.eye(3), "symmetric, 4 rows and columns"),
        (torch.ones(4, 4).triu(), "symmetric"),
        (torch.full((4, 4), math.nan), "symmetric"),
        (-torch.eye(4), "negative eigenvalue, -1"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance, message):
    with pytest.raises(ValueError, match=message):
        GaussianDenoiser.from_moments(torch.zeros(1, 2, 2), covariance)


def test_a_flow_to_no_noise_level_is_refused():
    denoiser = GaussianDenoiser(torch.zeros(2, 1, 2, 2))
    for end in (-1, math.inf):
        with pytest.raises(ValueError, match="ends at a noise level from 0 on"):
            denoiser.flow(torch.zeros(1, 1, 2, 2), 1.0, end)
    with pytest.raises(ValueError, match="at least one image"):
        GaussianDenoiser(torch.zeros(0, 1, 2, 2))
