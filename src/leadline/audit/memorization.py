"""Memorization: how near the samples are to the training images, beside held-out real images."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from leadline.audit.context import METRICS, AuditContext, Finding, Metric, Part
from leadline.audit.copy_rates import AUTHENTIC, EXCESS, RATE, CopyRates, Outcome, SweepRow, sweep_table
from leadline.audit.differences import welch
from leadline.audit.intervals import mean_interval
from leadline.audit.proximity import Judged, Pictures, Surroundings, told
from leadline.audit.suspects import SHOWN_NEIGHBORS, SuspectRow, suspect_rows, suspects_panel, suspects_table
from leadline.errors import LeadlineError
from leadline.records import Measurement

CONVENTION = "mean over the k nearest, as P1, Table 3"
QUERY_SETS: tuple[Part, ...] = ("samples", "held_out")


@dataclass(frozen=True)
class Scale:
    """How closeness is told in a space."""

    measurement: str
    unit: str
    direction: str
    difference_direction: str


PIXELS = Scale(
    "nearest_distance",
    "RMS per value, 0–255",
    "smaller: nearer to training images",
    "below 0: the samples are nearer to training images than new real images are",
)
FEATURES = Scale(
    "nearest_similarity",
    "cosine",
    "larger: more similar to training images",
    "above 0: the samples are more similar to training images than new real images are",
)


def measure_memorization(context: AuditContext) -> Iterator[Finding]:
    """Nearness to the training images, in pixels and in each feature space; copies by three rules; images to look at.

    Held-out real images of the same kind stand beside the samples: how near the training data a new image is
    that cannot have been copied from it.
    """
    pictures = Pictures(context.training.pixels, context.spec.duplicate_rms, context.spec.flips)
    swept: list[SweepRow] = []
    suspects: list[SuspectRow] = []
    for space in (None, *context.spaces):
        name = "pixels" if space is None else f"{space} features"
        found = {part: judge_part(context, space, name, part, pictures) for part in QUERY_SETS}
        sources = {part: context.computed_from(part, "training", *filter(None, [space])) for part in QUERY_SETS}
        yield from _nearness(context, PIXELS if space is None else FEATURES, name, found, sources)
        for part, outcome in found.items() if context.spec.num_panels else ():
            if isinstance(outcome, Judged):
                images = context.part(part)
                yield suspects_panel(images, context.training, outcome, part, space, context.spec.num_panels)
        rates = CopyRates(context, name, found, sources, flips_of(context))
        yield from rates.measure()
        swept += rates.sweep()
        if isinstance(samples := found["samples"], Judged):
            suspects += suspect_rows(context.samples, context.training, samples, rates.counted(), name)
    if swept:
        yield sweep_table(swept)
    if suspects:
        yield suspects_table(suspects)


METRICS.register("memorization")(
    Metric(
        measure=measure_memorization,
        reports=(
            PIXELS.measurement,
            f"{PIXELS.measurement}_difference",
            FEATURES.measurement,
            f"{FEATURES.measurement}_difference",
            RATE,
            EXCESS,
            AUTHENTIC,
        ),
        uses=frozenset({"features"}),
    )
)


def judge_part(context: AuditContext, space: str | None, name: str, part: Part, pictures: Pictures) -> Outcome:
    """The images of a part beside the training images, or the reason why they cannot be compared."""
    depth = max(*context.spec.ks, context.spec.carlini_neighbors, SHOWN_NEIGHBORS)
    try:
        n, training = len(context.part(part)), len(context.training)
        context.progress(f"memorization: comparing {n:,} images with {training:,} training images ({name})")
        return Surroundings(context, space, pictures).judge(part, min(depth, training))
    except LeadlineError as error:
        return str(error)


def flips_of(context: AuditContext) -> dict[str, Any]:
    """The param that says that mirror images were compared, too, where they were."""
    return {"flips": True} if context.spec.flips else {}


def _nearness(
    context: AuditContext,
    scale: Scale,
    name: str,
    found: dict[Part, Outcome],
    sources: dict[Part, dict[str, str]],
) -> Iterator[Measurement]:
    """The mean over the k nearest of each set, then the difference of the two sets, for each k."""
    params = {"space": name, **flips_of(context)}
    ks = tuple(dict.fromkeys(context.spec.ks))
    for part, outcome in found.items():
        if isinstance(outcome, str):
            yield Measurement.not_measurable(scale.measurement, outcome, params={"set": part, **params})
        else:
            for k in ks:
                yield _mean(context, scale, outcome, {"set": part, "k": k, **params}, sources[part])
    samples, held_out = found["samples"], found["held_out"]
    together = {**sources["samples"], **sources["held_out"]}
    for missing in (outcome for outcome in (samples, held_out) if isinstance(outcome, str)):
        yield Measurement.not_measurable(f"{scale.measurement}_difference", missing, params=params)
        return
    if isinstance(samples, Judged) and isinstance(held_out, Judged):
        for k in ks:
            yield _difference(context, scale, samples, held_out, {"k": k, **params}, together)


def _mean(
    context: AuditContext, scale: Scale, found: Judged, params: dict[str, Any], sources: dict[str, str]
) -> Measurement:
    """The mean over the images of their own mean over the k nearest."""
    if scale is PIXELS:
        channels, height, width = context.training.shape
        identical = int((found.first == 0).sum())
        params = {**params, "image_size": f"{width}×{height}×{channels}", "identical_to_training": identical}
    if params["k"] > len(context.training):
        return Measurement.not_measurable(scale.measurement, too_many(params["k"], context), params=params)
    values = over_nearest(scale, found, params["k"])
    interval = mean_interval(values, context.spec.level)
    if scale is PIXELS:
        params["l2"] = float(values.mean()) * math.sqrt(math.prod(context.training.shape))
    return Measurement(
        name=scale.measurement,
        value=float(values.mean()),
        lower=interval[0] if interval else None,
        upper=interval[1] if interval else None,
        level=context.spec.level if interval else None,
        method="Student t over images" if interval else "no interval: one image",
        n=len(values),
        unit=scale.unit,
        direction=scale.direction,
        params={**params, "convention": CONVENTION},
        computed_from=sources,
    )


def _difference(
    context: AuditContext,
    scale: Scale,
    samples: Judged,
    held_out: Judged,
    params: dict[str, Any],
    sources: dict[str, str],
) -> Measurement:
    """Samples minus held-out images, of their means over the k nearest."""
    name = f"{scale.measurement}_difference"
    if params["k"] > len(context.training):
        return Measurement.not_measurable(name, too_many(params["k"], context), params=params)
    ours, theirs = (over_nearest(scale, found, params["k"]) for found in (samples, held_out))
    tested = welch(ours, theirs, context.spec.level)
    extra = {"n_held_out": len(theirs), **({"p": tested[1], "test": "Welch"} if tested else {})}
    return Measurement(
        name=name,
        value=float(ours.mean() - theirs.mean()),
        lower=tested[0][0] if tested else None,
        upper=tested[0][1] if tested else None,
        level=context.spec.level if tested else None,
        method="Welch t over images" if tested else "no interval: one image, or no two that differ",
        n=len(ours),
        unit=scale.unit,
        direction=scale.difference_direction,
        params={**params, **extra},
        computed_from=sources,
    )


def over_nearest(scale: Scale, found: Judged, k: int) -> Float[np.ndarray, " q"]:
    """Each image's mean over its k nearest training images, in the scale's unit."""
    means: np.ndarray = told(found.nearest.distances[:, :k], scale is PIXELS).mean(1)
    return means


def too_many(k: int, context: AuditContext) -> str:
    """Why there is no mean over so many neighbours."""
    return (
        f"k = {k} neighbours asked of {len(context.training)} training images: lower --set audit.ks, "
        "or give more training images"
    )
