"""How far generated images are from the nearest training image."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.theory.distances import squared_distances
from leadline.theory.finite import finite

TILE = 2048
"""Samples and training images per tile: bounds the memory, changes no result."""


def generalization_score(
    samples: Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"],
    training: Float[Tensor, "m _c _h _w"] | UInt8[Tensor, "m _c _h _w"],
    *,
    squared: bool = False,
) -> Float[Tensor, " n"]:
    """P2, generalization score before its mean: |x_i - NN(x_i)| / |x_i|, NN the nearest training image in pixels.

    samples, training: in the same scale, [-1, 1] for images; uint8 pixels are read as such (pixels / 127.5 - 1). The
    norm in the denominator is from mid-grey, so the
    score depends on that scale and can only be compared within it. squared: |x_i|² in the denominator, as the poster
    of the paper has it; the plain norm is our reading.
    Returns float64 [n], 0 or more; a copy of a training image has exactly 0.
    Raises LeadlineError for images of two shapes or none to compare with, NotMeasurable for a sample of nothing but 0
    and for values that are not finite.
    """
    if samples.shape[1:] != training.shape[1:] or len(training) == 0:
        raise LeadlineError(
            f"the generalization score compares images of one shape with at least one training image: "
            f"{tuple(samples.shape)} and {tuple(training.shape)} given"
        )
    flat, data = finite(_scaled(samples.flatten(1)).double(), "a value of the samples"), training.flatten(1)
    norms = flat.norm(dim=1)
    if (norms == 0).any():
        raise NotMeasurable("a sample of nothing but 0 (mid-grey) has no norm to divide by: leave it out")
    nearest = torch.cat([flat.new_zeros(0), *(_nearest(part, data) for part in torch.split(flat, TILE))])
    scores: Tensor = nearest / (norms.square() if squared else norms)
    return scores


def _scaled(rows: Tensor) -> Tensor:
    """In [-1, 1]: pixels as images are read, else as they are."""
    return rows.float().div_(127.5).sub_(1) if rows.dtype == torch.uint8 else rows


def _nearest(samples: Float[Tensor, "n d"], training: Tensor) -> Float[Tensor, " n"]:
    """Distance of each sample to the nearest row of `training`."""
    nearest = samples.new_full((len(samples),), torch.inf)
    for part in torch.split(training, TILE):
        tile = finite(_scaled(part), "a value of the training images")
        found = squared_distances(samples, tile.to(samples.device)).argmin(1).to(tile.device)
        # The distance itself by direct difference: the expanded square leaves a rounding error where a copy has 0.
        nearest = torch.minimum(nearest, (samples - tile[found].to(samples)).norm(dim=1))
    return nearest
