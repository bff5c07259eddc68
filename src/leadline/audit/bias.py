"""Bias amplification: the shares of the classes among the samples against those in the training data."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from leadline.audit.anytime import METHOD, anytime_interval, centre
from leadline.audit.class_counts import OTHER, UNSURE, ClassCounts, class_counts, tallied
from leadline.audit.context import METRICS, AuditContext, Finding, Metric
from leadline.audit.corrected import CORRECTED, measure_corrected, without_labeler
from leadline.audit.detecting import DETECTABLE, measure_detectable
from leadline.audit.flips import paired_flips as paired_flips
from leadline.audit.intervals import Interval, share_interval
from leadline.audit.known_images import known_images
from leadline.errors import LeadlineError
from leadline.records import Measurement, Table

OF_ALL = "share of all images"
ONE_CLASS = "all training images are of one class ({name!r}), so no share can grow: audit more classes"
ABSENT = (
    "the training data has no image of this class, so its share there is 0: read share_difference, and beside it how "
    "often the labels are wrong"
)


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

    `share` counts over all samples, so that the classes, "other classes" and "unclassified" sum to 1, and of three such
    groups or more the intervals hold together; a class that only samples show has a share of its own too, which is part
    of "other classes". The three comparisons take the samples that were recognised as one of the training set's
    classes, because the training shares sum to 1 over those too; how far the unclassified could move them stands in the
    params. Where a labeler gave the labels, what it makes of known images, and the shares corrected by that, follow;
    and last, what so many images can tell apart.
    """
    counts = class_counts(context)
    known = known_images(context) if context.labels is None else None
    if known is not None:
        yield known.table()
    yield _table(context, counts)
    yield from _training_shares(context, counts)
    yield from _sample_shares(context, counts)
    yield from _comparisons(context, counts)
    yield from _of_other_classes(context, counts)
    yield from without_labeler(context) if known is None else measure_corrected(context, counts, known)
    yield from measure_detectable(context, counts, known)


def labels_by_labeler(context: AuditContext) -> bool:
    """Whether this metric is made, of labels that a labeler gave."""
    return "bias" in context.spec.metrics and context.labels is None and "labels" not in context.missing


METRICS.register("bias")(
    Metric(
        measure=measure_bias,
        reports=("share", *COMPARISONS, *CORRECTED, DETECTABLE),
        needs=frozenset({"labels"}),
    )
)


def _training_shares(context: AuditContext, counts: ClassCounts) -> Iterator[Measurement]:
    for name, share in zip(counts.names, counts.shares, strict=True):
        yield Measurement(
            name="share",
            value=share,
            n=len(context.training),
            unit=OF_ALL,
            method="exact: every training image is counted by its own label",
            group=name,
            params={"set": "training"},
            computed_from=context.computed_from("training"),
        )


def _sample_shares(context: AuditContext, counts: ClassCounts) -> Iterator[Measurement]:
    own = dict(zip(counts.names, map(int, counts.samples[counts.chosen]), strict=True))
    groups = own | {OTHER: counts.others, UNSURE: counts.unsure}
    # Where one may stop at any look, how many intervals there are must not hang on what the images show.
    always = context.spec.stopping == "anytime"
    together = _joint([name for name, count in groups.items() if count or name in own or always])
    for name, count in groups.items():
        yield _share(context, counts, name, count, together)
    for index in counts.seen_others:
        found = _share(context, counts, counts.class_names[index], int(counts.samples[index]), _absent(counts))
        yield found.model_copy(update={"params": {**found.params, "part_of": OTHER}})


def _share(context: AuditContext, counts: ClassCounts, name: str, count: int, together: int) -> Measurement:
    """The share of a group in all samples, its interval one of `together` that hold jointly (Bonferroni)."""
    (lower, upper), method = _interval(context, counts, name, count, counts.total, together)
    return Measurement(
        name="share",
        value=count / counts.total,
        lower=lower,
        upper=upper,
        level=context.spec.level,
        method=_jointly(method, together, "groups"),
        n=counts.total,
        unit=OF_ALL,
        group=name,
        params={"set": "samples", "labels": context.labels_origin},
        computed_from=_sources(context),
    )


def _interval(
    context: AuditContext, counts: ClassCounts, name: str, count: int, n: int, together: int
) -> tuple[Interval, str]:
    """Of a group's share, one of `together`; valid at every look where the images' number hung on what they showed."""
    level = _each(context.spec.level, together)
    if context.spec.stopping == "fixed":
        return share_interval(count, n, level)
    training = dict(zip(counts.names, counts.shares, strict=True)).get(name, 0.0)
    return anytime_interval(count, n, level, around=centre(training)), METHOD


