"""Replicates: runs of one recipe that differ in their training seed only, and the trend of their shares over depth."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from leadline.across import PARTS, Found
from leadline.across.labelled import labelled_unlike
from leadline.across.training_runs import Replicate, Replicates, grouped, image_labels, member, over_depth
from leadline.audit.replicates import (
    ONE_RUN,
    BetweenRuns,
    VarianceSplit,
    between_runs,
    corrected_between_runs,
    shared_noise,
    variance_split,
)
from leadline.audit.trends import Trend, count_covariance, jonckheere, logistic_trend, page
from leadline.errors import NotMeasurable
from leadline.records import Measurement, Table
from leadline.runs import Run

Row = tuple[str | float | None, ...]
MORE_RUNS = "train more runs that differ in their training seed only (leadline sweep --seeds 0,1,2)"
UNLIKE = "the runs were audited with different training data, classes or level: audit them alike"
UNKNOWN_NOISE = (
    "; the audits kept no labels image by image, so that an error from the noise that all runs start from is not in it"
)
INDEPENDENT = "; the audits kept no labels image by image: the images of any two runs are taken for independent"
CONDITIONAL = {
    "shared": "; conditional on the starting noises, which all runs share",
    "unknown": "; conditional on the starting noises, should runs share them: the audits kept no labels image by image",
    "apart": "",
}
"""Whether runs start from the same noises -> what a permutation of the runs holds for."""
DIRECTION = "larger: other training runs of the recipe make the class more often"


@PARTS.register("replicates")
def replicates(runs: Sequence[Run]) -> Iterator[Found]:
    """The mean share of each recipe's training runs with its interval, where its variance comes from, trend over depth.

    The share is the one that the report compares with the training data: that among the recognised images.
    """
    sets = grouped(runs)
    rows: list[Row] = []
    for each in sets:
        for group in each.groups:
            measured, of_variance = _of_class(each, group)
            yield from measured
            rows += of_variance
    if rows:
        columns = ("model", "class", "part", "standard deviation", "of one run's variance", "of the mean's variance")
        title = "Where the variance of a share comes from"
        yield Table(name="variance_split", title=title, columns=columns, rows=tuple(rows))
    for series in over_depth(sets):
        for group in series[0].groups:
            yield from _trends(series, group)


def _of_class(each: Replicates, group: str) -> tuple[list[Measurement], list[Row]]:
    params = each.params()
    labelled = any(run.labelled for run in each.runs)
    try:
        counts, ns = _checked(each, group)
        noise = _noise(each, group)
        found = between_runs(counts, ns, each.level, shared=noise or 0.0)
    except NotMeasurable as error:
        names = ("share_between_runs", "share_between_runs_difference", "training_run_sd")
        return [Measurement.not_measurable(name, str(error), group=group, params=params) for name in names], []
    # What decides is the corrected share wherever a labeler, which errs, named the classes.
    corrected, reason = None, ""
    if labelled:
        try:
            corrected = _corrected(each, group, found, ns)
        except NotMeasurable as error:
            reason = str(error)
    split = variance_split(corrected or found)
    whole = math.fsum(split.parts().values())
    details = {
        "shares": [count / n for count, n in zip(counts, ns, strict=True)],
        "images": ns,
        "labelled": labelled,
        "prediction_lower": found.prediction[0],
        "prediction_upper": found.prediction[1],
        "training_run_part": split.training_run / whole if whole else 0.0,
        "error_with_twice_the_runs": split.narrowing(runs=2),
        "error_with_twice_the_images": split.narrowing(images=2.0),
    }
    common: dict[str, Any] = {"level": each.recipe.audit.level, "n": len(each.runs), "group": group}
    training = float(each.runs[0].compared(group).params["training_share"])
    bounds = {way: _bounds(each, group, corrected=way) for way in {False, corrected is not None}}
    told = _Told(params | {"training_share": training}, common, bounds, "" if noise is not None else UNKNOWN_NOISE)
    measured = list(told.mean(found, "share_between_runs", "share of recognised images", details))
    unknown = {part for part, known in (("common noise", noise), ("classifier", split.classifier)) if known is None}
    if corrected is not None:
        # No recognised image is of a class that the training data lacks: both are shares of the same whole.
        measured += told.mean(corrected, "corrected_share_between_runs", "share of the images of the training classes")
    elif labelled:
        measured += [
            Measurement.not_measurable(name, reason, group=group, params=params | {"corrected": True})
            for name in ("corrected_share_between_runs", "share_between_runs_difference")
        ]
    measured.append(_sd(corrected or found, params | {"corrected": corrected is not None}, common))
    return measured, _rows(each, group, split, unknown)


@dataclass(frozen=True)
class _Told:
    """Measurements of one set of runs and one class. bounds: whether corrected -> `_bounds`."""

    params: dict[str, Any]
    common: dict[str, Any]
    bounds: dict[bool, dict[str, float]]
    remark: str

    def mean(
        self, found: BetweenRuns, name: str, unit: str, details: dict[str, Any] | None = None
    ) -> Iterator[Measurement]:
        """The mean share over runs, and its difference from the known share of the training data."""
        share = Measurement(
            name=name,
            value=found.value,
            lower=found.lower,
            upper=found.upper,
            method=found.method + self.remark,
            unit=unit,
            direction=DIRECTION,
            params=self.params | (details or {}),
            **self.common,
        )
        yield share
        training, corrected = self.params["training_share"], found.classifier is not None
        moved = {
            "name": "share_between_runs_difference",
            "value": found.value - training,
            "lower": found.lower - training,
            "upper": found.upper - training,
            "unit": "share",
            "direction": "above 0: more often than in the training data",
            "params": self.params | self.bounds[corrected] | {"corrected": corrected},
        }
        yield share.model_copy(update=moved)


def _checked(each: Replicates, group: str) -> tuple[list[int], list[int]]:
    """Images of the class and recognised images of each run; NotMeasurable where the runs are no replicates."""
    seeds = [run.seed for run in each.runs]
    if len(seeds) == 1:
        raise NotMeasurable(ONE_RUN)
    if repeated := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise NotMeasurable(
            f"two of the runs have the training seed {repeated[0]}, and are no replicates: leave one out"
        )
    counts = each.counts(group)
    _check_alike(each.runs)
    return counts


def _check_alike(runs: Sequence[Replicate]) -> None:
    """Raise NotMeasurable where the shares of two runs would differ for other reasons than their models."""
    for run in runs[1:]:
        if apart := labelled_unlike(runs[0].audit, run.audit):
            raise NotMeasurable(
                f"{runs[0].folder} and {run.folder} were not labelled alike ({apart}): audit the runs alike"
            )
        if run.judged_by() != runs[0].judged_by():
            raise NotMeasurable(UNLIKE)


def _corrected(each: Replicates, group: str, found: BetweenRuns, ns: Sequence[int]) -> BetweenRuns:
    """The mean of the runs' shares corrected for the labeler's error. Raises NotMeasurable where a run has none.

    A run's corrected interval tells its whole variance; its `floor`, half the width that infinitely many samples would
    leave at the audit's level, the part of the labelled images, by which all runs are corrected alike.
    """
    known = [run.corrected(group).params for run in each.runs]
    floor = math.fsum(params["floor"] for params in known) / len(known)
    classifier = (floor / _z(each.recipe.audit.level)) ** 2
    variances = np.array([(_half(params) / _z(each.level)) ** 2 for params in known])
    return corrected_between_runs(found, ns, np.array([params["share"] for params in known]), variances, classifier)


def _bounds(each: Replicates, group: str, *, corrected: bool) -> dict[str, float]:
    """Means over the runs of what the difference were if none, or all, of the images of no class were of the class."""
    whose = [run.corrected(group) if corrected else run.compared(group) for run in each.runs]
    what = "of_no_class" if corrected else "unclassified"
    names = (f"if_none_{what}_belong", f"if_all_{what}_belong")
    return {
        name: math.fsum(m.params[name] for m in whose) / len(whose)
        for name in names
        if all(name in m.params for m in whose)
    }


def _half(params: dict[str, Any]) -> float:
    """Half the width of a share's interval; where an end is held at 0 or 1, the longer way to an end."""
    share, lower, upper = (float(params[name]) for name in ("share", "share_lower", "share_upper"))
    if lower <= 0 or upper >= 1:
        return max(upper - share, share - lower)
    return (upper - lower) / 2


