"""Exact nearest neighbours of any number of vectors in bounded memory: tiles, candidates, proof, direct differences."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from leadline.audit.vectors import BLOCK_BYTES, VectorPair, Vectors, squared_lengths, tiles
from leadline.errors import LeadlineError
from leadline.precision import full_float32

__all__ = ["Vectors", "nearest_neighbors", "within_radii"]

Neighbors = tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]

SPARE_CANDIDATES = 16
SPARE_COARSE_CANDIDATES = 54
"""More, as coarse products leave more vectors in doubt."""
EXACT_SUMS = 256
"""Squares of differences of bytes whose sum float32 holds exactly."""
BLOCK = 64
"""Columns of which the smallest is looked at first: most blocks hold nothing that is near enough."""


def nearest_neighbors(
    queries: Vectors,
    reference: Vectors,
    k: int,
    metric: Literal["l2", "cosine"] = "l2",
    *,
    tile_rows: int | None = None,
    device: str | torch.device | None = None,
) -> Neighbors:
    """The k nearest reference vectors of each query, exact, whatever the sizes.

    queries [q, ...] and reference [n, ...]: arrays, memory maps or tensors of real numbers, flattened behind the
    first dimension; tiles of both are read and widened, never the whole. Returns NumPy arrays [q, k]: float64
    Euclidean distances ascending (or cosine similarities descending), and int64 indices into `reference`. Equal
    distances stand in the order of their indices.

    How: matrix products give every distance up to a known rounding error, in bfloat16 where the processor has units
    for it, else in float32; the best k and some more are computed again in float64 by direct difference, so a copy is
    at distance 0 exactly. Where the error bound cannot rule out that another vector belongs among the k, all those
    that might are computed again as well.

    tile_rows: rows of a tile; default: 64 MiB of float32. device: where the products run; default: that of the
    tensors, else the CPU. Raises LeadlineError on k outside 1 to n, unequal dimensions, values that are not
    finite, and, for the cosine, vectors of length 0.
    """
    if metric not in ("l2", "cosine"):
        raise LeadlineError(f"metric must be 'l2' or 'cosine', not {metric!r}")
    pair = VectorPair(queries, reference, unit_length=metric == "cosine", tile_rows=tile_rows, device=device)
    if not 1 <= k <= pair.num_reference:
        raise LeadlineError(
            f"k = {k} nearest of {pair.num_reference} reference vectors: k must be from 1 to their number "
            "(audit.ks; give fewer neighbours or more images)"
        )
    with full_float32():
        squared, indices = _search(pair, k)
    # On unit vectors |a - b|² = 2 - 2 cos(a, b), so one search serves both metrics.
    values = (1 - squared / 2).clamp(min=-1) if metric == "cosine" else squared.sqrt()
    return values.numpy(), indices.numpy()


def within_radii(
    queries: Vectors,
    reference: Vectors,
    radii: Float[np.ndarray, " n"],
    *,
    tile_rows: int | None = None,
    device: str | torch.device | None = None,
) -> Int[np.ndarray, " q"]:
    """For each query, the number of reference vectors j with |query - reference_j| < radii_j; exact at any size.

    queries [q, ...], reference [n, ...], tile_rows, device: as `nearest_neighbors`; radii: float [n], 0 or more, in
    the same units. Float32 products decide the pairs that are further from the radius than the products' error bound;
    all others are computed again in float64 by direct difference, with the arithmetic of `nearest_neighbors`, so a
    vector at exactly the distance that a radius was taken from is not within it. Memory: a few tiles. Raises
    LeadlineError on radii that are negative, not a number or not one per reference vector, and on vectors as there.
    """
    pair = VectorPair(queries, reference, tile_rows=tile_rows, device=device)
    if radii.shape != (pair.num_reference,) or not (radii >= 0).all():
        raise LeadlineError(
            f"within_radii takes one radius of 0 or more per reference vector ({pair.num_reference}), "
            f"not {radii.shape[0]} from {radii.min(initial=np.inf):g} to {radii.max(initial=-np.inf):g}"
        )
    wanted = torch.from_numpy(radii.astype(np.float64))
    with full_float32():
        return pair.in_range(lambda: _count_within(pair, wanted)).numpy()


def _search(pair: VectorPair, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distances float64 [q, k] and indices, ascending, equal ones by index."""
    squared = torch.empty(pair.num_queries, k, dtype=torch.float64)
    indices = torch.empty(pair.num_queries, k, dtype=torch.int64)
    m = min(k + (SPARE_COARSE_CANDIDATES if pair.coarse else SPARE_CANDIDATES), pair.num_reference)
    found = pair.in_range(lambda: _candidates(pair, m))
    candidates, longest = found.indices, found.longest
    for rows in tiles(pair.num_queries, max(1, BLOCK_BYTES // (8 * pair.dimension * m))):
        near = pair.wide_reference(candidates[rows].flatten()).view(-1, m, pair.dimension)
        exact = _squared_differences(near, pair.wide_queries(rows)[:, None])
        squared[rows], indices[rows] = _best(exact, candidates[rows], k)
    if m < pair.num_reference:
        for rows, narrow in pair.query_tiles():
            farthest = squared[rows, -1] * pair.scale**2
            # The score leaves out the query's own length, which all its distances share.
            own = squared_lengths(narrow)
            worst = found.scores[rows, -1].double()
            if pair.coarse:
                bound = pair.coarse_error_bound(narrow, longest, found.rounding, worst)
            else:
                bound = pair.error_bound(narrow, longest)
            doubtful = torch.nonzero(worst + own <= farthest + bound).flatten()
            if len(doubtful):
                chosen = doubtful + rows.start
                limits = (farthest + pair.error_bound(narrow, longest) - own)[doubtful]
                among = _within(pair, narrow[doubtful.to(pair.device)], chosen, limits, k)
                squared[chosen], indices[chosen] = among
    return squared, indices


@dataclass(frozen=True)
class _Candidates:
    """Scores and indices [q, m] of the m best by matrix products, ascending; the longest reference's length.

    rounding: the length of the largest change that coarse products made to a reference vector.
    """

    scores: torch.Tensor
    indices: torch.Tensor
    longest: float
    rounding: float


def _candidates(pair: VectorPair, m: int) -> _Candidates:
    best = torch.full((pair.num_queries, m), math.inf, device=pair.device)
    indices = torch.zeros(pair.num_queries, m, dtype=torch.int64, device=pair.device)
    room = _room(pair)
    longest = rounding = 0.0
    for columns, tile, lengths in pair.reference_tiles():
        longest = max(longest, float(lengths.max()))
        factors, changed = pair.rounded(tile) if pair.coarse else (tile, 0.0)
        rounding = max(rounding, changed)
        for rows, narrow in pair.query_tiles():
            blocks = _scores(narrow.to(factors.dtype), factors, lengths, room).view(len(narrow), -1, BLOCK)
            smallest = blocks.amin(2)
            # A block whose smallest is no better than the m-th so far holds none of the m best; nor does one with m
            # better blocks before it.
            width = min(m, int((smallest < best[rows, -1:]).sum(1).max()))
            if width:
                chosen = smallest.topk(width, largest=False).indices
                near = blocks.gather(1, chosen[..., None].expand(-1, -1, BLOCK)).flatten(1)
                places = (chosen[..., None] * BLOCK + torch.arange(BLOCK, device=pair.device)).flatten(1)
                both = torch.cat([best[rows], near], 1)
                best[rows], order = both.topk(m, largest=False)
                indices[rows] = torch.cat([indices[rows], places + columns.start], 1).gather(1, order)
    return _Candidates(best.cpu(), indices.cpu(), longest, rounding)


def _within(
    pair: VectorPair, narrow: torch.Tensor, queries: torch.Tensor, limits: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k nearest [q, k] of some queries, among all reference vectors whose score does not exceed limits [q]."""
    best = [(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64)) for _ in queries]
    room = _room(pair)
    for columns, tile, lengths in pair.reference_tiles():
        scores = _scores(narrow, tile, lengths, room)
        for pairs in _few(torch.nonzero(scores.double() <= limits.to(pair.device)[:, None]).cpu(), pair):
            found = pairs[:, 1] + columns.start
            exact = _squared_differences(pair.wide_reference(found), pair.wide_queries(queries[pairs[:, 0]]))
            rows, sizes = torch.unique_consecutive(pairs[:, 0], return_counts=True)
            parts = zip(torch.split(exact, sizes.tolist()), torch.split(found, sizes.tolist()), strict=True)
            for row, (squared, places) in zip(rows.tolist(), parts, strict=True):
                old, old_places = best[row]
                best[row] = _best(torch.cat([old, squared]), torch.cat([old_places, places]), k)
    return torch.stack([squared for squared, _ in best]), torch.stack([places for _, places in best])


def _count_within(pair: VectorPair, radii: torch.Tensor) -> torch.Tensor:
    """Number [q] of reference vectors whose radius [n] is larger than their distance to the query."""
    counts = torch.zeros(pair.num_queries, dtype=torch.int64)
    room = _room(pair)
    for columns, tile, lengths in pair.reference_tiles():
        width = columns.stop - columns.start
        for rows, narrow in pair.query_tiles():
            own = squared_lengths(narrow)
            farthest = 1.1 * float(own.sqrt().max() + lengths.max()) ** 2
            limits = (radii[columns] * pair.scale).square().clamp(max=farthest)
            beyond = _scores(narrow, tile, lengths, room)[:, :width]
            beyond += own.float().to(pair.device)[:, None]
            beyond -= limits.float().to(pair.device)
            # Four more roundings, to float32, of sums no larger than `farthest` twice over.
            bound = pair.error_bound(narrow, float(lengths.max())) + 2.0**-21 * farthest
            bound = bound.float().to(pair.device)[:, None]
            counts[rows] += (beyond < -bound).sum(1).cpu()
            for pairs in _few(torch.nonzero(beyond.abs_() <= bound).cpu(), pair):
                query, other = pairs[:, 0] + rows.start, pairs[:, 1] + columns.start
                squared = _squared_differences(pair.wide_queries(query), pair.wide_reference(other))
                counts.index_add_(0, query, (squared.sqrt() < radii[other]).long())
    return counts


def _few(indices: torch.Tensor, pair: VectorPair) -> tuple[torch.Tensor, ...]:
    """Indices in parts whose vectors are worked on in cache."""
    return torch.split(indices, max(1, BLOCK_BYTES // (8 * pair.dimension)))


def _room(pair: VectorPair) -> torch.Tensor:
    """Memory for the scores of one tile, in whole blocks."""
    return torch.empty(pair.query_rows * BLOCK * math.ceil(pair.tile_rows / BLOCK), device=pair.device)


def _scores(queries: torch.Tensor, tile: torch.Tensor, lengths: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """|b|² - 2 a·b, float32 [q, r] filled up to whole blocks with inf: fast, and wrong in the last digits."""
    width = BLOCK * math.ceil(len(tile) / BLOCK)
    scores = room[: len(queries) * width].view(len(queries), width)
    if tile.dtype == torch.float32:
        torch.addmm(lengths.square(), queries, tile.T, alpha=-2, out=scores[:, : len(tile)])
    else:
        torch.add(lengths.square(), torch.mm(queries, tile.T), alpha=-2, out=scores[:, : len(tile)])
    scores[:, len(tile) :] = math.inf
    return scores


def _squared_differences(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """|a - b|² over the last dimension, float64 on the CPU: one arithmetic for every distance that is given out.

    Of bytes in float32 too every step is exact: sums of 256 squares are integers below 2²⁴. `first` is used up: memory
    that was just written is still in the cache.
    """
    squares = first.sub_(second).square_()
    if squares.dtype == torch.float64:
        return squares.sum(-1).cpu()
    number = squares.shape[-1] // EXACT_SUMS
    whole, rest = squares[..., : number * EXACT_SUMS], squares[..., number * EXACT_SUMS :]
    parts = whole.reshape(*squares.shape[:-1], number, EXACT_SUMS).sum(-1)
    return parts.double().sum(-1).add_(rest.sum(-1)).cpu()


def _best(squared: torch.Tensor, indices: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k smallest along the last dimension, equal ones by index."""
    order = indices.argsort(dim=-1)
    squared, indices = squared.gather(-1, order), indices.gather(-1, order)
    order = squared.argsort(dim=-1, stable=True)[..., :k]
    return squared.gather(-1, order), indices.gather(-1, order)
