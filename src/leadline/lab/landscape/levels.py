"""One landscape at one tau, and after the other: minima, votes, parents, basins; kept as soon as known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.lab.keeping import Arrays, Kept
from leadline.lab.landscape.points import Points
from leadline.rng import generator_for
from leadline.theory.energy import critical_points, delaunay_starts, minima, votes

TIE = 1e-9
"""Difference of two soft votes below which neither class has won."""


@dataclass(frozen=True)
class Level:
    """A landscape at one tau.

    minima [m, d]; votes [m, classes] of Eq. 2 at each; winner [m]: the class with the largest vote, -1 for a tie.
    images [n], queries [q]: the minimum that each flows to, -1 where it has not settled. parents: for each minimum of
    the level before, the one of this level that it flows to. morse: numbers of minima, saddles, maxima that Newton's
    method finds; empty where they were not asked for.
    """

    tau: float
    minima: Float[np.ndarray, "m d"]
    votes: Float[np.ndarray, "m classes"]
    winner: Int[np.ndarray, " m"]
    images: Int[np.ndarray, " n"]
    queries: Int[np.ndarray, " q"]
    parents: Int[np.ndarray, " before"]
    morse: Int[np.ndarray, " kinds"]


@dataclass(frozen=True)
class Queries:
    """Where the flow starts at each tau: image `source` plus sqrt(tau / 2) times `noise`, alike for every tau."""

    source: Int[Tensor, " q"]
    noise: Float[Tensor, "q d"]

    @classmethod
    def draw(cls, points: Points, num: int, seed: int, replicate: int = 0) -> "Queries":
        """`num` queries, each with its own noise; every image is the source of as many, to within one."""
        generator = generator_for(seed, "landscape-queries", replicate)
        order = torch.randperm(len(points.values), generator=generator)
        source = order.repeat(-(-num // len(order)))[:num]
        noise = torch.randn(num, points.values.shape[1], generator=generator, dtype=torch.float64)
        return cls(source, noise)

    def at(self, points: Points, tau: float) -> Float[Tensor, "q d"]:
        """Draws from the data smoothed at sigma = sqrt(tau / 2): where a sampler stands at that noise level."""
        return points.values[self.source] + math.sqrt(tau / 2) * self.noise


def levels(
    points: Points,
    taus: Float[np.ndarray, " t"],
    queries: Queries,
    kept: Kept | None,
    settings: dict[str, object],
    progress: Callable[[int], None],
    *,
    saddles: bool,
) -> list[Level]:
    """The landscape at each tau, ascending. settings: what else decides it, for what is kept. saddles: find those and
    the maxima too, of points in the plane."""
    found: list[Level] = []
    for number, tau in enumerate(taus.tolist()):
        before = found[-1].minima if found else np.zeros((0, points.values.shape[1]))

        def compute(tau: float = tau, before: np.ndarray = before) -> Arrays:
            return _level(points, tau, queries, torch.from_numpy(before), saddles=saddles)

        own = {**settings, "taus": taus[: number + 1].tolist(), "points": points.digest(), "saddles": saddles}
        arrays = compute() if kept is None else kept.piece({"piece": "level", **own}, compute)
        found.append(Level(tau=tau, **arrays))
        progress(number + 1)
    return found


def _level(points: Points, tau: float, queries: Queries, before: Tensor, *, saddles: bool) -> Arrays:
    data, starts = points.values, queries.at(points, tau)
    found = minima(torch.cat([data, before, starts]), data, tau)
    share = votes(found.points, data, points.labels, len(points.classes), tau)
    images, parents, basins = torch.split(found.basin, [len(data), len(before), len(starts)])
    morse = torch.zeros(0, dtype=torch.int64)
    if saddles:
        index = critical_points(torch.cat([delaunay_starts(data), found.points]), data, tau).index
        morse = torch.bincount(index, minlength=3)
    tensors = {
        "minima": found.points,
        "votes": share,
        "winner": winners(share),
        "images": images,
        "queries": basins,
        "parents": parents,
        "morse": morse,
    }
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def winners(share: Float[Tensor, "m classes"]) -> Int[Tensor, " m"]:
    """The class with the largest vote, -1 where the two largest are one."""
    if share.shape[1] == 1:
        return torch.zeros(len(share), dtype=torch.int64)
    top = share.topk(2, dim=1)
    tied = top.values[:, 0] - top.values[:, 1] <= TIE
    return torch.where(tied, torch.full_like(top.indices[:, 0], -1), top.indices[:, 0])


def ancestors(found: Sequence[Level]) -> list[Int[np.ndarray, " m"]]:
    """For each level, the minimum that each minimum of the first level has become; -1 where it has not settled."""
    chain = [np.arange(len(found[0].minima))]
    for level in found[1:]:
        chain.append(of_basin(level.parents, chain[-1]))
    return chain


def of_basin(values: Int[np.ndarray, " m"], basin: Int[np.ndarray, " q"]) -> Int[np.ndarray, " q"]:
    """values[basin], -1 where the basin is not known."""
    known: Int[np.ndarray, " m"] = np.append(values, -1)
    return np.asarray(known[basin])
