"""Shares from a few human labels and many predictions: prediction-powered estimates that hold for any labeler."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from statsmodels.stats.proportion import proportion_confint

from leadline.audit.intervals import share_interval
from leadline.errors import LeadlineError

FEWEST = 5
"""Labelled images of the class, and not of it, below which its interval is the exact one of the labels alone."""
PSEUDO = 0.5
"""Weight of each of two made-up labelled images, of the class and taken for another, and the reverse, in the variance
of the correction: a handful of labels without a mistake of the labeler does not show that it makes none."""
TUNED = "prediction-powered (PPI++), Wilson at the effective number of labels"
LABELS_ALONE = "the human labels alone"


@dataclass(frozen=True, kw_only=True)
class PredictionPowered:
    """A share with its interval, beside what the labels alone give.

    tuning: λ, how far the predictions are relied on: 0 not at all, 1 fully. standard_error: of the estimate, as PPI++
    has it. n_effective: labels that would give as narrow an interval without predictions. classical_…: the labels
    alone. gain: (width of the labels alone / width)², "as if there were gain times as many labels". n_labelled: of the
    labels, those that the share is among.
    """

    value: float
    lower: float
    upper: float
    level: float
    method: str
    tuning: float
    standard_error: float
    n_effective: float
    n_labelled: int
    n_unlabelled: int
    classical_value: float
    classical_lower: float
    classical_upper: float
    classical_method: str
    gain: float


def prediction_powered(
    labelled: Float[np.ndarray, " n"],
    predicted_labelled: Float[np.ndarray, " n"],
    predicted_unlabelled: Float[np.ndarray, " m"],
    level: float = 0.95,
) -> PredictionPowered:
    """Angelopoulos, Duchi and Zrnic (2023, PPI++), Proposition 2, for a mean: the share of a class from its human
    labels y and any prediction f, mean y + λ (mean f of the unlabelled - mean f of the labelled), λ of least variance.

    labelled: 1 of the class, 0 not, n of a simple random sample; predicted_…: f of those images and of m others, none
    of which is labelled. The interval is Wilson's at the number of labels that has the estimate's variance (Korn and
    Graubard, 1998), which keeps its level where the normal one does not: few labels, rare classes. With fewer than
    `FEWEST` labels of the class, or not of it, value and interval are those of the labels alone (`share_interval`).
    Raises LeadlineError without labels, or where labels are not 0 or 1.
    """
    return prediction_powered_part(
        labelled,
        np.ones_like(labelled),
        predicted_labelled,
        np.ones_like(predicted_labelled),
        predicted_unlabelled,
        np.ones_like(predicted_unlabelled),
        level,
    )


def prediction_powered_part(
    members: Float[np.ndarray, " n"],
    among: Float[np.ndarray, " n"],
    predicted_members: Float[np.ndarray, " n"],
    predicted_among: Float[np.ndarray, " n"],
    predicted_members_unlabelled: Float[np.ndarray, " m"],
    predicted_among_unlabelled: Float[np.ndarray, " m"],
    level: float = 0.95,
) -> PredictionPowered:
    """`prediction_powered` of a ratio R = E y / E s, the share of a class among the images of some classes.

    members: y, of the class; among: s, of any of those classes (y = 1 only where s = 1); predicted_…: the same as the
    labeler has it. PPI++ of the linearised ratio (delta method) about the labels' own R₀ = Σy / Σs: y becomes
    (y - R₀ s) / mean s, f likewise with the labels' R₀ and mean s.
    """
    count, n_among = _counts(members, among)
    num_unlabelled = len(predicted_members_unlabelled)
    alone = _labels_alone(count, n_among, num_unlabelled, level)
    if min(count, n_among - count) < FEWEST or not num_unlabelled:
        return alone
    classical = alone.value
    scale = n_among / len(members)
    y = (members - classical * among) / scale
    f = (predicted_members - classical * predicted_among) / scale
    g = (predicted_members_unlabelled - classical * predicted_among_unlabelled) / scale
    tuning = _tuning(y, f, g)
    residual = y - tuning * f
    predicted_variance = tuning**2 * float(g.var()) / len(g)
    value = min(1.0, max(0.0, classical + tuning * float(g.mean()) + float(residual.mean())))
    mistakes = (np.array([1 - classical, -classical]) - tuning * np.array([-classical, 1 - classical])) / scale
    variance = predicted_variance + _guarded_variance(residual, mistakes) / len(y)
    # The binomial variance at the labels' own share, from whose residuals `variance` is: at an estimate near 0 or 1 it
    # would be next to nothing beside that, and so would the number of labels.
    effective = classical * (1 - classical) / variance
    # statsmodels takes a count and a number that are not whole.
    lower, upper = proportion_confint(value * effective, effective, alpha=1 - level, method="wilson")
    lower, upper = max(0.0, float(lower)), min(1.0, float(upper))
    return replace(
        alone,
        value=value,
        lower=lower,
        upper=upper,
        method=TUNED,
        tuning=tuning,
        standard_error=math.sqrt(predicted_variance + float(residual.var()) / len(y)),
        n_effective=effective,
        gain=((alone.upper - alone.lower) / (upper - lower)) ** 2,
    )


def _labels_alone(count: int, n: int, num_unlabelled: int, level: float) -> PredictionPowered:
    """The estimate that uses no predictions."""
    (lower, upper), name = share_interval(count, n, level)
    method, share = f"{name}, {LABELS_ALONE}", count / n
    return PredictionPowered(
        value=share,
        lower=lower,
        upper=upper,
        level=level,
        method=method,
        tuning=0.0,
        standard_error=math.sqrt(share * (1 - share) / n),
        n_effective=float(n),
        n_labelled=n,
        n_unlabelled=num_unlabelled,
        classical_value=share,
        classical_lower=lower,
        classical_upper=upper,
        classical_method=method,
        gain=1.0,
    )


def _tuning(y: Float[np.ndarray, " n"], f: Float[np.ndarray, " n"], g: Float[np.ndarray, " m"]) -> float:
    """PPI++, Proposition 2 for a mean: λ = Cov(y, f) / ((1 + n/m) Var f), within [0, 1]; 0 where f does not vary."""
    variance = float(np.concatenate([f, g]).var(ddof=1))
    if variance <= 1e-12:
        return 0.0
    covariance = float(((y - y.mean()) * (f - f.mean())).mean())
    return min(1.0, max(0.0, covariance / ((1 + len(f) / len(g)) * variance)))


def _guarded_variance(residual: Float[np.ndarray, " n"], mistakes: Float[np.ndarray, " two"]) -> float:
    """Variance of the labels' corrections together with the two made-up ones, two degrees of freedom spent."""
    total = len(residual) + PSEUDO * len(mistakes)
    mean = (float(residual.sum()) + PSEUDO * float(mistakes.sum())) / total
    squares = float((residual**2).sum()) + PSEUDO * float((mistakes**2).sum())
    return (squares - total * mean**2) / (total - 2)


def _counts(members: Float[np.ndarray, " n"], among: Float[np.ndarray, " n"]) -> tuple[int, int]:
    for name, values in (("labels", members), ("labels of the classes compared", among)):
        if not np.isin(values, (0, 1)).all():
            raise LeadlineError(f"{name} are 1 (of it) or 0 (not), one per image: {np.unique(values)[:5]} given")
    if (members > among).any():
        raise LeadlineError("an image of the class is one of the classes compared: members = 1 needs among = 1")
    if among.sum() < 1:
        raise LeadlineError("no labelled image is of the classes compared: label more images (leadline label --n)")
    return int(members.sum()), int(among.sum())
