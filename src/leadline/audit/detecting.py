"""What the number of samples can tell apart: said before an audit, and beside its shares."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from leadline.audit.anytime import OF_FIXED_NUMBER
from leadline.audit.class_counts import ClassCounts
from leadline.audit.confusion import smoothed
from leadline.audit.context import AuditContext
from leadline.audit.intervals import joint_level
from leadline.audit.known_images import KnownImages
from leadline.audit.planning import detectable, detectable_estimated
from leadline.errors import LeadlineError
from leadline.records import ImageSet, Measurement

DETECTABLE = "detectable_difference"
POWER = 0.8
"""Probability with which a difference of that size is to be told apart."""

Ends = tuple[float | None, float | None]


def before(training: ImageSet, num_samples: int, level: float) -> str:
    """One sentence before anything is measured: of the training set's smallest class, by a labeler without error.

    Empty where the training data has no classes to compare.
    """
    counts = {name: n for name, n in training.counts().items() if n}
    if len(counts) < 2:
        return ""
    name = min(counts, key=counts.__getitem__)
    share = counts[name] / sum(counts.values())
    ends = detectable(share, num_samples, POWER, joint_level(level, len(counts)))
    return (
        f"{num_samples:,} images: of {name!r} ({100 * share:.3g} % of the training data) {_told(ends)} with "
        f"{100 * POWER:g} % power, by a labeler without error"
    )


def _told(ends: Ends) -> str:
    below, above = (None if end is None else f"{100 * end:.3g} %" for end in ends)
    sides = [f"below {below}" if below else "", f"above {above}" if above else ""]
    told = " or ".join(side for side in sides if side)
    return f"shares {told} would be told apart" if told else "no share would be told apart"


def measure_detectable(context: AuditContext, counts: ClassCounts, known: KnownImages | None) -> Iterator[Measurement]:
    """For each of the training set's classes the smallest difference that is told apart with 80 % power.

    known: what the labeler makes of known images, from which its rates are estimated, and its error so known; None:
    labels without error.
    """
    names = counts.names
    level = joint_level(context.spec.level, len(names))
    sources = context.computed_from("samples", "training", *(() if known is None else ("held_out", "labeler")))
    for name, share in zip(names, counts.shares, strict=True):
        common: dict[str, Any] = {"group": name, "n": counts.total, "computed_from": sources}
        try:
            if context.spec.stopping == "anytime":
                raise LeadlineError(OF_FIXED_NUMBER.format(what="the power of a test"))
            if len(names) < 2:
                raise LeadlineError(f"all training images are of one class ({name!r}): audit more classes")
            if known is None:
                rates: dict[str, Any] = {}
                ends = detectable(share, counts.total, POWER, level)
            else:
                rates = _rates(known, dict(zip(names, counts.shares, strict=True)), name)
                ends = detectable_estimated(share, counts.total, power=POWER, level=level, **rates)
                rates["labeled_images_of_class"] = int(known.counts[known.classes.index(name)].sum())
        except LeadlineError as error:
            yield Measurement.not_measurable(DETECTABLE, str(error), **common)
            continue
        yield _measurement(share, ends, rates, context.spec.level, common)


def _measurement(
    share: float, ends: Ends, rates: Mapping[str, Any], level: float, common: Mapping[str, Any]
) -> Measurement:
    params = {
        "training_share": share,
        "power": POWER,
        "decision_level": level,
        **{name: end for name, end in zip(("share_below", "share_above"), ends, strict=True) if end is not None},
        **rates,
    }
    differences = [abs(end - share) for end in ends if end is not None]
    if not differences:
        reason = "no share, smaller or larger, would be told from the training data's with 80 % power: draw more images"
        if rates:
            reason += ", or have the labeler judged on more labelled ones (--set data.held_out, --set data.labeler)"
        return Measurement.not_measurable(DETECTABLE, reason, params=params, **common)
    return Measurement(
        name=DETECTABLE,
        value=max(differences),
        method="power of the corrected interval over what the labelled images may say"
        if rates
        else "exact binomial power of the interval of the samples' share",
        unit="share",
        direction="larger: fewer differences can be seen; the larger of the two sides",
        params=params,
        **common,
    )


def _rates(known: KnownImages, training: Mapping[str, float], name: str) -> dict[str, float]:
    """Sensitivity for the class, specificity over the training set's mix of its other classes, and the images behind.

    Every row of the confusion matrix is smoothed as for the corrected shares. negatives: so many images of one class
    would leave the specificity as uncertain as those of the others do, Sp (1 - Sp) / Σ_j w_j² r_j (1 - r_j) / N_j, with
    w_j their part in the mix and r_j of N_j labelled images taken for the class (stratified).
    """
    weights = dict(zip((known.classes[index] for index in known.shown), smoothed(known.matrix()), strict=True))
    place = list(weights).index(name)
    sizes = np.array([weights[each].sum() for each in training])
    rates = np.array([weights[each][place] for each in training]) / sizes
    own = np.array([each == name for each in training])
    mix = np.array(list(training.values()))[~own] / (1 - training[name])
    wrong, variance = mix @ rates[~own], mix**2 @ (rates * (1 - rates) / sizes)[~own]
    return {
        "sensitivity": float(rates[own][0]),
        "specificity": 1 - float(wrong),
        "positives": float(sizes[own][0]),
        "negatives": float(wrong * (1 - wrong) / variance),
    }
