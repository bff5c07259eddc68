"""How soft k-NN is answered: passes over tiles of the data, and which of them is sure for which query.

A matrix product gives squared distances up to a rounding error that is known. Where that error is small beside tau the
products alone serve; where few vectors carry all the weight, direct differences to those; what neither serves is
answered by products in float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from leadline.precision import full_float32
from leadline.theory.exact.vectors import Reference

LOGIT_ERROR = 4e-3
"""Bound on the rounding error of a logit up to which products in float32 serve; the error itself is far below it."""
NEGLIGIBLE = 20.0
"""Vectors that weigh less than exp(-20) / n of the nearest one are left out: all together they weigh below 2e-9."""
LIGHTEST = -60.0
"""Lower logits, relative to the largest, count as this: exp(-60) is nothing, and no subnormal, which are slow."""
CANDIDATES = 32
MORE_CANDIDATES = 512
SPARE = 16
"""Further vectors that are looked at, beside the nearest ones that are asked for."""
BLOCK_BYTES = 4 * 2**20
ROOM_BYTES = 64 * 2**20
"""Of one tile's logits: bounds the queries that are answered at a time."""
ROUNDOFF = 2.0**-24


class Answer(NamedTuple):
    """Of queries [q, d], in float64: mean [q, d], log_sum_exp [q], entropy of the weights [q], votes [q, C], and of the
    k nearest vectors indices and weights [q, k]."""

    mean: Tensor
    log_sum_exp: Tensor
    entropy: Tensor
    votes: Tensor
    indices: Tensor
    weights: Tensor


@dataclass(frozen=True)
class _Points:
    """Queries [q, d] in float64, as they are and about the reference's centre, and their tau [q]."""

    queries: Tensor
    centered: Tensor
    tau: Tensor

    def take(self, chosen: Tensor | slice) -> "_Points":
        return _Points(self.queries[chosen], self.centered[chosen], self.tau[chosen])


_Way = Callable[[Reference, _Points, int], tuple[Answer, Tensor]]
"""(reference, points, k) -> the answer, and for which queries it is sure [q]."""


@torch.no_grad()
def answer(reference: Reference, queries: Tensor, tau: Tensor, k: int) -> Answer:
    """Every query [q, d] at its tau [q] by the cheapest way that is sure for it; in float64 by that of float64."""
    points = _Points(queries.double(), queries.double() - reference.center, tau)
    sizes = ((reference.dimension,), (), (), (reference.num_classes,), (k,), (k,))
    whole = Answer(*(points.queries.new_empty(len(queries), *size) for size in sizes))
    whole = whole._replace(indices=whole.indices.long())
    left = torch.ones(len(queries), dtype=torch.bool, device=queries.device)

    def fill(asked: Tensor, way: _Way) -> None:
        for chosen in _batches(asked, reference):
            part, sure = way(reference, points.take(chosen), k)
            for there, piece in zip(whole, part, strict=True):
                there[chosen] = piece
            left[chosen] = ~sure

    with full_float32():
        if queries.dtype != torch.float64:
            flat = _product_error(reference, points) <= LOGIT_ERROR * tau
            fill(flat, _by_products)
            fill(~flat, _by_candidates)
            fill(left & ~flat, partial(_by_candidates, candidates=MORE_CANDIDATES))
        fill(left, _by_wide_products)
    return whole


@torch.no_grad()
def spread_along(
    reference: Reference, queries: Tensor, tau: Tensor, mean: Tensor, log_sum_exp: Tensor, vectors: Tensor
) -> Tensor:
    """Sum of w_i (x_i - mean) ((x_i - mean) · v), the weights' covariance times v [q, d], in float64.

    2 / tau times it is the Jacobian of the soft mean, a symmetric matrix, times v.
    """
    wide = queries.double()
    points = _Points(wide, wide - reference.center, tau)
    spread = torch.empty_like(wide)
    flat = _product_error(reference, points) <= LOGIT_ERROR * tau
    if queries.dtype == torch.float64:
        flat.zero_()
    centered_mean = mean.double() - reference.center
    normalizer = log_sum_exp + points.centered.square().sum(1) / tau
    with full_float32():
        for asked, dtype in ((flat, torch.float32), (~flat, torch.float64)):
            for chosen in _batches(asked, reference):
                spread[chosen] = _spread(
                    reference,
                    _coefficients(points.take(chosen), 1 / tau[chosen], dtype),
                    normalizer[chosen].to(dtype),
                    centered_mean[chosen],
                    vectors[chosen].double(),
                )
    return spread


