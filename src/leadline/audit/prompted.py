"""What a text-to-image model makes of its prompts and of the images it starts from.

The per-image values, `agreement`, `init_distances` and `init_similarities`, are there for paired tests too.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from leadline.audit.context import LABELER, METRICS, MISSING_HELD_OUT, AuditContext, Finding, Metric
from leadline.audit.intervals import joint_level, mean_interval, wilson
from leadline.audit.judged import UNCLASSIFIED
from leadline.audit.memorization import FEATURES, PIXELS
from leadline.errors import LeadlineError, NotMeasurable
from leadline.records import ImageSet, Measurement

AGREEMENT, DISTANCE, SIMILARITY = "prompt_agreement", "init_distance", "init_similarity"
OTHERS = "other_starts"
"""The `set` of the baseline: the same images beside all held-out images that they did not start from."""
BLOCK = 256
"""Images whose distances to all held-out images are in memory at a time."""
NO_PROMPTS = (
    "the samples bring no prompts with a class: they are those of a text-to-image run (text.… in its recipe) whose "
    "training data has classes that its captions tell (data.groups=Male with data.captions=celeba): where images of "
    "two classes share a caption, it asks for neither"
)


def agreement(labels: Int[np.ndarray, " n"], prompted: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether each image shows the class that its prompt asked for; an unclassified one (-1) does not.

    labels, prompted: indices into one list of classes.
    """
    found: np.ndarray = (labels == prompted) & (labels != UNCLASSIFIED)
    return found


def init_distances(
    samples: UInt8[np.ndarray, "n c h w"], inits: UInt8[np.ndarray, "n c h w"]
) -> Float[np.ndarray, " n"]:
    """Root mean square of the difference per value of 0–255 between each image and the one that it started from."""
    different = samples.astype(np.float64) - inits
    found: np.ndarray = np.sqrt((different**2).mean(axis=(1, 2, 3)))
    return found


