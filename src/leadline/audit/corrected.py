"""Shares of the samples corrected for the labeler's errors, and both sets as one labeler sees them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from leadline.audit.anytime import OF_FIXED_NUMBER
from leadline.audit.class_counts import NONE, OTHER, ClassCounts, tallied
from leadline.audit.confusion import ClassifierSupport, CorrectedShares, corrected_shares, smoothed, supports
from leadline.audit.context import AuditContext
from leadline.audit.corrected_sequence import corrected_sequence
from leadline.audit.intervals import joint_level, wilson
from leadline.audit.known_images import KnownImages
from leadline.comparison import mover
from leadline.errors import NotMeasurable
from leadline.records import Measurement

CORRECTED = ("corrected_share", "corrected_difference", "labeled_difference")
OF_ALL = "share of all images"
DIRECTION = "above 0: more often among the samples than in the training data"


def without_labeler(context: AuditContext) -> Iterator[Measurement]:
    """Why nothing is corrected where the labels were given."""
    reason = (
        f"the labels of the samples are {context.labels_origin}: there is no labeler whose errors were counted, so "
        "nothing to correct by; leave the labels out to have a labeler name the classes"
    )
    for name in CORRECTED:
        yield Measurement.not_measurable(name, reason, computed_from=context.computed_from("samples", "training"))


def measure_corrected(context: AuditContext, counts: ClassCounts, known: KnownImages) -> Iterator[Measurement]:
    """Corrected shares, their difference from the training data, and the difference as one labeler sees both sets."""
    names, level = counts.names, context.spec.level
    sources = context.computed_from("samples", "training", "held_out", "labeler")
    observed, confusion = _by_label(counts, known), known.matrix()
    shown = [known.classes[index] for index in known.shown]
    places = {name: place for place, name in enumerate(shown)}
    try:
        if context.spec.stopping == "fixed":
            found = corrected_shares(observed, confusion, level, context.spec.seed, names=shown)
        else:
            training = dict(zip(names, counts.shares, strict=True))
            shares = np.array([training.get(name, 0.0) for name in shown])
            found = corrected_sequence(observed, confusion, shares, level, context.spec.seed, names=shown)
    except NotMeasurable as error:
        common: dict[str, Any] = {"n": counts.total, "computed_from": sources}
        for name, (_, params) in _groups(counts, known, places).items():
            yield Measurement.not_measurable("corrected_share", str(error), group=name, params=params, **common)
        for name in names:
            yield Measurement.not_measurable("corrected_difference", str(error), group=name, **common)
    else:
        yield from _shares(counts, known, found, places, sources)
        yield from _differences(counts, found, confusion, places, sources)
    yield from _as_labeled(context, counts, known)


def _by_label(counts: ClassCounts, known: KnownImages) -> Int[np.ndarray, " labels"]:
    """Samples by the labeler's label, as the columns of its matrix."""
    place = {name: index for index, name in enumerate(counts.class_names)}
    return known.pooled(np.array([*(counts.samples[place[name]] for name in known.classes), counts.unsure]))


def _shares(
    counts: ClassCounts,
    known: KnownImages,
    found: CorrectedShares,
    places: dict[str, int],
    sources: dict[str, str],
) -> Iterator[Measurement]:
    groups = _groups(counts, known, places)
    for part_of in (None, OTHER):
        each = {name: members for name, (members, params) in groups.items() if params.get("part_of") == part_of}
        if not each:
            continue
        shares = found.of(list(each.values()))
        for index, name in enumerate(each):
            yield Measurement(
                name="corrected_share",
                value=float(shares.values[index]),
                lower=float(shares.lower[index]),
                upper=float(shares.upper[index]),
                level=found.level,
                method=found.method,
                n=counts.total,
                unit=OF_ALL,
                group=name,
                params=groups[name][1] | _fit(found, known),
                computed_from=sources,
            )


