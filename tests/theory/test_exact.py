"""The multi-delta denoiser against its formula in float64."""

import pytest
import torch

from leadline.theory.exact import MultiDeltaDenoiser


def direct(images, x, sigma):
    """P2 Eq. 4 as written, in float64."""
    y, q = images.flatten(1).double(), x.flatten(1).double()
    weights = torch.softmax(-(q[:, None] - y[None]).square().sum(-1) / (2 * sigma**2), dim=1)
    return (weights @ y).reshape(x.shape)


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 80.0])
@pytest.mark.parametrize("tile", [3, 4096])
def test_it_is_the_softmax_weighted_mean(sigma, tile):
    images, noise = torch.rand(10, 1, 3, 3) * 2 - 1, torch.randn(4, 1, 3, 3)
    images[1] = images[0] + 1e-3  # a near-duplicate
    denoiser = MultiDeltaDenoiser(images)
    denoiser.tile = tile
    x = images[:4] + sigma * noise
    torch.testing.assert_close(denoiser(x, sigma), direct(images, x, sigma).float(), rtol=1e-4, atol=1e-4)


def test_its_limits_are_the_nearest_image_and_the_mean():
    images = torch.rand(6, 1, 2, 2) * 2 - 1
    denoiser = MultiDeltaDenoiser(images)
    assert torch.equal(denoiser(images + 0.01, 1e-3), images)
    torch.testing.assert_close(denoiser(images, 1e4), images.mean(0, keepdim=True).expand_as(images))


def test_one_level_per_image():
    denoiser = MultiDeltaDenoiser(torch.rand(5, 1, 2, 2))
    x = torch.randn(2, 1, 2, 2)
    both = denoiser(x, torch.tensor([0.3, 3.0]))
    torch.testing.assert_close(both, torch.cat([denoiser(x[:1], 0.3), denoiser(x[1:], 3.0)]))


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        MultiDeltaDenoiser(torch.zeros(0, 1, 2, 2))