def init_similarities(samples: Float[np.ndarray, "n d"], inits: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Cosine of each image's features and those of the one that it started from, in [-1, 1]."""
    found: np.ndarray = (_unit(samples) * _unit(inits)).sum(axis=1)
    return found


def distances_to_others(
    samples: UInt8[np.ndarray, "n c h w"], held_out: UInt8[np.ndarray, "m c h w"], init: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Mean of `init_distances` between each image and every held-out image but its own start (held_out[init])."""
    size = int(np.prod(held_out.shape[1:]))
    reference = held_out.reshape(len(held_out), -1).astype(np.float64)
    squares = (reference**2).sum(axis=1)
    found = np.empty(len(samples))
    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK].reshape(-1, size).astype(np.float64)
        # Whole numbers below 2^53: exact, so that the difference of nearly equal sums is too.
        squared = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ reference.T
        found[start : start + BLOCK] = _mean_but(np.sqrt(squared / size), init[start : start + BLOCK])
    return found


def similarities_to_others(
    samples: Float[np.ndarray, "n d"], held_out: Float[np.ndarray, "m d"], init: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Mean of `init_similarities` between each image and every held-out image but its own start (held_out[init])."""
    ours, theirs = _unit(samples), _unit(held_out)
    found: np.ndarray = (ours @ theirs.sum(axis=0) - (ours * theirs[init]).sum(axis=1)) / (len(held_out) - 1)
    return found


def _unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows in fp64, each divided by its length; one of length 0 stays 0."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1.0)


def _mean_but(values: Float[np.ndarray, "n m"], left_out: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The mean of each row without the one value at its index."""
    own = values[np.arange(len(values)), left_out]
    found: np.ndarray = (values.sum(axis=1) - own) / (values.shape[1] - 1)
    return found


def measure_prompted(context: AuditContext) -> Iterator[Finding]:
    """Whether the labeler sees what the prompt asked for; of image-to-image samples, how near they are to their start.

    Beside the agreement stands that of held-out real images with their own class, which is what the labeler allows,
    and in the params what images that do not heed their prompts would reach by chance. Beside the nearness stands
    that to all other held-out images.
    """
    init = context.samples.init
    if init is not None and context.held_out is not None:
        yield from _starts(context, init, context.held_out)
    elif init is not None:
        yield Measurement.not_measurable(DISTANCE, MISSING_HELD_OUT)
        yield Measurement.not_measurable(SIMILARITY, MISSING_HELD_OUT)
    yield from _agreements(context)


METRICS.register("prompted")(
    Metric(
        measure=measure_prompted,
        reports=(AGREEMENT, DISTANCE, SIMILARITY),
        uses=frozenset({"labels", "features"}),
    )
)


def prompted_classes(samples: ImageSet, class_names: tuple[str, ...]) -> Int[np.ndarray, " n"]:
    """The class that each sample's prompt asked for, as an index into `class_names`.

    Raises NotMeasurable when the samples bring none, or a class that is not among the names.
    """
    if samples.prompted is None:
        raise NotMeasurable(NO_PROMPTS)
    strange = sorted(set(samples.classes) - set(class_names))
    if strange:
        raise NotMeasurable(
            f"prompts asked for {strange[0]!r}, which is no class of the training data ({', '.join(class_names)}): "
            "audit against the data that the prompts are from"
        )
    translate = np.array([class_names.index(name) for name in samples.classes], dtype=np.int64)
    found: np.ndarray = translate[samples.prompted]
    return found


def _agreements(context: AuditContext) -> Iterator[Measurement]:
    prompted = prompted_classes(context.samples, context.class_names)
    labels = context.sample_labels()
    sources = context.computed_from("samples", *([LABELER] if context.labels is None else []))
    asked = np.bincount(prompted, minlength=len(context.class_names))
    shown = np.bincount(labels[labels != UNCLASSIFIED], minlength=len(context.class_names))
    params = {"set": "samples", "labels": context.labels_origin}
    chance = float((asked / len(labels)) @ (shown / len(labels)))
    right = agreement(labels, prompted)
    classes = np.flatnonzero(asked)
    yield _share(context, right, None, params | {"by_chance": chance}, sources)
    for index in classes:
        yield _share(context, right[prompted == index], context.class_names[index], params, sources, len(classes))
    yield from _of_real_images(context)


def _of_real_images(context: AuditContext) -> Iterator[Measurement]:
    """How many held-out real images the labeler sees as their own class; nothing where that is not known."""
    held_out = context.held_out
    if context.labeler is None or "labels" in context.missing or held_out is None or held_out.labels is None:
        return
    place = {name: index for index, name in enumerate(context.class_names)}
    own = np.array([place.get(name, UNCLASSIFIED) for name in held_out.classes])[held_out.labels]
    known = own != UNCLASSIFIED
    if known.any():
        right = agreement(context.labels_by_labeler("held_out")[known], own[known])
        params = {"set": "held_out", "labels": "the labeler"}
        yield _share(context, right, None, params, context.computed_from("held_out", LABELER))


def _share(
    context: AuditContext,
    right: Bool[np.ndarray, " n"],
    group: str | None,
    params: dict[str, Any],
    sources: dict[str, str],
    together: int = 1,
) -> Measurement:
    lower, upper = wilson(int(right.sum()), len(right), joint_level(context.spec.level, together))
    joint = f"; {together} classes hold together (Bonferroni)" if together > 2 else ""
    return Measurement(
        name=AGREEMENT,
        value=float(right.mean()),
        lower=lower,
        upper=upper,
        level=context.spec.level,
        method=f"Wilson over the images; an unclassified image does not agree{joint}",
        n=len(right),
        unit="share",
        direction="larger: more images are labelled as what their prompt asked for",
        group=group,
        params=params,
        computed_from=sources,
    )


def _starts(context: AuditContext, init: Int[np.ndarray, " n"], held_out: ImageSet) -> Iterator[Measurement]:
    """Distance in pixels and similarity in each space, to the start and to all others."""
    ours, theirs = context.samples.pixels, held_out.pixels
    context.progress(f"prompted: comparing {len(ours):,} images with those that they started from")
    own = init_distances(ours, theirs[init])
    others = distances_to_others(ours, theirs, init) if len(theirs) > 1 else None
    yield from _nearness(context, DISTANCE, PIXELS.unit, "pixels", own, others)
    for space in context.spaces:
        name = f"{space} features"
        try:
            ours, theirs = context.features("samples", space), context.features("held_out", space)
        except LeadlineError as error:
            yield Measurement.not_measurable(SIMILARITY, str(error), params={"set": "samples", "space": name})
            continue
        own = init_similarities(ours, theirs[init])
        others = similarities_to_others(ours, theirs, init) if len(theirs) > 1 else None
        yield from _nearness(context, SIMILARITY, FEATURES.unit, name, own, others, space)


def _nearness(
    context: AuditContext,
    name: str,
    unit: str,
    space: str,
    own: Float[np.ndarray, " n"],
    others: Float[np.ndarray, " n"] | None,
    *network: str,
) -> Iterator[Measurement]:
    words = {
        "samples": "the images and those that they started from",
        OTHERS: "the images and, of each, the mean over all held-out images that it did not start from",
    }
    for part, values in (("samples", own), (OTHERS, others)):
        params = {"set": part, "space": space}
        if values is None:
            reason = "there is one held-out image: give more (--set data.held_out=)"
            yield Measurement.not_measurable(name, reason, params=params)
            continue
        lower, upper = mean_interval(values, context.spec.level) or (None, None)
        yield Measurement(
            name=name,
            value=float(values.mean()),
            lower=lower,
            upper=upper,
            level=context.spec.level,
            method="no interval: one image" if lower is None else f"Student t over {words[part]}",
            n=len(values),
            unit=unit,
            direction=("smaller" if name == DISTANCE else "larger") + ": nearer to the image that it started from",
            params=params,
            computed_from=context.computed_from("samples", "held_out", *network),
        )
