"""Exact nearest neighbours of any number of vectors in bounded memory: tiles, candidates, proof, direct differences."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from leadline.errors import LeadlineError

Vectors = np.ndarray | torch.Tensor
Neighbors = tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]

SPARE_CANDIDATES = 16
TILE_BYTES = 64 * 2**20
EXACT_IN_FLOAT32 = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
ROUNDOFF = {"highest": 2.0**-24, "high": 2.0**-11, "medium": 2.0**-8}
"""Unit roundoff of a float32 product at torch's matmul precisions: float32, TF32, bfloat16."""


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

    How: float32 products give every distance up to a known rounding error; the best k + 16 are computed again in
    float64 by direct difference, so a copy is at distance 0 exactly. Where the error bound cannot rule out that
    another vector belongs among the k, all those that might are computed again as well.

    tile_rows: rows of a tile; default: 64 MiB of float32. device: where the products run; default: that of the
    tensors, else the CPU. Raises LeadlineError on k outside 1 to n, unequal dimensions, values that are not
    finite, and, for the cosine, vectors of length 0.
    """
    search = _Search(queries, reference, metric, tile_rows, device)
    if not 1 <= k <= search.num_reference:
        raise LeadlineError(
            f"k = {k} nearest of {search.num_reference} reference vectors: k must be from 1 to their number "
            "(audit.ks; give fewer neighbours or more images)"
        )
    squared, indices = search.run(k)
    # On unit vectors |a - b|² = 2 - 2 cos(a, b), so one search serves both metrics.
    values = (1 - squared / 2).clamp(min=-1) if metric == "cosine" else squared.sqrt()
    return values.numpy(), indices.numpy()


class _Search:
    def __init__(
        self,
        queries: Vectors,
        reference: Vectors,
        metric: str,
        tile_rows: int | None,
        device: str | torch.device | None,
    ) -> None:
        if metric not in ("l2", "cosine"):
            raise LeadlineError(f"metric must be 'l2' or 'cosine', not {metric!r}")
        if tile_rows is not None and tile_rows < 1:
            raise LeadlineError(f"tile_rows must be 1 or more, not {tile_rows}")
        self.queries, self.reference = queries, reference
        self.unit_length = metric == "cosine"
        self.num_queries, self.dimension = _size(queries, "queries")
        self.num_reference, dimension = _size(reference, "reference")
        if self.dimension != dimension:
            raise LeadlineError(
                f"queries have {self.dimension} values each and reference vectors {dimension}: "
                "they must be images of one size, or features of one encoder"
            )
        self.tile_rows = tile_rows or min(8192, max(1, TILE_BYTES // (4 * self.dimension)))
        tensors = [x for x in (reference, queries) if isinstance(x, torch.Tensor)]
        self.device = (
            torch.device(device) if device is not None else tensors[0].device if tensors else torch.device("cpu")
        )
        largest = max(self._check(queries, "queries"), self._check(reference, "reference"))
        # Centred and scaled, float32 neither overflows nor spends its digits on what all vectors share. The scale is
        # a power of two and the centre a float32, so that neither adds an error of its own.
        self.scale = 1.0 if self.unit_length or largest == 0 else 2.0 ** -math.ceil(math.log2(largest))
        self.center = self._wide(reference, slice(0, self.tile_rows)).mul(self.scale).mean(0).float()

    def run(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        squared = torch.empty(self.num_queries, k, dtype=torch.float64)
        indices = torch.empty(self.num_queries, k, dtype=torch.int64)
        approximate, candidates, longest = self._candidates(min(k + SPARE_CANDIDATES, self.num_reference))
        step = max(1, min(self.tile_rows, TILE_BYTES // (8 * self.dimension * candidates.shape[1])))
        for rows in _tiles(self.num_queries, step):
            found = candidates[rows]
            wide = self._wide(self.queries, rows)
            near = self._wide(self.reference, found.flatten()).view(*found.shape, -1)
            exact = (near - wide[:, None]).square_().sum(-1).cpu()
            squared[rows], indices[rows] = _best(exact, found, k)
            if candidates.shape[1] < self.num_reference:
                self._settle_doubts(rows, wide, approximate[rows, -1], longest, squared, indices)
        return squared, indices

    def _candidates(self, m: int) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Approximate squared distances (scaled) and indices [q, m] of the m best, ascending; the longest reference."""
        best = torch.empty(self.num_queries, 0)
        best_indices = torch.empty(self.num_queries, 0, dtype=torch.int64)
        longest = 0.0
        for columns in _tiles(self.num_reference, self.tile_rows):
            tile = self._narrow(self.reference, columns)
            lengths = tile.square().sum(1)
            longest = max(longest, math.sqrt(float(lengths.max())))
            merged: list[tuple[torch.Tensor, torch.Tensor]] = []
            for rows in _tiles(self.num_queries, self.tile_rows):
                distances = _expanded(self._narrow(self.queries, rows), tile, lengths)
                near, places = distances.topk(min(m, distances.shape[1]), largest=False)
                both = torch.cat([best[rows], near.cpu()], 1)
                both_indices = torch.cat([best_indices[rows], places.cpu() + columns.start], 1)
                near, places = both.topk(min(m, both.shape[1]), largest=False)
                merged.append((near, both_indices.gather(1, places)))
            best, best_indices = (torch.cat(parts) for parts in zip(*merged, strict=True))
        return best, best_indices, longest

    def _settle_doubts(
        self,
        rows: slice,
        wide: torch.Tensor,
        worst_candidate: torch.Tensor,
        longest: float,
        squared: torch.Tensor,
        indices: torch.Tensor,
    ) -> None:
        """Search again, among all that may be as near as the k-th, for queries whose candidates are not proven."""
        narrow = self._narrow(self.queries, rows)
        limits = squared[rows, -1] * self.scale**2 + self._error_bound(narrow, longest)
        doubtful = torch.nonzero(worst_candidate.double() <= limits).flatten().tolist()
        k = squared.shape[1]
        best = {row: (squared[rows][row, :0], indices[rows][row, :0]) for row in doubtful}
        for columns in _tiles(self.num_reference, self.tile_rows) if doubtful else ():
            tile = self._wide(self.reference, columns)
            narrow_tile = self._narrow(self.reference, columns)
            distances = _expanded(narrow[doubtful], narrow_tile, narrow_tile.square().sum(1)).double().cpu()
            for row, approximate in zip(doubtful, distances, strict=True):
                near = torch.nonzero(approximate <= limits[row]).flatten()
                exact = (tile[near.to(tile.device)] - wide[row]).square_().sum(-1).cpu()
                old, old_indices = best[row]
                best[row] = _best(torch.cat([old, exact]), torch.cat([old_indices, near + columns.start]), k)
        for row, (nearest, places) in best.items():
            squared[rows.start + row], indices[rows.start + row] = nearest, places

    def _error_bound(self, narrow: torch.Tensor, longest: float) -> torch.Tensor:
        """Upper bound [q] on |approximate - true| squared distance (scaled), over all reference vectors.

        Summing d products in any order is off by at most d·u·|a|·|b|; 16 more u cover rounding the entries and the
        final sum. The second part is centring in float64, the third underflow.
        """
        u = ROUNDOFF[torch.get_float32_matmul_precision()]
        reach = narrow.double().square().sum(1).sqrt().cpu() * (1 + 1e-3) + longest * (1 + 1e-3)
        center = float(self.center.norm())
        return (self.dimension + 16) * u * reach**2 + 2.0**-50 * reach * (reach + center) + self.dimension * 1e-37

    def _wide(self, vectors: Vectors, rows: slice | torch.Tensor) -> torch.Tensor:
        """float64 [r, d] of some rows, of unit length for the cosine."""
        wide = _rows(vectors, rows).to(self.device, torch.float64)
        if self.unit_length:
            wide = wide / wide.abs().amax(1, keepdim=True)  # first: squares of tiny entries would underflow
            wide = wide / wide.norm(dim=1, keepdim=True)
        return wide

    def _narrow(self, vectors: Vectors, rows: slice) -> torch.Tensor:
        """float32 [r, d] of some rows, scaled and centred: what the products take."""
        near = _rows(vectors, rows)
        if self.unit_length or near.dtype not in EXACT_IN_FLOAT32:
            return (self._wide(vectors, rows) * self.scale - self.center).float()
        return near.to(self.device, torch.float32).mul(self.scale).sub_(self.center)

    def _check(self, vectors: Vectors, name: str) -> float:
        """The largest absolute value. Raises LeadlineError where a row cannot be compared."""
        largest = 0.0
        for rows in _tiles(len(vectors), self.tile_rows):
            near = _rows(vectors, rows)
            sizes = (near if near.dtype in EXACT_IN_FLOAT32 else near.double()).abs().amax(1).double()
            for bad, words in (
                (~(sizes < 1e150), "holds a value that is NaN, infinite or beyond 1e150"),
                (sizes == 0, "has length 0, so it has no cosine: leave it out, or use metric 'l2'"),
            ):
                if bad.any() and (self.unit_length or words.startswith("holds")):
                    raise LeadlineError(f"{name}: vector {rows.start + int(bad.nonzero()[0])} {words}")
            largest = max(largest, float(sizes.max()))
        return largest


