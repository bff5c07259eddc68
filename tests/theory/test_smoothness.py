"""Curvature, steepness and the energy in z against closed forms: normal laws, point masses, linear encoders."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from leadline.errors import NotMeasurable
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.models.pretrained import DiffusersDenoiser
from leadline.models.unet import depth_unet
from leadline.theory.exact import GaussianDenoiser, MultiDeltaDenoiser
from leadline.theory.jacobian import whole_jacobians
from leadline.theory.smoothness import check_whole, curvature, energy_gradient, latent_energy, pulled_back, steepness


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Linear(Denoiser):
    """D(x) = W x on images of 1 × 1 × d."""

    def __init__(self, weight):
        self.weight, self.sigmas, self.device = weight, ddpm_sigmas(), torch.device("cpu")
        self.shape = (1, 1, weight.shape[1])

    def __call__(self, x, sigma):
        return x @ self.weight.T


@pytest.mark.parametrize("sigma", [0.3, 2.0, 20.0])
def test_the_gaussian_denoisers_hessian_is_the_inverse_covariance(sigma):
    """H = (Σ + σ²)⁻¹: σ²‖H‖ = σ² / (λ_min + σ²), and ∇E's Lipschitz constant is no larger than ‖H‖."""
    images = draw(60, 1, 3, 4) * torch.linspace(0.2, 2, 12).reshape(3, 4)
    exact = GaussianDenoiser(images)
    x = draw(5, 1, 3, 4, seed=1) * sigma
    values = torch.linalg.eigvalsh(torch.cov(images.flatten(1).double().T, correction=0)).numpy()
    ends = sigma**2 / (values[[-1, 0]] + sigma**2)
    found = curvature(exact, x, sigma, tolerance=1e-6)
    np.testing.assert_allclose(found.lowest, ends[0], rtol=1e-3)
    np.testing.assert_allclose(found.highest, ends[1], rtol=1e-3)
    np.testing.assert_allclose(found.norm, ends[1], rtol=1e-3)
    np.testing.assert_allclose(found.asymmetry, 0, atol=1e-5)
    slopes = steepness(exact, x, sigma)
    assert ends[0] * (1 - 1e-3) <= slopes.pairs <= ends[1] * (1 + 1e-3)
    two = steepness(exact, x[:2], sigma)
    assert two.pairs <= two.segments * (1 + 1e-3)  # some step is as steep as the whole way


