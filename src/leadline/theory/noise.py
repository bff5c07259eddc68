"""The noise levels and noisy images that every measure over sigma shares, so that two measures see the same points."""

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.rng import generator_for

PAPER_SIGMAS = (80.0, 42.415, 21.108, 9.723, 4.06, 1.501, 0.469, 0.116, 0.020, 0.002)
"""P2's grid, that of its authors' code: 2206.00364, Eq. 5, ten steps."""


def unit_noise(
    images: Float[Tensor, "n c h w"], seed: int, draw: int = 0, purpose: str = "theory", first: int = 0
) -> Float[Tensor, "n c h w"]:
    """Standard normal noise, image i from the stream (seed, purpose and draw, i): alike for every sigma and model.

    first: the number of the first image, for a batch out of many.
    """
    streams = [generator_for(seed, f"{purpose}-{draw}", first + i) for i in range(len(images))]
    drawn = [torch.randn(images.shape[1:], generator=s, dtype=torch.float64) for s in streams]
    return (torch.stack(drawn) if drawn else torch.empty(images.shape, dtype=torch.float64)).to(images)


def noisy(
    images: Float[Tensor, "n c h w"], sigma: float, seed: int, draw: int = 0, purpose: str = "theory"
) -> Float[Tensor, "n c h w"]:
    """P2, section 2: x = y + sigma * noise of the images y, noise as of `unit_noise`."""
    return images + sigma * unit_noise(images, seed, draw, purpose)
