"""Distances between a few given images, each to each: of pixels, of a network's features, or LPIPS."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8

from leadline.audit.encoders.raw import NAME as PIXELS
from leadline.audit.features import Encoder, TappedEncoder
from leadline.audit.pairs import LPIPS_EPSILON
from leadline.errors import LeadlineError
from leadline.records import scaled


def mutual_distances(encoder: Encoder, pixels: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n n"]:
    """Distance of each image to each, float64, symmetric, 0 on the diagonal; in the unit of `distance_unit`.

    A network with taps: Zhang et al. (2018), Eq. 1, the weighted squared difference of the unit-length maps, averaged
    over their pixels and summed over the stages (all weights 1 where the network has no heads). Raw pixels: the root
    mean square per value of 0-255. Other networks: 1 - cosine of the features. Raises LeadlineError where features
    are not finite.
    """
    if encoder.name == PIXELS:
        return _root_mean_square(pixels)
    batches = [
        scaled(pixels[start : start + encoder.batch_size]) for start in range(0, len(pixels), encoder.batch_size)
    ]
    if isinstance(encoder, TappedEncoder):
        taps = [encoder.encode_with_taps(batch)[1] for batch in batches]
        return _finite(_tap_distances([torch.cat(stage) for stage in zip(*taps, strict=True)], encoder.heads), encoder)
    features = np.concatenate([encoder.encode(batch)["features"] for batch in batches]).astype(np.float64)
    units = features / np.linalg.norm(features, axis=1, keepdims=True).clip(min=1e-12)
    found = 1 - units @ units.T
    np.fill_diagonal(found, 0)
    return _finite(np.maximum(found, 0), encoder)


def distance_unit(encoder: Encoder) -> str:
    """What `mutual_distances` counts in, in words."""
    if encoder.name == PIXELS:
        return "root mean square per value of 0–255"
    if not isinstance(encoder, TappedEncoder):
        return "1 − cosine of the features"
    return "LPIPS" if encoder.heads is not None else "squared difference of the maps, without LPIPS's weights"


def _root_mean_square(pixels: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n n"]:
    found = np.zeros((len(pixels), len(pixels)))
    for i, image in enumerate(pixels):
        for j in range(i):
            gap = image.astype(np.float64) - pixels[j]
            found[i, j] = found[j, i] = np.sqrt(np.square(gap).mean())
    return found


@torch.no_grad()
def _tap_distances(
    taps: Sequence[Float[torch.Tensor, "n ..."]], heads: Sequence[Float[torch.Tensor, " _"]] | None
) -> Float[np.ndarray, "n n"]:
    found = np.zeros((len(taps[0]), len(taps[0])))
    for index, tap in enumerate(taps):
        units = tap / (torch.linalg.vector_norm(tap, dim=1, keepdim=True) + LPIPS_EPSILON)
        weights = torch.ones(tap.shape[1], device=tap.device) if heads is None else heads[index]
        for i in range(len(units)):
            for j in range(i):
                gap = (units[i] - units[j]).square().sum(dim=(1, 2), dtype=torch.float64)
                found[i, j] += float(gap @ weights.double()) / (tap.shape[2] * tap.shape[3])
    return found + found.T


def _finite(found: Float[np.ndarray, "n n"], encoder: Encoder) -> Float[np.ndarray, "n n"]:
    if not np.isfinite(found).all():
        raise LeadlineError(f"{encoder.name} gives features that are not finite: choose another network")
    return found
