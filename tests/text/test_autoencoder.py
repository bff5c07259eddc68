"""The autoencoder's loss and latents, against numbers known by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from leadline.recipe import TextSpec, TrainSpec
from leadline.records import ImageSet
from leadline.text.autoencoder import Moments, Pictures, Reconstruction, encode, make_pictures, reconstruction_loss
from leadline.text.building import build_autoencoder

SPEC = TextSpec(autoencoder_channels=(8, 16))


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    return ImageSet(name="noise", pixels=pixels)


class Fixed(AutoencoderKL):
    """An autoencoder with mean 2, log-variance 0, that decodes to its latents."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def encode(self, images: torch.Tensor) -> SimpleNamespace:
        moments = SimpleNamespace(mean=torch.full((2, 3, 4, 4), 2.0), logvar=torch.zeros(2, 3, 4, 4))
        return SimpleNamespace(latent_dist=moments)

    def decode(self, latents: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=latents)


def test_the_loss_of_a_known_case() -> None:
    """Decoded 2 + 1 against 0: error 3. Divergence of N(2, 1) from N(0, 1): 2² / 2 = 2, per value."""
    batch = Pictures(images=torch.zeros(2, 3, 4, 4), noise=torch.ones(2, 3, 4, 4))
    assert float(reconstruction_loss(0.1, Reconstruction(Fixed()), batch)) == pytest.approx(3.2)


def test_scaled_latents_have_unit_variance() -> None:
    """Means ±3 and standard deviation 4: the latents' variance is 9 + 16."""
    mean = torch.tensor([3.0, -3.0]).reshape(2, 1, 1, 1)
    assert Moments(mean, torch.full((2, 1, 1, 1), 4.0)).scaling_factor() == pytest.approx(0.2)


def test_latents_are_the_encoders(images: ImageSet) -> None:
    vae = build_autoencoder(SPEC, 8)
    plain, mirrored = encode(vae, images), encode(vae, images, flip=True)
    flipped = ImageSet(name="flipped", pixels=np.ascontiguousarray(images.pixels[..., ::-1]))
    torch.testing.assert_close(encode(vae, flipped).mean, mirrored.mean)
    with torch.no_grad():
        posterior = vae.encode(torch.from_numpy(images.images())).latent_dist
    torch.testing.assert_close(plain.mean, posterior.mean)
    torch.testing.assert_close(plain.std, posterior.std)


def test_a_batch_is_a_function_of_seed_and_step(images: ImageSet) -> None:
    spec, shape = TrainSpec(batch_size=4, flip=True), (4, 4, 4)
    whole = make_pictures(images, spec, shape, 3)
    parts = [make_pictures(images, spec, shape, 3, part) for part in (slice(0, 2), slice(2, 4))]
    assert torch.equal(torch.cat([p.images for p in parts]), whole.images)
    assert torch.equal(torch.cat([p.noise for p in parts]), whole.noise)
    assert not torch.equal(whole.noise, make_pictures(images, spec, shape, 4).noise)
    plain = make_pictures(images, spec.model_copy(update={"flip": False}), shape, 3)
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(whole.images, plain.images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(whole.images, plain.images, strict=True)]
    assert [a or b for a, b in zip(turned, same, strict=True)] == 4 * [True]
