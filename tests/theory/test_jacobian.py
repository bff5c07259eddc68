"""Jacobians against torch.func, matrices with known norms, and the encoder of a small U-Net."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from leadline.errors import NotMeasurable
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.models.pretrained import DiffusersDenoiser, differentiable
from leadline.models.unet import depth_unet
from leadline.theory.exact import MultiDeltaDenoiser
from leadline.theory.jacobian import (
    down_blocks,
    encoded,
    encoder,
    frobenius_norms,
    linearised,
    random_directions,
    spectral_norms,
    whole_jacobians,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def trained():
    """A U-Net of two blocks, the second with attention, of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = depth_unet(2, in_channels=1, sample_size=8)
    return DiffusersDenoiser(unet, DDPMScheduler())


def test_both_products_are_torchs_own():
    matrix = draw(2, 5, 4)
    mapping = lambda x: torch.tanh(torch.einsum("ij,nj->ni", matrix[0], x)) @ matrix[1]  # noqa: E731
    x, v, u = draw(3, 4), draw(3, 4, seed=1), draw(3, 4, seed=2)
    at = linearised(mapping, x)
    torch.testing.assert_close(at.value, mapping(x))
    torch.testing.assert_close(at.push(v), torch.func.jvp(mapping, (x,), (v,))[1])
    torch.testing.assert_close(at.pull(u), torch.func.vjp(mapping, x)[1](u)[0])


def test_a_network_with_attention_is_pushed_through_without_forward_mode(trained, recwarn):
    mapping = lambda x: trained(x, 1.3)  # noqa: E731
    x, v = draw(2, 1, 8, 8), draw(2, 1, 8, 8, seed=1)
    pushed = linearised(mapping, x).push(v)
    assert not recwarn.list  # forward mode would have torch warn of its own deprecations
    step = 1e-3
    with torch.no_grad():
        torch.testing.assert_close(
            pushed, (mapping(x + step * v) - mapping(x - step * v)) / (2 * step), atol=2e-3, rtol=0
        )


def test_a_map_with_a_first_derivative_alone_is_pushed_through_by_forward_mode():
    exact = MultiDeltaDenoiser(draw(6, 1, 3, 3))
    x, v = draw(2, 1, 3, 3, seed=1), draw(2, 1, 3, 3, seed=2)
    at = linearised(lambda image: exact(image, 0.8), x)
    torch.testing.assert_close(at.push(v), at.pull(v), atol=1e-5, rtol=1e-4)  # a covariance is symmetric
    torch.testing.assert_close(at.push(v), at.push(v))


def test_a_map_without_gradient_is_refused():
    with pytest.raises(NotMeasurable, match="under no_grad"):
        linearised(lambda x: x.detach() * 2, draw(2, 3))


def test_spectral_and_frobenius_norms_of_known_matrices():
    matrices = draw(3, 7, 5)
    x = draw(3, 5, seed=1)
    at = linearised(lambda v: torch.einsum("nij,nj->ni", matrices, v), x)
    found = spectral_norms(at, x, tolerance=1e-5)
    np.testing.assert_allclose(found.values, torch.linalg.matrix_norm(matrices, 2).numpy(), rtol=1e-4)
    assert found.converged.all()
    assert (found.residual <= 1e-5).all()
    estimate = frobenius_norms(at, x, num_probes=200)
    true = torch.linalg.matrix_norm(matrices).numpy()
    assert (np.abs(estimate.values - true) < 5 * estimate.errors).all()
    assert (estimate.errors < 0.1 * true).all()


def test_frobenius_probes_are_exact_where_columns_are_orthogonal():
    at = linearised(lambda v: 3 * v, draw(2, 8))
    found = frobenius_norms(at, draw(2, 8), num_probes=2)
    np.testing.assert_allclose(found.values, 3 * np.sqrt(8), rtol=1e-6)
    np.testing.assert_allclose(found.errors, 0, atol=1e-6)


def test_one_probe_has_no_standard_error():
    with pytest.raises(ValueError, match="2 probes or more, not 1"):
        frobenius_norms(linearised(lambda v: 2 * v, draw(2, 3)), draw(2, 3), num_probes=1)


def test_directions_are_the_same_in_batches_and_alone():
    x = draw(5, 2, 3)
    whole = random_directions(x, 3, "start", 1)
    parts = [random_directions(x[i : i + 2], 3, "start", 1, first=i) for i in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, random_directions(x, 4, "start", 1))


def test_whole_jacobians_by_columns_and_by_rows_are_torchs_own(trained):
    x = draw(1, 1, 4, 4)
    first, second = whole_jacobians(lambda image: encoded(trained, image, 0.7), x)
    (rows,) = whole_jacobians(lambda image: (trained(image, 0.7),), x)
    with differentiable(), torch.no_grad():
        for found, mapping in ((first, encoder(trained, 0.7, 1)), (rows, lambda image: trained(image, 0.7))):
            true = torch.func.jacrev(mapping)(x).reshape(found.shape)
            torch.testing.assert_close(found, true, atol=1e-5, rtol=1e-4)
    v = draw(1, 1, 4, 4, seed=1)
    pushed = linearised(encoder(trained, 0.7, 2), x).push(v)
    torch.testing.assert_close(second @ v.flatten(), pushed.flatten(), atol=1e-5, rtol=1e-4)


def test_encoded_is_what_each_down_block_hands_on_and_leaves_no_trace(trained):
    x = draw(2, 1, 8, 8)
    before = {name: len(m._forward_hooks) for name, m in trained.unet.named_modules()}
    states = encoded(trained, x, 2.0)
    assert [tuple(z.shape) for z in states] == [(2, 32, 4, 4), (2, 64, 4, 4)]
    assert {name: len(m._forward_hooks) for name, m in trained.unet.named_modules()} == before
    unet, scale = trained.unet, (1 + 2.0**2) ** -0.5
    step = trained.timestep(2.0).float().expand(2)
    time = unet.time_embedding(unet.time_proj(step))
    first, _ = unet.down_blocks[0](unet.conv_in(x * scale), time)
    torch.testing.assert_close(states[0], first)
    torch.testing.assert_close(encoder(trained, 2.0, 1)(x), first)


def test_hooks_go_when_the_denoiser_refuses(trained):
    with pytest.raises(NotMeasurable, match="outside"):
        encoded(trained, draw(1, 1, 8, 8), 1e6)
    assert not any(m._forward_hooks for m in trained.unet.modules())


def test_no_level_and_no_encoder(trained):
    with pytest.raises(ValueError, match="1 to 2, not 0"):
        encoded(trained, draw(1, 1, 8, 8), 1.0, 0)

    class Plain(Denoiser):
        shape, sigmas, device = (1, 2, 2), ddpm_sigmas(), torch.device("cpu")

        def __call__(self, x, sigma):
            return x

    with pytest.raises(NotMeasurable, match="a Plain has no U-Net with down blocks"):
        down_blocks(Plain())
