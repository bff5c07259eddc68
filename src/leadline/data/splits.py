"""Which images go where: exact shares, disjoint splits. Pure functions of labels and a spec; nothing is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Int

from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import DataSpec
from leadline.rng import numpy_generator_for

Counts = Int[np.ndarray, " classes"]


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """Number of images per class of the data set, for each split."""

    train: Counts
    held_out: Counts
    labeler: Counts


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """Indices into the data set; the splits are disjoint. copies: the planted duplicates, in order of planting."""

    train: Int[np.ndarray, " train"]
    copies: Int[np.ndarray, " copies"]
    held_out: Int[np.ndarray, " held_out"]
    labeler: Int[np.ndarray, " labeler"]


def largest_remainder(weights: Sequence[int | Fraction], total: int) -> Counts:
    """Hare-Niemeyer (largest remainder): counts in proportion to `weights` that sum to `total` exactly.

    weights: [k], at least 0, with a positive sum. Each count is its quota rounded down or up; ties go to the
    earlier class. Exact rational arithmetic: 0.29 of 100 is 29.
    """
    whole = sum(weights)
    quotas = [Fraction(weight) * total / whole for weight in weights]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: counts[i] - quotas[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return np.array(counts, dtype=np.int64)


def water_fill(available: Counts, total: int) -> Counts:
    """Max-min fair counts (water-filling): as even as `available` allows, summing to min(total, sum(available))."""
    counts = np.zeros_like(available)
    total = min(total, int(available.sum()))
    while (left := total - int(counts.sum())) > 0:
        open_classes = np.flatnonzero(counts < available)
        step = left // len(open_classes)
        if step == 0:
            counts[open_classes[:left]] += 1
        else:
            counts[open_classes] += np.minimum(step, (available - counts)[open_classes])
    return counts


def largest_total(weights: Sequence[int | Fraction], room: Counts) -> int:
    """The largest total whose `largest_remainder` counts all fit into `room` [k]; 0 when there is none."""
    whole = sum(weights)
    bounds = [int((int(r) + 1) * whole / Fraction(weight)) for weight, r in zip(weights, room, strict=True) if weight]
    return next((t for t in range(max(min(bounds), 0), 0, -1) if (largest_remainder(weights, t) <= room).all()), 0)


def choose_classes(classes: tuple[str, ...], spec: DataSpec) -> tuple[str, ...]:
    """The classes that training and held-out images are of: data.classes, else those in data.shares, else all."""
    chosen = spec.classes if spec.classes is not None else tuple(name for name, _ in spec.shares or ())
    if chosen and not classes:
        raise LeadlineError(
            f"classes {', '.join(chosen)} were asked for, but data set {spec.dataset!r} has no labels: name a column "
            "with --set data.groups=…, or use imagefolder, which takes them from sub-folders"
        )
    for name in chosen:
        if name not in classes:
            raise LeadlineError(f"data set {spec.dataset!r} has no class {name!r}: {did_you_mean(name, classes)}")
    if len(set(chosen)) < len(chosen):
        raise LeadlineError(f"--set data.classes names a class twice: {', '.join(chosen)}")
    return chosen or classes


def count_splits(available: Counts, classes: tuple[str, ...], spec: DataSpec, lost: Counts) -> SplitCounts:
    """How many images of each class every split gets.

    available: images per class; lost: those that cannot be decoded, which are not in `available`.
    train, held_out: `largest_remainder` of data.num_images and data.held_out by data.shares; without shares, by
    the data set's own shares among the chosen classes.
    labeler: `water_fill` of what is left of all classes; None: all that is left.
    num_images None: with shares, `largest_total` that leaves room for held_out and for an even labeler part;
    without, all that held_out and an even labeler part leave.
    Raises LeadlineError when a class has too few, with both numbers.
    """
    chosen = choose_classes(classes, spec)
    given = dict(spec.shares or ())
    weights: list[int | Fraction] = [
        0 if name not in chosen else Fraction(repr(given[name])) if given else int(n)
        for name, n in zip(classes, available, strict=True)
    ]
    if not sum(weights):
        raise LeadlineError(f"data set {spec.dataset!r} has no image of the classes {', '.join(chosen)}")
    reserved = water_fill(available, spec.labeler or 0)
    if spec.num_images is not None:
        held_out = largest_remainder(weights, spec.held_out)
        train = largest_remainder(weights, spec.num_images)
    elif spec.labeler is None:
        raise LeadlineError(
            "data.labeler=None takes all that training leaves, and data.num_images=None leaves nothing: "
            "set one of them (--set data.num_images=…, --set data.labeler=…)"
        )
    elif given:
        held_out = largest_remainder(weights, spec.held_out)
        train = largest_remainder(weights, largest_total(weights, np.maximum(available - reserved - held_out, 0)))
    else:
        free = np.where([weight > 0 for weight in weights], available - reserved, 0)
        held_out = largest_remainder([int(n) for n in free], spec.held_out) if free.sum() else free
        train = np.maximum(free - held_out, 0)
    left = available - train - held_out
    _check_enough(spec, classes, train, held_out, available, lost)
    for name in given:
        if not train[classes.index(name)]:
            raise LeadlineError(
                f"class {name!r} with share {given[name]:g} gets none of {train.sum():,} training images: "
                "more images are needed for that share (--set data.num_images=…)"
            )
    labeler = left if spec.labeler is None else water_fill(left, spec.labeler)
    _check_labeler(spec, classes, labeler, left, available)
    return SplitCounts(train=train, held_out=held_out, labeler=labeler)


def _check_enough(
    spec: DataSpec, classes: tuple[str, ...], train: Counts, held_out: Counts, available: Counts, lost: Counts
) -> None:
    for i, name in enumerate(classes):
        if train[i] + held_out[i] > available[i]:
            what = f"images of class {name!r}" if spec.shares or len(classes) > 1 else "images"
            missing = f" ({lost[i]} more cannot be decoded)" if lost[i] else ""
            raise LeadlineError(
                f"{train[i] + held_out[i]:,} {what} are wanted ({train[i]:,} to train on, {held_out[i]:,} held out), "
                f"there are {available[i]:,}{missing}: lower --set data.num_images or data.held_out, "
                "or change data.shares"
            )
    if not train.sum():
        raise LeadlineError(
            f"held_out={spec.held_out} and labeler={spec.labeler} of {available.sum():,} images leave none to train "
            "on in the shares asked for: lower --set data.held_out or data.labeler"
        )


def _check_labeler(spec: DataSpec, classes: tuple[str, ...], labeler: Counts, left: Counts, available: Counts) -> None:
    if spec.labeler == 0:
        return
    if spec.labeler is not None and left.sum() < spec.labeler:
        raise LeadlineError(
            f"the labeler is to have {spec.labeler:,} images, training and held-out leave {left.sum():,} of "
            f"{available.sum():,}: lower --set data.labeler, data.num_images or data.held_out"
        )
    for i, name in enumerate(classes):
        if available[i] and not labeler[i]:
            raise LeadlineError(
                f"no image of class {name!r} is left for the labeler: all {available[i]:,} are to train on or held "
                f"out, or data.labeler={spec.labeler} is too small: change --set data.num_images, data.held_out or "
                "data.labeler"
            )


def plan_splits(
    labels: Int[np.ndarray, " n"], classes: tuple[str, ...], spec: DataSpec, exclude: Sequence[int] = ()
) -> SplitPlan:
    """Disjoint splits of n images: train, then held_out, then labeler draw from one seeded order of each class.

    labels: [n], indices into `classes`. exclude: indices that cannot be decoded; their place is taken by the next
    image of the class, so the shares stay exact. Within a split the images stand in the seeded order, classes mixed.
    What train draws does not depend on the sizes of the other splits when data.num_images is set.
    """
    order = numpy_generator_for(spec.seed, "data/splits").permutation(len(labels))
    usable = np.ones(len(labels), dtype=bool)
    usable[np.asarray(exclude, dtype=np.int64)] = False
    order = order[usable[order]]
    available = np.bincount(labels[usable], minlength=len(classes))
    lost = np.bincount(labels[~usable], minlength=len(classes))
    counts = count_splits(available, classes, spec, lost)
    # Rank of each image within its class, in the seeded order: ranks below train's count are train's, and so on.
    ranks = np.empty(len(order), dtype=np.int64)
    for i in range(len(classes)):
        of_class = labels[order] == i
        ranks[of_class] = np.arange(of_class.sum())
    sizes = np.stack([counts.train, counts.held_out, counts.labeler])
    ends = np.cumsum(sizes, axis=0)[:, labels[order]]
    starts = ends - sizes[:, labels[order]]
    train, held_out, labeler = (
        order[(ranks >= start) & (ranks < end)] for start, end in zip(starts, ends, strict=True)
    )
    return SplitPlan(train=train, copies=_copies(train, spec), held_out=held_out, labeler=labeler)


def _copies(train: Int[np.ndarray, " train"], spec: DataSpec) -> Int[np.ndarray, " copies"]:
    if spec.duplicates > len(train):
        raise LeadlineError(
            f"{spec.duplicates:,} training images are to be planted again, there are {len(train):,}: "
            "lower --set data.duplicates"
        )
    chosen = numpy_generator_for(spec.seed, "data/duplicates").permutation(len(train))[: spec.duplicates]
    return np.repeat(train[chosen], spec.duplicate_copies)
