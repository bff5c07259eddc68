"""The Gaussian denoiser: the best linear one, known in closed form, as is the path of its probability-flow ODE."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Sigma
from leadline.rng import generator_for
from leadline.theory.exact.closed_form import ClosedFormDenoiser, Images, image_shape
from leadline.theory.exact.vectors import Reference

RANK_TOLERANCE = 1e-12
"""Eigenvalues below it, relative to the largest, are rounding: the images do not vary along these directions."""


class GaussianDenoiser(ClosedFormDenoiser):
    """P2 Eq. 7: D(x; sigma) = u + U diag(lambda / (lambda + sigma^2)) U^T (x - u), of clean images N(u, U diag(lambda)
    U^T).

    u and U diag(lambda) U^T are the mean and the covariance (1/N) of the images [n, c, h, w]: floats in [-1, 1] or
    uint8 pixels, an array, a memory map or a tensor, read in tiles.
    Attributes, float64: mean [d]; eigenvalues [r], ascending; basis [d, r], orthonormal columns. r is the rank of the
    covariance, at most N - 1; directions outside the basis have variance 0, so there D is the mean.
    """

    mean: Float[Tensor, " d"]
    eigenvalues: Float[Tensor, " r"]
    basis: Float[Tensor, "d r"]

    def __init__(self, images: Images, device: torch.device | str = "cpu") -> None:
        super().__init__(image_shape(images.shape), torch.device(device))
        reference = Reference(images, device=device)
        total = torch.zeros(reference.dimension, dtype=torch.float64, device=self.device)
        for part in reference.slices():
            total += reference.rows(part).sum(0)
        self.mean = total / reference.count
        # The smaller of the two products of the centred images with themselves has the same eigenvalues.
        dual = reference.count < reference.dimension
        self._set(*(_dual_basis if dual else _basis)(reference, self.mean))

    @classmethod
    def from_moments(
        cls, mean: Float[Tensor, "c h w"], covariance: Float[Tensor, "d d"], device: torch.device | str = "cpu"
    ) -> "GaussianDenoiser":
        """Of the law N(mean, covariance), with covariance symmetric and not negative."""
        denoiser = cls.__new__(cls)
        super().__init__(denoiser, image_shape((1, *mean.shape)), torch.device(device))
        wide = covariance.to(device, torch.float64)
        scale = float(wide.abs().max())
        if wide.shape != (mean.numel(), mean.numel()) or not (wide - wide.T).abs().max() <= 1e-6 * scale:
            raise LeadlineError(f"covariance must be symmetric, {mean.numel()} rows and columns, one per pixel value")
        eigenvalues, basis = torch.linalg.eigh((wide + wide.T) / 2)
        if eigenvalues[0] < -1e-6 * scale:
            raise LeadlineError(f"covariance has a negative eigenvalue, {float(eigenvalues[0]):g}")
        denoiser.mean = mean.flatten().to(device, torch.float64)
        denoiser._set(eigenvalues, basis)
        return denoiser

    def _set(self, eigenvalues: Float[Tensor, " r"], basis: Float[Tensor, "d r"]) -> None:
        varies = eigenvalues > RANK_TOLERANCE * eigenvalues.amax()
        self.eigenvalues, self.basis = eigenvalues[varies], basis[:, varies].contiguous()
        self._narrow = (self.mean.float(), self.basis.float())

    def __call__(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
        variance = self.levels(sigma, x)[:, None].square()
        return self._scaled(x, self.eigenvalues / (self.eigenvalues + variance), torch.zeros_like(variance))

    def flow(self, x: Float[Tensor, "n c h w"], sigma_from: Sigma, sigma_to: float | int) -> Float[Tensor, "n c h w"]:
        """The probability-flow ODE dx = -sigma score d(sigma) solved from sigma_from to sigma_to, which may be 0.

        x(s) = u + U sqrt((lambda + s^2) / (lambda + S^2)) U^T (x - u) + (s / S) (I - U U^T) (x - u).
        """
        start = self.levels(sigma_from, x)[:, None]
        if not 0 <= sigma_to < math.inf:
            raise NotMeasurable(f"the probability flow ends at a noise level from 0 on, not at {sigma_to:g}")
        ratio = (self.eigenvalues + sigma_to**2) / (self.eigenvalues + start.square())
        return self._scaled(x, ratio.sqrt(), sigma_to / start)

    def log_density(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, " n"]:
        """log p(x; sigma), float64 [n], p = N(u, U diag(lambda) U^T + sigma^2 I); its gradient is the score."""
        variance = self.levels(sigma, x)[:, None].square()
        away = x.flatten(1).double() - self.mean
        along = away @ self.basis
        spread = self.eigenvalues + variance
        outside = self.basis.shape[0] - self.basis.shape[1]
        squares = (along.square() / spread).sum(1)
        volume = spread.log().sum(1) + self.basis.shape[0] * math.log(2 * math.pi)
        if outside:
            squares = squares + (away - along @ self.basis.T).square().sum(1) / variance[:, 0]
            volume = volume + outside * variance[:, 0].log()
        return -(squares + volume) / 2

    def sample(self, num: int, seed: int) -> Float[Tensor, "num c h w"]:
        """`num` clean images, float32; image i from the stream (seed, i)."""
        streams = (generator_for(seed, "gaussian", i) for i in range(num))
        return self.drawn(torch.stack([torch.randn(len(self.eigenvalues), generator=s) for s in streams]))

    def drawn(self, normal: Float[Tensor, "n r"]) -> Float[Tensor, "n c h w"]:
        """The clean images that standard normal numbers, one per direction of the basis, stand for."""
        along = normal.to(self.device, torch.float64) * self.eigenvalues.sqrt()
        return (self.mean + along @ self.basis.T).float().reshape(-1, *self.shape)

    def _scaled(
        self, x: Float[Tensor, "n c h w"], within: Float[Tensor, "n r"], outside: Float[Tensor, "n 1"]
    ) -> Float[Tensor, "n c h w"]:
        """x with its difference from the mean scaled: along each direction of the basis, and outside of them."""
        wide = x.dtype == torch.float64
        mean, basis = (self.mean, self.basis) if wide else self._narrow
        away = x.flatten(1).to(mean.dtype) - mean
        along = (away @ basis) * (within - outside).to(mean.dtype)
        return (mean + outside.to(mean.dtype) * away + along @ basis.T).to(x.dtype).reshape(x.shape)


def _basis(reference: Reference, mean: Float[Tensor, " d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Eigenvalues, ascending, and eigenvectors of the covariance [d, d]."""
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
    for part in reference.slices():
        away = reference.rows(part) - mean
        covariance.addmm_(away.T, away)
    eigenvalues, basis = torch.linalg.eigh(covariance / reference.count)
    return eigenvalues, basis


def _dual_basis(reference: Reference, mean: Float[Tensor, " d"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "d n"]]:
    """The same from the images' inner products [n, n], for fewer images than pixel values."""
    away = reference.rows(slice(0, reference.count)) - mean
    eigenvalues, weights = torch.linalg.eigh(away @ away.T / reference.count)
    basis = away.T @ weights
    return eigenvalues, basis / torch.linalg.vector_norm(basis, dim=0).clamp(min=1e-300)
