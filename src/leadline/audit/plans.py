"""A question about a share -> all that a plan answers: images, labelled images, runs, curves. No network, no torch."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from leadline.audit.anytime import centre, log_evidence
from leadline.audit.plan_question import ESTIMATED, KNOWN, PERFECT, Question
from leadline.audit.planning import (
    MAX_IMAGES,
    UNLIMITED,
    as_classified,
    first_that,
    images_per_model,
    labelled_needed,
    normal_images,
    two_sample_power,
)
from leadline.audit.planning_runs import MAX_RUNS, images_per_run, largest_between_run_sd, runs_needed
from leadline.records import AuditResult, Measurement, Table

BUDGET = 10_000
"""Images for which labelled images and runs are planned beside unlimited ones, where --images names none."""
RUNS = (2, 3, 5, 10, 20)
CURVE_POINTS = 80
NORMAL = "normal approximation"
EXACT = "exact binomial power of the report's interval"
CORRECTED = "power of Lang and Reiczigel's interval over what the labelled images may say of the rates"
BETWEEN = (
    "random effects over runs: Hartung-Knapp with factor 1 or more, no narrower than Clopper-Pearson; normal shares"
)
SCORE = f"score test of two shares, {NORMAL}"


def make_plan(question: Question) -> AuditResult:
    """All answers as Measurements, and the curves as Tables.

    images_needed [counting], by the textbook's formula and exactly; images_until_stopped; images_per_set, of two sets
    counted alike; reported_share and precision [of: training, samples]; labelled_images_needed [images, drawn]; power
    and detectable_share [counting, side] at --images; images_per_run or largest_between_run_sd [runs, images] and
    runs_needed. What cannot be reached is not measurable, with its reason. Tables: power_curve and detectable_curve,
    a row per number of images.
    """
    q = question
    found: list[Measurement] = []
    if q.two_models:
        found += _two_models(q)
    elif q.detect is not None:
        found += [*_images(q), _stopped(q)]
    if q.classifier and q.detect is not None:
        found += _as_reported(q)
    if q.classifier and q.detect is not None and not q.two_models:
        found += _labelled(q)
    if q.images is not None and not q.two_models:
        found += _at_images(q, q.images)
    if q.replicates is not None:
        found += _runs(q, q.replicates)
    return AuditResult(tuple(found), tables=() if q.two_models else _curves(q), settings=asdict(q))


def _images(q: Question) -> list[Measurement]:
    textbook = normal_images(q.share, q.told, q.power, q.level)
    found = [_whole("images_needed", textbook, "", counting=PERFECT, method=NORMAL)]
    for counting in q.countings:
        reason = f"no number up to {MAX_IMAGES:,} images is enough"
        if counting == ESTIMATED:
            reason = (
                f"{q.positives:,} labelled images of the group and {q.negatives:,} others leave the classifier's own "
                "error too uncertain, which no number of images mends: see how many labelled images would"
            )
        method = CORRECTED if counting == ESTIMATED else EXACT
        found.append(_whole("images_needed", q.needed(counting), reason, counting=counting, method=method))
    if q.classifier:
        found.append(_per_set(q))
    return found


def _stopped(q: Question) -> Measurement:
    """Where the expected counts of a sequential audit have the evidence that leaves the training share outside."""
    reference, truth = (as_classified(p, *q.rates) for p in (q.share, q.told))
    around, wanted = centre(reference), math.log(1 / (1 - q.level))
    n = first_that(lambda n: bool(log_evidence(n * truth, n, reference, around=around) >= wanted))
    return _whole(
        "images_until_stopped",
        n,
        f"beyond {MAX_IMAGES:,} images",
        counting=KNOWN if q.classifier else PERFECT,
        method="confidence sequence along the expected counts: about half of the audits stop earlier",
    )


def _as_reported(q: Question) -> list[Measurement]:
    """What the classifier reports of both sets, and how much of what it calls the group is of it (Bayes' rule)."""
    found = []
    for name, images, share in (("training", "training images", q.share), ("samples", "samples", q.told)):
        reported = as_classified(share, *q.rates)
        found.append(Measurement(name="reported_share", value=reported, unit="share", params={"of": name}))
        found.append(
            Measurement(
                name="precision",
                value=share * q.rates[0] / reported,
                unit=f"share of the {images} called so",
                params={"of": name, "true": share * q.rates[0], "false": (1 - share) * (1 - q.rates[1])},
            )
            if reported > 0
            else Measurement.not_measurable("precision", "nothing is called so", params={"of": name})
        )
    return found


def _shown(images: int | float) -> int | str:
    return "unlimited" if math.isinf(images) else int(images)


def _labelled(q: Question) -> list[Measurement]:
    found = []
    for images in (UNLIMITED, q.images or BUDGET):
        for drawn, part in (("as many of each kind", 0.5), ("at random from the training data", q.share)):
            n = labelled_needed(q.share, q.told, images, part, q.power, q.level, *q.rates)
            reason = f"{images:,.0f} images are too few even where the classifier's rates are known exactly"
            found.append(
                _whole(
                    "labelled_images_needed",
                    n,
                    reason,
                    images=_shown(images),
                    drawn=drawn,
                    group_images=None if n is None else math.ceil(n * part),
                    method=CORRECTED,
                )
            )
    return found


def _at_images(q: Question, images: int) -> list[Measurement]:
    found = []
    for counting in q.countings:
        if q.detect is not None:
            value = q.power_at(counting, np.array([images]))[0]
            found.append(Measurement(name="power", value=value, n=images, params={"counting": counting}))
        for side, told in zip(("below", "above"), q.detectable_at(counting, images), strict=True):
            params = {"counting": counting, "side": side}
            reason = f"{images:,} images tell no share {side} {q.share:g} from it with that power"
            found.append(
                Measurement.not_measurable("detectable_share", reason, n=images, params=params)
                if told is None
                else Measurement(name="detectable_share", value=told, unit="share", n=images, params=params)
            )
    return found


def _runs(q: Question, replicates: int) -> list[Measurement]:
    wanted = (q.share, q.told)
    rates = (q.power, q.level, *q.rates)
    sd = q.between_run_sd
    found = []
    if sd is None and replicates == 1:
        reason = (
            "one training run says nothing about the next: the spread between runs is unknown. Its share is that run's "
            "alone; give --between-run-sd where it is known from elsewhere, or train several (--replicates 3)"
        )
        return [Measurement.not_measurable("images_per_run", reason, params={"runs": 1, "method": BETWEEN})]
    budget = q.images or BUDGET
    for runs in sorted({replicates, *RUNS}):
        if sd is not None:
            n = images_per_run(*wanted, runs, sd, *rates)
            reason = f"{runs} runs are too few, with any number of images, where their shares differ by {sd:g} (sd)"
            found.append(_whole("images_per_run", n, reason, runs=runs, between_run_sd=sd, method=BETWEEN))
            continue
        for images in (UNLIMITED, budget):
            value = largest_between_run_sd(*wanted, runs, images, *rates)
            params = {"runs": runs, "images": _shown(images), "method": BETWEEN}
            reason = f"{images:,.0f} images of each of {runs} runs are too few, even where all runs are alike"
            found.append(
                Measurement.not_measurable("largest_between_run_sd", reason, params=params)
                if value is None
                else Measurement(name="largest_between_run_sd", value=value, unit="share", params=params)
            )
    if sd is not None:
        for images in (UNLIMITED, budget):
            n = runs_needed(*wanted, sd, images, *rates)
            reason = f"no number up to {MAX_RUNS:,} runs is enough"
            found.append(_whole("runs_needed", n, reason, images=_shown(images), between_run_sd=sd, method=BETWEEN))
    return found


def _per_set(q: Question) -> Measurement:
    """Both sets scored by one classifier: equal shares are reported as equal, whatever its rates."""
    n = images_per_model(q.share, q.told, q.power, q.level, *q.rates)
    return _whole("images_per_set", n, "", method=SCORE)


def _two_models(q: Question) -> list[Measurement]:
    found = [_per_set(q)]
    if q.images is not None:
        value = two_sample_power(q.share, q.told, q.images, q.level, *q.rates)
        found.append(Measurement(name="power", value=value, n=q.images, params={"method": NORMAL}))
    return found


def _curves(q: Question) -> tuple[Table, ...]:
    """Power and detectable share over numbers of images from which nothing can be told to far beyond what is needed."""
    known = [n for n in (q.images, *(q.needed(c) for c in q.countings if q.detect is not None)) if n is not None]
    first, last = max(10, min(known) // 30), min(MAX_IMAGES, 20 * max(known))
    images = np.unique(np.geomspace(first, max(last, 10 * first), CURVE_POINTS).astype(np.int64))
    tables = []
    if q.detect is not None:
        powers = [q.power_at(counting, images) for counting in q.countings]
        rows = tuple((int(n), *row) for n, *row in zip(images, *powers, strict=True))
        tables.append(Table(name="power_curve", title="Power", columns=("images", *q.countings), rows=rows))
    columns = ("images", *(f"{side}, {counting}" for counting in q.countings for side in ("below", "above")))
    shares = [[side for c in q.countings for side in q.detectable_at(c, int(n))] for n in images]
    rows = tuple((int(n), *row) for n, row in zip(images, shares, strict=True))
    tables.append(Table(name="detectable_curve", title="Detectable share", columns=columns, rows=rows))
    return tuple(tables)


def _whole(name: str, value: int | None, reason: str, **params: Any) -> Measurement:
    method = params.pop("method")
    if value is None:
        return Measurement.not_measurable(name, reason, params=params, method=method)
    return Measurement(
        name=name, value=value, unit="runs" if name == "runs_needed" else "images", method=method, params=params
    )
