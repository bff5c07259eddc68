"""Diversity: the mean distance between all pairs of images, in closed form, with an error that pairs share images."""

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float

from leadline.audit.context import METRICS, AuditContext, Finding, Metric
from leadline.audit.intervals import around
from leadline.errors import LeadlineError
from leadline.records import Measurement

CHUNK_ROWS = 4096


def mean_pairwise_distance(features: Float[np.ndarray, "n d"]) -> tuple[float, float]:
    """2N/(N-1) · (mean|e|² - |mean e|²): the mean squared distance over all pairs; its error 2·sd(h)/√N.

    features: float [n, d], n of 2 or more, arrays or memory maps. Returns (mean, standard error), both 0 or more,
    in squared units of the features. h_i is the mean squared distance of i to the others, from the sums alone:
    memory of one chunk, time linear in n. The error is that of a U-statistic (Hoeffding, 1948): it counts images,
    not pairs. Sums are in fp64 about the first image's features, so a common offset costs no digits.
    """
    n = len(features)
    if n < 2:
        raise LeadlineError(f"a mean over pairs needs 2 images or more, {n} given")
    center = features[0].astype(np.float64)
    total, squares = np.zeros_like(center), np.empty(n)
    for rows, chunk in _chunks(features, center):
        total += chunk.sum(0)
        squares[rows] = np.square(chunk).sum(1)
    if not np.isfinite(squares).all():
        raise LeadlineError(f"features of image {int(np.argmin(np.isfinite(squares)))} are not finite")
    to_others = np.empty(n)
    for rows, chunk in _chunks(features, center):
        to_others[rows] = (n * squares[rows] + squares.sum() - 2 * chunk @ total) / (n - 1)
    mean = 2 * n / (n - 1) * (squares.mean() - np.square(total / n).sum())
    return max(0.0, float(mean)), 2 * float(to_others.std(ddof=1)) / math.sqrt(n)


def measure_diversity(context: AuditContext) -> Iterator[Finding]:
    """Mean pairwise distance in the labeler's features, of the samples and of the training images beside them."""
    parts: tuple[Literal["samples", "training"], ...] = ("samples", "training")
    for part in parts:
        n = len(context.part(part))
        if n < 2:
            reason = f"a mean over pairs needs 2 images or more, the {part} are {n}: give more"
            yield Measurement.not_measurable("mean_pairwise_distance", reason, params={"set": part})
            continue
        value, error = mean_pairwise_distance(context.features(part))
        lower, upper = around(value, error, n, context.spec.level)
        yield Measurement(
            name="mean_pairwise_distance",
            value=value,
            lower=max(0.0, lower),
            upper=upper,
            level=context.spec.level,
            method="all pairs in closed form; Student t with the U-statistic's error 2·sd(h)/√n; unbiased at any n",
            n=n,
            unit="squared distance of unit vectors",
            direction="larger: the images differ more from each other",
            params={"set": part, "space": "labeler features", "standard_error": error},
            computed_from=context.computed_from(part, "labeler"),
        )


METRICS.register("diversity")(
    Metric(measure=measure_diversity, reports=("mean_pairwise_distance",), needs=frozenset({"features"}))
)


def _chunks(
    features: Float[np.ndarray, "n d"], center: Float[np.ndarray, " d"]
) -> Iterator[tuple[slice, Float[np.ndarray, "m d"]]]:
    for start in range(0, len(features), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        yield rows, features[rows].astype(np.float64) - center
