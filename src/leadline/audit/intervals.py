"""Intervals of shares and means: Wilson, exact, simultaneous, corrected for the classifier's error, Student t."""

import math
from collections.abc import Sequence
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student_t
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from leadline.errors import LeadlineError
from leadline.records import Measurement

Interval = tuple[float, float]

# Wilson's nominal 95 % are 89.5 where half an image is expected; with the exact interval below ten they stay over 93.
SMALL_COUNT = 10


def wilson(count: SupportsFloat, n: SupportsFloat, level: float = 0.95) -> Interval:
    """Wilson (1927), score interval of a share: centre (q + z²/2n) / (1 + z²/n), q = count / n.

    count: 0 to n; n: 1 or more; level: coverage, in (0, 1). Returns (lower, upper) in [0, 1], exactly 0 below a
    count of 0 and exactly 1 above a count of n. Raises LeadlineError on anything else.
    """
    return _proportion(count, n, level, "wilson")


def clopper_pearson(count: SupportsFloat, n: SupportsFloat, level: float = 0.95) -> Interval:
    """Clopper and Pearson (1934), exact interval of a share: coverage is never below `level`. Arguments as `wilson`."""
    return _proportion(count, n, level, "beta")


def share_interval(count: SupportsFloat, n: SupportsFloat, level: float = 0.95) -> tuple[Interval, str]:
    """Wilson's interval of a share with its name, or Clopper and Pearson's where count or n - count is below 10.

    Arguments and errors as `wilson`. A group of a few images is so never dropped, and never claimed to be known better
    than it is.
    """
    if min(_whole(count, "count"), _whole(n, "n") - _whole(count, "count")) < SMALL_COUNT:
        return clopper_pearson(count, n, level), "Clopper-Pearson"
    return wilson(count, n, level), "Wilson"


def simultaneous(counts: Sequence[SupportsFloat], level: float = 0.95) -> list[Interval]:
    """Goodman (1965), joint intervals of K class shares: `share_interval`, each at level 1 - (1 - level) / K.

    counts: images per class, K classes that sum to n. All K intervals hold together with probability `level` or
    more (Bonferroni); small classes get the exact interval, the others Wilson's. Two classes have complementary
    shares, hence one interval: they get the plain one.
    """
    if not counts:
        raise LeadlineError("simultaneous intervals need the counts of at least one class, none were given")
    n = sum(_whole(count, "count") for count in counts)
    return [share_interval(count, n, joint_level(level, len(counts)))[0] for count in counts]


def joint_level(level: float, num_classes: int) -> float:
    """Bonferroni's level of each of `num_classes` intervals that shall hold together; up to two need no correction."""
    return level if num_classes <= 2 else 1 - (1 - level) / num_classes


def corrected_share(
    observed_count: SupportsFloat,
    n: SupportsFloat,
    true_positives: SupportsFloat,
    positives: SupportsFloat,
    true_negatives: SupportsFloat,
    negatives: SupportsFloat,
    level: float = 0.95,
) -> Measurement:
    """Rogan and Gladen (1978), share corrected for the classifier's error: p = (q + Sp - 1) / (Se + Sp - 1), in [0, 1].

    observed_count of n images were called positive, q their share; of the labelled images that the classifier never
    saw, Se = true_positives / positives and Sp = true_negatives / negatives. The interval is that of Lang and Reiczigel
    (2014): with z of `level`, q' = (n·q + z²/2) / (n + z²), Se' = (true_positives + 1) / (positives + 2), Sp' likewise
    and p' of these,

        p' + 2z²·(p'·v_Se - (1 - p')·v_Sp) ± z·√(q'(1 - q')/(n + z²) + p'²·v_Se + (1 - p')²·v_Sp) / (Se' + Sp' - 1)

    where v_Se = Se'(1 - Se') / (positives + 2), v_Sp likewise: it carries the uncertainty of all three. As p' is nearer
    to one half than p, a few images may leave p outside: it is then widened to p. Not measurable where Newcombe's
    interval of Se + Sp - 1 reaches 0: such a classifier may be guessing. Raises LeadlineError on counts that are none.
    """
    count, total = _counts(observed_count, n, "observed_count", "n")
    found, positive = _counts(true_positives, positives, "true_positives", "positives")
    spared, negative = _counts(true_negatives, negatives, "true_negatives", "negatives")
    _check_level(level)
    if total == 0:
        raise LeadlineError("corrected_share needs n of 1 or more: no image was classified")
    fields: dict[str, Any] = {"unit": "share", "n": total, "method": "Rogan-Gladen, interval of Lang and Reiczigel"}
    raw = count / total
    params: dict[str, Any] = {
        "raw_share": raw,
        "labeled_positives": positive,
        "labeled_negatives": negative,
    }
    if positive == 0 or negative == 0:
        reason = (
            f"the classifier was judged on {positive:,} labelled images of the class and {negative:,} of the others: "
            "without some of both its error is unknown; label more images"
        )
        return Measurement.not_measurable("corrected_share", reason, params=params, **fields)
    sensitivity, specificity = found / positive, spared / negative
    params |= {"sensitivity": sensitivity, "specificity": specificity}
    youden = sensitivity + specificity - 1
    low, high = confint_proportions_2indep(
        found, positive, negative - spared, negative, method="newcomb", alpha=1 - level
    )
    if low <= 0:
        reason = (
            f"sensitivity {sensitivity:.3f} ({found:,} of {positive:,}) + specificity {specificity:.3f} ({spared:,} of "
            f"{negative:,}) - 1 = {youden:.3f}, with an interval of {low:.3f} to {high:.3f}: a classifier that guesses "
            "has 0, so nothing can be corrected by it; take a better classifier, or judge it on more labelled images"
        )
        return Measurement.not_measurable("corrected_share", reason, params=params, **fields)
    unclamped = (raw + specificity - 1) / youden
    value = min(max(unclamped, 0.0), 1.0)
    smoothed = np.array([(found + 1) / (positive + 2)]), np.array([(spared + 1) / (negative + 2)])
    ends = lang_reiczigel(raw, total, smoothed[0], positive, smoothed[1], negative, level)
    lower, upper = (float(end[0]) for end in ends)
    return Measurement(
        name="corrected_share",
        value=value,
        lower=min(lower, value),
        upper=max(upper, value),
        level=level,
        params=params | {"unclamped_share": unclamped, "clamped": value != unclamped},
        **fields,
    )


