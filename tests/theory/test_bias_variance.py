"""Bias and variance against enumeration of every outcome, and of estimators whose answer is known."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.errors import LeadlineError
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.recipe import SampleSpec
from leadline.sampling import decode, encode
from leadline.theory.bias_variance import bias_variance, bootstrap, generated_classes, soft_knn_classes
from leadline.theory.exact import GaussianDenoiser
from leadline.theory.exact.vectors import Reference


def expectation(chances, runs, draws, shared):
    """The mean of every estimate over all outcomes of two classes.

    A run is of kind 0 or 1 with equal chances. shared: a noise is one of two for all runs; f̂ is certain given both,
    chances[kind][noise] in {0, 1}. Else f̂ is 1 with chances[kind] for each run and draw anew.
    """
    total = dict.fromkeys(("bias", "squared", "noise", "training"), 0.0)
    for kinds in product((0, 1), repeat=runs):
        if shared:
            outcomes = [
                ([[int(chances[kind][noise]) for noise in noises] for kind in kinds], 0.5**draws)
                for noises in product((0, 1), repeat=draws)
            ]
        else:
            outcomes = []
            for flat in product((0, 1), repeat=runs * draws):
                made = np.reshape(flat, (runs, draws))
                p = np.array([chances[kind] for kind in kinds])[:, None]
                outcomes.append((made.tolist(), float(np.where(made == 1, p, 1 - p).prod())))
        for made, weight in outcomes:
            found = bias_variance(np.array([made]), np.array([0]), 2)
            weight *= 0.5**runs
            total["bias"] += weight * found.bias[0, 1]
            total["squared"] += weight * found.squared_bias[0]
            total["noise"] += weight * found.noise[0]
            total["training"] += weight * (0 if found.training is None else found.training[0])
    return total


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.9), (0.5, 0.5), (0.0, 1.0)])
def test_bernoulli_models_of_known_shares_are_measured_without_bias(low, high):
    found = expectation((low, high), runs=2, draws=3, shared=False)
    mean = (low + high) / 2
    # Two classes: the one-hot vectors' variance is twice that of the share.
    assert found["bias"] == pytest.approx(mean)
    assert found["squared"] == pytest.approx(2 * mean**2)
    assert found["noise"] == pytest.approx(low * (1 - low) + high * (1 - high))
    assert found["training"] == pytest.approx(2 * ((high - low) / 2) ** 2)


def test_one_noise_for_all_runs_is_no_agreement_between_runs():
    # Kind 0 makes class 1 under noise 1 alone, kind 1 always: shares 1/2 and 1.
    found = expectation(((0, 1), (1, 1)), runs=3, draws=2, shared=True)
    assert found["bias"] == pytest.approx(0.75)
    assert found["squared"] == pytest.approx(2 * 0.75**2)
    assert found["noise"] == pytest.approx((2 * 0.25 + 0) / 2)
    assert found["training"] == pytest.approx(2 * 0.25**2)


def test_the_parts_sum_to_the_variance_of_the_whole():
    stream = np.random.default_rng(0)
    shares = stream.dirichlet(np.ones(3), size=5)  # of five kinds of run
    made = np.stack([stream.choice(3, size=(400, 40), p=p) for p in shares], axis=1)
    found = bias_variance(made, np.zeros(400, dtype=np.int64), 3)
    assert found.training is not None
    assert found.variance is not None
    within = (1 - (shares**2).sum(1)).mean()
    between = ((shares - shares.mean(0)) ** 2).sum() / 4
    assert found.noise.mean() == pytest.approx(within, rel=0.02)
    assert found.training.mean() == pytest.approx(between, rel=0.05)
    np.testing.assert_allclose(found.variance, found.noise + found.training)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_bias_sums_to_zero_and_classes_may_be_renamed(n, runs, draws, seed):
    stream = np.random.default_rng(seed)
    made, encoded, other = stream.integers(3, size=(n, runs, draws)), stream.integers(3, size=n), stream.permutation(3)
    found, renamed = bias_variance(made, encoded, 3), bias_variance(other[made], other[encoded], 3)
    np.testing.assert_allclose(found.bias.sum(1), 0, atol=1e-12)
    np.testing.assert_allclose(found.bias, renamed.bias[:, other], atol=1e-12)
    np.testing.assert_allclose(found.squared_bias, renamed.squared_bias, atol=1e-12)
    assert (found.noise >= 0).all()


def test_of_one_run_the_part_between_runs_is_not_known():
    found = bias_variance(np.array([[[0, 1]], [[1, 1]]]), np.array([0, 0]), 2)
    assert found.training is None
    assert found.variance is None
    np.testing.assert_allclose(found.noise, [1, 0])
    np.testing.assert_allclose(found.squared_bias, [0.5 - 0.5, 2])


@pytest.mark.parametrize(
    ("made", "encoded", "message"),
    [
        (np.zeros((2, 1, 1), int), [0, 0], "two draws or more.*--draws"),
        (np.zeros((2, 0, 2), int), [0, 0], "one training run or more"),
        (np.full((2, 1, 2), 2), [0, 0], "generated images run from 2 to 2, but there are 2"),
        (np.zeros((2, 1, 2), int), [0, -1], "encoded images run from -1"),
    ],
)
def test_unfit_classes_are_refused(made, encoded, message):
    with pytest.raises(LeadlineError, match=message):
        bias_variance(made, np.array(encoded), 2)


def test_soft_knn_goes_from_the_nearest_image_to_the_most_frequent_class():
    images = torch.cat([torch.full((3, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), -0.5)])
    reference = Reference(images, labels=torch.tensor([0, 0, 0, 1]), num_classes=2)
    classify = soft_knn_classes(reference)
    assert classify(images, 0.01).tolist() == [0, 0, 0, 1]
    assert classify(images, 100.0).tolist() == [0, 0, 0, 0]
    with pytest.raises(LeadlineError, match="labels"):
        soft_knn_classes(Reference(images))(images, 1.0)


def test_noise_is_of_image_and_draw_alone():
    images = torch.zeros(3, 1, 2, 2)
    seen = {}

    def classify(x, sigma):
        seen.setdefault(sigma, []).append(x / sigma)
        return np.zeros(len(x), dtype=np.int64)

    assert generated_classes(classify, images, 1.0, draws=2, seed=0).shape == (3, 2)
    generated_classes(classify, images, 2.0, draws=2, seed=0, batch_size=2)
    first, second = torch.cat(seen[1.0]), torch.cat(seen[2.0])
    torch.testing.assert_close(first, second)
    assert len({float(value) for value in first.flatten()}) == first.numel()


def test_a_bootstrap_draws_with_replacement_and_runs_differ():
    first, second = bootstrap(200, 0, 0), bootstrap(200, 1, 0)
    assert len(first) == 200
    assert 0.55 < len(set(first.tolist())) / 200 < 0.72  # 1 - 1/e = .632
    assert first.tolist() != second.tolist()
    assert first.tolist() == bootstrap(200, 0, 0).tolist()


def test_there_and_back_along_one_models_own_ode_is_the_image_itself():
    stream = torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, 3, 3, generator=stream, dtype=torch.float64) * 2 - 1
    other = torch.rand(30, 1, 3, 3, generator=stream, dtype=torch.float64) - 1
    own, second = GaussianDenoiser(torch.cat([images, -images])), GaussianDenoiser(other)
    spec = SampleSpec(sampler="heun", steps=80, clip_x0=False)
    noise = encode(own, images, spec, sigma=10.0)
    apart = (decode(own, noise, spec, sigma=10.0) - images).abs().max()
    assert apart < 0.02
    assert (decode(second, noise, spec, sigma=10.0) - images).abs().max() > 10 * apart


class Nowhere(Denoiser):
    """Everything is the same image."""

    shape, device, sigmas = (1, 2, 2), torch.device("cpu"), ddpm_sigmas()

    def __call__(self, x, sigma):
        return torch.ones_like(x)


def test_a_denoiser_that_knows_one_image_has_bias_and_no_variance():
    classify = lambda x, sigma: (decode(Nowhere(), x, SampleSpec(steps=5), sigma=sigma).mean((1, 2, 3)) > 0).numpy()  # noqa: E731
    made = generated_classes(
        lambda x, s: classify(x, s).astype(np.int64), torch.zeros(4, 1, 2, 2), 1.0, draws=3, seed=0
    )
    found = bias_variance(made[:, None], np.zeros(4, dtype=np.int64), 2)
    np.testing.assert_allclose(found.bias, [[-1, 1]] * 4)
    np.testing.assert_allclose(found.noise, 0)