def _z(level: float) -> float:
    return float(norm.ppf((1 + level) / 2))


def _noise(each: Replicates, group: str) -> float | None:
    """Variance of the error that the runs share as their images start from the same noise; None where it is unknown."""
    labels = image_labels(each.runs, group, each.groups)
    return None if labels is None else shared_noise(*labels)


def _sd(found: BetweenRuns, params: dict[str, Any], common: dict[str, Any]) -> Measurement:
    method = "Paule-Mandel, Q-profile interval"
    direction = "larger: training runs differ more"
    sd = Measurement(
        name="training_run_sd",
        value=math.sqrt(found.tau2),
        method=method,
        unit="share",
        direction=direction,
        params=params,
        **common,
    )
    if found.tau2_interval is None:
        return sd.model_copy(update={"method": f"{method}: empty, the runs are more alike than sampling lets them be"})
    lower, upper = (math.sqrt(end) for end in found.tau2_interval)
    return sd.model_copy(update={"lower": lower, "upper": upper})


def _rows(each: Replicates, group: str, split: VarianceSplit, unknown: set[str]) -> list[Row]:
    one, mean = split.parts(), split.parts(split.runs)
    whole, of_mean = math.fsum(one.values()), math.fsum(mean.values())
    rows: list[Row] = []
    for part, variance in one.items():
        cells = (math.sqrt(variance), variance / whole if whole else 0.0, mean[part] / of_mean if of_mean else 0.0)
        rows.append((each.words, group, part, *((None, None, None) if part in unknown else cells)))
    return rows


