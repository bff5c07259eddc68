"""How many training runs, and images of each, tell the share that a training gives from that of its data.

The unit is the run. The share of run r is p1 + b_r, b_r normal with the standard deviation between runs, and is counted
in n images; the decision is the report's own (`replicates.between_runs`): "Hartung and Knapp's interval of the R runs,
with the factor held at 1 or more, excludes the training share, and so does Clopper and Pearson's of all images". Noise
that runs share because their images start from the same seeds is not planned for: how much there is shows only in
images. Arguments are those of `leadline.audit.planning`, the rates of the classifier taken as known: an error in them
is common to all runs, and no spread between runs shows it.
"""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import chi2
from scipy.stats import t as student_t

from leadline.audit.planning import (
    UNLIMITED,
    as_classified,
    check_question,
    corrected_variance,
    exact_bound,
    first_that,
)
from leadline.errors import LeadlineError

MAX_RUNS = 1000
CELLS = 1000
"""Equally likely values of the runs' observed variance over which the power is averaged; the error is below 0.001."""


def run_power(
    share: float,
    detect: float,
    runs: int,
    images: int | float,
    between_run_sd: int | float,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> float:
    """Probability of the decision with `images` (or UNLIMITED) of each run, in the normal model of Hartung and Knapp.

    With equal n the mean of R runs is normal with variance σ²/R, σ² = sd² + v, v of one run's images; independent of
    it (R - 1) s²/σ² is χ² with R - 1 degrees, and the interval is mean ± t √(max(s², v)/R). Without images to count
    (v = 0) that is the noncentral t. One run has no spread of its own: σ is then taken as known, and the normal takes
    t's place. between_run_sd: of the runs' true shares, 0 or more.
    """
    check_question(share, detect, 0.5, level, sensitivity, specificity)
    if runs < 1:
        raise LeadlineError(f"a plan needs one training run or more, not {runs} (--replicates)")
    if not (0 <= between_run_sd < math.inf):
        raise LeadlineError(
            f"the standard deviation between runs must be a number of 0 or more, not {between_run_sd} "
            "(--between-run-sd, as a share: 0.01 is one percentage point)"
        )
    own = corrected_variance(detect, images, sensitivity, specificity)
    variance = between_run_sd**2 + own
    if variance == 0:
        return 1.0
    if runs == 1:
        halves = np.array([float(ndtri((1 + level) / 2)) * math.sqrt(variance)])
    else:
        bound = float(student_t.ppf((1 + level) / 2, runs - 1))
        halves = bound * np.sqrt(np.maximum(variance * _ratios(runs), own) / runs)
    margins = np.minimum(
        abs(detect - share) - halves, _exact_margin(share, detect, runs, images, level, sensitivity, specificity)
    )
    return float(ndtr(margins / math.sqrt(variance / runs)).mean())


@lru_cache(maxsize=64)
def _ratios(runs: int) -> Float[np.ndarray, " cells"]:
    """s²/σ² of the runs, at the middle of CELLS equally likely cells."""
    return np.asarray(chi2.ppf((np.arange(CELLS) + 0.5) / CELLS, runs - 1) / (runs - 1))


def _exact_margin(
    share: float, detect: float, runs: int, images: int | float, level: float, sensitivity: float, specificity: float
) -> float:
    """How far, in shares, the mean may be off `detect` towards `share` before Clopper-Pearson's interval of all images
    holds it."""
    if math.isinf(images):
        return abs(detect - share)
    reference, truth = (as_classified(p, sensitivity, specificity) for p in (share, detect))
    if truth > reference:
        reference, truth = 1 - reference, 1 - truth
    n = int(images) * runs
    return (exact_bound(reference, n, level) / n - truth) / (sensitivity + specificity - 1)


def images_per_run(
    share: float,
    detect: float,
    runs: int,
    between_run_sd: int | float,
    power: float = 0.8,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> int | None:
    """Images of each of `runs` runs; None where no number is enough: the runs differ too much, or are too few."""
    check_question(share, detect, power, level, sensitivity, specificity)
    rest = (between_run_sd, level, sensitivity, specificity)
    if run_power(share, detect, runs, UNLIMITED, *rest) < power:
        return None
    return first_that(lambda n: run_power(share, detect, runs, n, *rest) >= power)


def largest_between_run_sd(
    share: float,
    detect: float,
    runs: int,
    images: int | float = UNLIMITED,
    power: float = 0.8,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> float | None:
    """The standard deviation between runs up to which `runs` runs of `images` images are enough; None: not even 0."""
    check_question(share, detect, power, level, sensitivity, specificity)

    def missing(sd: float) -> float:
        return run_power(share, detect, runs, images, sd, level, sensitivity, specificity) - power

    if missing(0.0) < 0:
        return None
    high = abs(detect - share)
    while missing(high) >= 0:  # ends: over any spread the power falls to (1 - level) / 2
        high *= 2
    return float(brentq(missing, 0.0, high))


def runs_needed(
    share: float,
    detect: float,
    between_run_sd: int | float,
    images: int | float = UNLIMITED,
    power: float = 0.8,
    level: float = 0.95,
    sensitivity: float = 1.0,
    specificity: float = 1.0,
) -> int | None:
    """The smallest number of runs, 2 or more, with `images` images each; None above MAX_RUNS."""
    check_question(share, detect, power, level, sensitivity, specificity)
    rest = (images, between_run_sd, level, sensitivity, specificity)
    return first_that(lambda runs: runs > 1 and run_power(share, detect, runs, *rest) >= power, MAX_RUNS)
