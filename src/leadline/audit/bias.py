"""Bias amplification: the shares of the classes among the samples against those in the training data."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from leadline.audit.context import METRICS, AuditContext, Finding, Metric
from leadline.audit.intervals import Interval, joint_level, simultaneous, wilson
from leadline.audit.judged import UNCLASSIFIED
from leadline.errors import LeadlineError
from leadline.records import Measurement, Table

OTHER, UNSURE = "other classes", "unclassified"


def share_difference(share: float, training_share: float) -> float:
    """q - p: share among the samples minus share in the training data, in [-1, 1]; 0 = none."""
    _check_shares(share, training_share)
    return share - training_share


def share_ratio(share: float, training_share: float) -> float:
    """q / p: share among the samples over share in the training data, 0 or more; 1 = none. p must be above 0."""
    _check_shares(share, training_share)
    if training_share == 0:
        raise LeadlineError("share_ratio needs a training share above 0: the class is not in the training data")
    return share / training_share


def share_amplification(share: float, training_share: float) -> float:
    """logit(q) - logit(p), the log-odds ratio of the shares; 0 = none, -inf at q = 0, inf at q = 1.

    p must lie strictly between 0 and 1: of a data set with one class nothing can be amplified.
    """
    _check_shares(share, training_share)
    if training_share in (0, 1):
        raise LeadlineError(f"share_amplification needs a training share between 0 and 1, not {training_share}")
    return _logit(share) - _logit(training_share)


COMPARISONS: dict[str, tuple[Callable[[float, float], float], str]] = {
    "share_difference": (share_difference, "above 0: more often among the samples than in the training data"),
    "share_ratio": (share_ratio, "above 1: more often among the samples than in the training data"),
    "share_amplification": (
        share_amplification,
        "above 0: the odds of the class are higher among the samples than in the training data",
    ),
}
UNITS = {"share_difference": "share", "share_ratio": "times", "share_amplification": "log-odds"}


def measure_bias(context: AuditContext) -> Iterator[Finding]:
    """Shares of the training set's classes, and how far those of the samples are from them.

    `share` counts over all samples, so that the classes, "other classes" and "unclassified" sum to 1. The three
    comparisons take the samples that were recognised as one of the training set's classes, because the training
    shares sum to 1 over those too; how far the unclassified could move them stands in the params.
    """
    training = context.training
    in_training = np.array(list(training.counts().values()))
    chosen = np.flatnonzero(in_training)
    labels = context.sample_labels()
    counts = np.bincount(labels[labels != UNCLASSIFIED], minlength=len(context.class_names))
    unsure = int((labels == UNCLASSIFIED).sum())
    names = [training.classes[i] for i in chosen]
    sample_counts = [int(counts[i]) for i in chosen]
    training_counts = [int(in_training[i]) for i in chosen]
    others = len(labels) - unsure - sum(sample_counts)

    yield _table(context, counts, unsure)
    yield from _training_shares(context, names, training_counts)
    yield from _sample_shares(
        context, {**dict(zip(names, sample_counts, strict=True)), OTHER: others, UNSURE: unsure}, len(names)
    )
    if len(names) < 2:
        reason = f"all training images are of one class ({names[0]!r}), so no share can grow: audit more classes"
        for name in COMPARISONS:
            yield Measurement.not_measurable(name, reason, group=names[0], computed_from=_sources(context))
    else:
        yield from _comparisons(context, names, sample_counts, training_counts, unsure)


METRICS.register("bias")(Metric(measure=measure_bias, reports=("share", *COMPARISONS), needs=frozenset({"labels"})))


def _training_shares(context: AuditContext, names: list[str], counts: list[int]) -> Iterator[Measurement]:
    for name, count in zip(names, counts, strict=True):
        yield Measurement(
            name="share",
            value=count / sum(counts),
            n=sum(counts),
            unit="share of all images",
            method="exact: every training image is counted by its own label",
            group=name,
            params={"set": "training"},
            computed_from=context.computed_from("training"),
        )


def _sample_shares(context: AuditContext, counts: dict[str, int], num_classes: int) -> Iterator[Measurement]:
    n = sum(counts.values())
    for name, count in counts.items():
        together = name not in (OTHER, UNSURE) and num_classes > 2
        level = joint_level(context.spec.level, num_classes) if together else context.spec.level
        lower, upper = wilson(count, n, level)
        yield Measurement(
            name="share",
            value=count / n,
            lower=lower,
            upper=upper,
            level=context.spec.level,
            method=_method(num_classes if together else 1),
            n=n,
            unit="share of all images",
            group=name,
            params={"set": "samples", "labels": context.labels_origin},
            computed_from=_sources(context),
        )


def _comparisons(
    context: AuditContext, names: list[str], counts: list[int], training_counts: list[int], unsure: int
) -> Iterator[Measurement]:
    recognised = sum(counts)
    common: dict[str, Any] = {"computed_from": _sources(context), "n": recognised}
    if recognised == 0:
        reason = (
            f"none of the {len(context.samples):,} samples was recognised as {' or '.join(names)}: look at them; "
            "if they are good, lower --set audit.confidence or give their labels (--labels FILE)"
        )
        for measure in COMPARISONS:
            yield from (Measurement.not_measurable(measure, reason, group=name, **common) for name in names)
        return
    intervals = simultaneous(counts, context.spec.level)
    total = sum(training_counts)
    for measure in COMPARISONS:
        for name, count, known, interval in zip(names, counts, training_counts, intervals, strict=True):
            value, (lower, upper), bounds = compare(measure, count, recognised, known / total, interval, unsure)
            yield Measurement(
                name=measure,
                value=value,
                lower=lower,
                upper=upper,
                level=context.spec.level,
                method=_method(len(names))
                + ", carried over to the comparison; the training share is known, not estimated",
                unit=UNITS[measure],
                direction=COMPARISONS[measure][1],
                group=name,
                params={
                    "share": count / recognised,
                    "share_lower": interval[0],
                    "share_upper": interval[1],
                    "training_share": known / total,
                    "labels": context.labels_origin,
                    "if_none_unclassified_belong": bounds[0],
                    "if_all_unclassified_belong": bounds[1],
                },
                **common,
            )


def compare(
    measure: str, count: int, n: int, training_share: float, interval: Interval, unsure: int
) -> tuple[float, Interval, Interval]:
    """A comparison's value, its interval, and what it were if none or all of `unsure` more images were of the class.

    All three grow with the share, so the ends of the share's interval become the ends of theirs.
    """
    function = COMPARISONS[measure][0]
    none, every = count / (n + unsure), (count + unsure) / (n + unsure)
    return (
        function(count / n, training_share),
        (function(interval[0], training_share), function(interval[1], training_share)),
        (function(none, training_share), function(every, training_share)),
    )


def _table(context: AuditContext, counts: np.ndarray, unsure: int) -> Table:
    """Counts behind the shares: every class that was seen anywhere, and the unclassified."""
    training = context.training
    known = training.counts()
    columns: tuple[str, ...] = ("class", "training images", "samples")
    columns_of_counts: list[Sequence[int]] = [
        [*(known.get(name, 0) for name in context.class_names), 0],
        [*counts.tolist(), unsure],
    ]
    note = f"labels of the samples: {context.labels_origin}"
    if context.labels is None:
        found = context.labels_by_labeler("training")
        by_labeler = np.bincount(found[found != UNCLASSIFIED], minlength=len(context.class_names))
        columns += ("training images, by the labeler",)
        columns_of_counts.append([*by_labeler.tolist(), int((found == UNCLASSIFIED).sum())])
        note += "; the last column shows what it makes of the training images, whose classes are known"
    rows = list(zip([*context.class_names, UNSURE], *columns_of_counts, strict=True))
    shown = [row for row in rows if any(row[1:]) or row[0] == UNSURE]
    return Table(name="shares", title="Images per class", columns=columns, rows=tuple(shown), note=note)


def _method(num_classes: int) -> str:
    if num_classes <= 2:
        return "Wilson"
    return f"Goodman: Wilson at the Bonferroni level, simultaneous for the {num_classes} classes"


def _sources(context: AuditContext) -> dict[str, str]:
    labeler = ("labeler",) if context.labels is None else ()
    return context.computed_from("samples", "training", *labeler)


def _check_shares(*shares: float) -> None:
    if not all(0 <= share <= 1 for share in shares):
        raise LeadlineError(f"shares lie between 0 and 1, not {', '.join(str(share) for share in shares)}")


def _logit(share: float) -> float:
    if share in (0, 1):
        return math.inf if share else -math.inf
    return math.log(share / (1 - share))
