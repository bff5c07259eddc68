"""Intervals of shares that hold at every look together, so that one may go on until they are narrow enough."""

import math
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy

from leadline.audit.intervals import Interval, clopper_pearson
from leadline.errors import LeadlineError
from leadline.records import Measurement

STRENGTH = 20.0
"""Images that the prior is worth. Of 1 to 500 tried, 20 lets shares of 1 % to 50 %, at up to five times or down to a
fifth of what was expected, be known to a wanted width with the fewest images in the worst case: 2.6 to 4.2 times those
of an interval that may be looked at once."""
LEAST_CENTRE = 0.005
"""The prior is centred at no less, so that a class without training images can be found too."""
METHOD = "confidence sequence (beta-binomial mixture, Robbins 1970), valid at every look"
OF_FIXED_NUMBER = (
    "images were drawn until a share was known well enough, and {what} holds for a number of images that was fixed "
    "beforehand: draw as many again from another seed (leadline sample RUN --set sample.seed=) and audit those"
)
"""Why something that has no form which holds at every look is not measured."""
SMALLEST_LOG = -700.0
"""Logarithm of a share that counts as 0."""
FEWEST, MOST = 1e-3, 1e12
"""Images between which a forecast is sought."""

Numbers = Float[np.ndarray, "..."] | SupportsFloat


def log_evidence(
    count: Numbers, n: Numbers, share: Numbers, *, around: float = 0.5, strength: int | float = STRENGTH
) -> Float[np.ndarray, "..."]:
    """Robbins (1970), mixture likelihood ratio against `share` p, for Bernoulli draws and a prior Beta(a, b).

        log E = log B(a + S, b + n - S) - log B(a, b) - S log p - (n - S) log(1 - p)

    S = count of n images; a = strength · around, b = strength · (1 - around). All broadcast; 0 <= S <= n, 0 < p < 1.
    Under the true share E is a martingale that starts at 1, so that it ever reaches 1/alpha with a probability of at
    most alpha (Ville 1939): the larger, the less the share fits.
    """
    a, b = strength * around, strength * (1 - around)
    s, total, p = (np.asarray(value, np.float64) for value in (count, n, share))
    found = betaln(a + s, b + total - s) - betaln(a, b) - xlogy(s, p) - xlog1py(total - s, -p)
    return np.asarray(found, np.float64)


def anytime_interval(
    count: SupportsFloat,
    n: SupportsFloat,
    level: float = 0.95,
    *,
    around: float = 0.5,
    strength: int | float = STRENGTH,
) -> Interval:
    """Howard et al. (2021, Annals of Statistics 49), confidence sequence: the shares with log E < log(1/(1 - level)).

    E as in `log_evidence`. With a probability of `level` or more the share is in the interval of every n at once: one
    may look as often as one likes, and stop when one likes. No approximation is involved. The interval contains
    count / n, is (0, 1) for n of 0, and is exactly 0 below a count of 0 and exactly 1 above a count of n.
    around: a share in (0, 1), chosen before the first look, where the interval is narrowest; strength: how many images
    that choice is worth, above 0. Both decide the width alone, never the coverage. Raises LeadlineError otherwise.
    """
    s, total = _checked(count, n, level, around, strength)
    a, b = strength * around, strength * (1 - around)
    return _lowest(s, total, a, b, level), 1.0 - _lowest(total - s, total, b, a, level)


def contains_always(
    counts: Float[np.ndarray, "... looks"],
    n: Float[np.ndarray, " looks"],
    share: float,
    level: float = 0.95,
    *,
    around: float = 0.5,
    strength: int | float = STRENGTH,
) -> Bool[np.ndarray, "..."]:
    """Whether `anytime_interval` contains the share at every look: what a simulation of its coverage counts.

    counts: of the first n images each, a row per path.
    """
    found = log_evidence(counts, n, share, around=around, strength=strength)
    return np.asarray((found < -math.log1p(-level)).all(-1))


def images_needed(
    share: float, width: float, level: float = 0.95, *, around: float = 0.5, strength: int | float = STRENGTH
) -> int:
    """About how many images make `anytime_interval` as narrow as `width` if the share stays as it is: a forecast."""
    if not 0 < width < 1:
        raise LeadlineError(f"width must lie between 0 and 1 (--until-width 0.02 is two points), not {width}")
    a, b = strength * around, strength * (1 - around)

    def left_open(n: float) -> float:
        return 1.0 - _lowest((1 - share) * n, n, b, a, level) - _lowest(share * n, n, a, b, level)

    ends = math.log(FEWEST), math.log(MOST)
    return math.ceil(math.exp(brentq(lambda log_n: left_open(math.exp(log_n)) - width, *ends, xtol=1e-3)))


