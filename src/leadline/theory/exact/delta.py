"""The multi-delta denoiser: what a network that has learned its training images by heart would compute."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.models.denoiser import Sigma
from leadline.theory.exact.closed_form import ClosedFormDenoiser, Images, image_shape
from leadline.theory.exact.softknn import SoftNeighbors, soft_neighbors
from leadline.theory.exact.vectors import Reference


class MultiDeltaDenoiser(ClosedFormDenoiser):
    """P2 Eq. 4: the softmax(-|x - y_i|^2 / 2 sigma^2)-weighted mean of the training images y_i.

    The same as P1 Eq. 2, soft k-NN, at tau = 2 sigma^2: it only ever replicates training images, so its samples must be
    found memorized, and their class shares must be those of the images.
    images: [n, c, h, w] in [-1, 1], or uint8 pixels; a memory map stays on its disk. tile: images read at a time.
    Every sigma > 0 is defined; D and log_density can be differentiated by x, once.
    """

    def __init__(self, images: Images, device: torch.device | str = "cpu", *, tile: int | None = None) -> None:
        shape = image_shape(images.shape)
        self.reference = Reference(images, tile=tile, device=device)
        super().__init__(shape, self.reference.device)

    def __call__(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
        return self.neighbors(x, sigma, num_nearest=0).mean.reshape(x.shape)

    def neighbors(self, x: Float[Tensor, "n c h w"], sigma: Sigma, num_nearest: int = 1) -> SoftNeighbors:
        """Soft k-NN of x at tau = 2 sigma^2: D(x; sigma) as `mean`, effective k, nearest images and their weights."""
        return soft_neighbors(x.flatten(1), self.reference, 2 * self.levels(sigma, x) ** 2, num_nearest=num_nearest)

    def log_density(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, " n"]:
        """log p(x; sigma), float64 [n], p the mean of the normal laws N(y_i, sigma^2); its gradient is the score."""
        log_sum = self.neighbors(x, sigma, num_nearest=0).log_sum_exp
        volume = self.reference.dimension / 2 * (2 * math.pi * self.levels(sigma, x) ** 2).log()
        return log_sum - math.log(self.reference.count) - volume
