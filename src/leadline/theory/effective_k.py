"""P1's "tau set by depth" made a number: the temperature of the soft k-NN that a denoiser is nearest to."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Denoiser
from leadline.rng import numpy_generator_for
from leadline.theory.distances import squared_distances

Array = np.ndarray
Interval = tuple[float, float]
Bound = Literal["at most", "at least", "none"]

COARSE = math.log(2)
"""Step in log tau of the first search, over all temperatures from one neighbour to the mean of all."""
FINER = (COARSE / 8, COARSE / 64)
"""Steps in log tau of the second and third, each over one step of the search before it to either side of its best."""
FLAT = 1e-6
"""Temperatures whose error is within this share of the denoiser's variance of the least one are equally good."""
MARGIN = 5
"""Coarse steps tried at least to either side of 2 sigma², and beyond the temperatures at which the weights change."""
LOWEST = 16
"""Coarse steps tried at most below 2 sigma²: near-duplicates would ask for many more that change nothing."""
CELLS = 2**23
"""Distances held at a time: bounds the memory, changes no result."""
TILE = 4096
"""Training images per product in float64."""


@dataclass(frozen=True, kw_only=True)
class TemperatureFit:
    """The soft k-NN (P1 Eq. 2) nearest to a denoiser at one noise level.

    sigma: that level. tau: tau* = argmin E|D(x; sigma) - softkNN_tau(x)|², in squared image units.
    effective_k: mean over the points of exp(entropy of the weights) at tau*, from 1 to the number of images;
    per_point: [q], the same of each point. r_squared: 1 - E|D - softkNN_tau*|² / E|D - mean of D|²: how much of what
    the denoiser does the soft k-NN explains; where it is low tau* says little.
    exact_k, exact_r_squared: the same at tau = 2 sigma², where the soft k-NN is the multi-delta denoiser.
    bound: "at most" where the error is within FLAT of the denoiser's variance of the least one for every lower tau (one
    neighbour has all the weight already), "at least" where it is for every higher one (the mean of all images), "none"
    where it is for all, None where the least error is inside. At a bound the tau reported is the bound itself, the last
    of those that are as good, not the one of the least error, and effective_k that of this tau.
    *_interval: at `level`, bootstrap over points; an end that is a bound is 0, 1, the number of images or infinity.
    log_taus, losses: [t], the error's curve, in squared image units per image.
    """

    sigma: float
    tau: float
    tau_interval: Interval
    effective_k: float
    effective_k_interval: Interval
    per_point: Float[Array, " q"]
    r_squared: float
    r_squared_interval: Interval
    exact_k: float
    exact_r_squared: float
    bound: Bound | None
    num_points: int
    num_images: int
    level: float
    log_taus: Float[Array, " t"]
    losses: Float[Array, " t"]

    @property
    def tau_over_exact(self) -> float:
        """tau* / 2 sigma²: 1 for the multi-delta denoiser, above 1 for a smoother one."""
        return self.tau / (2 * self.sigma**2)


