"""Two sets of images of the same seeds: is the difference more than chance? Pair by pair, or block by block."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest
from scipy.stats import t as student_t

from leadline.audit.intervals import Interval, standard_error, wilson
from leadline.errors import LeadlineError, NotMeasurable
from leadline.rng import stream_seed


@dataclass(frozen=True)
class Inference:
    """The interval of a difference, and the two-sided p of none."""

    lower: float
    upper: float
    p: float


def student(value: float, error: float, freedom: int, level: float) -> Inference:
    """Student (1908): value ± t(freedom) · error, and the two-sided p of 0, for a difference with its standard error.

    error: 0 or more; freedom: degrees of freedom, 1 or more; level: coverage, in (0, 1). No difference without any
    spread has the interval [0, 0] and p = 1. Raises NotMeasurable on a difference without any spread.
    """
    if error == 0:
        if value:
            raise NotMeasurable(
                f"the difference of {value:.4g} is the same wherever it is looked at, so nothing shows how much it "
                "varies: draw more images (--num-images)"
            )
        return Inference(0.0, 0.0, 1.0)
    half = float(student_t.ppf((1 + level) / 2, freedom)) * error
    return Inference(value - half, value + half, 2 * float(student_t.sf(abs(value) / error, freedom)))


def paired_t(base: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"], level: float) -> Inference:
    """Student (1908), of pairs: mean(d) ± t(n-1) · sd(d)/√n, d = other - base; n of 2 or more, else NotMeasurable."""
    _check_pairs(len(base), 2)
    differences = other.astype(np.float64) - base
    return student(float(differences.mean()), standard_error(differences), len(differences) - 1, level)


def jackknifed(value: float, linear: Float[np.ndarray, " n"], level: float, *, pairs: int | None = None) -> Inference:
    """Tukey (1958), delete-one jackknife of a difference: variance (n-1)/n · Σ(θ₋ᵢ - mean)², t with n - 1 df.

    linear: [n], n of 3 or more, what each θ₋ᵢ is but for a constant: of statistics that are linear in it, such as
    means over pairs, all of them follow from one pass. pairs: how many images there are, where `linear` is of a random
    choice of them.
    """
    kept = len(linear)
    n = kept if pairs is None else pairs
    _check_pairs(kept, 3)
    return student(value, (n - 1) / math.sqrt(n) * float(linear.std(ddof=1)), kept - 1, level)


def block_jackknifed(
    value: float,
    without: Float[np.ndarray, " b"],
    sizes: Int[np.ndarray, " b"],
    level: float,
    *,
    corrected: bool = False,
) -> tuple[float, Inference]:
    """Busing, Meijer and van der Leeden (1999), delete-m_j jackknife of a difference; t with b - 1 degrees of freedom.

    value: θ, of all n images; without: θ₋ⱼ, of all but each block's; sizes: images m_j of each block, Σ m_j = n; b of 2
    or more. With h = n/m_j and pseudo-values h·θ - (h-1)·θ₋ⱼ, of which θ_J is the mean weighted by m_j, the variance is
    1/b · Σ (pseudo-value - θ_J)²/(h-1). For symmetric statistics it is too large rather than too small (Efron and
    Stein, 1981), so the test holds its level where the statistic is no smooth one, too. Returns θ with its inference;
    corrected: θ_J with its own, which lacks θ's bias of order 1/n.
    """
    if len(without) < 2:
        raise NotMeasurable(f"a block jackknife needs 2 blocks or more, {len(without)} given: draw more images")
    # A constant shift of both changes nothing but the digits that are lost.
    apart, ratio = without - value, sizes.sum() / sizes
    pseudo = -(ratio - 1) * apart
    center = float(np.average(pseudo, weights=sizes))
    variance = float((np.square(pseudo - center) / (ratio - 1)).mean())
    tested = value + center if corrected else value
    return tested, student(tested, math.sqrt(variance), len(without) - 1, level)


def mcnemar(base: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"], level: float) -> Inference:
    """McNemar (1947), exact: p of as uneven a split of the pairs that differ, and the paired interval of Newcombe.

    base, other: [n], whether each image counts, in the two sets; n of 1 or more. p = 1 where no pair differs.
    """
    gained, lost = int((other & ~base).sum()), int((base & ~other).sum())
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    lower, upper = newcombe_paired(int((base & other).sum()), gained, lost, len(base), level)
    return Inference(lower, upper, p)


def newcombe_paired(both: int, gained: int, lost: int, n: int, level: float) -> Interval:
    """Newcombe (1998, Statistics in Medicine 17, 2635), method 10: interval of q - p of paired shares, in [-1, 1].

    p = (both + lost)/n, q = (both + gained)/n. As for independent shares, with Wilson's intervals, but for the term
    -2φ·(q-l)(u-p) under each root; φ is the correlation of the pairs, with both·neither - gained·lost, where it is
    above 0, less n/2 (no less than 0), and 0 where a share is 0 or 1.
    """
    neither = n - both - gained - lost
    p, q = (both + lost) / n, (both + gained) / n
    (low, high), (other_low, other_high) = wilson(both + lost, n, level), wilson(both + gained, n, level)
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    excess = float(both * neither - gained * lost)
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    phi = excess / math.sqrt(margins) if margins else 0.0
    below = _joined(q - other_low, high - p, phi)
    above = _joined(other_high - q, p - low, phi)
    return q - p - below, q - p + above


def holm(ps: Sequence[float]) -> list[float]:
    """Holm (1979): adjusted p-values, in the given order; of those below α, no false one with probability 1 - α.

    ps: p-values of one family, each in [0, 1]. Sorted, the i-th of m is max over j ≤ i of (m - j + 1)·p_j, at most 1.
    """
    if not all(0 <= p <= 1 for p in ps):
        raise LeadlineError(f"Holm's method takes p-values from 0 to 1, not {', '.join(map(str, ps))}")
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted


def blocks_of(ids: Sequence[str], count: int, seed: int) -> Int[np.ndarray, " n"]:
    """The block, 0 to count - 1, of each image: random, of sizes that differ by one at most, decided by the ids alone.

    count: at most the number of ids, each of which is there once.
    """
    key = stream_seed(seed, "jackknife blocks").to_bytes(8, "little")
    ranks = [hashlib.blake2b(text.encode(), digest_size=16, key=key).digest() for text in ids]
    blocks = np.empty(len(ids), np.int64)
    blocks[sorted(range(len(ids)), key=ranks.__getitem__)] = np.arange(len(ids)) % count
    return blocks


def _joined(first: float, second: float, phi: float) -> float:
    # Rounding alone takes it below 0.
    return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))


def _check_pairs(n: int, fewest: int) -> None:
    if n < fewest:
        raise NotMeasurable(f"a paired test needs {fewest} images or more in each set, {n} given: draw more images")
