"""Trends over depth: the share of each training run against its depth, a run being the unit."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import kendalltau, page_trend_test
from scipy.stats import t as student_t
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from leadline.errors import LeadlineError, NotMeasurable

AND_IMAGES = " and the images that they have in common (two-way clustered)"
MOST_STATES = 1300
"""Up to so many ways of how far each group is filled the permutation distribution is computed exactly."""


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A test of no trend. effect: its size on a scale of its own; p: two-sided; smallest_p: the least that as many
    runs could give without ties, however clear the trend."""

    statistic: float
    effect: float
    p: float
    smallest_p: float
    method: str


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Change of the log-odds per block, with its interval; overdispersion: of the runs beside images alone.

    image_part: of its variance, 0 to 1, that from images which runs have in common; degrees: of Student's t.
    """

    value: float
    lower: float
    upper: float
    level: float
    p: float
    overdispersion: float
    degrees: float
    image_part: float
    method: str


def jonckheere(groups: Sequence[Sequence[float]]) -> Trend:
    """Jonckheere (1954), Terpstra (1952): J = number of pairs of values of two groups of which the later group has the
    larger, ties half.

    groups: the runs' values, a group per depth by rising depth; at least two groups with values. effect: J over the
    number of pairs, 0 to 1, 1/2 without a trend. p: how many of all assignments of these values to groups of these
    sizes have J as far from its mean (exact, ties included), or where they are too many the normal approximation with
    ties (Kendall 1970, of tau between depth and value, which is J rescaled).
    Raises LeadlineError on fewer groups or values that are no numbers.
    """
    sizes = [len(group) for group in groups]
    if len(groups) < 2 or not all(sizes):
        raise LeadlineError(f"a trend needs two depths or more with one run or more each, not {sizes}")
    values = np.array([value for group in groups for value in group], dtype=np.float64)
    if not np.isfinite(values).all():
        raise LeadlineError("a trend needs finite values")
    labels = np.repeat(np.arange(len(groups)), sizes)
    pairs = (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2
    twice = int(_twice_wins(values, labels))
    if math.prod(size + 1 for size in sizes) <= MOST_STATES:
        counts = _distribution(np.unique(values, return_counts=True)[1].tolist(), sizes, pairs)
        far = np.abs(np.arange(len(counts)) - pairs) >= abs(twice - pairs)
        p, method = float(counts[far].sum() / counts.sum()), "Jonckheere-Terpstra, exact permutation distribution"
    elif np.ptp(values) == 0:
        p, method = 1.0, "Jonckheere-Terpstra, all runs alike"
    else:
        p = float(kendalltau(labels, values, method="asymptotic").pvalue)
        method = "Jonckheere-Terpstra, normal approximation"
    arrangements = math.factorial(sum(sizes)) // math.prod(math.factorial(size) for size in sizes)
    return Trend(
        statistic=twice / 2, effect=twice / 2 / pairs, p=p, smallest_p=min(1.0, 2 / arrangements), method=method
    )


def page(table: Float[np.ndarray, "blocks depths"]) -> Trend:
    """Page (1963): L = Σ over depths of (rank of the depth) · (sum of the values' ranks within their block).

    table: a row per training seed, a column per depth by rising depth; at least two rows and three columns. What a
    seed moves at every depth drops out. effect: mean Spearman correlation of a block's values with depth, -1 to 1.
    p: two-sided, twice the smaller side of scipy's; exact without ties, else the normal approximation.
    Raises LeadlineError on a smaller table.
    """
    blocks, depths = table.shape
    if blocks < 2 or depths < 3:
        raise LeadlineError(f"Page's test needs two seeds and three depths or more: {blocks} and {depths} given")
    tied = any(len(np.unique(row)) < depths for row in table)
    method = "asymptotic" if tied else "exact"
    rising = page_trend_test(table, method=method)
    falling = page_trend_test(table, method=method, predicted_ranks=np.arange(depths, 0, -1))
    middle, half = blocks * depths * (depths + 1) ** 2 / 4, blocks * depths * (depths**2 - 1) / 12
    return Trend(
        statistic=float(rising.statistic),
        effect=float((rising.statistic - middle) / half),
        p=min(1.0, 2 * min(float(rising.pvalue), float(falling.pvalue))),
        smallest_p=min(1.0, 2 / float(math.factorial(depths)) ** blocks),
        method=f"Page's L over training seeds as blocks, {'normal approximation' if tied else 'exact'}",
    )


def count_covariance(
    of_class: Bool[np.ndarray, "runs images"], recognised: Bool[np.ndarray, "runs images"]
) -> Float[np.ndarray, "runs runs"]:
    """Cameron, Gelbach and Miller (2011), Eq. 2.11, the images' part: Σ over images of e e', e = y - share of its run.

    of_class, recognised: in run r, image i, which starts from one noise in all of them; False where a run did not draw
    it. Returns variances and covariances of the runs' counts over the noises.
    """
    shares = (of_class & recognised).sum(axis=1) / np.maximum(recognised.sum(axis=1), 1)
    e = (of_class - shares[:, None]) * recognised
    products: np.ndarray = e @ e.T
    return products


def logistic_trend(
    counts: Sequence[int],
    ns: Sequence[int],
    depths: Sequence[int],
    level: float = 0.95,
    *,
    covariance: Float[np.ndarray, "runs runs"] | None = None,
) -> Slope:
    """McCullagh and Nelder (1989), 4.5: slope of the log-odds per block over runs, quasi-binomial.

    counts, ns, depths: of each run its images of the class, all its images, its number of blocks. The variance is
    φ n q (1 - q) with φ = Pearson's X² / (k - 2), at least 1, and the interval Student's with k - 2 degrees: runs of
    one depth differ by more than images do, and a plain binomial model would take every image for an independent
    sign of what depth does. With few runs φ itself is little known, which the t quantile pays for.

    covariance: of the counts over images that several runs have in common (`count_covariance`); None takes the images
    of any two runs for independent. Runs and images are crossed, so that the variance has a part between runs and one
    of images (Cameron, Gelbach and Miller, 2011): where the images of one depth agree more than those of two, a noise
    moves all runs of a depth together, and their spread does not show it. The part of images is Σ c c' C over pairs of
    runs, c the slope's weights of their counts and C the covariance; a run with itself has what two runs of one depth
    have in common, as the rest of its own variance is in the part between runs, or all of its variance where no depth
    has two runs, which errs wide. The degrees of the sum are Satterthwaite's (1946).
    Raises NotMeasurable on fewer than three runs or two depths, or where the slope has no finite estimate.
    """
    if not len(counts) == len(ns) == len(depths):
        raise LeadlineError(f"{len(counts)} counts, {len(ns)} n, {len(depths)} depths: one of each per run")
    if len(counts) < 3 or len(set(depths)) < 2:
        raise NotMeasurable(
            f"a slope needs three training runs or more at two depths or more, not {len(counts)} at "
            f"{len(set(depths))}: train more (leadline sweep --depths 2,4 --seeds 0,1,2)"
        )
    made, whole, x = (np.asarray(each, dtype=np.float64) for each in (counts, ns, depths))
    with_class, without = x[made > 0], x[made < whole]
    separated = not (len(with_class) and len(without)) or (
        with_class.max() <= without.min() or without.max() <= with_class.min()
    )
    if separated:
        raise NotMeasurable(
            "the class is in no image, or in all, up to some depth and only beyond it otherwise: the log-odds have no "
            "finite slope; draw more images (--set sample.num_images)"
        )
    model = GLM(made / whole, np.column_stack([np.ones_like(x), x]), family=Binomial(), var_weights=whole)
    with warnings.catch_warnings():
        # Runs that lie on the curve exactly are no separation: that is ruled out above.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fitted = model.fit()
    dispersion = float(fitted.pearson_chi2) / (len(counts) - 2)
    slope, between = float(fitted.params[1]), float(fitted.bse[1]) ** 2 * max(1.0, dispersion)
    weights = (np.asarray(fitted.cov_params()) @ np.stack([np.ones_like(x), x]))[1]
    images = 0.0 if covariance is None else float(weights @ _in_common(covariance, x) @ weights)
    variance = between + max(0.0, images)
    degrees, error = (len(counts) - 2) * (variance / between) ** 2, math.sqrt(variance)
    half = float(student_t.ppf((1 + level) / 2, degrees)) * error
    return Slope(
        value=slope,
        lower=slope - half,
        upper=slope + half,
        level=level,
        p=float(2 * student_t.sf(abs(slope) / error, degrees)),
        overdispersion=dispersion,
        degrees=degrees,
        image_part=1 - between / variance,
        method=f"quasi-binomial logistic regression over training runs{'' if covariance is None else AND_IMAGES}, "
        f"Student t with {degrees:.3g} degrees",
    )


def _in_common(
    covariance: Float[np.ndarray, "runs runs"], depths: Float[np.ndarray, " runs"]
) -> Float[np.ndarray, "runs runs"]:
    """What counts have in common: of two runs all of their covariance, of one what two of its depth have."""
    own = covariance.diagonal()
    alike = (depths[:, None] == depths) & ~np.eye(len(depths), dtype=bool)
    could = float(np.sqrt(np.outer(own, own))[alike].sum())
    part = min(1.0, max(0.0, float(covariance[alike].sum()) / could)) if could else 1.0
    found = covariance.copy()
    np.fill_diagonal(found, part * own)
    return found


def _twice_wins(values: Float[np.ndarray, " n"], labels: np.ndarray) -> int:
    """2 J: pairs whose value rises with the group count 2, ties 1."""
    later = labels[:, None] < labels[None, :]
    return int(((np.sign(values[None, :] - values[:, None]) + 1) * later).sum())


def _distribution(ties: Sequence[int], sizes: Sequence[int], pairs: int) -> Float[np.ndarray, " j"]:
    """Number of assignments by 2 J = 0 to 2 · pairs: the values are dealt out to the groups from the smallest on.

    ties: how many times each distinct value is there, by rising value. A state is how far each group is filled; of a
    value dealt to group g it matters only how many smaller and equal ones the groups before it have.
    """
    states: dict[tuple[int, ...], np.ndarray] = {(0,) * len(sizes): np.eye(1, 2 * pairs + 1)[0]}
    for number in ties:
        reached: dict[tuple[int, ...], np.ndarray] = {}
        for filled, counts in states.items():
            for dealt in _dealings(number, [size - there for size, there in zip(sizes, filled, strict=True)]):
                gained = before = equal = 0
                ways, left = 1, number
                for there, new in zip(filled, dealt, strict=True):
                    gained += new * (2 * before + equal)
                    before, equal = before + there, equal + new
                    ways *= math.comb(left, new)
                    left -= new
                state = tuple(there + new for there, new in zip(filled, dealt, strict=True))
                target = reached.setdefault(state, np.zeros(2 * pairs + 1))
                target[gained:] += ways * counts[: len(counts) - gained]
        states = reached
    return states[tuple(sizes)]


def _dealings(number: int, room: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All ways to deal `number` equal things to places with that much room."""
    if not room:
        if number == 0:
            yield ()
        return
    for first in range(max(0, number - sum(room[1:])), min(number, room[0]) + 1):
        for rest in _dealings(number - first, room[1:]):
            yield (first, *rest)
