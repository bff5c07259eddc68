"""P1 Eq. 4, 5 with intervals over training runs: what other runs would give, not what this one gives for other images.

A training run moves all images together, so that the spread over the images of a few runs says nothing of others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t as student_t

from leadline.audit.intervals import around, standard_error
from leadline.lab.summaries import mean_of
from leadline.records import Measurement
from leadline.theory.bias_variance import BiasVariance, bias_variance

PARTS = ("squared_bias", "noise_variance", "training_variance", "variance")
BIAS = "class_bias"
DIGITS = 12
"""Decimals of a pseudo-value: below stand rounding errors, which are no spread."""
OVER_RUNS, OF_ONE = "Student t over training runs (jackknife)", "Student t over images, of this one training run"
BETWEEN_RUNS = "Welch t over training runs (jackknife)"
ONE_RUN = (
    "one training run: the part between runs needs two or more that differ in their training seed only (leadline sweep "
    "--seeds 0,1,2; for soft k-NN --replicates)"
)
ONE_RUN_EACH = (
    "one training run of a depth: what differs between its runs and what differs between depths is not told apart; "
    "train two or more of each (leadline sweep --seeds 0,1,2)"
)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A mean over images. images: its values. runs: its jackknife pseudo-values, one per training run; None where one
    run is left out and the rest do not give an estimate of the same thing."""

    images: Float[np.ndarray, " n"]
    runs: Float[np.ndarray, " runs"] | None

    @property
    def value(self) -> float:
        return float(self.images.mean(dtype=np.float64))


Estimates = Mapping[tuple[str, str | None], Estimate]
"""By name and class; without the parts that are not measurable."""


def estimates(
    made: Int[np.ndarray, "n runs draws"], encoded: Int[np.ndarray, " n"], classes: Sequence[str]
) -> Estimates:
    """Bias of each class and the parts of the error, each with one pseudo-value per training run.

    Pseudo-value r is R θ - (R - 1) θ without run r: of a mean over runs (class_bias, noise_variance) run r's own value.
    The others compare runs, so that they need three.
    """
    runs = made.shape[1]
    whole = _named(bias_variance(made, encoded, len(classes)), classes)
    if runs == 1:
        return {name: Estimate(values, None) for name, values in whole.items()}
    without = [
        {
            name: float(values.mean())
            for name, values in _named(
                bias_variance(np.delete(made, run, axis=1), encoded, len(classes)), classes
            ).items()
        }
        for run in range(runs)
    ]
    found = {}
    for key, values in whole.items():
        pseudo = None
        if runs > 2 or key[0] in (BIAS, "noise_variance"):
            pseudo = np.array([runs * float(values.mean()) - (runs - 1) * left[key] for left in without]).round(DIGITS)
        found[key] = Estimate(values, pseudo)
    return found


def _named(found: BiasVariance, classes: Sequence[str]) -> dict[tuple[str, str | None], Float[np.ndarray, " n"]]:
    named: dict[tuple[str, str | None], Float[np.ndarray, " n"]] = {
        (BIAS, name): found.bias[:, number] for number, name in enumerate(classes)
    }
    parts = (found.squared_bias, found.noise, found.training, found.variance)
    return named | {(name, None): part for name, part in zip(PARTS, parts, strict=True) if part is not None}


def averaged(levels: Sequence[Estimates]) -> Estimates:
    """The means over noise levels."""
    found = {}
    for key in levels[0]:
        runs = [level[key].runs for level in levels]
        known = [each for each in runs if each is not None]
        images = np.mean([level[key].images for level in levels], axis=0)
        found[key] = Estimate(images, np.mean(known, axis=0) if known else None)
    return found


def measured(
    estimate: Estimate, name: str, runs: int, level: float, *, group: str | None, direction: str, params: dict[str, Any]
) -> Measurement:
    """The mean; its interval is over training runs, and of a single run over images.

    None where two runs cannot tell, or where runs do not differ at all: what others would give is not known from that.
    """
    if runs == 1:
        found = mean_of(name, estimate.images, level=level, group=group, direction=direction, **params)
        return found.model_copy(update={"method": OF_ONE if found.method else None})
    found = Measurement(name=name, value=estimate.value, n=runs, group=group, direction=direction, params=params)
    if estimate.runs is None or not (error := standard_error(estimate.runs)):
        return found
    lower, upper = around(estimate.value, error, runs, level)
    return found.model_copy(update={"lower": lower, "upper": upper, "level": level, "method": OVER_RUNS})


def change(
    now: Estimate, first: Estimate, runs: tuple[int, int], name: str, level: float, *, group: str | None, params: Any
) -> Measurement:
    """The difference of two subjects' means, over the same images, with Welch's interval over their training runs.

    Not measurable where one of them has a single run.
    """
    if min(runs) < 2:
        return Measurement.not_measurable(name, ONE_RUN_EACH, group=group, params=params)
    value = now.value - first.value
    found = Measurement(name=name, value=value, n=sum(runs), group=group, params=params)
    if now.runs is None or first.runs is None:
        return found
    squares = [standard_error(each) ** 2 for each in (now.runs, first.runs)]
    total = sum(squares)
    if total == 0:
        return found
    freedom = total**2 / sum(square**2 / (count - 1) for square, count in zip(squares, runs, strict=True))
    half = float(student_t.ppf((1 + level) / 2, freedom)) * total**0.5
    ends = {"lower": value - half, "upper": value + half, "level": level, "method": BETWEEN_RUNS}
    return found.model_copy(update=ends)
