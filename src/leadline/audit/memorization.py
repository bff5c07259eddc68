"""Memorization: how near the samples are to the training images, beside held-out real images."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from leadline.audit.context import METRICS, AuditContext, Finding, Metric
from leadline.audit.intervals import mean_interval
from leadline.audit.neighbors import nearest_neighbors
from leadline.errors import LeadlineError, NotMeasurable
from leadline.records import Measurement, Panel

__all__ = ["measure_memorization", "nearest_neighbors"]

SHOWN_NEIGHBORS = 4
CONVENTION = "mean over the k nearest, as P1, Table 3"
QuerySet = Literal["samples", "held_out"]
QUERY_SETS: tuple[QuerySet, ...] = ("samples", "held_out")


@dataclass(frozen=True)
class _Space:
    name: str
    measurement: str
    metric: Literal["l2", "cosine"]
    unit: str
    direction: str


PIXELS = _Space("pixels", "nearest_distance", "l2", "RMS per value, 0–255", "smaller: nearer to training images")
FEATURES = _Space(
    "labeler features", "nearest_similarity", "cosine", "cosine", "larger: more similar to training images"
)


def measure_memorization(context: AuditContext) -> Iterator[Finding]:
    """Mean distance to the k nearest training images, in pixels and in the labeler's features, and panels to look at.

    Held-out real images of the same kind stand beside the samples: how near the training data a new image is
    that cannot have been copied from it.
    """
    for queries in QUERY_SETS:
        yield from _in_pixels(context, queries)
    for queries in QUERY_SETS:
        yield from _in_features(context, queries)


METRICS.register("memorization")(
    Metric(
        measure=measure_memorization,
        reports=(PIXELS.measurement, FEATURES.measurement),
        uses=frozenset({"features"}),
    )
)


def _in_pixels(context: AuditContext, queries: QuerySet) -> Iterator[Finding]:
    try:
        images = context.part(queries)
    except NotMeasurable as error:
        yield _missing(PIXELS, queries, str(error))
        return
    training = context.training
    context.progress(f"memorization: comparing {len(images):,} images with {len(training):,} training images")
    shown = SHOWN_NEIGHBORS if context.spec.num_panels else 1
    distances, indices = nearest_neighbors(
        images.pixels, training.pixels, min(max(*context.spec.ks, shown), len(training)), device=context.device
    )
    rms = distances / math.prod(images.shape) ** 0.5
    channels, height, width = images.shape
    extra = {
        "image_size": f"{width}×{height}×{channels}",
        "identical_to_training": int((distances[:, 0] == 0).sum()),
    }
    for finding in _means(context, queries, PIXELS, rms, extra):
        if finding.value is None:
            yield finding
        else:
            plain = finding.value * math.prod(images.shape) ** 0.5
            yield finding.model_copy(update={"params": {**finding.params, "l2": plain}})
    if context.spec.num_panels:
        yield _panel(context, queries, rms, indices)


def _in_features(context: AuditContext, queries: QuerySet) -> Iterator[Finding]:
    try:
        context.part(queries)
        features, training = context.features(queries), context.features("training")
        k = min(max(context.spec.ks), len(training))
        similarities, _ = nearest_neighbors(features, training, k, "cosine", device=context.device)
    except LeadlineError as error:
        yield _missing(FEATURES, queries, str(error))
    else:
        yield from _means(context, queries, FEATURES, similarities, {})


def _means(
    context: AuditContext,
    queries: QuerySet,
    space: _Space,
    nearest: Float[np.ndarray, "q k"],
    extra: dict[str, Any],
) -> Iterator[Measurement]:
    """One Measurement for each k: the mean over the queries of their own mean over the k nearest."""
    sources = context.computed_from(queries, "training", *(["labeler"] if space is FEATURES else []))
    for k in dict.fromkeys(context.spec.ks):
        params = {"space": space.name, "set": queries, "k": k, **extra}
        if k > len(context.training):
            reason = (
                f"k = {k} neighbours asked of {len(context.training)} training images: lower --set audit.ks, "
                "or give more training images"
            )
            yield Measurement.not_measurable(space.measurement, reason, params=params)
            continue
        means = nearest[:, :k].mean(1)
        interval = mean_interval(means, context.spec.level)
        yield Measurement(
            name=space.measurement,
            value=float(means.mean()),
            lower=interval[0] if interval else None,
            upper=interval[1] if interval else None,
            level=context.spec.level if interval else None,
            method="Student t over images" if interval else "no interval: one image",
            n=len(means),
            unit=space.unit,
            direction=space.direction,
            params={**params, "convention": CONVENTION},
            computed_from=sources,
        )


def _missing(space: _Space, queries: QuerySet, reason: str) -> Measurement:
    params = {"space": space.name, "set": queries}
    return Measurement.not_measurable(space.measurement, reason, params=params)


def _panel(
    context: AuditContext,
    queries: QuerySet,
    distances: Float[np.ndarray, "q k"],
    indices: Int[np.ndarray, "q k"],
) -> Panel:
    """The images nearest to the training data, each followed by its nearest training images."""
    images, training = context.part(queries), context.training
    words = {"samples": "generated", "held_out": "held-out"}[queries]
    rows = np.argsort(distances[:, 0], kind="stable")[: context.spec.num_panels]
    shown = min(SHOWN_NEIGHBORS, len(training))
    tiles = [[images.pixels[row], *training.pixels[indices[row, :shown]]] for row in rows]
    captions = []
    for row in rows:
        captions.append(f"{words} {_id(images.ids, row)}")
        captions += [f"{_id(training.ids, i)}: {distances[row, j]:.1f}" for j, i in enumerate(indices[row, :shown])]
    return Panel(
        name="nearest_neighbors" if queries == "samples" else "nearest_neighbors_held_out",
        title=f"The {len(rows)} {words} images nearest to a training image",
        tiles=np.array(tiles),
        caption=(
            f"Left: the {words} images with the smallest distance to any training image, of {len(images):,}. "
            f"Right of each: its nearest training images, with their distance ({PIXELS.unit})."
        ),
        captions=tuple(captions),
        column_titles=(words, *(f"nearest {j + 1}" for j in range(shown))),
    )


def _id(ids: tuple[str, ...], index: int | np.integer) -> str:
    return ids[index] if ids else f"#{index}"
