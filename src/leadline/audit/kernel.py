"""Kernel distance of two sets of features: unbiased squared MMD with the cubic polynomial kernel, over all pairs."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError

TILE_BYTES = 32 * 2**20
TILE_ROWS = 2048


def kernel_distance(
    features: Float[np.ndarray, "n d"],
    reference: Float[np.ndarray, "m e"],
    *,
    reference_means: Float[np.ndarray, " m"] | None = None,
    device: str | torch.device = "cpu",
) -> tuple[float, float]:
    """Bińkowski et al. (2018), section 4, KID's unbiased MMD²: mean k(x,x') + mean k(y,y') - 2 mean k(x,y).

    features [n, d] and reference [m, d], n and m of 2 or more, arrays or memory maps; k(x, y) = (xᵀy/d + 1)³. The
    means run over all pairs of different images, not over random subsets: tiles of both sets, sums in fp64, time
    (n + m)², memory of a few tiles. reference_means: what `mean_kernel_to_others` gave for the reference, where it
    is compared more than once.

    Returns (distance, standard error). Unbiased at any n and m: 0 on average for two sets of one kind, hence often
    below 0. The error is that of a U-statistic (Hoeffding, 1948) over both sets, 2·√(var(h)/n + var(h')/m), h_i the
    mean kernel of image i with the others of its set, less that with the other set. Raises LeadlineError on fewer
    than 2 images, unequal dimensions, and features that are not finite or too large to cube.
    """
    if features.shape[1] != reference.shape[1]:
        raise LeadlineError(
            f"the samples have {features.shape[1]} features and the reference {reference.shape[1]}: "
            "both must come from one encoder"
        )
    within = mean_kernel_to_others(features, device=device)
    within_reference = mean_kernel_to_others(reference, device=device) if reference_means is None else reference_means
    across, across_reference = mean_kernels_across(features, reference, device=device)
    value = float(within.mean() + within_reference.mean() - 2 * across.mean())
    variances = [
        (own - other).var(ddof=1) / len(own) for own, other in ((within, across), (within_reference, across_reference))
    ]
    return value, 2 * math.sqrt(sum(variances))


def mean_kernels_across(
    features: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"], *, device: str | torch.device = "cpu"
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """Mean of (xᵀy/d + 1)³ between each image of either set and all of the other, float64 [n] and [m]."""
    across = np.zeros(len(features))
    across_reference = np.zeros(len(reference))
    for rows, tile in _tiles(features, device):
        for columns, other in _tiles(reference, device):
            kernel = _kernel(tile, other)
            across[rows] += kernel.sum(1).cpu().numpy()
            across_reference[columns] += kernel.sum(0).cpu().numpy()
    return across / len(reference), across_reference / len(features)


def mean_kernel_to_others(
    features: Float[np.ndarray, "n d"], *, device: str | torch.device = "cpu"
) -> Float[np.ndarray, " n"]:
    """Mean of (xᵀy/d + 1)³ between each image and all others of its set, float64 [n], n of 2 or more."""
    n = len(features)
    if n < 2:
        raise LeadlineError(f"a kernel distance needs 2 images or more in each set, {n} given: give more")
    sums = np.zeros(n)
    for rows, tile in _tiles(features, device):
        for columns, other in _tiles(features, device, rows.start):
            kernel = _kernel(tile, other)
            if columns == rows:
                kernel.fill_diagonal_(0)
            else:
                sums[columns] += kernel.sum(0).cpu().numpy()
            sums[rows] += kernel.sum(1).cpu().numpy()
    if not np.isfinite(sums).all():
        raise LeadlineError(
            f"the features of image {int(np.argmin(np.isfinite(sums)))} are not finite, or too large for (xᵀy/d + 1)³"
        )
    return sums / (n - 1)


def _kernel(first: Float[Tensor, "r d"], second: Float[Tensor, "c d"]) -> Float[Tensor, "r c"]:
    base = (first @ second.T).div_(first.shape[1]).add_(1)
    return base.square().mul_(base)


def _tiles(
    features: Float[np.ndarray, "n d"], device: str | torch.device, start: int = 0
) -> Iterator[tuple[slice, Float[Tensor, "r d"]]]:
    """Rows from `start` on, tile by tile, in fp64: the distance is a small difference of large means."""
    rows = max(1, min(TILE_ROWS, TILE_BYTES // (8 * features.shape[1])))
    for first in range(start, len(features), rows):
        chosen = slice(first, min(first + rows, len(features)))
        yield chosen, torch.from_numpy(np.array(features[chosen], dtype=np.float64)).to(device)
