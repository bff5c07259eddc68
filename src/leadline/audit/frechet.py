"""Fréchet distance of two sets of features: the Gaussian Wasserstein distance, its standard error and its bias."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError

CHUNK_ROWS = 4096
MAX_DIMENSION = 4096


@dataclass(frozen=True)
class Gaussian:
    """The mean of some features and a root of their covariance: covariance = rootᵀ·root, of divisor n - 1."""

    mean: Float[Tensor, " d"]
    root: Float[Tensor, "r d"]


@dataclass(frozen=True)
class FrechetDistance:
    """value, 0 or more; error: its standard error over samples; bias: by how much it is too large, roughly."""

    value: float
    error: float
    bias: float


def fit_gaussian(features: Float[np.ndarray, "n d"], *, device: str | torch.device = "cpu") -> Gaussian:
    """Mean and root of the covariance (divisor n - 1) of features [n, d], n of 2 or more, arrays or memory maps.

    The root is the triangle of a QR decomposition that goes on chunk by chunk, in fp64: the covariance itself, whose
    condition number is the square of the root's, is never formed, and it may be singular. r is the smaller of n and d.
    Raises LeadlineError on fewer than 2 images, features that are not finite, and d above 4096: time goes with d³.
    """
    n, d = features.shape
    if d > MAX_DIMENSION:
        raise LeadlineError(
            f"a Fréchet distance is measured in up to {MAX_DIMENSION:,} dimensions, these features have {d:,}, more "
            "than any usual number of images can describe: name an encoder with fewer (--encoder)"
        )
    if n < 2:
        raise LeadlineError(f"a Fréchet distance needs 2 images or more in each set, {n} given: give more")
    total = torch.zeros(d, dtype=torch.float64, device=device)
    for start, chunk in _chunks(features, device):
        finite = chunk.isfinite().all(1)
        if not finite.all():
            raise LeadlineError(
                f"the features of image {start + int(finite.logical_not().nonzero()[0])} are not finite"
            )
        total += chunk.sum(0)
    mean = total / n
    root = torch.empty(0, d, dtype=torch.float64, device=device)
    for _, chunk in _chunks(features, device):
        root = torch.linalg.qr(torch.cat([root, chunk - mean]), mode="r").R
    return Gaussian(mean=mean, root=root / math.sqrt(n - 1))


def frechet_distance(features: Float[np.ndarray, "n d"], reference: Gaussian) -> FrechetDistance:
    """Heusel et al. (2017), eq. 6: |m - m'|² + tr(C + C' - 2(CC')^½), of features [n, d] to a reference.

    features: n of 2 or more, arrays or memory maps, any finite values. The trace of the root is the sum of the
    singular values of root·root'ᵀ, so nothing is squared and singular covariances are no special case.

    error: by the delta method (Rippl, Munk and Sturm, 2016), sd(f)/√n with the influence of each image
    f_i = 2(m - m')ᵀy_i + y_iᵀ(I - T)y_i, y_i = x_i - m, T the optimal transport map from the samples' Gaussian to the
    reference's. It is that of drawing the samples anew; the reference is taken as given.

    bias: a Fréchet distance of n images is larger than that of infinitely many. To second order in 1/n, were the
    features Gaussian, by tr C/n + Σ_jk (1 + δ_jk) s_j s_k / (s_j + s_k) / 2n, s the singular values above. It is not
    subtracted. Good for n well above d; below d it is too small.

    Raises LeadlineError on features of another dimension, and as `fit_gaussian`.
    """
    device = reference.mean.device
    if features.shape[1] != len(reference.mean):
        raise LeadlineError(
            f"the samples have {features.shape[1]} features and the reference {len(reference.mean)}: "
            "both must come from one encoder"
        )
    n, gaussian = len(features), fit_gaussian(features, device=device)
    shift = gaussian.mean - reference.mean
    _, values, right = torch.linalg.svd(gaussian.root @ reference.root.T, full_matrices=False)
    spread = gaussian.root.square().sum()
    value = shift.square().sum() + spread + reference.root.square().sum() - 2 * values.sum()

    # Directions in which one of the two has no spread take no part in the transport.
    kept = values > values.amax() * torch.finfo(torch.float64).eps * max(right.shape)
    values, right = values[kept], right[kept]
    carried = reference.root.T @ (right / values.sqrt()[:, None]).T  # T = carried·carriedᵀ
    influence = torch.empty(n, dtype=torch.float64, device=device)
    for start, chunk in _chunks(features, device):
        offset = chunk - gaussian.mean
        quadratic = offset.square().sum(1) - (offset @ carried).square().sum(1)
        influence[start : start + len(chunk)] = 2 * offset @ shift + quadratic
    pairs = values[:, None] * values / (values[:, None] + values)
    return FrechetDistance(
        value=max(0.0, float(value)),
        error=float(influence.std()) / math.sqrt(n),
        bias=float(spread + (pairs.sum() + pairs.trace()) / 2) / n,
    )


def _chunks(
    features: Float[np.ndarray, "n d"], device: str | torch.device
) -> Iterator[tuple[int, Float[Tensor, "m d"]]]:
    """Where each chunk starts, and its rows in fp64. Of a memory map only these are read."""
    rows = max(CHUNK_ROWS, 2 * features.shape[1])  # the decomposition takes d more rows each time
    for start in range(0, len(features), rows):
        yield start, torch.from_numpy(np.array(features[start : start + rows], dtype=np.float64)).to(device)
