"""A soft k-NN is found again at its temperature; of a denoiser that is none, a bound or its fit is said."""

import math

import pytest
import torch

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.theory import effective_k
from leadline.theory.effective_k import fit_temperature
from leadline.theory.exact import GaussianDenoiser, MultiDeltaDenoiser
from leadline.theory.noise import noisy

DATA = torch.rand(80, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


class SoftNeighbors(Denoiser):
    """Soft k-NN at one temperature, whatever the noise level: P1 Eq. 2 as written, in float64."""

    shape, device, sigmas = (1, 4, 4), torch.device("cpu"), ddpm_sigmas()

    def __init__(self, tau, data=DATA):
        self.tau, self.data = tau, data.flatten(1).double()

    def weights(self, x):
        gaps = (x.flatten(1).double()[:, None] - self.data[None]).square().sum(-1)
        return torch.softmax(-gaps / self.tau, 1)

    def __call__(self, x, sigma):
        return (self.weights(x) @ self.data).to(x.dtype).reshape(x.shape)


def counted(weights):
    return torch.special.entr(weights).sum(1).exp()


@pytest.mark.parametrize("sigma", [0.6, 2.0, 80.0])
def test_the_multi_delta_denoiser_is_the_soft_k_nn_at_twice_the_variance(sigma):
    x = noisy(DATA[:40], sigma, seed=0)
    fit = fit_temperature(MultiDeltaDenoiser(DATA), x, sigma, DATA, resamples=50)
    assert fit.tau_over_exact == pytest.approx(1, abs=1e-3)
    assert fit.r_squared == pytest.approx(1, abs=1e-5)
    assert fit.bound is None
    expected = counted(SoftNeighbors(2 * sigma**2).weights(x))
    assert fit.per_point == pytest.approx(expected.numpy(), rel=1e-3)
    assert fit.effective_k == pytest.approx(float(expected.mean()), rel=1e-3)
    assert fit.exact_k == pytest.approx(float(expected.mean()), rel=1e-5)
    assert fit.exact_r_squared == pytest.approx(1, abs=1e-5)
    assert fit.effective_k_interval[0] < fit.effective_k < fit.effective_k_interval[1]


@pytest.mark.parametrize("factor", [0.3, 7.0, 1000.0])
def test_another_temperature_is_recovered(factor):
    sigma = 0.5
    smooth = SoftNeighbors(tau := factor * 2 * sigma**2)
    x = noisy(DATA, sigma, seed=1)
    fit = fit_temperature(smooth, x, sigma, DATA, resamples=50)
    assert fit.tau == pytest.approx(tau, rel=1e-3)
    assert fit.tau_interval == pytest.approx((tau, tau), rel=1e-3)
    assert fit.r_squared == pytest.approx(1, abs=1e-5)
    assert fit.exact_r_squared < 0.999
    assert fit.effective_k == pytest.approx(float(counted(smooth.weights(x)).mean()), rel=1e-3)
    assert (fit.num_points, fit.num_images) == (80, 80)


def test_the_gaussian_denoiser_has_a_larger_k_and_is_explained_in_part():
    sigma = 0.3
    x = noisy(DATA[:50], sigma, seed=0)
    fit = fit_temperature(GaussianDenoiser(DATA), x, sigma, DATA, resamples=200)
    assert fit.effective_k > 2 * fit.exact_k
    assert fit.tau_over_exact > 2
    assert fit.exact_r_squared < fit.r_squared < 1
    assert fit.tau_interval[0] < fit.tau < fit.tau_interval[1]
    assert fit.r_squared_interval[0] < fit.r_squared < fit.r_squared_interval[1]
    assert fit.losses.min() == pytest.approx(fit.losses[abs(fit.log_taus - math.log(fit.tau)).argmin()], rel=1e-4)


def test_one_neighbour_and_all_neighbours_are_bounds():
    x = noisy(DATA[:20], 0.01, seed=0)
    nearest = fit_temperature(MultiDeltaDenoiser(DATA), x, 0.01, DATA, resamples=50)
    assert (nearest.bound, nearest.tau_interval[0]) == ("at most", 0.0)
    assert nearest.tau_over_exact > 10  # every temperature up to there gives the nearest image alone
    assert nearest.effective_k == pytest.approx(1, abs=0.01)

    class Mean(SoftNeighbors):
        """Almost the mean of all: a variance there is, but none that a soft k-NN could explain."""

        def __call__(self, x, sigma):
            return DATA.mean(0) - 0.01 * (x - x.mean(0))

    most = fit_temperature(Mean(1.0), x, 0.01, DATA, resamples=50)
    assert (most.bound, most.tau_interval[1]) == ("at least", math.inf)
    assert most.effective_k == pytest.approx(80, rel=0.01)
    one = fit_temperature(Mean(1.0), x, 0.01, DATA[:1], resamples=50)
    assert (one.bound, one.tau_interval, one.effective_k) == ("none", (0.0, math.inf), 1.0)


def test_neither_tiles_nor_duplicates_change_it(monkeypatch):
    x = noisy(DATA[:30], 0.6, seed=0)
    whole = fit_temperature(MultiDeltaDenoiser(DATA), x, 0.6, DATA, resamples=20)
    monkeypatch.setattr(effective_k, "CELLS", 700)
    monkeypatch.setattr(effective_k, "TILE", 13)
    tiled = fit_temperature(MultiDeltaDenoiser(DATA), x, 0.6, DATA, resamples=20)
    assert (tiled.tau, tiled.effective_k) == pytest.approx((whole.tau, whole.effective_k), rel=1e-5)
    twice = fit_temperature(MultiDeltaDenoiser(DATA), x, 0.6, torch.cat([DATA, DATA]), resamples=20)
    assert twice.tau == pytest.approx(whole.tau, rel=1e-4)
    assert twice.effective_k == pytest.approx(2 * whole.effective_k, rel=1e-4)


def test_the_interval_is_reproducible_and_narrows_with_the_points():
    class Blurred(SoftNeighbors):
        """A temperature that differs from point to point."""

        def __call__(self, x, sigma):
            taus = 2 + torch.arange(len(x)) % 7
            gaps = (x.flatten(1).double()[:, None] - self.data[None]).square().sum(-1)
            return (torch.softmax(-gaps / taus[:, None], 1) @ self.data).to(x.dtype).reshape(x.shape)

    x = torch.cat([noisy(DATA, 0.5, seed=0, draw=draw) for draw in range(4)])
    few, again, many = (fit_temperature(Blurred(1.0), p, 0.5, DATA, resamples=200) for p in (x[:40], x[:40], x))
    assert few.tau_interval == again.tau_interval
    assert few.tau_interval[0] < few.tau < few.tau_interval[1]
    assert many.tau_interval[1] - many.tau_interval[0] < 0.7 * (few.tau_interval[1] - few.tau_interval[0])


def test_what_cannot_be_fitted_is_said():
    x = noisy(DATA[:10], 0.5, seed=0)
    with pytest.raises(NotMeasurable, match="same at every point"):
        fit_temperature(MultiDeltaDenoiser(DATA[:1]), x, 0.5, DATA)
    with pytest.raises(LeadlineError, match="two noisy images or more"):
        fit_temperature(MultiDeltaDenoiser(DATA), x[:1], 0.5, DATA)
    with pytest.raises(LeadlineError, match="two noisy images or more"):
        fit_temperature(MultiDeltaDenoiser(DATA), x, 0.5, torch.zeros(3, 1, 2, 2))
    with pytest.raises(LeadlineError, match="sigma above 0"):
        fit_temperature(MultiDeltaDenoiser(DATA), x, 0.0, DATA)
