"""Mean LPIPS over all pairs of images, exact, in one pass: LPIPS is a squared distance, which has a closed form."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int

from leadline.errors import LeadlineError
from leadline.rng import numpy_generator_for

LPIPS_EPSILON = 1e-10
"""Added to the length over channels, outside the root, as LPIPS does."""
BUDGET_BYTES = 2**30
FEWEST_KEPT = 8
STEP_BYTES = {"cpu": 2**24, "cuda": 2**28}
"""Embeddings worked on at a time: few, so that they stay in a processor's cache; more where each call costs time."""
CHUNK_BYTES = 2**26
"""Kept embeddings grow by as much at a time."""
CHUNK_VALUES = 2**16


@dataclass(frozen=True, kw_only=True)
class PairDistances:
    """Mean squared distances over all pairs of n images, within each of G groups and between two of them.

    n, counts [G]: images, and those of each group; images of no group are in the total alone. total, within [G],
    between [G, G] (symmetric, the diagonal NaN): means over pairs, 0 or more, NaN where there is no pair. *_error:
    their standard errors, NaN where there are too few images to know. kept, kept_counts [G]: the images behind the
    errors, all or a random choice; kept_images [K]: which. to_others [K]: mean distance of each of these to all other
    images. dimension: of an embedding. calibrated: whether LPIPS's weights were applied.
    """

    n: int
    kept: int
    dimension: int
    calibrated: bool
    total: float
    total_error: float
    counts: Int[np.ndarray, " g"]
    kept_counts: Int[np.ndarray, " g"]
    kept_images: Int[np.ndarray, " k"]
    to_others: Float[np.ndarray, " k"]
    within: Float[np.ndarray, " g"]
    within_error: Float[np.ndarray, " g"]
    between: Float[np.ndarray, "g g"]
    between_error: Float[np.ndarray, "g g"]

    ARRAYS: ClassVar[tuple[str, ...]]
    """Names of what `to_arrays` gives."""

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every field as an array of numbers, to be kept on disk."""
        return {name: np.asarray(getattr(self, name)) for name in self.ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "PairDistances":
        """What `to_arrays` gave."""
        values: dict[str, Any] = {
            name: arrays[name].item() if arrays[name].ndim == 0 else np.array(arrays[name]) for name in cls.ARRAYS
        }
        return cls(**values)


PairDistances.ARRAYS = tuple(field.name for field in fields(PairDistances))


class PairSums:
    """Zhang et al. (2018), Eq. 1, over all pairs: 2N/(N-1) · (mean|e|² - |mean e|²), e the images' embeddings.

    e concatenates √(w/HW) · φ / (‖φ‖ + 1e-10) over the taps φ [n, c, h, w] of a network, ‖·‖ over channels, so that
    LPIPS(x, y) = ‖e(x) - e(y)‖² where no weight w is negative. Between groups a and b the mean is
    mean_a|e|² + mean_b|e|² - 2 mean_a e · mean_b e.

    The standard errors are those of U-statistics (Hoeffding, 1948): they count images, not pairs. Over all pairs,
    2·sd(h)/√N with h_i the mean distance of i to the others; between groups √(var(h_a→b)/n_a + var(h_b→a)/n_b).
    h needs the embeddings, so those of up to `budget_bytes` are kept in half precision (at least 8): all of them
    while they fit, else a uniformly random choice. The means never depend on that choice.

    heads: w of each tap [c], 0 or more; None: every w is 1 (not calibrated). num_groups: G, 0 or more. Memory: one
    float64 embedding per group that occurs, and the budget. Sums are in float64 about the first image's embedding,
    so what all images share costs no digits.
    """

    def __init__(
        self,
        heads: Sequence[Float[torch.Tensor, " _"]] | None,
        num_groups: int,
        *,
        budget_bytes: int = BUDGET_BYTES,
        seed: int = 0,
    ) -> None:
        for index, head in enumerate(heads or ()):
            if not bool((head >= 0).all()):
                raise LeadlineError(
                    f"the LPIPS weights of tap {index} go down to {float(head.min()):.3g}, but with a negative weight "
                    "LPIPS is no squared distance and has no closed form: give weights that are 0 or more"
                )
        self.heads, self.num_groups = heads, num_groups
        self.budget_bytes, self.seed = budget_bytes, seed
        self._started: tuple[_Space, _Kept] | None = None
        self._sums: dict[int, Float[torch.Tensor, " d"]] = {}
        self._squares: list[Float[np.ndarray, " n"]] = []
        self._groups: list[Int[np.ndarray, " n"]] = []
        self._n = 0

    @torch.no_grad()
    def add(self, taps: Sequence[Float[torch.Tensor, "n ..."]], groups: Int[np.ndarray, " m"] | None = None) -> None:
        """Take in n images: maps [n, c, h, w] of each tap, on one device; group of each, -1 (default) for none."""
        n = len(taps[0])
        groups = np.full(n, -1) if groups is None else groups
        if len(groups) != n or ((groups < -1) | (groups >= self.num_groups)).any():
            raise LeadlineError(
                f"{n} images need {n} groups from -1 (none) to {self.num_groups - 1}: {len(groups)} given, "
                f"of values {np.unique(groups).tolist()}"
            )
        if n == 0:
            return
        space, kept = self._started = self._started or self._start(taps)
        space.check(taps)
        step = max(1, STEP_BYTES["cpu" if taps[0].device.type == "cpu" else "cuda"] // (4 * space.dimension))
        for start in range(0, n, step):
            rows = slice(start, start + step)
            embedded, squares = space.embed([tap[rows] for tap in taps])
            self._sum(embedded, squares.cpu().numpy(), groups[rows].astype(np.int64))
            kept.offer(embedded)

    def _start(self, taps: Sequence[Float[torch.Tensor, "n ..."]]) -> "tuple[_Space, _Kept]":
        space = _Space(taps, self.heads)
        return space, _Kept(max(FEWEST_KEPT, self.budget_bytes // (2 * space.dimension)), space.weights, self.seed)

    def _sum(
        self, embedded: Float[torch.Tensor, "n d"], squares: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"]
    ) -> None:
        if not np.isfinite(squares).all():
            raise LeadlineError(f"features of image {self._n + int(np.argmin(np.isfinite(squares)))} are not finite")
        for group in np.unique(groups).tolist():
            rows = np.flatnonzero(groups == group)
            part = embedded if len(rows) == len(groups) else embedded[torch.from_numpy(rows).to(embedded.device)]
            if group not in self._sums:
                self._sums[group] = torch.zeros(embedded.shape[1], dtype=torch.float64, device=embedded.device)
            self._sums[group] += part.sum(0)
        self._squares.append(squares)
        self._groups.append(groups)
        self._n += len(groups)

    @torch.no_grad()
    def result(self) -> PairDistances:
        """The means and errors of all images so far. Raises LeadlineError before the first one."""
        if self._started is None:
            raise LeadlineError("distances between images need images, none were given")
        space, kept = self._started
        present = sorted(self._sums)
        gram, dots = kept.products([self._sums[group] for group in present])
        squares, chosen = np.concatenate(self._squares), np.array(kept.images)
        # Images of no group, -1, become a last group, so that every array has a place for them.
        groups, place = (np.array(x) % (self.num_groups + 1) for x in (np.concatenate(self._groups), present))
        every_gram = np.zeros((self.num_groups + 1, self.num_groups + 1))
        every_gram[np.ix_(place, place)] = gram
        every_dots = np.zeros((len(chosen), self.num_groups + 1))
        every_dots[:, place] = dots
        parts = _means(groups, squares, every_gram, chosen, every_dots)
        whole = _means(np.zeros_like(groups), squares, gram.sum(keepdims=True), chosen, dots.sum(1, keepdims=True))
        named = slice(self.num_groups)
        return PairDistances(
            n=self._n,
            kept=len(chosen),
            dimension=space.dimension,
            calibrated=self.heads is not None,
            total=float(whole.within[0]),
            total_error=float(whole.within_error[0]),
            counts=np.bincount(groups, minlength=self.num_groups + 1)[named],
            kept_counts=np.bincount(groups[chosen], minlength=self.num_groups + 1)[named],
            kept_images=chosen,
            to_others=whole.to_own,
            within=parts.within[named],
            within_error=parts.within_error[named],
            between=parts.between[named, named],
            between_error=parts.between_error[named, named],
        )


class _Space:
    """Where the taps of an image stand in its embedding, and what they weigh there.

    Embeddings are held without √(w/HW), which is at the end applied to products: so they lie in [-1, 1], where half
    precision is at its best.
    """

    def __init__(
        self, taps: Sequence[Float[torch.Tensor, "n ..."]], heads: Sequence[Float[torch.Tensor, " _"]] | None
    ) -> None:
        self.shapes = [tuple(tap.shape[1:]) for tap in taps]
        channels = [shape[0] for shape in self.shapes]
        if heads is not None and [len(head) for head in heads] != channels:
            raise LeadlineError(
                f"the network's taps have {channels} channels, but the LPIPS weights are for "
                f"{[len(head) for head in heads]}: give the weights of this network"
            )
        device = taps[0].device
        areas = [math.prod(shape[1:]) for shape in self.shapes]
        given = heads or [torch.ones(c) for c in channels]
        self.channel_weights = [head.to(device, torch.float64) / area for head, area in zip(given, areas, strict=True)]
        self.weights = torch.cat([w.repeat_interleave(a) for w, a in zip(self.channel_weights, areas, strict=True)])
        self.dimension = len(self.weights)
        self.negative_center = torch.zeros(1, self.dimension, device=device)
        self.negative_center = -self.embed([tap[:1] for tap in taps])[0]

    def check(self, taps: Sequence[Float[torch.Tensor, "n ..."]]) -> None:
        shapes = [tuple(tap.shape[1:]) for tap in taps]
        if shapes != self.shapes:
            raise LeadlineError(f"all images must have one size: taps {shapes} given after {self.shapes}")

    def embed(
        self, taps: Sequence[Float[torch.Tensor, "n ..."]]
    ) -> tuple[Float[torch.Tensor, "n d"], Float[torch.Tensor, " n"]]:
        """Embeddings [n, d] about the first image's, without weights, and their squared lengths, with them."""
        embedded = torch.empty(len(taps[0]), self.dimension, device=self.weights.device)
        squares = torch.zeros(len(taps[0]), dtype=torch.float64, device=self.weights.device)
        start = 0
        for tap, shape, weights in zip(taps, self.shapes, self.channel_weights, strict=True):
            stop = start + math.prod(shape)
            here = embedded[:, start:stop].view(-1, *shape)
            wide = tap.float()
            lengths = wide.square().sum(1, keepdim=True).sqrt_()  # vector_norm takes thrice the time
            scale = lengths.add_(LPIPS_EPSILON).reciprocal_()
            torch.addcmul(self.negative_center[:, start:stop].view(1, *shape), wide, scale, out=here)
            squares += torch.linalg.vector_norm(here.flatten(2), dim=2).double().square() @ weights
            start = stop
        return embedded, squares