def _groups(
    counts: ClassCounts, known: KnownImages, places: dict[str, int]
) -> dict[str, tuple[list[int], dict[str, str]]]:
    """The training set's classes, all others together and no class; then each other that samples show: their places in
    the confusion matrix, and the params that name them."""
    own = [name for name in counts.names if name in places]
    others = [name for name in places if name not in own]
    seen = {counts.class_names[index] for index in counts.seen_others}
    of_samples = {"set": "samples"}
    groups = {name: ([places[name]], of_samples) for name in own}
    groups |= {OTHER: ([places[name] for name in others], of_samples)} if others else {}
    groups |= {NONE: ([len(places)], of_samples)} if known.abstains else {}
    return groups | {name: ([places[name]], of_samples | {"part_of": OTHER}) for name in others if name in seen}


def _fit(found: CorrectedShares, known: KnownImages) -> dict[str, Any]:
    """What tells how well the correction rests on the labeled images."""
    return {
        "labeled_images": int(known.counts.sum()),
        "unclassified": found.unclassified,
        "unclassified_expected": found.unclassified_expected,
        "condition": found.condition,
        "projected": found.projected,
    }


def _differences(
    counts: ClassCounts,
    found: CorrectedShares,
    confusion: Int[np.ndarray, "classes labels"],
    places: dict[str, int],
    sources: dict[str, str],
) -> Iterator[Measurement]:
    """Corrected share among the images of the training set's classes minus the training share."""
    names = counts.names
    common: dict[str, Any] = {"n": counts.total, "computed_from": sources}
    try:
        if len(names) < 2:
            raise NotMeasurable(f"all training images are of one class ({names[0]!r}): audit more classes")
        among = found.among([places[name] for name in names])
    except NotMeasurable as error:
        for name in names:
            yield Measurement.not_measurable("corrected_difference", str(error), group=name, **common)
        return
    training = dict(zip(names, counts.shares, strict=True))
    shares = np.array([training.get(name, 0.0) for name in places])
    support = supports(confusion, shares, found.level, list(places))
    none = found.of([[len(places)]])
    for index, name in enumerate(names):
        share = counts.shares[index]
        yield Measurement(
            name="corrected_difference",
            value=float(among.values[index]) - share,
            lower=float(among.lower[index]) - share,
            upper=float(among.upper[index]) - share,
            level=found.level,
            method=f"{found.method}; the training share is known, not estimated",
            unit="share",
            direction=DIRECTION,
            group=name,
            params={
                "share": float(among.values[index]),
                "share_lower": float(among.lower[index]),
                "share_upper": float(among.upper[index]),
                "training_share": share,
                **_bounds(found, [places[each] for each in names], places[name], share),
                **_support(support[places[name]]),
                "no_class": float(none.values[0]),
                "no_class_lower": float(none.lower[0]),
                "unclassified": found.unclassified,
                "unclassified_expected": found.unclassified_expected,
            },
            **common,
        )


def _bounds(found: CorrectedShares, own: Sequence[int], place: int, share: float) -> dict[str, float]:
    """The difference, were none or all of the images that are counted as of no class of this one."""
    none = float(found.values[-1])
    total = float(found.values[list(own)].sum()) + none
    value = float(found.values[place])
    return {
        "if_none_of_no_class_belong": value / total - share,
        "if_all_of_no_class_belong": (value + none) / total - share,
    }


def _support(support: ClassifierSupport) -> dict[str, Any]:
    """How far the labeler can tell the class, at the training data's shares."""
    return {
        "sensitivity": support.sensitivity,
        "specificity": support.specificity,
        "labeled_images_of_class": support.labelled,
        "true_positive_share": support.true_positive_share,
        "false_positive_share": support.false_positive_share,
        "floor": support.floor,
    }