def _joint(groups: Sequence[str]) -> int:
    """How many intervals are to hold jointly for groups whose shares sum to 1: two groups have one between them."""
    return len(groups) if len(groups) > 2 else 1


def _absent(counts: ClassCounts) -> int:
    """How many classes the training data has no image of, seen or not: which are seen is known only afterwards."""
    return int((counts.training == 0).sum())


def _each(level: float, together: int) -> float:
    """Bonferroni's level of each of `together` intervals."""
    return 1 - (1 - level) / together


def _comparisons(context: AuditContext, counts: ClassCounts) -> Iterator[Measurement]:
    names, recognised = counts.names, counts.recognised
    common: dict[str, Any] = {"computed_from": _sources(context), "n": recognised}
    reason = ONE_CLASS.format(name=names[0]) if len(names) < 2 else ""
    if not reason and recognised == 0:
        reason = (
            f"none of the {counts.total:,} samples was recognised as {' or '.join(names)}: look at them; "
            "if they are good, lower --set audit.confidence or give their labels (--labels FILE)"
        )
    if reason:
        for measure in COMPARISONS:
            yield from (Measurement.not_measurable(measure, reason, group=name, **common) for name in names)
        return
    counted = [int(counts.samples[index]) for index in counts.chosen]
    together = _joint(names)
    intervals = [_interval(context, counts, *of, recognised, together) for of in zip(names, counted, strict=True)]
    for measure in COMPARISONS:
        for name, count, share, (interval, by) in zip(names, counted, counts.shares, intervals, strict=True):
            value, (lower, upper), bounds = compare(measure, count, recognised, share, interval, counts.unsure)
            method = _jointly(by, together)
            yield Measurement(
                name=measure,
                value=value,
                lower=lower,
                upper=upper,
                level=context.spec.level,
                method=f"{method}, carried over to the comparison; the training share is known, not estimated",
                unit=UNITS[measure],
                direction=COMPARISONS[measure][1],
                group=name,
                params={
                    "share": count / recognised,
                    "share_lower": interval[0],
                    "share_upper": interval[1],
                    "training_share": share,
                    "labels": context.labels_origin,
                    "if_none_unclassified_belong": bounds[0],
                    "if_all_unclassified_belong": bounds[1],
                },
                **common,
            )


def _of_other_classes(context: AuditContext, counts: ClassCounts) -> Iterator[Measurement]:
    """Classes that samples show and no training image does: their training share is 0, so only a difference exists."""
    n = counts.recognised + counts.others
    common: dict[str, Any] = {"computed_from": _sources(context), "n": n}
    for index in counts.seen_others:
        name, count = counts.class_names[index], int(counts.samples[index])
        (lower, upper), method = _interval(context, counts, name, count, n, _absent(counts))
        yield Measurement(
            name="share_difference",
            value=count / n,
            lower=lower,
            upper=upper,
            level=context.spec.level,
            method=f"{_jointly(method, _absent(counts))}; the training share is known to be 0",
            unit=UNITS["share_difference"],
            direction=COMPARISONS["share_difference"][1],
            group=name,
            params={"training_share": 0.0, "labels": context.labels_origin, "among": "samples of any class"},
            **common,
        )
        for measure in ("share_ratio", "share_amplification"):
            yield Measurement.not_measurable(measure, ABSENT, group=name, **common)


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


def _table(context: AuditContext, counts: ClassCounts) -> Table:
    """Counts behind the shares: every class that was seen anywhere, and the unclassified."""
    columns: tuple[str, ...] = ("class", "training images", "samples")
    columns_of_counts: list[Sequence[int]] = [
        [*counts.training.tolist(), 0],
        [*counts.samples.tolist(), counts.unsure],
    ]
    note = f"labels of the samples: {context.labels_origin}"
    if context.labels is None:
        found = tallied(context.labels_by_labeler("training"), len(counts.class_names))
        columns += ("training images, by the labeler",)
        columns_of_counts.append(found.tolist())
        note += "; the last column shows what it makes of the training images, whose classes are known"
    rows = list(zip([*counts.class_names, UNSURE], *columns_of_counts, strict=True))
    shown = [row for row in rows if any(row[1:]) or row[0] == UNSURE]
    return Table(name="shares", title="Images per class", columns=columns, rows=tuple(shown), note=note)


def _jointly(method: str, together: int, groups: str = "classes") -> str:
    """Name of an interval's method, with what it is made wider for."""
    if together < 2:
        return method
    return f"{method} at the Bonferroni level, simultaneous for the {together} {groups}"


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
