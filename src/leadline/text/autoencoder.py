"""Training of the autoencoder, and the latents of a whole image set."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from leadline.fitting import batch_indices
from leadline.recipe import TrainSpec
from leadline.records import ImageSet
from leadline.rng import generator_for

ENCODE_AT_ONCE = 128
"""Images per call of the encoder."""


@dataclass(frozen=True)
class Pictures:
    """What one step of the autoencoder needs: images [b, c, h, w] in [-1, 1], noise [b, k, y, x] for the latents."""

    images: Float[Tensor, "b c h w"]
    noise: Float[Tensor, "b k y x"]


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of the latents of an image set, each float32 [n, k, y, x], on the CPU."""

    mean: Float[Tensor, "n k y x"]
    std: Float[Tensor, "n k y x"]

    def scaling_factor(self) -> float:
        """2112.10752, section G: one over the standard deviation of all latents, so that theirs becomes 1."""
        variance = self.mean.double().var(correction=0) + self.std.double().square().mean()
        return float(variance.rsqrt())


class Reconstruction(nn.Module):
    """The autoencoder as one call, so that several processes can share it: images and noise -> what is compared."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b k y x"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""]]:
        """The images as decoded from noisy latents; 1312.6114, Eq. 10's divergence, its mean per latent value."""
        posterior = self.vae.encode(images).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return self.vae.decode(mean + (0.5 * logvar).exp() * noise).sample, divergence


def reconstruction_loss(kl_weight: float, model: nn.Module, batch: Pictures) -> Float[Tensor, ""]:
    """Mean absolute error per pixel value plus kl_weight times the divergence per latent value."""
    decoded, divergence = model(batch.images, batch.noise)
    error = l1_loss(decoded.float(), batch.images)
    loss: Tensor = error + kl_weight * divergence
    return loss


def as_images(pixels: UInt8[np.ndarray, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float().div_(127.5).sub_(1)


def make_pictures(
    images: ImageSet, spec: TrainSpec, latent_shape: tuple[int, int, int], step: int, part: slice = slice(None)
) -> Pictures:
    """The batch of a step, or one process's part of it; a function of the training seed and the step alone."""
    generator = generator_for(spec.seed, "autoencoder-noise", step)
    noise = torch.randn((spec.batch_size, *latent_shape), generator=generator)[part]
    mirrored = (torch.rand(spec.batch_size, generator=generator) < 0.5)[part]
    indices = batch_indices(spec.seed, step, spec.batch_size, len(images))[part]
    x = as_images(images.pixels[indices])
    if spec.flip:
        x = torch.where(mirrored.reshape(-1, 1, 1, 1), x.flip(-1), x)
    return Pictures(x, noise)


@torch.no_grad()
def encode(vae: AutoencoderKL, images: ImageSet, *, flip: bool = False) -> Moments:
    """The latents' moments of all images, or of all images mirrored left-right."""
    means, stds = [], []
    for start in range(0, len(images), ENCODE_AT_ONCE):
        x = as_images(images.pixels[start : start + ENCODE_AT_ONCE])
        posterior = vae.encode((x.flip(-1) if flip else x).to(vae.device)).latent_dist
        means.append(posterior.mean.cpu())
        stds.append(posterior.std.cpu())
    return Moments(torch.cat(means), torch.cat(stds))