def lang_reiczigel(
    q: float,
    images: int | float,
    sensitivity: Float[np.ndarray, " *cells"],
    positives: int | float,
    specificity: Float[np.ndarray, " *cells"],
    negatives: int | float,
    level: float,
) -> tuple[Float[np.ndarray, " *cells"], Float[np.ndarray, " *cells"]]:
    """The interval of `corrected_share`, for many pairs of rates at once, and for unlimited images.

    q: share of the `images` that were called positive; sensitivity, specificity: Se' and Sp', smoothed as there.
    """
    z = float(norm.ppf((1 + level) / 2))
    if not math.isinf(images):
        q = (images * q + z**2 / 2) / (images + z**2)
    youden = sensitivity + specificity - 1
    youden = np.where(youden > 0, youden, 1.0)
    p = np.clip((q + specificity - 1) / youden, 0, 1)
    of_positives = p * sensitivity * (1 - sensitivity) / (positives + 2)
    of_negatives = (1 - p) * specificity * (1 - specificity) / (negatives + 2)
    centre = p + 2 * z**2 * (of_positives - of_negatives)
    of_images = q * (1 - q) / (images + z**2)
    half = z * np.sqrt(of_images + p * of_positives + (1 - p) * of_negatives) / youden
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def mean_interval(values: Float[np.ndarray, " n"], level: float = 0.95) -> Interval | None:
    """Student (1908), interval of a mean: mean ± t(n-1) · sd / √n, over independent units; None for one unit."""
    _check_level(level)
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        raise LeadlineError(f"a mean needs finite values, at least one: {n} given")
    return around(float(values.mean(dtype=np.float64)), standard_error(values), n, level) if n > 1 else None


def standard_error(values: Float[np.ndarray, " n"]) -> float:
    """sd / √n of independent values, n of 2 or more, in fp64."""
    return float(values.std(ddof=1, dtype=np.float64)) / math.sqrt(len(values))


def around(value: float, error: float, n: int, level: float) -> Interval:
    """value ± t(n-1) · error: the interval of an estimate with that standard error from n independent units."""
    half = float(student_t.ppf((1 + level) / 2, n - 1)) * error
    return value - half, value + half


def _counts(count: SupportsFloat, n: SupportsFloat, count_name: str, n_name: str) -> tuple[int, int]:
    part, whole = _whole(count, count_name), _whole(n, n_name)
    if part > whole:
        raise LeadlineError(f"{count_name} must be at most {n_name}: {part} of {whole} given")
    return part, whole


def _proportion(count: SupportsFloat, n: SupportsFloat, level: float, method: str) -> Interval:
    _check_level(level)
    whole, total = _whole(count, "count"), _whole(n, "n")
    if total < 1 or whole > total:
        raise LeadlineError(f"a share needs a count from 0 to n and n of 1 or more: count {whole}, n {total} given")
    lower, upper = proportion_confint(whole, total, alpha=1 - level, method=method)
    # The formulae leave 1e-17 where the bound is 0 or 1; a log-odds would turn that into a number.
    return 0.0 if whole == 0 else float(lower), 1.0 if whole == total else float(upper)


def _whole(value: SupportsFloat, name: str) -> int:
    number = float(value)
    if not (number >= 0 and number.is_integer()):
        raise LeadlineError(f"{name} must be a whole number of images, 0 or more, not {value}")
    return int(number)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise LeadlineError(f"level must lie between 0 and 1 (audit.level, 0.95 by default), not {level}")