def centre(training_share: float) -> float:
    """Where the prior of a class is centred: at its share in the training data, held within 0.5 % and 99.5 %."""
    return min(max(training_share, LEAST_CENTRE), 1 - LEAST_CENTRE)


def anytime_corrected(
    count: SupportsFloat,
    n: SupportsFloat,
    true_positives: SupportsFloat,
    positives: SupportsFloat,
    true_negatives: SupportsFloat,
    negatives: SupportsFloat,
    level: float = 0.95,
    *,
    around: float = 0.5,
    strength: int | float = STRENGTH,
) -> Measurement:
    """Rogan and Gladen (1978), p = (q + Sp - 1) / (Se + Sp - 1), with an interval that holds at every look.

    count of n images were called positive so far; sensitivity and specificity come from labelled images that the
    classifier never saw, a fixed number of them. By Bonferroni, with alpha = 1 - level: the confidence sequence of q
    at 1 - alpha/2, Clopper-Pearson of Se and of Sp at 1 - alpha/4. p rises with q and Sp and falls with Se, so its ends
    lie at theirs. Conservative: all three are rarely off at once, and the width never falls below what the labelled
    images leave open. In [0, 1]. Not measurable where the least sensitivity and specificity are those of a classifier
    that guesses. Raises LeadlineError on counts that are none. For several classes: `corrected_sequence`.
    """
    alpha = 1 - level
    q_low, q_high = anytime_interval(count, n, 1 - alpha / 2, around=around, strength=strength)
    common: dict[str, Any] = {
        "name": "corrected_share",
        "unit": "share",
        "n": int(float(n)),
        "params": {
            "raw_lower": q_low,
            "raw_upper": q_high,
            "labeled_positives": int(float(positives)),
            "labeled_negatives": int(float(negatives)),
        },
    }
    if 0 in (float(n), float(positives), float(negatives)):
        reason = "without images, and labelled images of the class and of the others, nothing can be corrected"
        return Measurement.not_measurable(reason=reason, **common)
    se_low, se_high = clopper_pearson(true_positives, positives, 1 - alpha / 4)
    sp_low, sp_high = clopper_pearson(true_negatives, negatives, 1 - alpha / 4)
    if se_low + sp_low <= 1:
        reason = (
            f"by the labelled images sensitivity may be as low as {se_low:.3f} and specificity as {sp_low:.3f}: "
            "together no better than a guess, so nothing can be corrected; take a better classifier, or judge it on "
            "more labelled images"
        )
        return Measurement.not_measurable(reason=reason, **common)
    se, sp = float(true_positives) / float(positives), float(true_negatives) / float(negatives)
    common["params"] |= {"sensitivity": se, "specificity": sp}
    method = f"Rogan-Gladen; {METHOD}, and Clopper-Pearson of the classifier's error, together by Bonferroni"
    return Measurement(
        value=_corrected(float(count) / float(n), se, sp),
        lower=_corrected(q_low, se_high, sp_low),
        upper=_corrected(q_high, se_low, sp_high),
        level=level,
        method=method,
        **common,
    )


def _corrected(q: float, sensitivity: float, specificity: float) -> float:
    return min(max((q + specificity - 1) / (sensitivity + specificity - 1), 0.0), 1.0)


def _lowest(count: float, n: float, a: float, b: float, level: float) -> float:
    """The lower end: the share below count / n with log E = log(1/(1 - level))."""
    if count == 0:
        return 0.0
    constant = float(betaln(a + count, b + n - count) - betaln(a, b)) + math.log1p(-level)

    # Convex in the share with its least value, at most 0, at count / n: one root below. In the logarithm it is found
    # to the same relative precision however rare the class is.
    top = math.log(count / n)
    if constant - count * SMALLEST_LOG <= 0:
        return 0.0
    return math.exp(brentq(lambda u: constant - count * u - xlog1py(n - count, -math.exp(u)), SMALLEST_LOG, top))


def _checked(
    count: SupportsFloat, n: SupportsFloat, level: float, around: float, strength: int | float
) -> tuple[float, float]:
    s, total = float(count), float(n)
    if not (0 <= s <= total and s.is_integer() and total.is_integer()):
        raise LeadlineError(f"a share needs whole numbers, a count from 0 to n: count {count}, n {n} given")
    if not 0 < level < 1:
        raise LeadlineError(f"level must lie between 0 and 1 (audit.level, 0.95 by default), not {level}")
    if not (0 < around < 1 and 0 < strength < math.inf):
        raise LeadlineError(
            f"the prior needs a centre between 0 and 1 and a strength above 0, not around={around}, strength={strength}"
        )
    return s, total
