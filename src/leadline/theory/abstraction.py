"""P1, Figure 3: grids of class minima, abstracted level by level, and the exact law of the share of a class."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, xlogy
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.rng import generator_for

Ties = Literal["random", "keep", "majority", "minority"]
"""random: any of the tied classes; keep: the class of the first tied cell, row by row from the upper left; majority,
minority: of the tied classes the one with most, or fewest, cells in the whole grid, at random where these tie too."""
Grid = TypeVar("Grid", np.ndarray, Tensor)
Generator = torch.Generator | np.random.Generator | None
MOST_COUNTS = 100_000
"""Ways to fill a window with the classes, beyond which the exact law is not summed."""


def abstract(grid: Grid, window: int = 2, generator: Generator = None, *, ties: Ties = "random") -> Grid:
    """P1, Figure 3: one abstraction step, every window x window block of cells becomes its most frequent class.

    grid: integers [..., h, w], a class each, NumPy array or tensor; the result is of its kind and type,
    [..., h / window, w / window]. ties: see `Ties`. generator draws them, torch's or NumPy's; None: a stream of
    the grid's own content and shape, so that the same grid always gives the same result, and every level draws anew.
    Raises LeadlineError where h or w is not a multiple of window.
    """
    if isinstance(grid, np.ndarray):
        if grid.dtype.kind not in "iu":
            raise _not_integers(grid.dtype)
        # torch counts in fewer types than NumPy has; those that it has are taken as they are, for speed.
        known = grid.dtype.name in ("uint8", "int8", "int16", "int32", "int64")
        cells = torch.from_numpy(np.ascontiguousarray(grid, dtype=grid.dtype.name if known else np.int64))
        return _abstract(cells, window, generator, ties).numpy().astype(grid.dtype, copy=False)
    if grid.is_floating_point() or grid.is_complex() or grid.dtype == torch.bool:
        raise _not_integers(grid.dtype)
    return _abstract(grid, window, generator, ties)


def levels_of(side: int, window: int = 2) -> int:
    """How many abstraction steps a side of that many cells allows: side / window^levels is still whole."""
    levels = 0
    while side > 1 and side % window == 0:
        side, levels = side // window, levels + 1
    return levels


def random_grids(
    shares: Sequence[float], shape: Sequence[int], generator: np.random.Generator
) -> Int[np.ndarray, "..."]:
    """Grids of `shape` whose cells are drawn one by one: class c with probability shares[c].

    int8 for up to 128 classes, int16 for more, int32 above 32,768.
    """
    bounds = np.cumsum(_checked(shares))[:-1]
    drawn = generator.random(tuple(shape), dtype=np.float32)
    kind = next(kind for kind in (np.int8, np.int16, np.int32) if len(bounds) <= np.iinfo(kind).max)
    grids = np.zeros(drawn.shape, dtype=kind)
    for bound in bounds:
        grids += drawn >= bound
    return grids


def expected_share(
    p: float, levels: int, *, window: int = 2, ties: Ties = "random"
) -> Float[np.ndarray, " levels_and_first"]:
    """P1, Figure 3, exact law of two classes: p_(l+1) = P(Bin(m, p_l) > m/2) + P(Bin(m, p_l) = m/2) / 2, m = window².

    With window 2: g(p) = 3 p² - 2 p³. p: share of a class in a grid of independent cells, in [0, 1]. Returns
    levels + 1 numbers, the first p. Arguments as `expected_shares`.
    """
    return expected_shares((p, 1 - p), levels, window=window, ties=ties)[:, 0]


def expected_shares(
    shares: Sequence[float], levels: int, *, window: int = 2, ties: Ties = "random"
) -> Float[np.ndarray, "levels_and_first classes"]:
    """The same for any number of classes: a sum over the multinomial counts of a window.

    Windows do not overlap and ties are drawn afresh, so the cells of every level are again independent and alike: the
    law of one step holds at each, and the share of a class over a level of m cells has the variance p (1 - p) / m.
    For ties "majority" and "minority", which look at the whole grid, it is the limit of large grids.

    Returns [levels + 1, classes]. Raises LeadlineError where shares are none, NotMeasurable where the counts are too
    many to sum.
    """
    first = _checked(shares)
    _check_window(window)
    if levels < 0:
        raise LeadlineError(f"the number of levels must be 0 or more, not {levels}")
    counts = _window_counts(window**2, len(first))
    # log of m! / (k_1! ... k_C!), the ways to place the counts in a window of m cells
    ways = gammaln(window**2 + 1) - gammaln(counts + 1).sum(1)
    found = [first]
    for _ in range(levels):
        chances = np.exp(ways + xlogy(counts, found[-1]).sum(1))
        found.append(chances @ _winners(counts, found[-1], ties))
    return np.stack(found)


def log_odds(shares: Float[np.ndarray, "... classes"]) -> Float[np.ndarray, "... classes"]:
    """log(p / (1 - p)) of each class, with 1 - p summed from the other classes: exact where p is nearly 1."""
    others = shares @ (1 - np.eye(shares.shape[-1]))
    with np.errstate(divide="ignore"):
        found: np.ndarray = np.log(shares) - np.log(others)
    return found


def largest_gain(window: int = 2) -> tuple[float, float]:
    """The share p of one of two classes that a step raises most, and by how much: argmax and max of g(p) - p.

    With window 2 p = (1 + 1/√3) / 2 = .789, by √3 / 18 = 9.62 points.
    """
    found = minimize_scalar(
        lambda p: p - float(expected_share(p, 1, window=window)[1]), bounds=(0.5, 1), method="bounded"
    )
    return float(found.x), -float(found.fun)


def _abstract(grid: Tensor, window: int, generator: Generator, ties: Ties) -> Tensor:
    _check_window(window)
    if ties not in get_args(Ties):
        raise LeadlineError(f"ties are broken by {', '.join(get_args(Ties))}, not {ties!r} (--ties)")
    h, w = grid.shape[-2:] if grid.ndim >= 2 else (0, 0)
    if not (h and w) or h % window or w % window:
        raise LeadlineError(
            f"a grid [..., h, w] whose sides are multiples of the window {window} is expected, not one of shape "
            f"{tuple(grid.shape)}: take sides of {window}^n cells (--size), or another window (--window)"
        )
    cells = [grid[..., i::window, j::window] for i in range(window) for j in range(window)]
    classes = _classes(grid)
    counts = _counts(cells, classes)
    winners = counts == counts.amax(0)
    if ties == "keep":
        winners = _first(winners, classes, cells)
    elif ties in ("majority", "minority"):
        totals = counts.sum((-2, -1), keepdim=True)
        ranked = torch.where(winners, totals if ties == "majority" else -totals, -h * w - 1)
        winners = ranked == ranked.amax(0)
    # Where one winner is left it is the last; where there are several, one of them is drawn. (argmax over so short a
    # dimension takes most of a second for 2 million windows.)
    place = torch.zeros(winners.shape[1:], dtype=torch.int64, device=grid.device)
    for index, won in enumerate(winners):
        place.masked_fill_(won, index)
    tied = winners.sum(0) > 1
    if tied.any():
        place[tied] = _drawn(winners[:, tied], _stream_of(grid) if generator is None else generator)
    return classes[place]


def _classes(grid: Tensor) -> Tensor:
    """The values that may be in the grid, ascending: a run of whole numbers where that is short, as sorting is slow."""
    if grid.numel() == 0:
        return grid.new_zeros(1)
    low, high = int(grid.min()), int(grid.max())
    if high - low < 32:
        return torch.arange(low, high + 1, device=grid.device).to(grid.dtype)
    return torch.unique(grid)  # type: ignore[no-any-return]


def _counts(cells: Sequence[Tensor], classes: Tensor) -> Tensor:
    """[classes, ..., h, w]: cells of each class in each window; those of the last class are what is left."""
    kind = torch.uint8 if len(cells) < 256 else torch.int32
    counts = torch.zeros(len(classes), *cells[0].shape, dtype=kind, device=classes.device)
    counts[-1] = len(cells)
    for cell in cells:
        for count, value in zip(counts[:-1], classes, strict=False):
            count += cell == value
    for count in counts[:-1]:
        counts[-1] -= count
    return counts


def _first(winners: Tensor, classes: Tensor, cells: Sequence[Tensor]) -> Tensor:
    """Of the winners in each window only the class of the first cell that holds one of them."""
    found = torch.zeros_like(winners)
    for cell in cells:
        here = (cell == classes.reshape(-1, *[1] * cell.ndim)) & winners
        found |= here & ~found.any(0)
    return found


def _stream_of(grid: Tensor) -> torch.Generator:
    """A stream of this grid alone: with one stream for all, each level would repeat the draws of the one before."""
    cells = grid.cpu().numpy().astype(np.int64)
    content = hashlib.sha256(repr(cells.shape).encode() + cells.tobytes()).hexdigest()
    return generator_for(0, f"abstraction ties {content}")


def _drawn(winners: Tensor, generator: torch.Generator | np.random.Generator) -> Tensor:
    """One of the winners [classes, n] of each of n windows, all alike."""
    n = winners.shape[1]
    if isinstance(generator, np.random.Generator):
        chance = torch.from_numpy(generator.random(n))
    else:
        # In 64 bits on the CPU: the same ties on every device that the grid may be on.
        chance = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
    rank = (chance.to(winners.device) * winners.sum(0)).long()
    return (winners.cumsum(0) <= rank).sum(0)


def _window_counts(cells: int, classes: int) -> Float[np.ndarray, "ways classes"]:
    ways = math.comb(cells + classes - 1, classes - 1)
    if ways > MOST_COUNTS:
        raise NotMeasurable(
            f"the exact law of {classes} classes in windows of {cells} cells is a sum over {ways:,} counts, at most "
            f"{MOST_COUNTS:,} are summed: take fewer classes (--classes) or a smaller window (--window)"
        )
    return np.array(list(_compositions(cells, classes)), dtype=np.float64)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write `total` as that many whole numbers of 0 or more, in order."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def _winners(
    counts: Float[np.ndarray, "ways classes"], shares: Float[np.ndarray, " classes"], ties: Ties
) -> Float[np.ndarray, "ways classes"]:
    """The probability of each class to win a window with these counts: tied classes share it.

    By "keep" too: given the counts every order of the cells is as likely, so each tied class is as often the first.
    """
    tied = counts == counts.max(1, keepdims=True)
    if ties in ("majority", "minority"):
        sign = 1 if ties == "majority" else -1
        best = np.where(tied, sign * shares, -np.inf)
        # Equal shares are equal only up to rounding after a step.
        tied = best > best.max(1, keepdims=True) - 1e-9
    chances: np.ndarray = tied / tied.sum(1, keepdims=True)
    return chances


def _checked(shares: Sequence[float]) -> Float[np.ndarray, " classes"]:
    given = np.array(shares, dtype=np.float64)
    if len(given) < 2 or not (given >= 0).all() or abs(given.sum() - 1) > 1e-6:
        raise LeadlineError(
            f"shares of two classes or more, from 0 to 1 with the sum 1, are expected, not "
            f"{', '.join(f'{share:g}' for share in given)} (--share, --shares)"
        )
    return given


def _check_window(window: int) -> None:
    if window < 2:
        raise LeadlineError(f"a window must be 2 cells or more wide, not {window} (--window)")


def _not_integers(dtype: Any) -> LeadlineError:
    return LeadlineError(f"a grid holds the number of a class in each cell: integers are expected, not {dtype}")
