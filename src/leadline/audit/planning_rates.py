"""Power of the corrected interval where the classifier's rates are estimated from labelled images. No network."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr
from scipy.stats import binom

from leadline.audit.intervals import lang_reiczigel

CELLS = 50
"""Equally likely counts of right labels of each kind over which the power is averaged."""


def corrected_power(
    share: float,
    detect: float,
    images: int | float,
    positives: int | float,
    negatives: int | float,
    level: float,
    sensitivity: float,
    specificity: float,
) -> float:
    """Probability that Lang and Reiczigel's (2014) interval, as `corrected_share` reports it, leaves `share` out.

    The mean over what the labelled images may say of the two rates (binomial, so that few or no errors are as likely
    as they are) of Φ(margin / √(q (1 - q) / n) · (Se + Sp - 1)): margin, from `share` to the end of the interval where
    the expected count q n of the images is found. Arguments as `planning.estimated_power`, unchecked. 0 without
    labelled images of both kinds: nothing is then corrected.
    """
    if min(positives, negatives) < 1:
        return 0.0
    found, spared = np.meshgrid(_found(positives, sensitivity), _found(negatives, specificity))
    q = detect * sensitivity + (1 - detect) * (1 - specificity)
    lower, upper = lang_reiczigel(q, images, found, positives, spared, negatives, level)
    margin = share - upper if detect < share else lower - share
    youden = found + spared - 1
    spread = math.sqrt(q * (1 - q) / images) / np.where(youden > 0, youden, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        told = np.where(spread > 0, ndtr(margin / spread), margin > 0)
    return float(np.where(youden > 0, told, 0.0).mean())


@lru_cache(maxsize=256)
def _found(labelled: int | float, rate: float) -> Float[np.ndarray, " cells"]:
    """(right + 1) / (labelled + 2) for equally likely counts of right labels; the rate itself of unlimited ones."""
    if math.isinf(labelled):
        return np.array([rate])
    middles = (np.arange(CELLS) + 0.5) / CELLS
    return np.asarray((binom.ppf(middles, round(labelled), rate) + 1) / (labelled + 2))
