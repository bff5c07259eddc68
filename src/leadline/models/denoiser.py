"""The hub: every model is a Denoiser D(x; sigma) -> x0; score and noise estimate are derived from it here, once."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

Sigma = float | int | Float[Tensor, " n"] | Float[Tensor, ""]


def ddpm_sigmas(num_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Float[Tensor, " t"]:
    """DDPM (Ho et al. 2020) linear beta schedule as noise levels, sigma_t = sqrt((1 - abar_t) / abar_t), ascending.

    Returns float64 [num_steps]: from .0100 to 157.4 with the defaults, which are diffusers' own.
    """
    betas = torch.linspace(beta_start, beta_end, num_steps, dtype=torch.float64)
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


def karras_sigmas(
    low: float | int, high: float | int, count: int = 1000, rho: float | int = 7.0
) -> Float[Tensor, " count"]:
    """2206.00364, Eq. 5: float64 [count] levels evenly spaced in sigma^(1/rho), ascending, the ends exact.

    One level alone is the highest.
    """
    top, foot = high ** (1 / rho), low ** (1 / rho)
    levels: Tensor = (top + torch.linspace(0, 1, count, dtype=torch.float64) * (foot - top)) ** rho
    # The ends exactly: a level outside the ladder by rounding would be outside the model's schedule.
    levels[-1], levels[0] = low, high
    return levels.flip(0)


class Denoiser(ABC):
    """D(x; sigma) -> x0 (P2, section 2): x = x0 + sigma * noise, in the scale of the images, [-1, 1].

    Attributes:
        shape: (c, h, w) of one image.
        sigmas: float64 [t], ascending: the ladder of noise levels that the time grid of DDIM and ancestral sampling
            is laid on. Outside [sigmas[0], sigmas[-1]] a trained model is not defined.
        device: where x has to be.
    """

    shape: tuple[int, int, int]
    sigmas: Float[Tensor, " t"]
    device: torch.device

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Lowest and highest noise level at which the denoiser is defined; outside it: not measurable."""
        return float(self.sigmas[0]), float(self.sigmas[-1])

    @abstractmethod
    def __call__(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
        """Estimate of the clean image. sigma: one level, or one per image [n]."""


def per_image(sigma: Sigma, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 1 1"]:
    """sigma, a number or [n], as [n, 1, 1, 1] in x's type and on x's device."""
    return torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1).expand(len(x), 1, 1, 1)


def score(denoiser: Denoiser, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
    """P2, section 2: the gradient of log p(x; sigma), (D(x; sigma) - x) / sigma^2."""
    return (denoiser(x, sigma) - x) / per_image(sigma, x) ** 2


def noise_estimate(denoiser: Denoiser, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
    """The unit-variance noise that the denoiser finds in x: (x - D(x; sigma)) / sigma."""
    return (x - denoiser(x, sigma)) / per_image(sigma, x)
