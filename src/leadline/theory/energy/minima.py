"""Fixed points of the flow: minima with their basins in any dimension, saddles and maxima too in few."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import Delaunay, QhullError
from torch import Tensor

from leadline.theory.energy.flow import MOST_STEPS, TOLERANCE, descend
from leadline.theory.energy.landscape import Field, alike, check, energy, hessian, lowest_curvature

EPSILON = 1e-3
"""Distance, as a part of sqrt(tau), within which two ends of the flow are one minimum: Definition 1's epsilon."""
FLAT = -1e-6
"""Curvature (of 1 at most) below which a fixed point is a saddle: rounding leaves less."""
MOST_SADDLES = 10
"""Saddles that one descent may meet after another."""
NEWTON_STEPS = 50


@dataclass(frozen=True)
class Minima:
    """Where the flow from some starts ends.

    points [m, d] in the order in which the starts find them; energy [m]; curvature [m]: smallest eigenvalue of the
    Hessian over 2. basin [q]: the minimum of each start, -1 where it has not settled.
    """

    points: Float[Tensor, "m d"]
    energy: Float[Tensor, " m"]
    curvature: Float[Tensor, " m"]
    basin: Int[Tensor, " q"]

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Critical:
    """Fixed points [m, d] with their index [m], the number of falling directions: 0 a minimum, d a maximum."""

    points: Float[Tensor, "m d"]
    energy: Float[Tensor, " m"]
    index: Int[Tensor, " m"]


def minima(
    starts: Float[Tensor, "q d"],
    data: Float[Tensor, "n d"],
    tau: int | float,
    *,
    tolerance: float = TOLERANCE,
    max_steps: int = MOST_STEPS,
) -> Minima:
    """P1, Eq. 3 and Definition 1: the minima of E that the flow from `starts` ends in; ends within EPSILON are one.

    From every training image it finds what the images turn into. The flow from a start with a symmetry may end at a
    saddle, which belongs to no basin: it is moved off to the side of the lower minimum.
    """
    descent = descend(starts, data, tau, tolerance=tolerance, max_steps=max_steps)
    radius = EPSILON * math.sqrt(tau)
    points, settled = descent.points, descent.settled
    first, member = distinct(points, radius)
    curvature, direction = lowest_curvature(points[first], data, tau)
    for _ in range(MOST_SADDLES):
        stuck = (curvature < FLAT) & settled[first]
        if not bool(stuck.any()):
            break
        lower, arrived = _off_saddle(points[first][stuck], direction[stuck], data, tau, tolerance, max_steps)
        place = torch.cumsum(stuck, 0) - 1
        moved = stuck[member]
        points = torch.where(moved[:, None], lower[place[member].clamp_min(0)], points)
        settled = torch.where(moved, arrived[place[member].clamp_min(0)], settled)
        first, member = distinct(points, radius)
        curvature, direction = lowest_curvature(points[first], data, tau)
    # A group whose first member has not settled may hold ones that have: only what has settled counts.
    found = torch.unique(member[settled])
    number = torch.full((len(first),), -1, dtype=torch.int64, device=starts.device)
    number[found] = torch.arange(len(found), device=starts.device)
    basin = torch.where(settled, number[member], torch.full_like(member, -1))
    ends = points[first[found]]
    return Minima(ends, energy(ends, data, tau), curvature[found], basin)


def _off_saddle(
    points: Tensor, direction: Tensor, data: Tensor, tau: int | float, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor]:
    """Where the flow goes from beside each saddle, on the side of the lower minimum; whether it arrived."""
    step = 0.01 * math.sqrt(tau) * direction
    both = descend(torch.cat([points + step, points - step]), data, tau, tolerance=tolerance, max_steps=max_steps)
    right, left = energy(both.points, data, tau).chunk(2)
    # Of two alike, the positive side: rounding must not choose.
    second = left < right - 1e-9 * tau
    ends, settled = both.points.chunk(2), both.settled.chunk(2)
    return torch.where(second[:, None], ends[1], ends[0]), torch.where(second, settled[1], settled[0])


def distinct(points: Float[Tensor, "q d"], radius: int | float) -> tuple[Int[Tensor, " m"], Int[Tensor, " q"]]:
    """Groups of points within `radius` of a group's first: the first of each group, and the group of each point."""
    member = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    first: list[int] = []
    for i in range(len(points)):
        if member[i] >= 0:
            continue
        open_ = (member < 0).nonzero()[:, 0]
        near = (points[open_] - points[i]).norm(dim=1) <= radius
        member[open_[near]] = len(first)
        first.append(i)
    return torch.tensor(first, dtype=torch.int64, device=points.device), member


def critical_points(
    starts: Float[Tensor, "q d"], data: Float[Tensor, "n d"], tau: int | float, tolerance: float = 1e-10
) -> Critical:
    """All fixed points of P1's Eq. 3 that Newton's method on grad E = 0 finds from `starts`, in few dimensions.

    Steps are at most sqrt(tau) / 2 long; starts that do not arrive are left out. In 2-D a complete set has minima -
    saddles + maxima = 1 (E grows without bound, Morse): the caller's check that none is missing.
    """
    check(starts, data, tau)
    starts, data = alike(starts, data)
    field, longest = Field(data, tau), math.sqrt(tau) / 2
    x, found = starts, []
    for _ in range(NEWTON_STEPS):
        slope = 2 * (x - field.mean(x))
        arrived = slope.norm(dim=1) <= tolerance * math.sqrt(tau)
        found.append(x[arrived])
        x, slope = x[~arrived], slope[~arrived]
        if len(x) == 0:
            break
        step = torch.linalg.solve_ex(hessian(x, data, tau), -slope[..., None]).result[..., 0]
        # A singular Hessian gives no step: the point stays where it is and is left out in the end.
        step = torch.where(step.isfinite().all(1, keepdim=True), step, 0)
        x = x + step * (longest / step.norm(dim=1, keepdim=True).clamp_min(longest))
    x = torch.cat(found)
    x = x[distinct(x, EPSILON * math.sqrt(tau))[0]]
    index = (torch.linalg.eigvalsh(hessian(x, data, tau)) < 0).sum(1)
    return Critical(x, energy(x, data, tau), index)


def delaunay_starts(data: Float[Tensor, "n 2"]) -> Float[Tensor, "q 2"]:
    """Where the fixed points of a 2-D landscape are near small tau: images, middles of Delaunay edges, circumcentres.

    Between two images there is a pass, among three a top. Points on one line have their middles alone.
    """
    points = data.cpu().double().numpy()
    try:
        corners = points[Delaunay(points).simplices]
    except (QhullError, ValueError):
        order = points[np.lexsort(points.T)]
        return torch.from_numpy(np.concatenate([points, (order[1:] + order[:-1]) / 2])).to(data)
    middles = ((corners + np.roll(corners, 1, axis=1)) / 2).reshape(-1, 2)
    sides = corners[:, 1:] - corners[:, :1]
    centres = corners[:, 0] + np.linalg.solve(sides, (sides**2).sum(2)[..., None] / 2)[..., 0]
    low, high = points.min(0), points.max(0)
    inside = ((centres >= low) & (centres <= high)).all(1)
    starts = np.concatenate([points, np.unique(middles, axis=0), centres[inside], corners.mean(1)])
    return torch.from_numpy(starts).to(data)
