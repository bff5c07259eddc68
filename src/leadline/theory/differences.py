"""How far two denoisers are from each other at the same noisy images."""

from jaxtyping import Float
from torch import Tensor

from leadline.models.denoiser import Denoiser, Sigma
from leadline.theory.finite import finite


def score_difference(
    first: Denoiser, second: Denoiser, x: Float[Tensor, "n c h w"], sigma: Sigma
) -> Float[Tensor, " n"]:
    """P2 Eq. 6, before its expectation: sqrt(|D1(x; sigma) - D2(x; sigma)|² / d), one value per noisy image.

    x: [n, c, h, w], images noisy at sigma; sigma: one level or [n]. Symmetric in the two denoisers.
    Returns float64 [n], 0 or more, in the images' scale of [-1, 1]: the RMS difference per value of the two estimates
    of the clean image. Their scores differ by this over sigma².
    Raises NotMeasurable where sigma is outside the range of either, or the output of either is not finite.
    """
    one, two = (
        finite(denoiser(x, sigma).double(), f"the output of the {which} denoiser")
        for denoiser, which in ((first, "first"), (second, "second"))
    )
    return (one - two).flatten(1).square().mean(1).sqrt()