class _Kept:
    """Embeddings in half precision, up to a number of them: a uniformly random choice of all (Vitter, 1985, R)."""

    def __init__(self, capacity: int, weights: Float[torch.Tensor, " d"], seed: int) -> None:
        self.capacity, self.weights = capacity, weights
        self.generator = numpy_generator_for(seed, "pairs kept")
        self.images: list[int] = []
        self.chunk_rows = max(1, CHUNK_BYTES // (2 * len(weights)))
        self.chunks: list[torch.Tensor] = []
        self.seen = 0

    def offer(self, embedded: Float[torch.Tensor, "n d"]) -> None:
        fresh = min(len(embedded), self.capacity - len(self.images))
        self._append(embedded[:fresh])
        for row in embedded[fresh:]:
            place = int(self.generator.integers(self.seen + 1))
            if place < self.capacity:
                self.images[place] = self.seen
                self.chunks[place // self.chunk_rows][place % self.chunk_rows] = row
            self.seen += 1

    def _append(self, embedded: Float[torch.Tensor, "n d"]) -> None:
        while len(embedded):
            used = len(self.images) % self.chunk_rows
            if used == 0:
                rows = min(self.chunk_rows, self.capacity - len(self.images))
                self.chunks.append(torch.empty(rows, embedded.shape[1], dtype=torch.float16, device=embedded.device))
            room = self.chunks[-1][used : used + len(embedded)]
            room.copy_(embedded[: len(room)])
            self.images.extend(range(self.seen, self.seen + len(room)))
            self.seen += len(room)
            embedded = embedded[len(room) :]

    def products(
        self, sums: Sequence[Float[torch.Tensor, " d"]]
    ) -> tuple[Float[np.ndarray, "g g"], Float[np.ndarray, "k g"]]:
        """Weighted products of the sums with each other, and of each kept embedding with the sums."""
        gram = torch.zeros(len(sums), len(sums), dtype=torch.float64, device=self.weights.device)
        dots = torch.zeros(len(self.images), len(sums), dtype=torch.float64, device=self.weights.device)
        for start in range(0, len(self.weights), CHUNK_VALUES):
            values = slice(start, start + CHUNK_VALUES)
            part = torch.stack([total[values] for total in sums])
            weighted = part * self.weights[values]
            gram += part @ weighted.T
            for index, chunk in enumerate(self.chunks):
                rows = slice(index * self.chunk_rows, min((index + 1) * self.chunk_rows, len(self.images)))
                kept = chunk[: rows.stop - rows.start, values].float()
                dots[rows] += kept @ weighted.T.float()
        return gram.cpu().numpy(), dots.cpu().numpy()


@dataclass(frozen=True)
class _Means:
    """Means over pairs, with their errors; to_own [k]: of each kept image, to the others of its own group."""

    to_own: Float[np.ndarray, " k"]
    within: Float[np.ndarray, " g"]
    within_error: Float[np.ndarray, " g"]
    between: Float[np.ndarray, "g g"]
    between_error: Float[np.ndarray, "g g"]


def _means(
    groups: Int[np.ndarray, " n"],
    squares: Float[np.ndarray, " n"],
    gram: Float[np.ndarray, "g g"],
    kept: Int[np.ndarray, " k"],
    dots: Float[np.ndarray, "k g"],
) -> _Means:
    """Mean distances within and between groups, and their errors, from sums alone.

    groups, squares: of each image its group and |e|². gram: Σ_a e · Σ_b e. kept: which images' errors are estimated
    from; dots: of these, e · Σ_b e.
    """
    num_groups = len(gram)
    n = np.bincount(groups, minlength=num_groups).astype(np.float64)
    spread = np.full((num_groups, num_groups), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_squares = np.bincount(groups, squares, minlength=num_groups) / n
        between = mean_squares[:, None] + mean_squares - 2 * gram / np.outer(n, n)
        # Mean distance of each kept image to each group: its own group's includes the 0 to itself, undone by n/(n-1).
        to_groups = squares[kept, None] + mean_squares - 2 * dots / n
        for group in range(num_groups):
            own = to_groups[groups[kept] == group]
            if len(own) > 1:
                spread[group] = own.var(0, ddof=1)
        without_itself = np.where(n > 1, n / (n - 1), np.nan)
        to_own = (to_groups * without_itself)[np.arange(len(kept)), groups[kept]]
        within = between.diagonal() * without_itself
        # Two images have one distance: nothing to see a spread in.
        within_error = np.where(n > 2, 2 * np.sqrt(spread.diagonal() / n) * without_itself, np.nan)
        between_error = np.sqrt(spread / n[:, None] + spread.T / n)
    apart = np.where(np.eye(num_groups, dtype=bool), np.nan, between)
    between_error = np.where(np.isnan(apart), np.nan, between_error)
    return _Means(to_own, np.maximum(within, 0), within_error, np.maximum(apart, 0), between_error)
