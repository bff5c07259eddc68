"""Merged minima: which of a finer level flow into which of a coarser one, and the odds of Theorem 2."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from leadline.errors import LeadlineError, NotMeasurable

LEAST_MERGED = 3
"""Merged minima of unequal counts below which no exponent is fitted."""


@dataclass(frozen=True)
class ExponentFit:
    """Theorem 2's exponent as it fits: S, the part of the log-odds that it explains, the number of merged minima."""

    exponent: float
    r_squared: float
    num: int


def merged_odds(p: int | float, q: int | float, features: int | float) -> float:
    """P1, Theorem 2: (p / q)^S, the odds of class A once p minima of A and q of B merge, with S exclusive features.

    p, q: above 0. Infinite where it is too large for a number.
    """
    if not (p > 0 and q > 0):
        raise LeadlineError(f"Theorem 2 is about p and q minima of both classes, above 0 each: p = {p}, q = {q} given")
    try:
        return (p / q) ** features
    except OverflowError:
        return math.inf


def merged_counts(
    ancestor: Int[np.ndarray, " m"], followed: Int[np.ndarray, " m"], num: int
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """P1, Theorem 2's p and q: how many of the m finest minima are inside each of `num` merged ones.

    ancestor: the merged minimum of each, -1 where it is not known; followed: 1 for class A, 0 for every other, -1 for
    an undecided vote, which counts in neither.
    """
    p = np.bincount(ancestor[(followed == 1) & (ancestor >= 0)], minlength=num)
    q = np.bincount(ancestor[(followed == 0) & (ancestor >= 0)], minlength=num)
    return p, q


def fit_exponent(p: Int[np.ndarray, " k"], q: Int[np.ndarray, " k"], odds: Float[np.ndarray, " k"]) -> ExponentFit:
    """P1, Theorem 2 as a question: the S for which log odds = S log(p / q) fits best over merged minima.

    Least squares through the origin, without an interval: the merged minima of one landscape share its points and are
    not independent, other drawings of the points are. r_squared: 1 - the squared residuals over the squared log-odds,
    1 where the law holds exactly. p = q says nothing of S, nor do odds of 0 or infinity. Raises NotMeasurable where
    fewer than three are left.
    """
    known = (p > 0) & (q > 0) & (p != q) & (odds > 0) & np.isfinite(odds)
    if known.sum() < LEAST_MERGED:
        raise NotMeasurable(
            f"an exponent needs {LEAST_MERGED} minima merged from unequal numbers of both classes, here "
            f"{int(known.sum())}: more images, another tau"
        )
    x, y = np.log(p[known] / q[known]), np.log(odds[known])
    exponent = float(x @ y / (x @ x))
    residual = float(((y - exponent * x) ** 2).sum())
    total = float(y @ y)
    return ExponentFit(exponent, 1 - residual / total if total > 0 else 0.0, int(known.sum()))
