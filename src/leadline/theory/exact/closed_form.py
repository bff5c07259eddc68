"""What every closed-form denoiser shares: it is defined at every noise level above 0."""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Denoiser, Sigma, ddpm_sigmas

Images = (
    Float[Tensor, "_n _c _h _w"]
    | Float[np.ndarray, "_n _c _h _w"]
    | UInt8[Tensor, "_n _c _h _w"]
    | UInt8[np.ndarray, "_n _c _h _w"]
)
"""Images in [-1, 1], or their pixels."""


class ClosedFormDenoiser(Denoiser):
    """D(x; sigma) of a known law of the clean images. `sigmas` is DDPM's ladder, for samplers that are laid on one."""

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        self.shape, self.device, self.sigmas = shape, device, ddpm_sigmas()

    @property
    def sigma_range(self) -> tuple[float, float]:
        """(0, inf): every noise level between, the ends excluded."""
        return 0.0, math.inf

    def levels(self, sigma: Sigma, x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """sigma, a number or [n], as float64 [n] on x's device.

        Raises NotMeasurable on a level that is not above 0 and finite, LeadlineError on images of another size.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise LeadlineError(f"x has images of {list(x.shape[1:])}, the denoiser's are {list(self.shape)}")
        levels = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1).expand(len(x))
        if not ((levels > 0) & levels.isfinite()).all():
            raise NotMeasurable(
                f"a closed-form denoiser is defined at noise levels above 0, not at sigma = {float(levels.min()):g}"
            )
        return levels


def image_shape(shape: torch.Size | tuple[int, ...]) -> tuple[int, int, int]:
    """(c, h, w) of images [n, c, h, w]. Raises LeadlineError on any other shape, and on no images."""
    if len(shape) != 4 or 0 in shape:
        raise LeadlineError(f"expected at least one image, [n, c, h, w], not an array of shape {list(shape)}")
    return int(shape[1]), int(shape[2]), int(shape[3])
