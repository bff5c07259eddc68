"""What is compared of two sets of images of the same seeds, metric by metric, and with which test."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from leadline.audit.class_counts import OTHER, UNSURE
from leadline.audit.context import LABELER, MISSING_HELD_OUT
from leadline.audit.copy_rates import RATE, CopyRates
from leadline.audit.diversity import DIFFER, mean_distances_to_others, mean_pairwise_distance, name_and_unit, where
from leadline.audit.judged import UNCLASSIFIED
from leadline.audit.left_out import vendi_without
from leadline.audit.memorization import FEATURES, PIXELS, Scale, flips_of, judge_part, over_nearest, too_many
from leadline.audit.paired_fidelity import compare_fidelity
from leadline.audit.paired_tests import jackknifed
from leadline.audit.pairing import Found, Pair
from leadline.audit.pairs import PairDistances
from leadline.audit.prompted import (
    AGREEMENT,
    DISTANCE,
    SIMILARITY,
    agreement,
    init_distances,
    init_similarities,
    prompted_classes,
)
from leadline.audit.proximity import Judged, Pictures
from leadline.audit.vendi import vendi_score
from leadline.errors import LeadlineError, NotMeasurable
from leadline.records import Measurement


def compare_shares(pair: Pair) -> Iterator[Measurement]:
    """Share of the training set's classes, of other classes and of the unclassified: McNemar."""
    try:
        base, other = pair.base.sample_labels(), pair.other.sample_labels()
    except LeadlineError as error:
        yield pair.missing("share", str(error), set="samples")
        return
    training = pair.base.training
    counts = training.counts()
    known = [index for index, name in enumerate(training.classes) if counts[name]]
    unsure = [UNCLASSIFIED]
    rest = [index for index in range(len(pair.other.class_names)) if index not in known]
    for group, labels in [*((training.classes[i], [i]) for i in known), (OTHER, rest), (UNSURE, unsure)]:
        yield pair.difference(
            "share",
            partial(pair.counted, np.isin(base, labels), np.isin(other, labels)),
            unit="share of all images",
            direction="",
            params={"set": "samples", "labels": pair.other.labels_origin},
            group=group,
            sources=(LABELER,) if pair.other.labels is None else (),
        )


def compare_memorization(pair: Pair) -> Iterator[Measurement]:
    """Nearness to the training images for each k: paired t; copies by each rule: McNemar."""
    spec = pair.base.spec
    pictures = Pictures(pair.base.training.pixels, spec.duplicate_rms, spec.flips)
    for space in (None, *pair.base.spaces):
        scale = PIXELS if space is None else FEATURES
        name = "pixels" if space is None else f"{space} features"
        params = {"set": "samples", "space": name, **flips_of(pair.base)}
        base, other = (judge_part(context, space, name, "samples", pictures) for context in (pair.base, pair.other))
        if isinstance(base, str) or isinstance(other, str):
            reason = base if isinstance(base, str) else str(other)
            yield from (pair.missing(of, reason, **params) for of in (scale.measurement, RATE))
            continue
        for k in dict.fromkeys(spec.ks):
            yield pair.difference(
                scale.measurement,
                partial(_nearness, pair, scale, base, other, k),
                unit=scale.unit,
                direction=scale.direction,
                params={**params, "k": k},
                sources=() if space is None else (space,),
            )
        yield from _copies(pair, space, name, base, other, pictures)


def _nearness(pair: Pair, scale: Scale, base: Judged, other: Judged, k: int) -> Found:
    if k > len(pair.base.training):
        raise NotMeasurable(too_many(k, pair.base))
    return pair.averaged(over_nearest(scale, base, k), over_nearest(scale, other, k))


def _copies(
    pair: Pair, space: str | None, name: str, base: Judged, other: Judged, pictures: Pictures
) -> Iterator[Measurement]:
    """nearest_copy_rate by each rule, with the audits' own verdicts."""
    held_out = judge_part(pair.base, space, name, "held_out", pictures)
    rates = [
        CopyRates(
            context, name, {"samples": found, "held_out": held_out}, {"samples": {}, "held_out": {}}, flips_of(context)
        )
        for context, found in ((pair.base, base), (pair.other, other))
    ]
    verdicts = [rate.counted() for rate in rates]
    for own in rates[1].measure():
        if own.name == RATE and own.params["set"] == "samples":
            yield pair.difference(
                RATE,
                partial(_copied, pair, own, *verdicts),
                unit=own.unit,
                direction=own.direction,
                params=own.params,
                sources=(*filter(None, [space]), *(["held_out"] if "calibrated_on" in own.params else [])),
            )


