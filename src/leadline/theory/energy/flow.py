"""P1's gradient flow in small steps, and mean shift to its end; neither raises the energy, but for rounding."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.theory.energy.landscape import Field, alike, check

TOLERANCE = 1e-7
"""Step of the mean shift, as a part of sqrt(tau), below which a point has arrived."""
MOST_STEPS = 10_000
JUMP_EVERY, JUMP = 20, 0.1
"""Steps between two extrapolations; the longest, as a part of sqrt(tau)."""


@dataclass(frozen=True)
class Trajectory:
    """Where the flow is at each time: points [t, q, d], energy [t, q]."""

    times: Float[Tensor, " t"]
    points: Float[Tensor, "t q d"]
    energy: Float[Tensor, "t q"]


@dataclass(frozen=True)
class Descent:
    """Where the flow ends. steps: mean shifts it took; settled: whether it arrived within the allowed number."""

    points: Float[Tensor, "q d"]
    steps: Int[Tensor, " q"]
    settled: Bool[Tensor, " q"]


def flow(
    starts: Float[Tensor, "q d"],
    data: Float[Tensor, "n d"],
    tau: int | float,
    times: Float[Tensor, " t"],
    largest_step: float = 0.05,
) -> Trajectory:
    """P1, Eq. 3: tau dx/dt = -grad E(x), x(0) = start, at `times` (ascending, from 0 or above).

    dx/dt = 2 (m(x) - x) / tau: with m held over a step h this is solved exactly by x + r (m - x), r = 1 - exp(-2h /
    tau), a damped mean shift. By Jensen's inequality E(x) - E(x + r (m - x)) >= r (2 - r) |m - x|^2, so E falls at
    every step, whatever its length (in float64; in float32 but for rounding); the error in time is of first order in
    h. The result is in the wider type of starts and data. largest_step: bound of 2h / tau.
    """
    check(starts, data, tau)
    starts, data = alike(starts, data)
    lengths = times.diff(prepend=times.new_zeros(1))
    if bool((lengths < 0).any()) or not 0 < largest_step < math.inf:
        raise LeadlineError("flow needs times that ascend from 0 or above, and a largest_step above 0")
    field, x, points = Field(data, tau), starts, []
    for length in lengths.tolist():
        num_steps = math.ceil(2 * length / tau / largest_step)
        for _ in range(num_steps):
            x = x - math.expm1(-2 * length / tau / num_steps) * (field.mean(x) - x)
        points.append(x)
    path = torch.stack(points)
    return Trajectory(times, path, field.energy(path.flatten(0, 1)).reshape(path.shape[:2]))


def descend(
    starts: Float[Tensor, "q d"],
    data: Float[Tensor, "n d"],
    tau: int | float,
    *,
    tolerance: float = TOLERANCE,
    max_steps: int = MOST_STEPS,
) -> Descent:
    """P1, Eq. 3 to its end by mean shift (Cheng 1995), x <- m(x): the flow's step of infinite length.

    Each step minimises the quadratic that lies above E and touches it at x (Carreira-Perpinan 2007), so E never
    rises (in float64; in float32 but for rounding). The result is in the wider type of starts and data.
    Points stop at a step below tolerance * sqrt(tau), or below the rounding of their type; each on its own, so that
    the end of one does not depend on the others. Close to a merger the steps shrink slowly: every 20th is followed by
    Aitken's extrapolation of those to come, of at most sqrt(tau) / 10 and only where E falls by it.
    """
    check(starts, data, tau)
    starts, data = alike(starts, data)
    field, points, last = Field(data, tau), starts.clone(), torch.zeros_like(starts)
    steps = torch.zeros(len(starts), dtype=torch.int64, device=starts.device)
    active = torch.arange(len(starts), device=starts.device)
    rounding = 4 * torch.finfo(starts.dtype).eps
    for number in range(1, max_steps + 1):
        if len(active) == 0:
            break
        x = points[active]
        target = field.mean(x)
        arrived = (target - x).norm(dim=1) <= (rounding * target.norm(dim=1)).clamp_min(tolerance * math.sqrt(tau))
        if number % JUMP_EVERY == 0:
            jump = target + _aitken(target - x, last[active], JUMP * math.sqrt(tau))
            lower = field.energy(jump) < field.energy(target)
            target = torch.where((lower & ~arrived)[:, None], jump, target)
        last[active] = target - x
        points[active] = target
        steps[active] += 1
        active = active[~arrived]
    settled = torch.ones_like(steps, dtype=torch.bool)
    settled[active] = False
    return Descent(points, steps, settled)


def _aitken(step: Tensor, last: Tensor, longest: float) -> Tensor:
    """All further steps together if each is to the one before as `step` is to `last`; zero where they do not shrink."""
    ratio = (step * last).sum(1) / last.square().sum(1).clamp_min(torch.finfo(step.dtype).tiny)
    further = step * torch.where((ratio > 0) & (ratio < 1), ratio / (1 - ratio), 0)[:, None]
    scale: Tensor = longest / further.norm(dim=1, keepdim=True).clamp_min(longest)
    return further * scale