def _batches(asked: Tensor, reference: Reference) -> tuple[Tensor, ...]:
    """Indices of the queries that are asked for [q], as many at a time as their logits for a tile have room."""
    chosen = torch.nonzero(asked).flatten()
    return torch.split(chosen, max(1, ROOM_BYTES // (4 * reference.tile))) if len(chosen) else ()


def _spread(reference: Reference, coefficients: Tensor, normalizer: Tensor, mean: Tensor, vectors: Tensor) -> Tensor:
    d, dtype = reference.dimension, coefficients.dtype
    narrow, offset = vectors.to(dtype), (mean * vectors).sum(1, keepdim=True).to(dtype)
    total = coefficients.new_zeros(len(coefficients), reference.columns)
    for _, tile in reference.tiles(dtype):
        weights = torch.mm(coefficients, tile[:, : d + 1].T).sub_(normalizer[:, None]).clamp_(min=LIGHTEST).exp_()
        weights *= torch.mm(narrow, tile[:, :d].T).sub_(offset)
        total.addmm_(weights, tile)
    wide = total.double()
    return wide[:, :d] - wide[:, d + 1, None] * mean


def _by_products(
    reference: Reference, points: _Points, k: int, dtype: torch.dtype = torch.float32
) -> tuple[Answer, Tensor]:
    """Products of one type, from logits to mean; only the nearest by direct difference."""
    d = reference.dimension
    coefficients = _coefficients(points, 1 / points.tau, dtype)
    m = min(k + SPARE, reference.count) if k else 0
    found = _stream(reference, coefficients, m)
    total = found.total.double()
    weight = total[:, d + 1]
    own = points.centered.square().sum(1)
    log_weight = weight.log() + found.peak[:, 0].double()
    # Sum of w_i logit_i: the logits are linear in the columns that the sums are of.
    mean_logit = (coefficients.double() * total[:, : d + 1]).sum(1) / weight
    squared, indices = _nearest(reference, points, found.places)
    part = Answer(
        total[:, :d] / weight[:, None] + reference.center,
        log_weight - own / points.tau,
        (log_weight - mean_logit).clamp(min=0),
        total[:, d + 2 :] / weight[:, None],
        indices[:, :k],
        _nearest_weights(found, own / points.tau, squared / points.tau[:, None], weight, reference.count)[:, :k],
    )
    sure = torch.ones_like(weight, dtype=torch.bool)
    if dtype != torch.float64 and 0 < m < reference.count:
        farther = own - found.best[:, -1].double() * points.tau - _product_error(reference, points)
        sure = farther > squared[:, k - 1]
    return part, sure


def _nearest_weights(found: "_Pass", own: Tensor, logits_off: Tensor, weight: Tensor, count: int) -> Tensor:
    """Weights [q, m] of the nearest vectors by direct difference, in a sum to which the others add by products.

    Over the products' own sum they would add up to 1 only within the products' error.
    """
    m = found.best.shape[1]
    near = (found.best - found.peak).clamp(min=LIGHTEST).exp().double().sum(1)
    others = torch.zeros_like(weight) if m == count else (weight - near).clamp(min=0)
    direct = (own[:, None] - logits_off - found.peak.double()).exp()
    weights: Tensor = direct / (direct.sum(1) + others)[:, None]
    return weights


def _by_wide_products(reference: Reference, points: _Points, k: int) -> tuple[Answer, Tensor]:
    return _by_products(reference, points, k, torch.float64)


def _by_candidates(
    reference: Reference, points: _Points, k: int, candidates: int = CANDIDATES
) -> tuple[Answer, Tensor]:
    """Direct differences to the vectors that the products find nearest; sure where all others are negligible."""
    m = min(max(candidates, k + SPARE), reference.count)
    found = _stream(reference, _coefficients(points, torch.ones_like(points.tau), torch.float32), m, sums=False)
    error = _product_error(reference, points)
    reach = points.tau * (NEGLIGIBLE + math.log(reference.count))
    matter = (found.best >= found.best[:, :1] - (reach + 2 * error)[:, None]).sum(1)
    own = points.centered.square().sum(1)
    parts, sure = [], []
    rows = max(1, BLOCK_BYTES // (8 * reference.dimension * m))
    for block in (slice(at, at + rows) for at in range(0, len(own), rows)):
        width = min(m, max(int(matter[block].max()), k + SPARE))
        squared, indices, vectors = _differences(reference, points.take(block), found.places[block, :width])
        parts.append(_from_differences(reference, squared, indices, vectors, points.tau[block], k))
        if width == reference.count:
            sure.append(torch.ones_like(own[block], dtype=torch.bool))
        else:
            # The next candidate, or the last: no vector that was not looked at is nearer than this.
            farther = own[block] - found.best[block, min(width, m - 1)].double() - error[block]
            nearest = squared[:, max(k - 1, 0)]
            sure.append((farther >= squared[:, 0] + reach[block]) & (farther > nearest))
    return Answer(*(torch.cat(pieces) for pieces in zip(*parts, strict=True))), torch.cat(sure)


def _from_differences(
    reference: Reference, squared: Tensor, indices: Tensor, vectors: Tensor, tau: Tensor, k: int
) -> Answer:
    """The answer of queries all of whose weight is on vectors [q, w, d] at squared distances [q, w], ascending."""
    logits = (squared[:, :1] - squared) / tau[:, None]
    log_sum = logits.logsumexp(1, keepdim=True)
    weights = (logits - log_sum).exp()
    votes = weights.new_zeros(len(weights), reference.num_classes)
    if reference.labels is not None:
        votes.scatter_add_(1, reference.labels[indices], weights)
    return Answer(
        torch.bmm(weights[:, None], vectors)[:, 0],
        log_sum[:, 0] - squared[:, 0] / tau,
        (weights * (log_sum - logits)).sum(1),
        votes,
        indices[:, :k],
        weights[:, :k],
    )


def _differences(reference: Reference, points: _Points, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances [q, w] of the vectors at `places`, by direct difference, ascending and equal ones by index;
    their indices [q, w]; the vectors [q, w, d]."""
    indices = places.sort(1).values
    vectors = reference.rows(indices.flatten()).view(*indices.shape, reference.dimension)
    squared = (vectors - points.queries[:, None]).square_().sum(-1)
    squared, order = squared.sort(dim=1, stable=True)
    return squared, indices.gather(1, order), vectors.gather(1, order[..., None].expand_as(vectors))


def _nearest(reference: Reference, points: _Points, places: Tensor) -> tuple[Tensor, Tensor]:
    """`_differences` without the vectors, so many queries at a time as their vectors fit in a block."""
    rows = max(1, BLOCK_BYTES // (8 * reference.dimension * max(1, places.shape[1])))
    parts = [
        _differences(reference, points.take(block), places[block])[:2]
        for block in (slice(at, at + rows) for at in range(0, len(places), rows))
    ]
    return torch.cat([squared for squared, _ in parts]), torch.cat([indices for _, indices in parts])


def _product_error(reference: Reference, points: _Points) -> Tensor:
    """Bound [q] on the rounding error of |b|^2 - 2 a·b in float32, a and b about the centre.

    Of d roundings of either sign the sum grows like sqrt(d) (Higham and Mary, 2019, Theorem 2.4). At d = 1,024 the
    largest error in a million products was a third of the bound, the usual one a hundredth.
    """
    longest = reference.longest
    roundings = (reference.dimension + 16) ** 0.5 * ROUNDOFF
    bound: Tensor = roundings * longest * (2 * points.centered.norm(dim=1) + longest)
    return bound


def _coefficients(points: _Points, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """[q, d + 1]: times a tile's first columns, (2 a·b - |b|^2) scale, which grows as the distance falls."""
    return torch.cat([2 * points.centered, -torch.ones_like(scale)[:, None]], 1).mul_(scale[:, None]).to(dtype)


class _Pass(NamedTuple):
    """Largest logit [q, 1]; sums over a tile's columns [q, d + 2 + C], weighted with exp(logit - peak); the m largest
    logits and whose they are [q, m]."""

    peak: Tensor
    total: Tensor
    best: Tensor
    places: Tensor


def _stream(reference: Reference, coefficients: Tensor, m: int, *, sums: bool = True) -> _Pass:
    """One pass over all tiles: logits by one product; sums, where asked for, by another with a running peak."""
    q, columns = coefficients.shape
    room = coefficients.new_empty(q * reference.tile)
    peak = coefficients.new_full((q, 1), -torch.inf)
    total = coefficients.new_zeros(q, reference.columns if sums else 0)
    best, places = coefficients.new_full((q, m), -torch.inf), torch.zeros(q, m, dtype=torch.int64, device=room.device)
    for rows, tile in reference.tiles(coefficients.dtype):
        logits = torch.mm(coefficients, tile[:, :columns].T, out=room[: q * len(tile)].view(q, len(tile)))
        if m:
            values, at = logits.topk(min(m, len(tile)), dim=1)
            best, order = torch.cat([best, values], 1).topk(m, dim=1)
            places = torch.cat([places, at + rows.start], 1).gather(1, order)
        if sums:
            higher = torch.maximum(peak, logits.amax(1, keepdim=True))
            total *= (peak - higher).clamp_(min=LIGHTEST).exp_()
            total.addmm_(logits.sub_(higher).clamp_(min=LIGHTEST).exp_(), tile)
            peak = higher
    return _Pass(peak, total, best, places)