def _expanded(queries: torch.Tensor, tile: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """|a|² + |b|² - 2 a·b, float32 [q, r]: fast, and wrong in the last digits."""
    squares = queries.square().sum(1, keepdim=True)
    return (squares + lengths).addmm_(queries, tile.T, alpha=-2)


def _best(squared: torch.Tensor, indices: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k smallest along the last dimension, equal ones by index."""
    order = indices.argsort(dim=-1)
    squared, indices = squared.gather(-1, order), indices.gather(-1, order)
    order = squared.argsort(dim=-1, stable=True)[..., :k]
    return squared.gather(-1, order), indices.gather(-1, order)


def _tiles(n: int, rows: int) -> Iterator[slice]:
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def _rows(vectors: Vectors, rows: slice | torch.Tensor) -> torch.Tensor:
    """Some rows as a tensor [r, d]. Of a memory map only these rows are read."""
    if isinstance(vectors, torch.Tensor):
        chosen = vectors[rows if isinstance(rows, slice) else rows.to(vectors.device)].detach()
    else:
        part = vectors[rows if isinstance(rows, slice) else rows.numpy()]
        wide: Any = part.dtype if part.dtype in (np.uint8, np.float32) else np.float64
        chosen = torch.from_numpy(np.array(part, dtype=wide))  # a copy: torch warns of read-only memory maps
    return chosen.reshape(len(chosen), -1)


def _size(vectors: Vectors, name: str) -> tuple[int, int]:
    """(number, dimension) of vectors. Raises LeadlineError on what is no list of real vectors."""
    is_tensor = isinstance(vectors, torch.Tensor)
    real = not vectors.is_complex() if is_tensor else vectors.dtype.kind in "buif"  # type: ignore[union-attr]
    if vectors.ndim < 2 or 0 in vectors.shape or not real:
        raise LeadlineError(
            f"{name} must be real numbers of shape [n, ...] with n of 1 or more, "
            f"not {vectors.dtype} of shape {list(vectors.shape)}"
        )
    return len(vectors), math.prod(vectors.shape[1:])
