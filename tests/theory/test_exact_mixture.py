"""The mixture denoiser: class shares that are known beforehand come out of its samples; density, score, posterior."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.audit.intervals import clopper_pearson
from leadline.models.denoiser import score
from leadline.recipe import SampleSpec
from leadline.sampling import sample
from leadline.theory.exact import GaussianDenoiser, MixtureDenoiser

SHARES = (0.6, 0.3, 0.1)


def blob(seed, d=4):
    stream = torch.Generator().manual_seed(seed)
    factor = 0.2 * torch.randn(d, d, dtype=torch.float64, generator=stream)
    mean = torch.rand(1, 2, d // 2, dtype=torch.float64, generator=stream) * 2 - 1
    return GaussianDenoiser.from_moments(mean, factor @ factor.T)


@pytest.fixture(scope="module")
def mixture():
    return MixtureDenoiser([blob(seed) for seed in (1, 2, 3)], SHARES)


def labelled():
    stream = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 30 + [1] * 10)
    images = 0.1 * torch.randn(40, 1, 2, 2, generator=stream) + labels[:, None, None, None] - 0.5
    return images, labels


def test_samples_of_our_sampler_have_the_known_shares():
    """The shares of a denoiser whose classes are apart, drawn from noise by Heun's sampler: no amplification."""
    apart = [
        GaussianDenoiser.from_moments(torch.full((1, 2, 2), center), 0.01 * torch.eye(4)) for center in (-0.8, 0.0, 0.8)
    ]
    denoiser = MixtureDenoiser(apart, SHARES)
    drawn = sample(denoiser, 0, range(1000), SampleSpec(sampler="heun", steps=25, clip_x0=False))
    posterior = denoiser.posterior(drawn, 0.05)
    assert (posterior.amax(1) > 0.99).double().mean() > 0.99
    counts = torch.bincount(posterior.argmax(1), minlength=3).tolist()
    for count, share in zip(counts, SHARES, strict=True):
        low, high = clopper_pearson(count, 1000, level=0.99)
        assert low < share < high


def test_its_own_draws_have_the_known_shares_and_moments(mixture):
    images, labels = mixture.sample(1200, seed=0)
    assert torch.equal(mixture.sample(7, seed=0)[0], images[:7])
    for k, share in enumerate(SHARES):
        low, high = clopper_pearson(int((labels == k).sum()), 1200, level=0.99)
        assert low < share < high
        error = (images[labels == k].flatten(1).double().mean(0) - mixture.classes[k].mean).abs()
        assert (error < 5 * (mixture.classes[k].eigenvalues.sum() / (1200 * share)).sqrt()).all()


def test_posterior_and_density_are_bayes_rule(mixture):
    x = torch.randn(6, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    laws = [
        torch.distributions.MultivariateNormal(
            one.mean, one.basis @ one.eigenvalues.diag() @ one.basis.T + 0.49 * torch.eye(4)
        )
        for one in mixture.classes
    ]
    joint = torch.stack([law.log_prob(x.flatten(1)).exp() * share for law, share in zip(laws, SHARES, strict=True)], 1)
    torch.testing.assert_close(mixture.log_density(x, 0.7), joint.sum(1).log())
    torch.testing.assert_close(mixture.posterior(x, 0.7), joint / joint.sum(1, keepdim=True))
    torch.testing.assert_close(mixture.posterior(x, 1e4), torch.tensor(SHARES).double().expand(6, 3), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), log_sigma=st.floats(-2.5, 1.9))
def test_its_score_is_the_gradient_of_its_log_density(mixture, seed, log_sigma):
    sigma = 10**log_sigma
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_density(x, sigma).sum(), x)
    expected = score(mixture, x.detach(), sigma)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_one_class_is_its_gaussian(mixture):
    x = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    only = MixtureDenoiser(mixture.classes[:1], [1.0])
    torch.testing.assert_close(only(x, 0.5), mixture.classes[0](x, 0.5))


@pytest.mark.parametrize("form", [torch.Tensor.clone, torch.Tensor.numpy])
def test_labelled_images_make_a_class_each(form):
    images, labels = labelled()
    found = MixtureDenoiser.from_images(form(images), form(labels))
    torch.testing.assert_close(found.shares, torch.tensor([0.75, 0.25], dtype=torch.float64))
    x = torch.zeros(1, 1, 2, 2)
    expected = GaussianDenoiser(images[30:])(x, 0.3)
    torch.testing.assert_close(found.classes[1](x, 0.3), expected)
    assert MixtureDenoiser.from_images(images, labels, [0.5, 0.5]).shares.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([0.5, 0.6], "2 numbers above 0 with sum 1"),
        ([1.0], "2 numbers"),
        ([1.0, 0.0], "above 0"),
        ([math.nan, 1.0], "above 0"),
    ],
)
def test_shares_that_are_none_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        MixtureDenoiser([blob(0), blob(1)], shares)


def test_classes_and_labels_that_do_not_fit_are_refused():
    images, labels = labelled()
    with pytest.raises(ValueError, match="at least one class"):
        MixtureDenoiser([], [])
    with pytest.raises(ValueError, match="of one image size"):
        MixtureDenoiser([blob(0), blob(0, d=6)], [0.5, 0.5])
    for wrong in (labels[:-1], labels * 2, labels - 1):
        with pytest.raises(ValueError, match=r"one number per image \(40\)"):
            MixtureDenoiser.from_images(images, np.asarray(wrong))