def _trends(series: Sequence[Replicates], group: str) -> Iterator[Measurement]:
    params = {
        "member": member(series[0].recipe),
        "depths": [each.depth for each in series],
        "runs": [len(each.runs) for each in series],
    }
    common: dict[str, Any] = {"group": group, "n": sum(len(each.runs) for each in series)}
    names = ("share_trend", "share_slope")
    runs = [run for each in series for run in each.runs]
    try:
        counted = [each.counts(group) for each in series]
        _check_alike(runs)
    except NotMeasurable as error:
        for name in names:
            yield Measurement.not_measurable(name, str(error), params=params, **common)
        return
    shares = [[count / n for count, n in zip(counts, ns, strict=True)] for counts, ns in counted]
    level = series[0].level
    labels = image_labels(runs, group, series[0].groups)
    noises = "unknown" if labels is None else "shared" if (labels[1].sum(axis=0) > 1).any() else "apart"
    params |= {"noises": noises}
    yield _tested("share_trend", jonckheere(shares), "share of pairs", 1 - level, params, common)
    seeds = {tuple(run.seed for run in each.runs) for each in series}
    if len(seeds) == 1 and len(series) > 2 and len(series[0].runs) > 1:
        yield _tested("share_trend_by_seed", page(np.array(shares).T), "rank correlation", 1 - level, params, common)
    try:
        slope = logistic_trend(
            [c for counts, _ in counted for c in counts],
            [n for _, ns in counted for n in ns],
            [each.depth or 0 for each in series for _ in each.runs],
            level,
            covariance=None if labels is None else count_covariance(*labels),
        )
    except NotMeasurable as error:
        yield Measurement.not_measurable("share_slope", str(error), params=params, **common)
        return
    yield Measurement(
        name="share_slope",
        value=slope.value,
        lower=slope.lower,
        upper=slope.upper,
        level=level,
        method=slope.method + (INDEPENDENT if labels is None else ""),
        unit="log-odds per block",
        direction="above 0: deeper models make the class more often",
        params=params | {"p": slope.p, "overdispersion": slope.overdispersion, "image_part": slope.image_part},
        **common,
    )


def _tested(
    name: str, trend: Trend, unit: str, alpha: float, params: dict[str, Any], common: dict[str, Any]
) -> Measurement:
    """The trend, or that so few runs could show none however clear it were."""
    if trend.smallest_p >= alpha:
        reason = (
            f"even the clearest trend over so few training runs has p = {trend.smallest_p:.2g}, not below {alpha:.2g}: "
            + MORE_RUNS
        )
        return Measurement.not_measurable(name, reason, params=params, **common)
    return Measurement(
        name=name,
        value=trend.effect,
        level=1 - alpha,
        method=trend.method + CONDITIONAL[params["noises"]],
        unit=unit,
        direction="larger: deeper models make the class more often",
        params=params | {"p": trend.p, "statistic": trend.statistic, "smallest_p": trend.smallest_p},
        **common,
    )
