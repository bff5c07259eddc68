"""Shares from a few human labels beside the labeler's many: valid also where the labeler fails on generated images."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from statsmodels.stats.contingency_tables import StratifiedTable

from leadline.audit.anytime import OF_FIXED_NUMBER
from leadline.audit.context import AuditContext, Finding, Metric
from leadline.audit.human_labels import NONE, UNSURE, HumanLabels
from leadline.audit.intervals import joint_level, wilson
from leadline.audit.known_images import KnownImages, known_images
from leadline.audit.prediction_powered import PredictionPowered, prediction_powered, prediction_powered_part
from leadline.errors import LeadlineError, NotMeasurable
from leadline.records import AuditResult, Measurement, Table

HUMAN, POWERED, GAIN = "human_share", "prediction_powered_share", "human_label_gain"
DIFFERENCE, AGREEMENT = "prediction_powered_difference", "labeler_agreement_on_samples"
CONFUSION = "human_confusion"
OF_ALL = "share of all images"


def measure_human(context: AuditContext) -> Iterator[Finding]:
    """Shares by the human labels alone and with the labeler's predictions, against the training data, and how often
    the labeler agrees. "none of these" and "unsure" are classes of their own and stay in every share of all images.
    """
    human = context.human
    if human is None:
        raise NotMeasurable("no human labels were given (--human-labels FILE, from a page of leadline label)")
    if context.spec.stopping == "anytime":
        raise NotMeasurable(OF_FIXED_NUMBER.format(what="an interval from a person's labels"))
    try:
        predicted = _Predicted.of(context, human)
    except LeadlineError as error:
        yield from _labels_alone(context, human, str(error))
        return
    yield from _shares(context, human, predicted)
    yield from _differences(context, human, predicted)
    yield from _agreement(context, human, _known(context))


HUMAN_METRIC = Metric(measure=measure_human, reports=(HUMAN, POWERED, GAIN, DIFFERENCE, AGREEMENT))
"""Made where human labels are given, whatever metrics are asked for."""


def with_human(previous: AuditResult, found: AuditResult) -> AuditResult | None:
    """A finished audit with the human labels' findings of another one of the same images instead of its own.

    Whatever else `found` has and `previous` lacks is added. None where they are not of the same images and labeler, or
    not by the same packages: then all is to be measured again.
    """
    known, given = (result.settings.get("fingerprints", {}) for result in (previous, found))
    packages = (result.settings.get("packages") for result in (previous, found))
    if any(known[name] != given[name] for name in known.keys() & given.keys()) or len({*map(repr, packages)}) > 1:
        return None
    own = {m.name for m in previous} - set(HUMAN_METRIC.reports)
    tables = {t.name for t in previous.tables} - {CONFUSION}
    return replace(
        previous,
        measurements=(
            *(m for m in previous if m.name in own),
            *(m for m in found if m.name not in own),
        ),
        tables=(
            *(t for t in previous.tables if t.name in tables),
            *(t for t in found.tables if t.name not in tables),
        ),
        settings={
            **previous.settings,
            **{name: found.settings[name] for name in ("human_labels", "labels", "labeler")},
            "fingerprints": {**given, **known},
        },
        labels=previous.labels or found.labels,
    )


@dataclass(frozen=True)
class _Predicted:
    """By group, what is predicted of the labelled images and of the others: two sets without an image in common."""

    labelled: dict[str, Float[np.ndarray, " n"]]
    unlabelled: dict[str, Float[np.ndarray, " m"]]

    @classmethod
    def of(cls, context: AuditContext, human: HumanLabels) -> "_Predicted":
        """A class's prediction is its probability; of "none of these" that of the classes not asked for, and of
        "unsure" whether the labeler would not say. Any prediction is valid, a good one makes the interval narrow."""
        columns = context.predictions()
        unclassified = columns[:, -1]
        places = [context.class_names.index(name) for name in human.classes]
        groups = {name: columns[:, place] for name, place in zip(human.classes, places, strict=True)}
        groups[NONE] = np.delete(columns[:, :-1], places, axis=1).sum(1) + unclassified
        groups[UNSURE] = unclassified
        rest = np.ones(len(columns), dtype=bool)
        rest[human.indices] = False
        return cls(
            {name: values[human.indices] for name, values in groups.items()},
            {name: values[rest] for name, values in groups.items()},
        )


def _labels_alone(context: AuditContext, human: HumanLabels, reason: str) -> Iterator[Measurement]:
    nothing = np.empty(0)
    for group in (*human.classes, NONE, UNSURE):
        said = human.said(group)
        yield _human(context, human, group, prediction_powered(said, said, nothing, _level(context, human, group)))
    for name in (POWERED, GAIN, DIFFERENCE, AGREEMENT):
        yield Measurement.not_measurable(name, f"there are no predictions to go with the human labels: {reason}")


def _level(context: AuditContext, human: HumanLabels, group: str) -> float:
    """Of one of several intervals that hold together (Bonferroni), for classes; the two other answers stand alone."""
    return joint_level(context.spec.level, len(human.classes)) if group in human.classes else context.spec.level


def _shares(context: AuditContext, human: HumanLabels, predicted: _Predicted) -> Iterator[Measurement]:
    for group in (*human.classes, NONE, UNSURE):
        found = prediction_powered(
            human.said(group), predicted.labelled[group], predicted.unlabelled[group], _level(context, human, group)
        )
        yield _human(context, human, group, found)
        yield Measurement(
            name=POWERED,
            value=found.value,
            lower=found.lower,
            upper=found.upper,
            level=context.spec.level,
            method=_named(found.method, human, group),
            n=len(context.samples),
            unit=OF_ALL,
            group=group,
            params=_params(found, human, context),
            computed_from=_sources(context, human),
        )
        yield Measurement(
            name=GAIN,
            value=found.gain,
            n=found.n_labelled,
            unit="times",
            direction="larger: the labeler's predictions are worth more; the interval is as narrow as of so many times "
            "as many labels alone",
            group=group,
            params={"tuning": found.tuning},
            computed_from=_sources(context, human),
        )


def _human(context: AuditContext, human: HumanLabels, group: str, found: PredictionPowered) -> Measurement:
    return Measurement(
        name=HUMAN,
        value=found.classical_value,
        lower=found.classical_lower,
        upper=found.classical_upper,
        level=context.spec.level,
        method=_named(found.classical_method, human, group),
        n=found.n_labelled,
        unit=OF_ALL,
        group=group,
        params={"labels": human.origin},
        computed_from=_sources(context, human),
    )


def _params(found: PredictionPowered, human: HumanLabels, context: AuditContext) -> dict[str, Any]:
    return {
        "labelled": found.n_labelled,
        "unlabelled": found.n_unlabelled,
        "tuning": found.tuning,
        "effective_labels": found.n_effective,
        "standard_error": found.standard_error,
        "labels": human.origin,
        "predictions": context.labels_origin,
    }


def _named(method: str, human: HumanLabels, group: str) -> str:
    together = len(human.classes)
    if group not in human.classes or together <= 2:
        return method
    return f"{method}; simultaneous for the {together} classes (Bonferroni)"


def _differences(context: AuditContext, human: HumanLabels, predicted: _Predicted) -> Iterator[Measurement]:
    """Share among the images of the training set's classes, as the training shares are, minus the training share."""
    counts = {name: n for name, n in context.training.counts().items() if n}
    sources = _sources(context, human)
    reason = _no_difference(counts, human)
    if reason:
        yield Measurement.not_measurable(DIFFERENCE, reason, computed_from=sources)
        return
    among = human.said(*counts)
    level = joint_level(context.spec.level, len(counts))
    for group, count in counts.items():
        found = prediction_powered_part(
            human.said(group),
            among,
            predicted.labelled[group],
            np.sum([predicted.labelled[name] for name in counts], axis=0),
            predicted.unlabelled[group],
            np.sum([predicted.unlabelled[name] for name in counts], axis=0),
            level,
        )
        share = count / sum(counts.values())
        together = f", simultaneous for the {len(counts)} classes (Bonferroni)" if len(counts) > 2 else ""
        yield Measurement(
            name=DIFFERENCE,
            value=found.value - share,
            lower=found.lower - share,
            upper=found.upper - share,
            level=context.spec.level,
            method=f"{found.method}, of the ratio to all images of the training data's classes (delta method){together}"
            "; the training share is known, not estimated",
            n=len(context.samples),
            unit="share",
            direction="above 0: more often among the samples than in the training data",
            group=group,
            params={
                "share": found.value,
                "share_lower": found.lower,
                "share_upper": found.upper,
                "training_share": share,
                "gain": found.gain,
                **_params(found, human, context),
            },
            computed_from=context.computed_from("training") | sources,
        )


