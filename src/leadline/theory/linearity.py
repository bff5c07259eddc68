"""How linear a denoiser is at one noise level."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Denoiser
from leadline.theory.finite import finite

EQUAL = 1 / math.sqrt(2)
"""Our reading of the paper's alpha and beta, which it does not give: alpha² + beta² = 1 keeps the noise level."""


def pairs(x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "m c h w"], Float[Tensor, "m c h w"]]:
    """Each image with the one after it, none in two pairs: m = n // 2 independent units; an odd last one is left over.

    Raises LeadlineError for fewer than two images.
    """
    if len(x) < 2:
        raise LeadlineError(f"linearity is measured on pairs: two images or more are needed, not {len(x)}")
    even = x[: len(x) // 2 * 2]
    return even[0::2], even[1::2]


def linearity(
    denoiser: Denoiser,
    x1: Float[Tensor, "m c h w"],
    x2: Float[Tensor, "m c h w"],
    sigma: float | int,
    alpha: float | int = EQUAL,
    beta: float | int = EQUAL,
    *,
    centre: Float[Tensor, "c h w"] | None = None,
) -> Float[Tensor, " m"]:
    """P2, linearity: the cosine of D(alpha x1 + beta x2; sigma) and alpha D(x1; sigma) + beta D(x2; sigma), per pair.

    x1, x2: [m, c, h, w], noisy at sigma with independent noise (our reading, with alpha = beta = 1/sqrt(2): the mixed
    image then has noise sigma too; other alpha and beta leave the level unless alpha² + beta² = 1).
    Returns float64 [m] in [-1, 1]: exactly 1 for a linear denoiser W x. An affine one, W x + b, falls short of 1 by
    its offset, since b is counted once on one side and alpha + beta times on the other: the Gaussian denoiser does.
    centre: None is the paper's. With an image c (the training mean) everything is taken relative to it, the cosine of
    D(c + alpha (x1 - c) + beta (x2 - c)) - D(c) and alpha (D(x1) - D(c)) + beta (D(x2) - D(c)): exactly 1 for every
    affine denoiser, at the same noise level.
    Raises NotMeasurable where sigma is outside the denoiser's range, where its output is not finite, or where a side
    is 0 and has no direction.
    """

    def made(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return finite(denoiser(x, sigma), f"linearity at sigma = {sigma:g}: the denoiser's output")

    if centre is None:
        offset = base = torch.zeros_like(x1[:1])
    else:
        offset = centre[None].to(x1)
        base = made(offset)
    mixed = made(offset + alpha * (x1 - offset) + beta * (x2 - offset)) - base
    apart = alpha * (made(x1) - base) + beta * (made(x2) - base)
    one, two = mixed.flatten(1).double(), apart.flatten(1).double()
    norms = one.norm(dim=1) * two.norm(dim=1)
    if (norms == 0).any():
        raise NotMeasurable(
            f"linearity at sigma = {sigma:g}: the denoiser gives an image of nothing but 0, which has no direction"
        )
    cosines: Tensor = (one * two).sum(1) / norms
    return cosines.clamp(-1, 1)