def labeler_error(labeled: Int[np.ndarray, "K J"]) -> Float[np.ndarray, " K"]:
    """Standard errors of the K classes' shares as labelled, the true classes of the images being known and fixed.

    labeled: images by true class (rows) and label: the K classes and, where the labeler may give another label or
    none, last those. Stratified (Cochran 1977, eq. 5.6), linearised for the ratio to all images with one of the K
    labels: √(Σ_k N_k² v_k) / Σ recognised, with v_k the variance of (label is the class) - share · (label is one of the
    K) in row k, smoothed as for `corrected_shares`: a few images without error do not show that there are none.
    """
    sizes, weights = labeled.sum(1), smoothed(labeled)
    rates = weights / weights.sum(1, keepdims=True)
    own = rates[:, : len(labeled)]
    recognised, totals = own.sum(1, keepdims=True), sizes @ own
    shares = totals / totals.sum()
    squares = own * (1 - shares) ** 2 + (recognised - own) * shares**2
    variances = (squares - (own - shares * recognised) ** 2) / (weights.sum(1, keepdims=True) + 1)
    error: np.ndarray = np.sqrt(sizes**2 @ variances) / totals.sum()
    return error


def _as_labeled(context: AuditContext, counts: ClassCounts, known: KnownImages) -> Iterator[Measurement]:
    """The samples' share minus the training set's, both as this labeler labels them.

    Both among the images that it recognised as one of the training set's classes. What it gets wrong in both sets
    alike cancels, as far as both have the same shares. The samples are a draw and have Wilson's interval; the training
    set is what it is, and only the labels of its images could have come out otherwise: `labeler_error`.
    """
    names, n = counts.names, counts.recognised
    labeled = _training_as_labeled(context, counts, known)
    seen = labeled[:, : len(names)].sum(0)
    of_training = int(seen.sum())
    common: dict[str, Any] = {"n": n, "computed_from": context.computed_from("samples", "training", "labeler")}
    if context.spec.stopping == "anytime":
        reason = OF_FIXED_NUMBER.format(what="the interval of a difference as labelled")
        yield from (Measurement.not_measurable("labeled_difference", reason, group=name, **common) for name in names)
        return
    if len(names) < 2 or n == 0 or of_training == 0:
        reason = f"all training images are of one class ({names[0]!r}): audit more classes"
        if len(names) > 1:
            reason = f"the labeler recognised {n:,} samples and {of_training:,} training images as {' or '.join(names)}"
        for name in names:
            yield Measurement.not_measurable("labeled_difference", reason, group=name, **common)
        return
    level = joint_level(context.spec.level, len(names))
    errors = float(norm.ppf((1 + level) / 2)) * labeler_error(labeled)
    for index, name in enumerate(names):
        count, share, error = int(counts.samples[counts.chosen[index]]), int(seen[index]) / of_training, errors[index]
        of_share = max(share - float(error), 0.0), min(share + float(error), 1.0)
        lower, upper = mover(count / n, wilson(count, n, level), share, of_share)
        together = f", simultaneous for the {len(names)} classes (Bonferroni)" if len(names) > 2 else ""
        yield Measurement(
            name="labeled_difference",
            value=count / n - share,
            lower=lower,
            upper=upper,
            level=context.spec.level,
            method=f"MOVER of the samples' Wilson interval and the labeler's error on the training images{together}",
            unit="share",
            direction=DIRECTION,
            group=name,
            params={
                "share": count / n,
                "training_share_as_labeled": share,
                "training_share": counts.shares[index],
                "training_images": of_training,
            },
            **common,
        )


def _training_as_labeled(context: AuditContext, counts: ClassCounts, known: KnownImages) -> Int[np.ndarray, "K J"]:
    """Training images by true class and label, the training set's classes; last, if there may be, other labels."""
    found = context.labels_by_labeler("training")
    true = np.array([counts.class_names.index(name) for name in context.training.classes])[context.training.labels]
    rows = np.stack([tallied(found[true == index], len(counts.class_names)) for index in counts.chosen])
    own = rows[:, counts.chosen]
    others = rows.sum(1, keepdims=True) - own.sum(1, keepdims=True)
    return np.hstack([own, others]) if known.unsure or len(known.classes) > len(counts.names) else own