def _no_difference(counts: dict[str, int], human: HumanLabels) -> str:
    """Why shares cannot be set against the training data; empty where they can."""
    if len(counts) < 2:
        known = f"all training images are of one class ({next(iter(counts))!r})" if counts else "it has no classes"
        return f"there is no share in the training data to compare with: {known}"
    left_out = next((name for name in counts if name not in human.classes), None)
    if left_out is not None:
        return (
            f"the page did not offer the training data's class {left_out!r}, so its images are among {NONE!r}: write "
            "the page with all of them (leadline label SAMPLES --classes)"
        )
    if not human.said(*counts).any():
        return f"none of the {len(human.answers)} labelled images is of the training data's classes: label more"
    return ""


def _known(context: AuditContext) -> KnownImages | None:
    """What the labeler makes of known images; None where no labeler labels the samples."""
    return None if context.labeler is None or context.labels is not None else known_images(context)


def _agreement(context: AuditContext, human: HumanLabels, known: KnownImages | None) -> Iterator[Finding]:
    """How often the labels of the many images are the person's, and whether real images gave the same error."""
    labels = context.sample_labels()[human.indices]
    names = (*context.class_names, "unclassified")  # UNCLASSIFIED, -1, is the last
    given = [names[label] for label in labels]
    columns = [name for name in names if name in {*given, *human.classes, "unclassified"}]
    rows = [_row(human, given, answer, columns) for answer in (*human.classes, NONE, UNSURE)]
    yield Table(
        name=CONFUSION,
        title="What the labeler makes of the images that a person labelled",
        columns=("the person", *columns),
        rows=tuple(rows),
        note=f"{len(given):,} generated images drawn at random; their labels beside the person's: "
        f"{context.labels_origin}.",
    )
    pairs = [(said, got) for said, got in zip(human.answers, given, strict=True) if said in human.classes]
    if not pairs:
        reason = f"none of the {len(given)} labelled images is of a class: {NONE!r} and {UNSURE!r} have no counterpart"
        yield Measurement.not_measurable(AGREEMENT, reason, n=0)
        return
    right = sum(said == got for said, got in pairs)
    lower, upper = wilson(right, len(pairs), context.spec.level)
    yield Measurement(
        name=AGREEMENT,
        value=right / len(pairs),
        lower=lower,
        upper=upper,
        level=context.spec.level,
        method="Wilson",
        n=len(pairs),
        unit="share of the generated images to which the person gave a class",
        direction="larger: the labels of generated images can be trusted more",
        params={"labels": human.origin, **_on_real_images(known, pairs)},
        computed_from=_sources(context, human),
    )


