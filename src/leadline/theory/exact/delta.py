"""Closed-form denoisers, with the interface of the trained ones: known answers to test samplers and audits with."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.models.denoiser import Denoiser, Sigma, ddpm_sigmas, per_image


class MultiDeltaDenoiser(Denoiser):
    """P2 Eq. 4: the softmax(-|x - y_i|^2 / 2 sigma^2)-weighted mean of the training images y_i.

    The same as P1 Eq. 2, soft k-NN, at tau = 2 sigma^2: it only ever replicates training images, so its samples must be
    found memorized, and their class shares must be those of the images.
    images: [n, c, h, w] in [-1, 1]. Every sigma > 0 is defined; `sigmas` is DDPM's ladder.
    """

    tile = 4096
    """Training images per tile of the running softmax: bounds the memory, changes no result beyond rounding."""

    def __init__(
        self, images: Float[Tensor, "n c h w"] | Float[np.ndarray, "n c h w"], device: torch.device | str = "cpu"
    ) -> None:
        data = torch.as_tensor(images).to(device)
        if len(data) == 0:
            raise LeadlineError("a multi-delta denoiser needs at least one image")
        self.data = data.flatten(1)
        self.shape = (data.shape[1], data.shape[2], data.shape[3])
        self.device = data.device
        self.sigmas = ddpm_sigmas()

    def __call__(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
        flat = x.flatten(1)
        twice_variance = 2 * per_image(sigma, x).reshape(-1, 1) ** 2
        # Softmax over tiles with a running maximum; distances by direct difference, since the expanded square loses
        # near-duplicates at small sigma.
        peak = torch.full((len(flat), 1), -torch.inf, dtype=flat.dtype, device=flat.device)
        weight = torch.zeros_like(peak)
        total = torch.zeros_like(flat)
        for start in range(0, len(self.data), self.tile):
            data = self.data[start : start + self.tile].to(flat.dtype)
            distances = torch.cdist(flat, data, compute_mode="donot_use_mm_for_euclid_dist")
            logits = -distances.square() / twice_variance
            new_peak = torch.maximum(peak, logits.amax(1, keepdim=True))
            kept = (peak - new_peak).exp()
            weights = (logits - new_peak).exp()
            weight = weight * kept + weights.sum(1, keepdim=True)
            total = total * kept + weights @ data
            peak = new_peak
        return (total / weight).reshape(x.shape)
