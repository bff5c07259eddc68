"""Fidelity: how far the samples are from the training images as a whole, beside held-out real images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from leadline.audit.choosing import hashed_order
from leadline.audit.context import METRICS, AuditContext, Finding, Metric
from leadline.audit.frechet import Gaussian, fit_gaussian, frechet_distance
from leadline.audit.intervals import around, mean_interval, wilson
from leadline.audit.kernel import kernel_distance, mean_kernel_to_others
from leadline.audit.manifold import Neighborhoods, neighborhoods
from leadline.errors import LeadlineError
from leadline.records import ImageSet, Measurement

Set = Literal["samples", "held_out"]
SETS: tuple[Set, ...] = ("samples", "held_out")


def measure_fidelity(context: AuditContext) -> Iterator[Finding]:
    """Fréchet and kernel distance, precision, recall, density and coverage, in every feature space.

    The reference is the training images. Held-out real images of the same kind stand beside the samples: what a
    model that knows their distribution, and copies none of them, would reach; samples nearer than that are a sign of
    copies. Where the two sets differ in size, the larger one's numbers that depend on it come with the same at the
    size of the smaller.
    """
    for space in context.spaces:
        yield from _in_space(context, space)


@dataclass(frozen=True)
class Reference:
    """The training images in one feature space; what every comparison with them takes is computed once."""

    features: Float[np.ndarray, "m d"]
    k: int
    device: torch.device

    @cached_property
    def gaussian(self) -> Gaussian:
        return fit_gaussian(self.features, device=self.device)

    @cached_property
    def kernel_means(self) -> Float[np.ndarray, " m"]:
        return mean_kernel_to_others(self.features, device=self.device)

    @cached_property
    def neighborhoods(self) -> Neighborhoods:
        return neighborhoods(self.features, self.k, device=self.device)


@dataclass(frozen=True)
class Comparison:
    """A set of images against the reference in one feature space."""

    features: Float[np.ndarray, "n d"]
    reference: Reference
    level: float

    @cached_property
    def number_holding(self) -> Int[np.ndarray, " n"]:
        return self.reference.neighborhoods.number_holding(self.features)

    @cached_property
    def neighborhoods(self) -> Neighborhoods:
        return neighborhoods(self.features, self.reference.k, device=self.reference.device)

    def frechet_distance(self) -> dict[str, Any]:
        (n, dimension), m = self.features.shape, len(self.reference.features)
        found = frechet_distance(self.features, self.reference.gaussian)
        lower, upper = around(found.value, found.error, n, self.level)
        params: dict[str, Any] = {"dimension": dimension, "standard_error": found.error}
        if min(n, m) > dimension:
            params["bias"] = found.bias
        else:
            params["caution"] = (
                f"{min(n, m):,} images in {dimension:,} dimensions: a covariance is singular, and most of the distance "
                "may be the bias of so few; compare sets of one size only, or the kernel distance"
            )
        return {
            "value": found.value,
            "lower": max(0.0, lower),
            "upper": upper,
            "n": n,
            "method": (
                "a Gaussian fitted to each set; Student t with the delta method's error over the images, the training "
                "images taken as given; the upward bias of finite n is neither subtracted nor in the interval"
            ),
            "params": params,
        }

    def kernel_distance(self) -> dict[str, Any]:
        n, m = len(self.features), len(self.reference.features)
        means = self.reference.kernel_means
        value, error = kernel_distance(
            self.features, self.reference.features, reference_means=means, device=self.reference.device
        )
        lower, upper = around(value, error, min(n, m), self.level)
        return {
            "value": value,
            "lower": lower,
            "upper": upper,
            "n": n,
            "method": "kernel (xᵀy/d + 1)³, all pairs; Student t with the U-statistic's error over both sets; unbiased",
            "params": {"standard_error": error},
        }

    def precision(self) -> dict[str, Any]:
        words = "Wilson over the images, the training images taken as given"
        return self._share(self.number_holding > 0, words, self.reference.neighborhoods)

    def recall(self) -> dict[str, Any]:
        words = "Wilson over the training images, the set that is compared with them taken as given"
        hits = self.neighborhoods.number_holding(self.reference.features) > 0
        return self._share(hits, words, self.neighborhoods)

    def density(self) -> dict[str, Any]:
        values = self.number_holding / self.reference.k
        lower, upper = mean_interval(values, self.level) or (None, None)
        return {
            "value": float(values.mean()),
            "lower": lower,
            "upper": upper,
            "n": len(values),
            "method": (
                "no interval: one image"
                if lower is None
                else "Student t over the images, the training images taken as given"
            ),
            "params": self._params(self.reference.neighborhoods),
        }

    def coverage(self) -> dict[str, Any]:
        balls = self.reference.neighborhoods
        words = "Wilson over the training images, the set that is compared with them taken as given"
        return self._share(balls.holding_any(self.features), words, balls)

    def _share(self, hits: Bool[np.ndarray, " u"], method: str, balls: Neighborhoods) -> dict[str, Any]:
        lower, upper = wilson(int(hits.sum()), len(hits), self.level)
        return {
            "value": float(hits.mean()),
            "lower": lower,
            "upper": upper,
            "n": len(hits),
            "method": method,
            "params": self._params(balls),
        }

    def _params(self, balls: Neighborhoods) -> dict[str, Any]:
        params: dict[str, Any] = {"k": self.reference.k}
        empty = int((balls.radii == 0).sum())
        if empty:
            params["caution"] = (
                f"{empty:,} of {len(balls.radii):,} neighbourhoods have the radius 0 and hold nothing: "
                f"their image has {self.reference.k} equal ones or more"
            )
        return params


@dataclass(frozen=True)
class _Measure:
    compare: Callable[[Comparison], dict[str, Any]]
    unit: str
    direction: str
    depends_on_n: bool
    """Whether it has another expectation in a larger set of the same kind."""


MEASURES = {
    "frechet_distance": _Measure(
        Comparison.frechet_distance,
        "squared distance of features",
        "smaller: nearer to the training images; fewer images read larger, so compare sets of one size",
        True,
    ),
    "kernel_distance": _Measure(
        Comparison.kernel_distance,
        "squared distance of mean kernels",
        "smaller: nearer to the training images; 0 on average for images of their kind",
        False,
    ),
    "precision": _Measure(
        Comparison.precision,
        "share of the set's images",
        "larger: more of the set's images lie among training images",
        False,
    ),
    "recall": _Measure(
        Comparison.recall,
        "share of the training images",
        "larger: more training images lie among the set's; it depends on the set's size, so compare sets of one size",
        True,
    ),
    "density": _Measure(
        Comparison.density,
        "neighbourhoods / k",
        "larger: the set's images lie where training images are dense; 1 on average for images of their kind",
        False,
    ),
    "coverage": _Measure(
        Comparison.coverage,
        "share of the training images",
        "larger: more training images have one of the set's near; more images read larger, so compare sets of one size",
        True,
    ),
}

METRICS.register("fidelity")(Metric(measure=measure_fidelity, reports=tuple(MEASURES), uses=frozenset({"features"})))


def _in_space(context: AuditContext, space: str) -> Iterator[Measurement]:
    try:
        reference = Reference(context.features("training", space), context.spec.nearest_k, context.device)
    except LeadlineError as error:
        for compared in SETS:
            yield from _missing(space, compared, str(error))
        return
    comparisons: dict[Set, Comparison | str] = {}
    for compared in SETS:
        try:
            comparisons[compared] = Comparison(context.features(compared, space), reference, context.spec.level)
        except LeadlineError as error:
            comparisons[compared] = str(error)
    sizes = [len(found.features) for found in comparisons.values() if isinstance(found, Comparison)]
    for compared, comparison in comparisons.items():
        if isinstance(comparison, str):
            yield from _missing(space, compared, comparison)
            continue
        context.progress(f"fidelity: comparing {compared.replace('_', '-')} with training images in {space} features")
        smaller = None
        if len(comparison.features) > min(sizes):
            chosen = thinned(context.part(compared), min(sizes), context.spec.seed)
            smaller = replace(comparison, features=comparison.features[chosen])
        for name in MEASURES:
            yield _measured(context, space, compared, name, comparison, smaller)


def _measured(
    context: AuditContext, space: str, compared: Set, name: str, comparison: Comparison, smaller: Comparison | None
) -> Measurement:
    """One number; `smaller`: the same set at the other set's size, where it is the larger of the two."""
    measure = MEASURES[name]
    params = {
        "space": f"{space} features",
        "set": compared,
        "images": len(comparison.features),
        "training_images": len(comparison.reference.features),
        **({"depends_on_n": True} if measure.depends_on_n else {}),
    }
    try:
        found = measure.compare(comparison)
    except LeadlineError as error:
        return Measurement.not_measurable(name, str(error), params=params)
    params |= found.pop("params")
    if smaller is not None and measure.depends_on_n:
        params["equal_n"] = len(smaller.features)
        try:
            params["value_at_equal_n"] = measure.compare(smaller)["value"]
        except LeadlineError as error:
            params["value_at_equal_n"] = f"not measurable: {error}"
    return Measurement(
        name=name,
        level=None if found["lower"] is None else context.spec.level,
        unit=measure.unit,
        direction=measure.direction,
        params=params,
        computed_from=context.computed_from(compared, "training", space),
        **found,
    )


def _missing(space: str, compared: Set, reason: str) -> Iterator[Measurement]:
    params = {"space": f"{space} features", "set": compared}
    return (Measurement.not_measurable(name, reason, params=params) for name in MEASURES)


def thinned(images: ImageSet, n: int, seed: int) -> Int[np.ndarray, " n"]:
    """Rows of n random images, ascending: those whose pixels have the smallest hashes, so no order matters."""
    return np.sort(hashed_order(images.pixels, seed, "thinning")[:n])
