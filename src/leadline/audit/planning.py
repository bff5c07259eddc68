"""How many images a decision on a share needs, and what a given number of them can tell apart. No network, no torch.

The decision that is planned is the report's own: "the interval of the samples' share (`share_interval`) excludes the
share of the training data, on the side where the true share lies". Where that interval is Wilson's it inverts the score
test and excludes the training share q0 exactly where the count differs from n q0 by more than z √(n q0 (1 - q0)); where
it is Clopper and Pearson's, with fewer than ten images of the group or of all others, exactly where the binomial tail
under q0 is below (1 - level) / 2. Counts up to a critical one exclude it, so that the power is a binomial sum.

Throughout: share: of the group in the training data, known; detect: in the samples, to be told from it; both in (0, 1).
power: the wanted probability of telling them apart, in [0.5, 1). level: of the interval. sensitivity, specificity: of
the classifier that counts the group. Everything raises LeadlineError outside these ranges.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import betainc, betaincinv, ndtri
from scipy.stats import binom
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.proportion import power_proportions_2indep, samplesize_proportions_2indep_onetail

from leadline.audit.intervals import SMALL_COUNT
from leadline.audit.planning_rates import corrected_power
from leadline.errors import LeadlineError

MAX_IMAGES = 10**8
"""No plan goes beyond: a share that needs more images is answered by None."""
UNLIMITED = math.inf


def as_classified(share: float, sensitivity: float = 1.0, specificity: float = 1.0) -> float:
    """Rogan and Gladen (1978): the share that the classifier reports, p Se + (1 - p)(1 - Sp)."""
    return share * sensitivity + (1 - share) * (1 - specificity)


def exact_power(
    share: float,
    detect: float,
    images: Int[np.ndarray, " n"],
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> Float[np.ndarray, " n"]:
    """Probability of the decision at each number of images (1 or more): a binomial sum, no approximation.

    The rates of the classifier are taken as known: the corrected interval then excludes `share` exactly where the
    interval of what is counted excludes `as_classified(share)`.
    """
    check_question(share, detect, 0.5, level, sensitivity, specificity)
    if len(images) and images.min() < 1:
        raise LeadlineError(f"power needs one image or more, not {images.min()} (--images)")
    reference, truth = _lower_side(share, detect, sensitivity, specificity)
    return _at_most(_critical(reference, images, level), images, truth)


def images_needed(
    share: float,
    detect: float,
    power: float = 0.8,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> int | None:
    """The smallest number of images from which on `exact_power` is never below `power`; None above MAX_IMAGES.

    As counts are whole, the power is a saw-tooth over n: it is enclosed by two smooth, rising curves (the larger
    critical count of the two kinds of interval, taken as continuous, and the smaller one less an image), and every n
    between the places where these reach `power` is looked at.
    """
    check_question(share, detect, power, level, sensitivity, specificity)
    reference, truth = _lower_side(share, detect, sensitivity, specificity)

    def reached(n: int, bound: float) -> bool:
        return bound > 0 and bool(_at_most(np.array([bound]), np.array([n]), truth)[0] >= power)

    def bounds(n: int) -> tuple[float, float]:
        return float(_bound(reference, np.array([n]), level)[0]), exact_bound(reference, n, level)

    first = first_that(lambda n: reached(n, max(bounds(n))))
    last = first_that(lambda n: reached(n, min(bounds(n)) - 1))
    if last is None or first is None:
        return None
    images = np.arange(first, last + 1)
    below = np.flatnonzero(_at_most(_critical(reference, images, level), images, truth) < power)
    return int(images[below[-1]]) + 1 if len(below) else first


def normal_images(share: float, detect: float, power: float = 0.8, level: float = 0.95) -> int:
    """Fleiss, Levin and Paik (2003), images for a test of one share, no continuity correction, a perfect classifier:

    n = ((z √(p0 (1 - p0)) + z' √(p1 (1 - p1))) / (p0 - p1))², z the quantile of the level and z' that of the power.
    The textbook's number: near `images_needed`, but for the saw-tooth and the skewness of rare groups.
    """
    check_question(share, detect, power, level)
    zero, one = (math.sqrt(p * (1 - p)) for p in (share, detect))
    return math.ceil(float(normal_sample_size_one_tail(abs(share - detect), power, (1 - level) / 2, zero, one)))


def detectable(
    share: float,
    n: int,
    power: float = 0.8,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> tuple[float | None, float | None]:
    """(largest share below, smallest share above) that n images tell from `share` with at least `power`: exact.

    The inverse of `exact_power`, by the quantile of the beta distribution. None where no share on that side is told.
    """
    check_question(share, None, power, level, sensitivity, specificity)
    if n < 1:
        raise LeadlineError(f"what images can tell apart needs one image or more, not {n} (--images)")
    sides: list[float | None] = []
    for mirrored in (False, True):
        reference = as_classified(share, sensitivity, specificity)
        count = int(_critical(1 - reference if mirrored else reference, np.array([n]), level)[0])
        if count < 0:
            sides.append(None)
            continue
        found = float(betaincinv(count + 1, n - count, 1 - power))
        told = ((1 - found if mirrored else found) + specificity - 1) / (sensitivity + specificity - 1)
        sides.append(told if 0 <= told <= 1 else None)
    return sides[0], sides[1]


def corrected_variance(share: float, images: int | float, sensitivity: float, specificity: float) -> float:
    """Variance of the Rogan-Gladen (1978) share with known rates: q (1 - q) / n / (Se + Sp - 1)², q as classified.

    images may be UNLIMITED.
    """
    q = as_classified(share, sensitivity, specificity)
    return q * (1 - q) / images / (sensitivity + specificity - 1) ** 2


def estimated_power(
    share: float,
    detect: float,
    images: int | float,
    positives: int | float,
    negatives: int | float,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> float:
    """Power of "the corrected interval excludes `share`" where the rates are estimated: `corrected_power`.

    positives, negatives: the labelled images that the rates rest on. They and the images may be UNLIMITED; what is then
    below 1 with unlimited images is the doubt about the rates, which no image lowers.
    """
    check_question(share, detect, 0.5, level, sensitivity, specificity)
    return corrected_power(share, detect, images, positives, negatives, level, sensitivity, specificity)


def images_needed_estimated(
    share: float,
    detect: float,
    positives: int | float,
    negatives: int | float,
    power: float = 0.8,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> int | None:
    """The smallest number of images at which `estimated_power` reaches `power`; None where no number does."""
    check_question(share, detect, power, level, sensitivity, specificity)
    rates = (level, sensitivity, specificity)
    return first_that(lambda n: estimated_power(share, detect, n, positives, negatives, *rates) >= power)


def labelled_needed(
    share: float,
    detect: float,
    images: int | float,
    positive_part: float = 0.5,
    power: float = 0.8,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> int | None:
    """How many labelled images make `images` (or UNLIMITED) enough; None where no number does.

    positive_part: the part of them that shows the group, rounded up: 0.5, or the training share for images drawn at
    random. As labelled images are whole, a somewhat larger number may fall short of `power` by a point or two.
    """
    check_question(share, detect, power, level, sensitivity, specificity)

    def reached(labelled: int) -> bool:
        positives = math.ceil(labelled * positive_part)
        kinds = (positives, labelled - positives)
        return estimated_power(share, detect, images, *kinds, level, sensitivity, specificity) >= power

    return first_that(reached)


def detectable_estimated(
    share: float,
    images: int | float,
    positives: int | float,
    negatives: int | float,
    power: float = 0.8,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> tuple[float | None, float | None]:
    """As `detectable`, with estimated rates: the inverse of `estimated_power`."""
    check_question(share, None, power, level, sensitivity, specificity)

    def missing(told: float) -> float:
        rates = (positives, negatives, level, sensitivity, specificity)
        return (estimated_power(share, told, images, *rates) if told != share else 1 - level) - power

    sides: list[float | None] = []
    for end in (1e-12, 1 - 1e-12):
        sides.append(float(brentq(missing, share, end)) if missing(end) >= 0 else None)
    return sides[0], sides[1]


def images_per_model(
    share: float,
    detect: float,
    power: float = 0.8,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> int:
    """Images of each of two sets with these shares, both estimated: score test, normal approximation (statsmodels).

    Both sets are counted by one classifier, whose rates need not be known: equal shares are counted alike.
    """
    check_question(share, detect, power, level, sensitivity, specificity)
    p0, p1 = (as_classified(p, sensitivity, specificity) for p in (share, detect))
    lower, upper = sorted((p0, p1))
    return math.ceil(float(samplesize_proportions_2indep_onetail(upper - lower, lower, power, alpha=1 - level)))


def two_sample_power(
    share: float,
    detect: float,
    images: int,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> float:
    """Power of the test of `images_per_model` with that many images of each set."""
    check_question(share, detect, 0.5, level, sensitivity, specificity)
    p0, p1 = (as_classified(p, sensitivity, specificity) for p in (share, detect))
    return float(power_proportions_2indep(p1 - p0, p0, images, alpha=1 - level, return_results=False))


def _lower_side(share: float, detect: float, sensitivity: float, specificity: float) -> tuple[float, float]:
    """Both shares as classified, mirrored (the share of all other images) where the samples' is the larger."""
    p0, p1 = (as_classified(p, sensitivity, specificity) for p in (share, detect))
    return (p0, p1) if p1 < p0 else (1 - p0, 1 - p1)


def _bound(reference: float, images: Int[np.ndarray, " n"], level: float) -> Float[np.ndarray, " n"]:
    """Counts below n q0 - z √(n q0 (1 - q0)) have a Wilson interval that lies below q0."""
    z = float(ndtri((1 + level) / 2))
    return images * reference - z * np.sqrt(images * reference * (1 - reference))


def exact_bound(reference: float, n: int, level: float) -> float:
    """Counts below it have a Clopper-Pearson interval that lies below q0: where P(X ≤ count) is (1 - level) / 2."""
    images = np.array([n])
    tail = (1 - level) / 2
    return float(brentq(lambda count: float(_at_most(np.array([count]), images, reference)[0]) - tail, -1, n))


def _critical(reference: float, images: Int[np.ndarray, " n"], level: float) -> Float[np.ndarray, " n"]:
    """The largest count whose `share_interval` lies below q0; -1 where there is none."""
    count: Float[np.ndarray, " n"] = np.ceil(_bound(reference, images, level)) - 1
    ends = (count < SMALL_COUNT) | (count >= images - SMALL_COUNT)  # elsewhere Wilson's interval is the report's
    n = images[ends]
    exact = binom.ppf((1 - level) / 2, n, reference) - 1
    wilson = np.minimum(count[ends], n - SMALL_COUNT)
    few = np.where(wilson >= SMALL_COUNT, wilson, np.minimum(exact, SMALL_COUNT - 1))
    count[ends] = np.where(exact > n - SMALL_COUNT, exact, few)
    return count


def _at_most(count: Float[np.ndarray, " n"], images: Int[np.ndarray, " n"], truth: float) -> Float[np.ndarray, " n"]:
    """P(X ≤ count), X binomial: the incomplete beta function, which is smooth between whole counts."""
    known = np.clip(count, -1 + 1e-12, images - 1e-12)
    return np.where(count <= -1, 0.0, betainc(images - known, known + 1, 1 - truth))


def first_that(reached: Callable[[int], bool], most: int = MAX_IMAGES) -> int | None:
    """The smallest number up to `most` for which a condition holds that holds of all larger ones; None if none does."""
    high = 1
    while not reached(high):
        if high == most:
            return None
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def check_question(
    share: float,
    detect: float | None,
    power: float,
    level: float,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> None:
    """Raise LeadlineError where one of these is outside its range. detect: None where there is none."""
    for name, flag, value in (("training share", "--share", share), ("share to detect", "--detect", detect)):
        if value is not None and not 0 < value < 1:
            raise LeadlineError(f"the {name} must lie between 0 and 1, not {value} ({flag})")
    if share == detect:
        raise LeadlineError(
            f"the share to detect equals the training share, {share}: no number of images tells equal shares apart; "
            "name another --detect, or leave it out and give --images to see what they can tell"
        )
    if not 0 < level < 1:
        raise LeadlineError(f"the level of the interval must lie between 0 and 1, not {level} (--level)")
    if not 0.5 <= power < 1:
        raise LeadlineError(
            f"the power must be 0.5 or more and below 1, not {power} (--power): below 0.5 a plan would more often "
            "miss than find what it looks for"
        )
    for name, value in (("sensitivity", sensitivity), ("specificity", specificity)):
        if not 0 <= value <= 1:
            raise LeadlineError(f"the {name} must lie between 0 and 1, not {value} (--{name})")
    if sensitivity + specificity <= 1:
        raise LeadlineError(
            f"sensitivity {sensitivity} and specificity {specificity} add up to 1 or less: such a classifier says "
            "nothing about the group, and no number of images mends that (--sensitivity, --specificity)"
        )
