"""The energy whose gradient flow is P1's Eq. 3: value, gradient, Hessian, class votes."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.theory.exact.softknn import soft_neighbors
from leadline.theory.exact.vectors import Reference

DENSE, DENSE_IMAGES = 2**16, 2048
"""Numbers in the data, and images, up to which all weights are formed at once."""
BLOCK = 2**22
"""Numbers that the Hessian forms at a time."""
NEGLIGIBLE = 1e-18
"""Weights below this change no digit of a sum in float64."""


def energy(x: Float[Tensor, "q d"], data: Float[Tensor, "n d"] | Reference, tau: int | float) -> Float[Tensor, " q"]:
    """P1, Eq. 2, 3: E(x) = -tau log sum_i exp(-|x - x_i|^2 / tau), the potential of soft k-NN's weights.

    At tau = 2 sigma^2 it is -2 sigma^2 log p(x; sigma) plus a constant, p the data smoothed at sigma (P2, Eq. 4).
    tau: above 0. Any distance over tau is safe (log-sum-exp). Units: squared distance. data, here and below: also a
    `Reference`, which spares preparing them at every call.
    """
    check(x, data, tau)
    return -tau * soft_neighbors(x, data, tau, num_nearest=0).log_sum_exp.to(x.dtype)


def soft_mean(
    x: Float[Tensor, "q d"], data: Float[Tensor, "n d"] | Reference, tau: int | float
) -> Float[Tensor, "q d"]:
    """P1, Eq. 2 with y_i = x_i, and P2, Eq. 4: m(x) = sum_i w_i(x) x_i, the multi-delta denoiser at tau = 2 sigma^2."""
    check(x, data, tau)
    return soft_neighbors(x, data, tau, num_nearest=0).mean


class Field:
    """`energy` and `soft_mean` of one landscape, for thousands of calls in turn.

    Of float64 data that is small the weights are formed at once: the streaming kernel's care for size and rounding
    would take most of the time.
    """

    def __init__(self, data: Float[Tensor, "n d"], tau: int | float) -> None:
        self.data, self.tau = data, tau
        dense = data.dtype == torch.float64 and data.numel() <= DENSE and len(data) <= DENSE_IMAGES
        self.reference = None if dense else Reference(data)

    def mean(self, x: Tensor) -> Tensor:
        """m(x) of points [q, d]."""
        if self.reference is None:
            return torch.softmax(_logits(x, self.data, self.tau), dim=1) @ self.data
        return soft_mean(x, self.reference, self.tau)

    def energy(self, x: Tensor) -> Tensor:
        """E(x) of points [q, d]."""
        if self.reference is None:
            return -self.tau * torch.logsumexp(_logits(x, self.data, self.tau), dim=1)
        return energy(x, self.reference, self.tau)


def gradient(x: Float[Tensor, "q d"], data: Float[Tensor, "n d"] | Reference, tau: int | float) -> Float[Tensor, "q d"]:
    """P1, Eq. 3: grad E(x) = 2 (x - m(x)): the flow rests where the soft mean of the data is x itself, D(x) = x."""
    return 2 * (x - soft_mean(x, data, tau))


def hessian(x: Float[Tensor, "q d"], data: Float[Tensor, "n d"], tau: int | float) -> Float[Tensor, "q d d"]:
    """P1, Theorem 1's matrix: 2 (I - (2 / tau) Cov_w(x)), Cov_w the covariance of the data under Eq. 2's weights.

    Work and result grow with d^2: for few dimensions. Else see `lowest_curvature`.
    """
    check(x, data, tau)
    x, data = alike(x, data)
    blocks = []
    for block in torch.split(x, max(1, BLOCK // data.numel())):
        weights = torch.softmax(_logits(block, data, tau), dim=1)
        centred = data - (weights @ data)[:, None, :]
        blocks.append(torch.einsum("qn,qnd,qne->qde", weights, centred, centred))
    covariance = torch.cat(blocks)
    return 2 * (torch.eye(data.shape[1], dtype=data.dtype, device=data.device) - (2 / tau) * covariance)


def lowest_curvature(
    x: Float[Tensor, "q d"], data: Float[Tensor, "n d"], tau: int | float
) -> tuple[Float[Tensor, " q"], Float[Tensor, "q d"]]:
    """Smallest eigenvalue of the Hessian of E over 2, and its unit direction: 1 - (2 / tau) largest of Cov_w.

    At most 1; at a fixed point above 0: a minimum, below 0: none. One singular value decomposition per point over the
    data with a weight, so any d. The direction's largest entry is positive.
    """
    check(x, data, tau)
    x, data = alike(x, data)
    values, directions = x.new_empty(len(x)), torch.empty_like(x)
    for i in range(len(x)):
        weights = torch.softmax(_logits(x[i : i + 1], data, tau)[0], dim=0)
        near = weights > NEGLIGIBLE
        mean = weights @ data
        scaled = weights[near].sqrt()[:, None] * (data[near] - mean)
        _, sizes, rows = torch.linalg.svd(scaled, full_matrices=False)
        values[i] = 1 - (2 / tau) * sizes[0] ** 2
        directions[i] = rows[0] * rows[0][rows[0].abs().argmax()].sign()
    return values, directions


def votes(
    x: Float[Tensor, "q d"],
    data: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    num_classes: int,
    tau: int | float,
) -> Float[Tensor, "q classes"]:
    """P1, Eq. 2: the soft vote of each class at x, sum of w_i over its images; rows sum to 1."""
    check(x, data, tau)
    found = soft_neighbors(x, data, tau, num_nearest=0, labels=labels, num_classes=num_classes).class_weights
    assert found is not None  # noqa: S101 - labels were given
    return found


def spread_of_tau(data: Float[Tensor, "n d"]) -> tuple[float, float]:
    """A tau at which nearly every image is a minimum of its own, and one at which a single minimum remains.

    Two images merge at tau = |a - b|^2 / 2, so the first is 1/8 of the 5 % quantile of the squared distance to the
    nearest other image. The second is twice the largest squared distance from the mean, at which (2 / tau)
    Cov_w <= 1 everywhere and E is convex, and a quarter more, as the flow is slow to settle at the bound itself. Raises
    LeadlineError where all images are one.
    """
    nearest = torch.full((len(data),), math.inf, dtype=data.dtype, device=data.device)
    for start in range(0, len(data), 256):
        distances = torch.cdist(data[start : start + 256], data, compute_mode="donot_use_mm_for_euclid_dist")
        nearest[start : start + 256] = distances.masked_fill(distances == 0, math.inf).amin(1)
    if not bool(torch.isfinite(nearest).all()):
        raise LeadlineError("a landscape needs at least two images that differ (data.num_images, --num-points)")
    widest = float((data - data.mean(0)).square().sum(1).max())
    return float(nearest.quantile(0.05)) ** 2 / 8, 2.5 * widest


def _logits(x: Tensor, data: Tensor, tau: int | float) -> Tensor:
    """-|x - x_i|^2 / tau [q, n], by direct difference."""
    x, data = alike(x, data)
    return torch.cdist(x, data, compute_mode="donot_use_mm_for_euclid_dist").square() / -tau


def alike(x: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider of their two types: float32 points on a float64 landscape are followed in float64."""
    kind = torch.promote_types(x.dtype, data.dtype)
    return x.to(kind), data.to(kind)


def check(x: Tensor, data: Tensor | Reference, tau: int | float) -> None:
    """Raise LeadlineError on a tau that is no positive number, on no data, on points of another dimension."""
    if not (tau > 0 and math.isfinite(tau)):
        raise LeadlineError(f"tau must be a positive number (--tau), not {tau}")
    count, dimension = (data.count, data.dimension) if isinstance(data, Reference) else data.shape
    if count == 0 or x.shape[1] != dimension:
        raise LeadlineError(
            f"points of {dimension} dimensions and at least one image are needed: {x.shape[1]} dimensions and {count} "
            "images given"
        )
