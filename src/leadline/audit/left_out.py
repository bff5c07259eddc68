"""Statistics of a set of images without each of its blocks in turn: what the block jackknife takes."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from leadline.audit.frechet import Gaussian
from leadline.audit.manifold import Neighborhoods
from leadline.audit.neighbors import nearest_neighbors
from leadline.audit.rows import float64_rows
from leadline.errors import NotMeasurable

TILE_VALUES = 2**22
"""Distances held at a time, float64."""
TIES = 1 - 1e-9
"""Squared distances that are equal but for rounding are not taken as smaller."""


def number_of_blocks(n: int, dimension: int) -> int:
    """50 blocks, or one per image where there are fewer; 20 or 10 where a spectrum takes seconds to minutes."""
    rank = min(n, dimension)
    return min(n, 50 if rank <= 1024 else 20 if rank <= 2048 else 10)


def frechet_without(
    features: Float[np.ndarray, "n d"], reference: Gaussian, blocks: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " b"]:
    """Heusel et al. (2017), eq. 6, of the images outside each block to the reference; float64, as `frechet_distance`.

    features: [n, d], finite; blocks: 0 to b - 1, with 2 images or more outside each, else NotMeasurable. With R the
    reference's root and Y the centred features outside a block, tr(CC')^½ is the sum of the singular values of
    YRᵀ/√(n-1). XRᵀ is taken once; for each block the smaller of its two Gram matrices is decomposed: time
    b·min(n, d)³, memory of it and of n·d.
    """
    _check_outside(blocks, 2)
    wide = torch.from_numpy(features.astype(np.float64)).to(reference.mean.device)
    mean = wide.mean(0)
    centred = wide - mean
    squares = centred.square().sum(1)
    spectra = _Spectra(centred @ reference.root.T, centre=True)
    reference_spread = reference.root.square().sum()
    found = []
    for inside in _each(blocks, centred.device):
        n = int((~inside).sum())
        offset = -centred[inside].sum(0) / n
        spread = (squares[~inside].sum() - n * offset.square().sum()) / (n - 1)
        roots = spectra.without(inside).sqrt().sum() / math.sqrt(n - 1)
        shift = (mean + offset - reference.mean).square().sum()
        found.append(float(shift + spread + reference_spread - 2 * roots))
    return np.array(found)


def vendi_without(
    features: Float[np.ndarray, "n d"], blocks: Int[np.ndarray, " n"], *, device: str | torch.device = "cpu"
) -> Float[np.ndarray, " b"]:
    """Friedman and Dieng (2023), Definition 3.1, of the images outside each block; float64, as `vendi_score`.

    features: [n, d], of any lengths but 0; blocks: 0 to b - 1, with 2 images or more outside each, else NotMeasurable.
    """
    _check_outside(blocks, 2)
    unit = np.concatenate([rows for _, rows in float64_rows(features, unit_length=True)])
    spectra = _Spectra(torch.from_numpy(unit).to(device), centre=False)
    found = []
    for inside in _each(blocks, torch.device(device)):
        shares = spectra.without(inside) / (~inside).sum()
        found.append(math.exp(-float(torch.xlogy(shares, shares).sum())))
    return np.array(found)


def recall_and_coverage_without(
    samples: Neighborhoods, training: Neighborhoods, k: int, blocks: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Kynkäänniemi et al. (2019), recall, and Naeem et al. (2020), coverage, of the samples outside each block.

    samples, training: balls around n samples and m training images, each to the k-th nearest other of its set; k + 1
    samples or more outside each block, else NotMeasurable. All m·n distances are taken once: a block takes its hits
    away, and those balls grow that reached to an image of it. Time m·n·d, memory of a few tiles; float64, but distances
    that tie with a radius may count either way.
    """
    _check_outside(blocks, k + 1)
    device = samples.device
    balls, points = _on(samples.features, device), _on(training.features, device)
    radii, reach = torch.from_numpy(samples.radii).to(device), torch.from_numpy(training.radii).to(device)
    member = torch.nn.functional.one_hot(torch.from_numpy(blocks).to(device)).double()
    grown = [torch.from_numpy(array).to(device) for array in _grown(samples, k, blocks)]
    grown_member = torch.nn.functional.one_hot(grown[1], member.shape[1]).double()
    recalled = torch.zeros(member.shape[1], device=device, dtype=torch.float64)
    covered = torch.zeros_like(recalled)
    for rows in torch.split(torch.arange(len(points), device=device), max(1, TILE_VALUES // len(balls))):
        squared = torch.cdist(points[rows], balls, compute_mode="use_mm_for_euclid_dist").square_()
        held = (squared < radii.square() * TIES).double()
        outside = held.sum(1, keepdim=True) - held @ member
        by_growth = (squared[:, grown[0]] < grown[2].square() * TIES).double() @ grown_member
        recalled += (outside + by_growth > 0.5).sum(0)
        hits = (squared < reach[rows, None].square() * TIES).double()
        covered += (hits.sum(1, keepdim=True) - hits @ member > 0.5).sum(0)
    return (recalled / len(points)).cpu().numpy(), (covered / len(points)).cpu().numpy()


def _grown(
    samples: Neighborhoods, k: int, blocks: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " g"], Int[np.ndarray, " g"], Float[np.ndarray, " g"]]:
    """(ball, block, radius) of each ball that reaches farther without a block that its own image is not in."""
    n = len(blocks)
    depth = min(n, k + 1 + int(np.bincount(blocks).max()))
    distances, indices = nearest_neighbors(samples.features, samples.features, depth, device=samples.device)
    other = indices != np.arange(n)[:, None]
    found = []
    for block in range(int(blocks.max()) + 1):
        kept = other & (blocks[indices] != block)
        # Without the image itself and the block there are k left: the depth allows for both.
        place = (np.cumsum(kept, 1) == k).argmax(1)
        radius = distances[np.arange(n), place]
        which = np.flatnonzero((radius > samples.radii) & (blocks != block))
        found.append((which, np.full(len(which), block), radius[which]))
    balls, of_block, radii = (np.concatenate(column) for column in zip(*found, strict=True))
    return balls, of_block, radii


class _Spectra:
    """Eigenvalues of XᵀX, X the rows outside a block, about their mean where `centre`; 0 or more.

    Of the two Gram matrices, which share all eigenvalues but zeros, the smaller is kept and decomposed.
    """

    def __init__(self, rows: Float[Tensor, "n r"], *, centre: bool) -> None:
        self.rows, self.centre = rows, centre
        self.by_rows = rows.shape[0] <= rows.shape[1]
        self.gram = rows @ rows.T if self.by_rows else rows.T @ rows

    def without(self, inside: Bool[Tensor, " n"]) -> Float[Tensor, " e"]:
        if self.by_rows:
            gram = self.gram[~inside][:, ~inside]
            if self.centre:
                means = gram.mean(0)
                gram = gram - means - means[:, None] + means.mean()
        else:
            gram = self.gram - self.rows[inside].T @ self.rows[inside]
            if self.centre:
                total = self.rows[~inside].sum(0)
                gram = gram - torch.outer(total, total) / (~inside).sum()
        eigenvalues: Tensor = torch.linalg.eigvalsh(gram)
        return eigenvalues.clamp(min=0)


def _check_outside(blocks: Int[np.ndarray, " n"], fewest: int) -> None:
    outside = len(blocks) - int(np.bincount(blocks).max())
    if outside < fewest:
        raise NotMeasurable(
            f"a block jackknife needs {fewest} images or more outside each block, there are {outside}: draw more "
            "(--num-images)"
        )


def _each(blocks: Int[np.ndarray, " n"], device: torch.device) -> Iterator[Bool[Tensor, " n"]]:
    """For each block, which images are in it."""
    return (torch.from_numpy(blocks == block).to(device) for block in range(int(blocks.max()) + 1))


def _on(features: Float[np.ndarray, "n d"], device: torch.device) -> Float[Tensor, "n d"]:
    return torch.from_numpy(features.astype(np.float64)).to(device)
