"""Copy rates: what share of the samples, and of held-out real images, each rule calls copies of training images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool

from leadline.audit.context import AuditContext, Part
from leadline.audit.copies import (
    calibrated_threshold,
    carlini_copies,
    halves,
    ratio_copies,
    share_interval,
)
from leadline.audit.differences import fisher, newcombe
from leadline.audit.proximity import Judged, told
from leadline.errors import NotMeasurable
from leadline.records import Measurement, Table

RATE, EXCESS, AUTHENTIC = "nearest_copy_rate", "copy_rate_excess", "authentic_rate"
SWEEP = "copy_rate_sweep"
SWEPT_RATIOS = (0.05, 0.1, 0.15, 0.2, 0.25, 1 / 3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SWEPT_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
SETS: tuple[Part, ...] = ("samples", "held_out")

Outcome = Judged | str
"""What was found of a set of images, or why nothing was."""
SweepRow = tuple[str, str, float, float, float | None]
"""Rule, space, threshold, share of the samples that count as copies, share of the held-out images."""


@dataclass(frozen=True)
class _Verdicts:
    """Which images one rule calls copies; params: what else decided that."""

    copies: Bool[np.ndarray, " n"]
    params: dict[str, Any] = field(default_factory=dict)


class CopyRates:
    """Rates, excess and authenticity in one space.

    name: of the space; found: what was found of the samples and of the held-out images; sources: fingerprints by
    set; common: params of every measurement.
    """

    def __init__(
        self,
        context: AuditContext,
        name: str,
        found: Mapping[Part, Outcome],
        sources: Mapping[Part, dict[str, str]],
        common: Mapping[str, Any],
    ) -> None:
        self.context, self.spec, self.name = context, context.spec, name
        self.found, self.sources, self.common = found, sources, dict(common)
        self.in_pixels = name == "pixels"
        self._rules: dict[str, tuple[dict[str, Any], Callable[[Part], _Verdicts]]] = {
            "d1/d2": ({"threshold": self.spec.copy_ratio}, self._by_ratio),
            "carlini": (
                {"threshold": self.spec.carlini_alpha, "neighbors": self.spec.carlini_neighbors},
                self._by_carlini,
            ),
            "calibrated": ({"false_positive_rate": self.spec.false_positive_rate}, self._by_calibration),
        }

    def measure(self) -> Iterator[Measurement]:
        """nearest_copy_rate of both sets and copy_rate_excess by each rule, then authentic_rate."""
        for rule, (options, judge) in self._rules.items():
            params = {"space": self.name, "rule": rule, **options, **self.common}
            samples, held_out = (self._share(RATE, part, judge, params) for part in SETS)
            yield samples
            yield held_out
            yield self._excess(samples, held_out, params)
        for part in SETS:
            yield self._share(AUTHENTIC, part, self._authentic, {"space": self.name, **self.common})

    def counted(self) -> dict[str, Bool[np.ndarray, " n"]]:
        """Which of the samples each rule counts as copies; a rule that cannot be applied is left out."""
        found = {}
        for rule, (_, judge) in self._rules.items():
            with suppress(NotMeasurable):
                found[rule] = judge("samples").copies
        return found

    def sweep(self) -> list[SweepRow]:
        """The shares over a dozen thresholds of each rule."""
        return [*self._swept_ratios(), *self._swept_distances()]

    def _swept_ratios(self) -> Iterator[SweepRow]:
        """By d1/d2, then by Carlini's ratio, of the sets that have other pictures to compare with."""
        apart = {part: found for part in SETS if isinstance(found := self._if_measurable(part), Judged)}
        if "samples" in apart:
            for rule, judge in (("d1/d2", _by_second), ("carlini", _by_neighborhood)):
                for ratio in SWEPT_RATIOS:
                    shares = {part: float(judge(found, ratio).mean()) for part, found in apart.items()}
                    yield rule, self.name, ratio, shares["samples"], shares.get("held_out")

    def _swept_distances(self) -> Iterator[SweepRow]:
        """By thresholds calibrated for a dozen false-positive rates."""
        samples, held_out = (self.found[part] for part in SETS)
        if isinstance(samples, Judged) and isinstance(held_out, Judged):
            calibrating, checking = self._halves
            for rate in SWEPT_RATES if len(checking) else ():
                with suppress(NotMeasurable):
                    threshold = calibrated_threshold(held_out.first[calibrating], rate)
                    ours, theirs = ((d < threshold).mean() for d in (samples.first, held_out.first[checking]))
                    yield "calibrated", self.name, self._told(threshold), float(ours), float(theirs)

    def _by_ratio(self, part: Part) -> _Verdicts:
        return _Verdicts(_by_second(self._with_others(part), self.spec.copy_ratio))

    def _by_carlini(self, part: Part) -> _Verdicts:
        found = self._with_others(part)
        copies = _by_neighborhood(found, self.spec.carlini_alpha)
        few = {"neighbors_found": found.neighbors} if found.neighbors < self.spec.carlini_neighbors else {}
        return _Verdicts(copies, few)

    def _by_calibration(self, part: Part) -> _Verdicts:
        found, real = self._judged(part), self._judged("held_out")
        calibrating, checking = self._halves
        threshold = calibrated_threshold(real.first[calibrating], self.spec.false_positive_rate)
        if not len(checking):
            raise NotMeasurable("no held-out image is left to check the threshold on: give more (--held-out DATA)")
        wrong = real.first[checking] < threshold
        params = {
            "threshold": self._told(threshold),
            "calibrated_on": len(calibrating),
            "checked_on": len(checking),
            "achieved_false_positive_rate": float(wrong.mean()),
        }
        return _Verdicts(wrong if part == "held_out" else found.first < threshold, params)

    def _authentic(self, part: Part) -> _Verdicts:
        found = self._with_others(part)
        return _Verdicts(found.own < found.first)

    def _judged(self, part: Part) -> Judged:
        found = self.found[part]
        if isinstance(found, str):
            raise NotMeasurable(found)
        return found

    def _with_others(self, part: Part) -> Judged:
        found = self._judged(part)
        if np.isnan(found.second).any() or np.isnan(found.own).any():
            raise NotMeasurable(
                f"the training images all show one picture, to within {self.spec.duplicate_rms:g} RMS per value "
                "(--set audit.duplicate_rms), so there is no other to compare distances with: give more training images"
            )
        return found

    def _if_measurable(self, part: Part) -> Outcome:
        try:
            return self._with_others(part)
        except NotMeasurable as error:
            return str(error)

    @cached_property
    def _halves(self) -> tuple[np.ndarray, np.ndarray]:
        return halves(self.context.part("held_out").pixels, self.spec.seed)

    def _told(self, distance: float) -> float:
        return float(told(np.array([distance]), self.in_pixels)[0])

    def _share(self, name: str, part: Part, judge: Callable[[Part], _Verdicts], params: dict[str, Any]) -> Measurement:
        params = {"set": part, **params}
        try:
            verdicts = judge(part)
        except NotMeasurable as error:
            return Measurement.not_measurable(name, str(error), params=params)
        count, n = int(verdicts.copies.sum()), len(verdicts.copies)
        (lower, upper), method = share_interval(count, n, self.spec.level)
        authentic = name == AUTHENTIC
        return Measurement(
            name=name,
            value=count / n,
            lower=lower,
            upper=upper,
            level=self.spec.level,
            method=method,
            n=n,
            unit="share of images",
            direction="smaller: more images are nearer to a training image than other training images are"
            if authentic
            else "larger: more images count as copies",
            params={**params, **verdicts.params},
            computed_from={
                **self.sources[part],
                **(self.sources["held_out"] if "calibrated_on" in verdicts.params else {}),
            },
        )

    def _excess(self, samples: Measurement, held_out: Measurement, params: dict[str, Any]) -> Measurement:
        for rate in (samples, held_out):
            if rate.value is None:
                return Measurement.not_measurable(EXCESS, str(rate.reason), params=params)
        counts = (*_count(samples), *_count(held_out))
        lower, upper = newcombe(*counts, self.spec.level)
        return Measurement(
            name=EXCESS,
            value=counts[0] / counts[1] - counts[2] / counts[3],
            lower=lower,
            upper=upper,
            level=self.spec.level,
            method="Newcombe",
            n=samples.n,
            unit="share of images",
            direction="above 0: more of the samples count as copies than of new real images",
            params={
                **params,
                "threshold": samples.params["threshold"],
                "n_held_out": held_out.n,
                "p": fisher(*counts),
                "test": "Fisher",
            },
            computed_from={**samples.computed_from, **held_out.computed_from},
        )


def _by_second(found: Judged, ratio: float) -> Bool[np.ndarray, " n"]:
    return ratio_copies(found.first, found.second, ratio)


def _by_neighborhood(found: Judged, alpha: float) -> Bool[np.ndarray, " n"]:
    return carlini_copies(found.first, found.neighborhood, alpha)


def _count(rate: Measurement) -> tuple[int, int]:
    """Images that count, and all images, of a share that has a value."""
    n = rate.n or 0
    return round((rate.value or 0) * n), n


def sweep_table(rows: Sequence[SweepRow]) -> Table:
    """The copy rates over the thresholds, for drawing."""
    return Table(
        name=SWEEP,
        title="Share of images that count as copies, by rule and threshold",
        columns=("rule", "space", "threshold", "samples", "held_out"),
        rows=tuple(rows),
        note="d1/d2: copies are below the threshold. carlini: d1 over the mean distance to the nearest, copies are not "
        "above it. calibrated: nearer than the threshold, a distance in pixels and a cosine of features; the held-out "
        "images are those that check it.",
    )