def _copied(pair: Pair, own: Measurement, base: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> Found:
    """own: the audit's measurement of the other set, which says why where there is none."""
    if own.value is None:
        raise NotMeasurable(str(own.reason))
    return pair.counted(base[own.params["rule"]], other[own.params["rule"]])


def compare_diversity(pair: Pair) -> Iterator[Measurement]:
    """Mean distances over all pairs: jackknife over images; Vendi score: over blocks of images."""
    for space in pair.base.spaces:
        yield pair.difference(
            "mean_pairwise_distance",
            partial(_distance, pair, space),
            unit="squared distance of unit vectors",
            direction=DIFFER,
            params=where("samples", space),
            sources=(space,),
        )
    other = pair.other.pair_distances("samples")
    for space, base in pair.base.pair_distances("samples").items():
        name, unit = name_and_unit(space, base)
        yield pair.difference(
            name,
            partial(_of_taps, pair, base, other[space]),
            unit=unit,
            direction=DIFFER,
            params={**where("samples", space), "pairs": "all"},
            sources=(space,),
        )
    for space in pair.base.spaces:
        yield pair.difference(
            "vendi_score",
            partial(_vendi, pair, space),
            unit="effective number of images",
            direction=DIFFER,
            params={**where("samples", space), "depends_on_n": True},
            sources=(space,),
        )


def _distance(pair: Pair, space: str) -> Found:
    base, other = (mean_distances_to_others(features, unit_length=True) for features in pair.features(space))
    values = [mean_pairwise_distance(features, unit_length=True)[0] for features in pair.features(space)]
    return _over_pairs(pair, values[0], values[1], base, other)


def _of_taps(pair: Pair, base: PairDistances, other: PairDistances) -> Found:
    if not np.array_equal(base.kept_images, other.kept_images):
        raise NotMeasurable(
            "the errors of the two sets are from different images: audit both with one --set audit.seed"
        )
    return _over_pairs(pair, base.total, other.total, base.to_others, other.to_others)


def _over_pairs(
    pair: Pair, base: float, other: float, base_means: Float[np.ndarray, " k"], other_means: Float[np.ndarray, " k"]
) -> Found:
    """Without image i the mean over pairs is (n·U - 2hᵢ)/(n-2), h its mean distance to the others."""
    n, kept = pair.n, len(base_means)
    linear = -2 * (other_means - base_means) / max(1, n - 2)
    whose = "images" if kept == n else f"{kept:,} images chosen at random"
    method = f"jackknife over {whose}, from each one's mean distance to the others; Student t"
    return Found(base, other, jackknifed(other - base, linear, pair.level, pairs=n), method, n)


def _vendi(pair: Pair, space: str) -> Found:
    if pair.n > len(pair.base.training):
        raise NotMeasurable(
            f"the audit's Vendi score is that of {len(pair.base.training):,} of the {pair.n:,} samples, as many as "
            "there are training images, and these are not the same in both sets: draw no more images than that "
            "(--num-images)"
        )
    both = pair.features(space)
    base, other = (vendi_score(features)[0] for features in both)
    blocks = pair.blocks(both[0].shape[1])
    without, other_without = (vendi_without(features, blocks, device=pair.base.device) for features in both)
    remark = f"; scores of {pair.n:,} images each, not corrected to those of more"
    return pair.by_blocks(base, other, (without, other_without), blocks, remark)


def compare_prompted(pair: Pair) -> Iterator[Measurement]:
    """Images labelled as what their prompt asked for: McNemar; nearness to the image they started from: paired t."""
    yield from _agreements(pair)
    init, held_out = pair.base.samples.init, pair.base.held_out
    if init is None:
        return
    if held_out is None:
        yield from (pair.missing(name, MISSING_HELD_OUT, set="samples") for name in (DISTANCE, SIMILARITY))
        return
    starts = held_out.pixels[init]
    base, other = (init_distances(context.samples.pixels, starts) for context in (pair.base, pair.other))
    yield pair.difference(
        DISTANCE,
        partial(pair.averaged, base, other),
        unit=PIXELS.unit,
        direction="smaller: nearer to the image that it started from",
        params={"set": "samples", "space": "pixels"},
        sources=("held_out",),
    )
    for space in pair.base.spaces:
        yield pair.difference(
            SIMILARITY,
            partial(_start_similarity, pair, space, init),
            unit=FEATURES.unit,
            direction="larger: nearer to the image that it started from",
            params={"set": "samples", "space": f"{space} features"},
            sources=("held_out", space),
        )


def _agreements(pair: Pair) -> Iterator[Measurement]:
    """Over all images, and over those whose prompt asked for each class."""
    names = pair.other.class_names
    try:
        prompted = prompted_classes(pair.other.samples, names)
        base, other = (agreement(context.sample_labels(), prompted) for context in (pair.base, pair.other))
    except LeadlineError as error:
        yield pair.missing(AGREEMENT, str(error), set="samples")
        return
    asked = [(names[index], prompted == index) for index in np.unique(prompted)]
    for group, rows in [(None, np.full(len(prompted), True)), *asked]:
        yield pair.difference(
            AGREEMENT,
            partial(pair.counted, base[rows], other[rows], "; an unclassified image does not agree"),
            unit="share",
            direction="larger: more images are labelled as what their prompt asked for",
            params={"set": "samples", "labels": pair.other.labels_origin},
            group=group,
            sources=(LABELER,) if pair.other.labels is None else (),
        )


def _start_similarity(pair: Pair, space: str, init: Int[np.ndarray, " n"]) -> Found:
    starts = pair.base.features("held_out", space)[init]
    base, other = (init_similarities(features, starts) for features in pair.features(space))
    return pair.averaged(base, other)


COMPARED: dict[str, Callable[[Pair], Iterator[Measurement]]] = {
    "bias": compare_shares,
    "memorization": compare_memorization,
    "diversity": compare_diversity,
    "fidelity": compare_fidelity,
    "prompted": compare_prompted,
}
"""By the name of the audit's metric."""