def _row(human: HumanLabels, given: list[str], answer: str, columns: list[str]) -> tuple[str | int, ...]:
    got = [label for said, label in zip(human.answers, given, strict=True) if said == answer]
    return (answer, *(got.count(column) for column in columns))


def _on_real_images(known: KnownImages | None, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """The agreement that its rows on real images give at the person's mixture of classes; Cochran-Mantel-Haenszel.

    The test's strata are the classes: p is that of one error for real and generated images of a class. Nothing where
    the labeler was not judged on all those classes.
    """
    if known is None:
        return {}
    expected, strata = 0.0, []
    for name in dict.fromkeys(said for said, _ in pairs):
        place = known.classes.index(name) if name in known.classes else None
        if place is None or not known.counts[place].any():
            return {}
        right = sum(got == name for said, got in pairs if said == name)
        n = sum(said == name for said, _ in pairs)
        real, num_real = int(known.counts[place, place]), int(known.counts[place].sum())
        expected += n / len(pairs) * real / num_real
        table = np.array([[right, n - right], [real, num_real - real]], dtype=np.float64)
        if (table.sum(0) > 0).all():  # a class without any mistake says nothing of a difference
            strata.append(table)
    if not strata:
        return {"expected_from_real_images": expected}
    p = float(StratifiedTable(strata).test_null_odds(correction=True).pvalue)
    return {"expected_from_real_images": expected, "p": p, "test": "Cochran-Mantel-Haenszel over the classes"}


def _sources(context: AuditContext, human: HumanLabels) -> dict[str, str]:
    labeler = ("labeler",) if context.labels is None else ()
    return context.computed_from("samples", *labeler) | {"human_labels": human.digest}