def test_the_multi_delta_denoisers_hessian_is_that_of_its_log_density():
    exact = MultiDeltaDenoiser(draw(9, 1, 2, 3))
    x = draw(4, 1, 2, 3, seed=2).double()
    sigma = 0.9
    weights = torch.softmax(-(x.flatten(1)[:, None] - exact_data()).square().sum(-1) / (2 * sigma**2), dim=1)
    centred = exact_data() - (weights @ exact_data())[:, None]
    covariance = torch.einsum("nk,nki,nkj->nij", weights, centred, centred)
    values = torch.linalg.eigvalsh(torch.eye(6) - covariance / sigma**2).numpy()
    found = curvature(exact, x, sigma, tolerance=1e-8)
    np.testing.assert_allclose(found.lowest, values[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.highest, values[:, -1], atol=1e-6)
    assert (found.lowest < 0).any()  # between point masses the energy is curved downwards


def exact_data():
    return draw(9, 1, 2, 3).flatten(1).double()


def test_asymmetry_of_a_known_matrix_within_its_error_and_lanczos_against_the_whole():
    weight = draw(20, 20)
    linear, x = Linear(weight), draw(3, 1, 1, 20, seed=1)
    found = curvature(linear, x, 1.0, tolerance=1e-6, num_probes=100)
    true = float(torch.linalg.matrix_norm(weight - weight.T) / torch.linalg.matrix_norm(weight + weight.T))
    assert (np.abs(found.asymmetry - true) < 5 * found.asymmetry_error).all()
    assert (found.asymmetry_error < 0.2 * true).all()
    values = torch.linalg.eigvalsh(torch.eye(20) - (weight + weight.T) / 2).numpy()
    np.testing.assert_allclose(found.lowest, values[0], rtol=1e-4)
    np.testing.assert_allclose(found.highest, values[-1], rtol=1e-4)


def test_few_probes_and_few_points_are_refused():
    linear, x = Linear(torch.eye(4)), draw(2, 1, 1, 4)
    with pytest.raises(ValueError, match="2 probes or more, not 1"):
        curvature(linear, x, 1.0, num_probes=1)
    with pytest.raises(ValueError, match="2 points or more, not 1 .--num-images"):
        steepness(linear, x[:1], 1.0)
    with pytest.raises(ValueError, match="all different"):
        steepness(linear, x[:1].expand(2, -1, -1, -1), 1.0)


def test_the_gradient_is_that_of_the_log_density():
    exact, sigma = MultiDeltaDenoiser(draw(9, 1, 2, 3)), 0.7
    x = draw(3, 1, 2, 3, seed=5).double().requires_grad_()
    (true,) = torch.autograd.grad(-exact.log_density(x, sigma).sum(), x)
    torch.testing.assert_close(energy_gradient(exact, x.detach(), sigma), true)


def test_steepness_of_a_linear_field_along_one_line():
    """∇E = (1 − w) x / σ² on a line: every pair and every step has the ratio |1 − w|."""
    found = steepness(Linear(torch.tensor([[3.0]])), torch.tensor([-1.0, 0.0, 2.5]).reshape(3, 1, 1, 1), 0.5)
    assert found.pairs == pytest.approx(2)
    assert found.segments == pytest.approx(2)


def test_an_invertible_linear_encoder_pulls_the_energy_back_by_its_inverse():
    matrix = draw(6, 6).double()
    hessian = draw(6, 6, seed=1).double()
    hessian = hessian + hessian.T
    gradient = draw(6, seed=2).double()
    inverse = torch.linalg.inv(matrix)
    found = pulled_back(matrix, gradient, hessian, torch.full((1, 6), 2.0), tolerance=1e-12)
    assert found.gradient_norm == pytest.approx(float((inverse.T @ gradient).norm()))
    assert found.hessian_norm == pytest.approx(float(torch.linalg.matrix_norm(inverse.T @ hessian @ inverse, 2)))
    assert (found.rank, found.size, found.spread) == (6, 6, 2.0)


def test_what_the_encoder_loses_is_left_out():
    matrix = torch.diag(torch.tensor([2.0, 1.0, 1e-6])).double()
    found = pulled_back(matrix, torch.ones(3).double(), torch.eye(3).double(), torch.ones(3))
    assert found.rank == 2
    assert found.gradient_norm == pytest.approx((0.25 + 1) ** 0.5)
    assert found.hessian_norm == pytest.approx(1)
    with pytest.raises(NotMeasurable, match="is 0"):
        pulled_back(0 * matrix, torch.ones(3).double(), torch.eye(3).double(), torch.ones(3))


def test_the_energy_in_z_of_a_network_begins_with_x_itself():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        denoiser = DiffusersDenoiser(depth_unet(2, in_channels=1, sample_size=4), DDPMScheduler())
    x, sigma = draw(1, 1, 4, 4), 0.8
    found = latent_energy(denoiser, x, sigma)
    (whole,) = whole_jacobians(lambda image: (denoiser(image, sigma),), x)
    hessian = (torch.eye(16) - (whole + whole.T) / 2) / sigma**2
    assert [one.size for one in found] == [16, 128, 256]
    assert found[0].hessian_norm == pytest.approx(float(torch.linalg.matrix_norm(hessian, 2)), rel=1e-4)
    assert found[0].gradient_norm == pytest.approx(float(energy_gradient(denoiser, x, sigma).norm()), rel=1e-5)
    assert found[0].spread == pytest.approx(float(x.square().mean().sqrt()))
    lanczos = curvature(denoiser, x, sigma, tolerance=1e-6)
    assert lanczos.norm[0] / sigma**2 == pytest.approx(found[0].hessian_norm, rel=1e-3)


def test_images_too_large_for_whole_jacobians_are_not_measurable():
    with pytest.raises(NotMeasurable, match=r"3,072 values .at most 1,024."):
        check_whole(3072, 8192)
    check_whole(1024, 32768)