def fit_temperature(
    denoiser: Denoiser,
    x: Float[Tensor, "q c h w"],
    sigma: float | int,
    data: Float[Tensor, "n _c _h _w"],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> TemperatureFit:
    """P1 Eq. 2 fitted to a denoiser (our reading of "k set by depth"): argmin over tau of E|D(x; sigma) - softkNN|².

    x: [q, c, h, w], images noisy at sigma, independent units, two or more. data: [n, c, h, w], the training images
    that the soft k-NN averages. The squared distances are computed once for all temperatures of a search; the error is
    taken on a grid of factors 2, then 2^(1/8) and 2^(1/64) around the least so far, and the least of all is that of the
    parabola through three points. The bootstrap draws the points anew and finds each resample's least error likewise.
    Raises NotMeasurable where sigma is outside the denoiser's range or where D is the same at every point,
    LeadlineError for images of another shape, or too few.
    """
    if x.shape[1:] != data.shape[1:] or len(x) < 2 or len(data) == 0:
        raise LeadlineError(
            f"effective k needs two noisy images or more and at least one training image of their shape: "
            f"{tuple(x.shape)} and {tuple(data.shape)} given"
        )
    if not (sigma > 0 and 0 < level < 1 and resamples >= 1):
        raise LeadlineError(
            f"effective k needs sigma above 0, a level between 0 and 1, and one resample or more: {sigma}, {level} and "
            f"{resamples} given"
        )
    with torch.no_grad():
        target = denoiser(x, sigma).flatten(1)
    spread = _Spread(target.double().cpu().numpy())
    if not spread.totals(np.ones((1, len(x))))[0] > 0:
        raise NotMeasurable(
            f"effective k at sigma = {sigma:g}: the denoiser's output is the same at every point, or not finite"
        )
    search = _Search(x.flatten(1), data.flatten(1).to(x), target)
    exact = math.log(2 * sigma**2)
    curves = search.curves([exact + COARSE * step for step in search.steps(exact)])
    for step in FINER:
        best = float(curves.log_taus[curves.errors.mean(0).argmin()])
        # Every eighth of the finer steps is a step of the search before it, and there already.
        curves = curves.joined(search.curves([best + step * place for place in range(-8, 9) if place % 8]))
    counts = np.vstack([np.ones(len(x)), _resampled(len(x), resamples, seed)])
    totals = spread.totals(counts)
    # About its own mean a resample spreads by (n - 1) / n less than the sample, on average: R² would be shifted by it.
    totals[1:] *= len(x) / max(1, len(x) - 1)
    least = _least(curves, counts, totals)
    exact_place = int(np.abs(curves.log_taus - exact).argmin())
    ends = (1 - level) / 2, (1 + level) / 2
    per_point = curves.ks_at(least.log_taus[:1])[:, 0]
    return TemperatureFit(
        sigma=float(sigma),
        tau=math.exp(least.log_taus[0]),
        tau_interval=_between(least.ends(np.exp(least.log_taus), 0.0, math.inf), ends),
        effective_k=float(per_point.mean()),
        effective_k_interval=_between(
            least.ends((counts.T * curves.ks_at(least.log_taus)).mean(0), *curves.ks.mean(0)[[0, -1]]), ends
        ),
        per_point=per_point,
        r_squared=float(least.r_squared[0]),
        r_squared_interval=_between((least.r_squared, least.r_squared), ends),
        exact_k=float(curves.ks[:, exact_place].mean()),
        exact_r_squared=float(1 - curves.errors[:, exact_place].sum() / spread.totals(counts[:1])[0]),
        bound=least.bound,
        num_points=len(x),
        num_images=len(data),
        level=level,
        log_taus=curves.log_taus,
        losses=curves.errors.mean(0),
    )


@dataclass(frozen=True)
class _Curves:
    """Error and effective k of each point at each temperature, ascending."""

    log_taus: Float[Array, " t"]
    errors: Float[Array, "q t"]
    ks: Float[Array, "q t"]

    def joined(self, other: "_Curves") -> "_Curves":
        log_taus = np.concatenate([self.log_taus, other.log_taus])
        order = log_taus.argsort()
        errors, ks = (np.concatenate(two, 1) for two in ((self.errors, other.errors), (self.ks, other.ks)))
        return _Curves(log_taus[order], errors[:, order], ks[:, order])

    def ks_at(self, log_taus: Float[Array, " b"]) -> Float[Array, "q b"]:
        """Each point's effective k at other temperatures: log k is linear between two that were tried."""
        place = np.clip(np.searchsorted(self.log_taus, log_taus) - 1, 0, len(self.log_taus) - 2)
        low, high = self.log_taus[place], self.log_taus[place + 1]
        share = (log_taus - low) / (high - low)
        logs = np.log(self.ks)
        found: Array = np.exp((1 - share) * logs[:, place] + share * logs[:, place + 1])
        return found


class _Search:
    """The soft k-NN of all points at any temperatures, from distances that are computed once for all of these."""

    def __init__(self, x: Float[Tensor, "q d"], data: Float[Tensor, "n d"], target: Float[Tensor, "q d"]) -> None:
        self.x, self.data, self.target = x, data, target
        self.rows = max(1, CELLS // len(data))
        self.kept: list[tuple[slice, Tensor]] = []

    def gaps(self) -> Iterator[tuple[slice, Float[Tensor, "r n"]]]:
        """Squared distances above the nearest one's, some points at a time; kept where one time is enough."""
        if self.kept:
            yield from self.kept
            return
        for start in range(0, len(self.x), self.rows):
            rows = slice(start, min(start + self.rows, len(self.x)))
            far = torch.cat([squared_distances(self.x[rows], tile) for tile in torch.split(self.data, TILE)], 1)
            found = (rows, (far - far.amin(1, keepdim=True)).to(self.data.dtype))
            if self.rows >= len(self.x):
                self.kept = [found]
            yield found

    def steps(self, exact: float) -> range:
        """Coarse steps from `exact` between which the weights go from the nearest image alone to all images alike."""
        nearest, farthest = [], 0.0
        for _, gaps in self.gaps():
            # The nearest that is farther than the nearest: duplicates share the weight at any temperature.
            nearest.append(gaps.where(gaps > 0, torch.inf).amin(1).cpu())
            farthest = max(farthest, float(gaps.max()))
        if farthest == 0:
            return range(-MARGIN, MARGIN + 1)
        middle = min(float(torch.cat(nearest).median()), farthest)
        low = math.floor((math.log(middle) - exact) / COARSE) - MARGIN
        high = math.ceil((math.log(farthest) - exact) / COARSE) + MARGIN
        return range(max(min(low, -MARGIN), -LOWEST), max(high, MARGIN) + 1)

    def curves(self, log_taus: list[float]) -> _Curves:
        errors = torch.empty((len(self.x), len(log_taus)), dtype=torch.float64)
        ks = torch.empty_like(errors)
        for rows, gaps in self.gaps():
            for place, log_tau in enumerate(log_taus):
                tau = math.exp(log_tau)
                weights = (gaps / -tau).exp()
                total = weights.sum(1, keepdim=True)
                weights = weights / total
                entropy = total[:, 0].double().log() + (weights * gaps).sum(1).double() / tau
                errors[rows, place] = (self.target[rows] - weights @ self.data).double().square().sum(1).cpu()
                ks[rows, place] = entropy.exp().cpu()
        return _Curves(np.array(log_taus), errors.numpy(), ks.numpy())


class _Spread:
    """Sum of |D - mean of D|² over the points of each resample."""

    def __init__(self, target: Float[Array, "q d"]) -> None:
        self.target = target - target.mean(0)
        self.squares = (self.target**2).sum(1)

    def totals(self, counts: Float[Array, "b q"]) -> Float[Array, " b"]:
        found: Array = counts @ self.squares - ((counts @ self.target) ** 2).sum(1) / len(self.target)
        # A resample of points that the denoiser takes to one image has no variance to explain.
        found[:] = np.maximum(found, FLAT * self.squares.sum())
        return found


@dataclass(frozen=True)
class _Least:
    """The least error of each resample, the first of which is the sample itself."""

    log_taus: Float[Array, " b"]
    r_squared: Float[Array, " b"]
    low: Bool[Array, " b"]
    high: Bool[Array, " b"]

    @property
    def bound(self) -> Bound | None:
        if self.low[0]:
            return "none" if self.high[0] else "at most"
        return "at least" if self.high[0] else None

    def ends(self, values: Float[Array, " b"], least: float, most: float) -> tuple[Array, Array]:
        """The values as lower and as upper ends: a bound says nothing about its other side."""
        return np.where(self.low, least, values), np.where(self.high, most, values)


def _least(curves: _Curves, counts: Float[Array, "b q"], totals: Float[Array, " b"]) -> _Least:
    """Where the error of each resample is least: inside by a parabola, at an edge the last of the flat stretch."""
    losses: Array = counts @ curves.errors
    best = losses.argmin(1)
    flat = losses <= losses.min(1, keepdims=True) + FLAT * totals[:, None]
    last = losses.shape[1] - 1
    low, high = flat[:, 0], flat[:, last]
    inside = np.clip(best, 1, last - 1)
    places = inside[:, None] + np.array([-1, 0, 1])
    vertex, value = _vertex(curves.log_taus[places], np.take_along_axis(losses, places, 1))
    from_low = np.where(flat.all(1), best, flat.argmin(1) - 1)
    from_high = np.where(flat.all(1), best, last + 1 - flat[:, ::-1].argmin(1))
    place = np.where(low & high, best, np.where(low, from_low, from_high))
    edge = low | high
    least = np.where(edge, losses.min(1), np.maximum(value, 0))
    return _Least(np.where(edge, curves.log_taus[place % (last + 1)], vertex), 1 - least / totals, low, high)


def _vertex(at: Float[Array, "b 3"], values: Float[Array, "b 3"]) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Place and value of the lowest point of the parabola through three points; the middle one where it is level."""
    before, after = at[:, 0] - at[:, 1], at[:, 2] - at[:, 1]
    rise_before, rise_after = values[:, 0] - values[:, 1], values[:, 2] - values[:, 1]
    curvature = (rise_after / after - rise_before / before) / (after - before)
    slope = rise_after / after - curvature * after
    safe = np.where(curvature > 0, curvature, 1)
    shift = np.where(curvature > 0, -slope / (2 * safe), 0)
    return at[:, 1] + shift, values[:, 1] + shift * (slope + curvature * shift)


def _resampled(num_points: int, resamples: int, seed: int) -> Float[Array, "b q"]:
    """How often each point is in each bootstrap sample."""
    generator = numpy_generator_for(seed, "effective-k-bootstrap")
    counts: Array = generator.multinomial(num_points, np.full(num_points, 1 / num_points), size=resamples)
    return counts.astype(np.float64)


def _between(values: tuple[Array, Array], ends: tuple[float, float]) -> Interval:
    """Quantiles of the resamples, that is of all but the first; of values that can be infinite, hence none between."""
    low, high = values
    return (
        float(np.quantile(low[1:], ends[0], method="lower")),
        float(np.quantile(high[1:], ends[1], method="higher")),
    )
