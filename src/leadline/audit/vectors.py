"""Two sets of vectors made comparable: rows in float64, rows in centred float32, and what the second ones' error is."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

from leadline.errors import LeadlineError

Vectors = np.ndarray | torch.Tensor
T = TypeVar("T")

TILE_BYTES = 64 * 2**20
BLOCK_BYTES = 4 * 2**20
"""What is worked on several times over should fit in a core's cache."""
CENTER_ROWS = 1024
"""Rows whose mean is the centre: any point near the vectors serves."""
KEPT_BYTES = 256 * 2**20
LARGEST = 1e150
EXACT_IN_FLOAT32 = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
ROUNDOFF = 2.0**-24
"""Unit roundoff of float32, in which products are summed."""
COARSE_ROUNDOFF = 2.0**-8
"""What bfloat16 rounds by."""


class _BeyondFloat32(ArithmeticError):
    pass


class VectorPair:
    """Queries [q, ...] and reference vectors [n, ...], checked; of unit length where asked; flattened, read in tiles.

    `wide_*`: float64 rows, or float32 of bytes, what exact distances are made of. `narrow_*`: the same rows scaled and
    centred in float32, what matrix products take: they neither overflow nor spend their digits on what all vectors
    share. The scale is a power of two and the centre a float32, so that neither adds an error of its own.
    """

    def __init__(
        self,
        queries: Vectors,
        reference: Vectors,
        *,
        unit_length: bool = False,
        tile_rows: int | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if tile_rows is not None and tile_rows < 1:
            raise LeadlineError(f"tile_rows must be 1 or more, not {tile_rows}")
        self.queries, self.reference, self.unit_length = queries, reference, unit_length
        self.num_queries, self.dimension = _size(queries, "queries")
        self.num_reference, dimension = _size(reference, "reference")
        if self.dimension != dimension:
            raise LeadlineError(
                f"queries have {self.dimension} values each and reference vectors {dimension}: "
                "they must be images of one size, or features of one encoder"
            )
        tensors = [x for x in (reference, queries) if isinstance(x, torch.Tensor)]
        self.device = torch.device(device or (tensors[0].device if tensors else "cpu"))
        rows = tile_rows or max(1, TILE_BYTES // (4 * self.dimension))
        self.tile_rows = min(rows, 8192, self.num_reference)
        self.query_rows = min(rows, max(1, TILE_BYTES // (4 * self.tile_rows)), self.num_queries)
        self._kept: torch.Tensor | None = None
        self.coarse = has_fast_bfloat16(self.device)
        # The reference is looked at as it is read; only where that shows something strange, all of it beforehand.
        first = slice(0, min(CENTER_ROWS, self.num_reference))
        self._prepare(max(self._largest("queries", queries), self._largest("reference", reference, first)))

    def in_range(self, work: Callable[[], T]) -> T:
        """work(), which goes through `reference_tiles`; done again, scaled anew, where lengths are beyond float32.

        Raises LeadlineError where they are so because a vector cannot be compared.
        """
        try:
            return work()
        except _BeyondFloat32:
            self._prepare(max(self._largest("queries", self.queries), self._largest("reference", self.reference)))
            return work()

    def reference_tiles(self) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """(rows, narrow [r, d], lengths [r]) of the whole reference; a tile's memory is used again for the next."""
        room = torch.empty(self.tile_rows, self.dimension, device=self.device)
        for rows in tiles(self.num_reference, self.tile_rows):
            tile = self._narrow(self.reference, rows, room[: rows.stop - rows.start])
            lengths = torch.linalg.vector_norm(tile, dim=1)
            if not math.isfinite(float(lengths.max())):
                raise _BeyondFloat32
            yield rows, tile, lengths

    def query_tiles(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """(rows, narrow [r, d]) of all queries."""
        return ((rows, self.narrow_queries(rows)) for rows in tiles(self.num_queries, self.query_rows))

    def narrow_queries(self, rows: slice) -> torch.Tensor:
        """float32 [r, d], scaled and centred; made once where all queries fit in 256 MiB."""
        if 4 * self.num_queries * self.dimension > KEPT_BYTES:
            room = torch.empty(rows.stop - rows.start, self.dimension, device=self.device)
            return self._narrow(self.queries, rows, room)
        if self._kept is None:
            room = torch.empty(self.num_queries, self.dimension, device=self.device)
            self._kept = self._narrow(self.queries, slice(0, self.num_queries), room)
        return self._kept[rows]

    def wide_queries(self, rows: slice | torch.Tensor) -> torch.Tensor:
        """float64 [r, d], of unit length where asked; float32 where all vectors are of bytes."""
        return self._bytes(self.queries, rows) if self._of_bytes else self._wide(self.queries, rows)

    def wide_reference(self, rows: slice | torch.Tensor) -> torch.Tensor:
        """float64 [r, d], of unit length where asked; float32 where all vectors are of bytes."""
        return self._bytes(self.reference, rows) if self._of_bytes else self._wide(self.reference, rows)

    def error_bound(self, narrow: torch.Tensor, longest: float) -> torch.Tensor:
        """Upper bound [q] on |float32 - true| squared distance (scaled) to any reference vector up to `longest` long.

        Summing d products in any order is off by at most d·u·|a|·|b| (Higham, 2002, eq. 3.5); 16 more u cover
        rounding the entries, the lengths and the final sums. The last parts are centring in float64, and underflow.
        """
        u = (self.dimension + 16) * ROUNDOFF
        reach = (squared_lengths(narrow).sqrt() + longest) * (1 + 1e-3 + self.dimension * 2.0**-24)
        center = float(self._center.norm())
        return u * reach**2 + 2.0**-50 * reach * (reach + center) + self.dimension * 1e-37

    def coarse_error_bound(
        self, narrow: torch.Tensor, longest: float, rounding: float, scores: torch.Tensor
    ) -> torch.Tensor:
        """Upper bound [q] on what coarse products make of the distance to any vector whose score is not below `scores`.

        scores: |b|² - 2 p [q], p the products of entries rounded to bfloat16, rounded again. rounding: the longest
        difference that rounding made to a reference vector. On top of the float32 bound: rounded entries change 2 a·b
        by at most 2 (|a - ã|·|b| + |ã|·|b - b̃|), the rounded product by 2⁻⁸·2p, and 2p is either at most
        longest² - score, or below 0 and then at most the score itself matters.
        """
        own = torch.linalg.vector_norm(narrow, dim=1).cpu().double()
        changed = torch.linalg.vector_norm(narrow - narrow.bfloat16(), dim=1).cpu().double()
        entries = 2 * (changed * longest + (own + changed) * rounding)
        product = 1.01 * COARSE_ROUNDOFF * torch.maximum(scores, longest**2 - scores).clamp(min=0)
        bound: torch.Tensor = (entries + product) * (1 + 1e-3 + self.dimension * 2.0**-23)
        return self.error_bound(narrow, longest) + bound

    def rounded(self, narrow: torch.Tensor) -> tuple[torch.Tensor, float]:
        """bfloat16 [r, d] of narrow rows, and the length of the largest difference that this made to one."""
        coarse = torch.empty_like(narrow, dtype=torch.bfloat16)
        largest = 0.0
        for block in tiles(len(narrow), max(1, BLOCK_BYTES // (4 * self.dimension))):
            coarse[block] = narrow[block]
            changed = torch.linalg.vector_norm(narrow[block] - coarse[block], dim=1)
            largest = max(largest, float(changed.max()))
        return coarse, largest

    def _prepare(self, largest: float) -> None:
        usual = largest == 0 or 2.0**-40 < largest < 2.0**40
        self.scale = 1.0 if self.unit_length or usual else 2.0 ** -math.ceil(math.log2(largest))
        self._kept = None
        total, squares = torch.zeros(self.dimension, dtype=torch.float64, device=self.device), 0.0
        count = min(CENTER_ROWS, self.num_reference)
        for rows in tiles(count, self._block_rows):
            wide = self._wide(self.reference, rows).mul_(self.scale)
            total += wide.sum(0)
            squares += float(wide.square_().sum())
        self._center = (total / count).float()
        # A mean that is short beside the vectors is not worth a pass over all of them.
        self._as_they_are = self.scale == 1 and float(self._center.norm()) ** 2 < squares / count / 16
        if self._as_they_are:
            self._center.zero_()

    @property
    def _block_rows(self) -> int:
        return max(1, min(self.tile_rows, BLOCK_BYTES // (8 * self.dimension)))

    def _narrow(self, vectors: Vectors, rows: slice, room: torch.Tensor) -> torch.Tensor:
        dtype = _rows(vectors, slice(0, 1)).dtype
        plain = not self.unit_length and dtype in EXACT_IN_FLOAT32
        if plain and self._as_they_are and dtype == torch.float32:
            return _rows(vectors, rows).to(self.device)
        for block in tiles(len(room), len(room) if plain else self._block_rows):
            source = slice(rows.start + block.start, rows.start + block.stop)
            if not plain:
                room[block] = self._wide(vectors, source).mul_(self.scale).sub_(self._center)
            elif self.scale == 1:
                torch.sub(_rows(vectors, source).to(self.device), self._center, out=room)
            else:
                room.copy_(_rows(vectors, source)).mul_(self.scale).sub_(self._center)
        return room

    def _wide(self, vectors: Vectors, rows: slice | torch.Tensor) -> torch.Tensor:
        wide = _rows(vectors, rows).to(self.device, torch.float64, copy=True)
        if self.unit_length:
            wide /= wide.abs().amax(1, keepdim=True)  # first: squares of tiny entries would underflow
            wide /= torch.linalg.vector_norm(wide, dim=1, keepdim=True)
        return wide

    @property
    def _of_bytes(self) -> bool:
        dtypes = {_rows(vectors, slice(0, 1)).dtype for vectors in (self.queries, self.reference)}
        return not self.unit_length and dtypes == {torch.uint8}

    def _bytes(self, vectors: Vectors, rows: slice | torch.Tensor) -> torch.Tensor:
        return _rows(vectors, rows).to(self.device).float()

    def _largest(self, name: str, vectors: Vectors, part: slice | None = None) -> float:
        """The largest absolute value. Raises LeadlineError where a row cannot be compared."""
        largest, limit = 0.0, math.inf if self.unit_length else LARGEST
        for rows in tiles(len(vectors) if part is None else part.stop, self._block_rows):
            near = _rows(vectors, rows)
            sizes = (near if near.dtype in EXACT_IN_FLOAT32 else near.double()).abs().amax(1).double()
            for bad, words in (
                (~(sizes < limit), f"holds a value that is NaN, infinite or beyond {LARGEST:g}"),
                (sizes == 0, "has length 0, so it has no cosine: leave it out, or use metric 'l2'"),
            ):
                if bad.any() and (self.unit_length or words.startswith("holds")):
                    raise LeadlineError(f"{name}: vector {rows.start + int(bad.nonzero()[0])} {words}")
            largest = max(largest, float(sizes.max()))
        return largest


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products of bfloat16 run on units made for them, a CPU's AMX tiles, and are summed in float32.

    CUDA may sum parts of a product in bfloat16, which no bound here covers.
    """
    if device.type != "cpu":
        return False
    # Not in every torch that is supported: there, products are of float32.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


def squared_lengths(vectors: torch.Tensor) -> torch.Tensor:
    """|a|² [n] in float64 on the CPU, of float32 [n, d]; off by at most d·u relative."""
    lengths: torch.Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return lengths.cpu().double().square()


def tiles(n: int, rows: int) -> Iterator[slice]:
    """Slices of at most `rows` that cover 0 to n."""
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def _rows(vectors: Vectors, rows: slice | torch.Tensor) -> torch.Tensor:
    """Some rows as a tensor [r, d]. Of a memory map only these rows are read."""
    if isinstance(vectors, torch.Tensor):
        chosen = vectors[rows if isinstance(rows, slice) else rows.to(vectors.device)].detach()
    else:
        part = vectors[rows if isinstance(rows, slice) else rows.numpy()]
        kind: Any = part.dtype if part.dtype in (np.uint8, np.float16, np.float32) else np.float64
        # torch warns of arrays that cannot be written to, such as memory maps: those are copied.
        chosen = torch.from_numpy(np.require(part, kind, ["C", "W"]) if part.flags.writeable else np.array(part, kind))
    return chosen.flatten(1)


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
