"""load(spec) -> disjoint splits; load_images(source) -> one whole image set, converted to match another."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from leadline.data.captions import CAPTIONS
from leadline.data.convert import Converter
from leadline.data.names import parse_source
from leadline.data.pixels import Pixels, PixelStore
from leadline.data.source import DATASETS, Source, printable
from leadline.data.splits import choose_classes, plan_splits
from leadline.errors import LeadlineError
from leadline.progress import ProgressCallback, silent
from leadline.recipe import DataSpec
from leadline.records import ImageSet, Splits

CHOOSING = ("classes", "shares", "num_images", "held_out", "labeler", "duplicates")
"""The fields of DataSpec that choose images out of a data set."""
LISTED = 20
"""How many unreadable files are named in the record."""


def load(spec: DataSpec, progress: ProgressCallback = silent) -> Splits:
    """The splits that `spec` describes: train, held_out (None when 0), labeler (None when 0 or without labels).

    All keep the full list of classes of the data set, so that their labels agree. notes: dataset, classes,
    chosen_classes, conversion, counts, unreadable (count, share, first names), and where asked for, duplicates and
    identical_held_out: how many held-out images equal a training image to the byte.
    Raises LeadlineError when the data set is not there, a class has too few images, or too many are unreadable.
    """
    source = open_source(spec)
    notes: dict[str, Any] = {"dataset": source.name, "classes": list(source.classes), **source.notes}
    spec = _without_labeler(spec, notes) if source.labels is None else spec
    labels = np.zeros(len(source), dtype=np.int64) if source.labels is None else source.labels
    # Without labels, all images are of one unnamed class.
    classes = source.classes if source.labels is not None else ("",)
    notes["chosen_classes"] = list(choose_classes(source.classes, spec))
    size = None if spec.image_size is None else (spec.image_size, spec.image_size)
    store = PixelStore(source, Converter(source.name, spec.channels, size, spec.fit), progress)
    while True:
        plan = plan_splits(labels, classes, spec, exclude=tuple(store.unreadable))
        order = np.concatenate([plan.train, plan.copies, plan.held_out, plan.labeler])
        pixels = store.read(order.tolist())
        _check_unreadable(store, spec.max_unreadable_share)
        if pixels is not None:
            break
    notes["conversion"] = store.converter.describe()
    notes["unreadable"] = _unreadable_note(store)

    ends = np.cumsum([len(plan.train) + len(plan.copies), len(plan.held_out), len(plan.labeler)])
    parts = {
        name: _image_set(store, f"{source.name} {name}", order[start:stop].tolist(), pixels[start:stop])
        for name, start, stop in zip(("train", "held_out", "labeler"), (0, *ends[:-1]), ends, strict=True)
        if start < stop
    }
    train, held_out = parts["train"], parts.get("held_out")
    if spec.duplicates:
        copies = [f"{source.ids[i]}#copy{j % spec.duplicate_copies + 1}" for j, i in enumerate(plan.copies)]
        train = replace(train, ids=(*train.ids[: len(plan.train)], *copies))
        planted = np.bincount(labels[plan.copies], minlength=len(classes))
        notes["duplicates"] = {
            "images": spec.duplicates,
            "copies_each": spec.duplicate_copies,
            "counts": {name: int(n) for name, n in zip(classes, planted, strict=True) if n},
        }
    notes["counts"] = {name: _counts(images) for name, images in parts.items()}
    if held_out is not None:
        notes["identical_held_out"] = int(identical(held_out, train).sum())
    return Splits(train=train, held_out=held_out, labeler=parts.get("labeler"), notes=notes)


def load_images(
    source: str | DataSpec, like: ImageSet | None = None, *, progress: ProgressCallback = silent, **fields: Any
) -> ImageSet:
    """A whole source as one image set, in the source's own order: what an audit measures.

    source: what `parse_source` takes, or a DataSpec. like: an image set whose channels and size the images are
    converted to. fields: further fields of DataSpec (groups, image_column, channels, image_size, fit, download, ...).
    notes: dataset, conversion, unreadable, counts. Raises LeadlineError, also for a field that chooses images:
    that is `load`.
    """
    named = parse_source(source) if isinstance(source, str) else source
    spec = DataSpec(**{**named.model_dump(exclude_unset=True), **fields})
    for name in (*CHOOSING, *(("channels", "image_size") if like is not None else ())):
        if getattr(spec, name) != DataSpec.model_fields[name].default:
            reason = "the images to compare with decide it" if name not in CHOOSING else "a whole source is loaded"
            raise LeadlineError(f"load_images has no use for {name}={getattr(spec, name)!r}: {reason}; leave it out")
    opened = open_source(spec)
    if like is None:
        size = None if spec.image_size is None else (spec.image_size, spec.image_size)
        converter = Converter(opened.name, spec.channels, size, spec.fit)
    else:
        channels, height, width = like.shape
        converter = Converter(opened.name, 1 if channels == 1 else 3, (height, width), spec.fit)
    store = PixelStore(opened, converter, progress)
    order = list(range(len(opened)))
    while (pixels := store.read(order)) is None:
        _check_unreadable(store, spec.max_unreadable_share)
        order = [i for i in order if i not in store.unreadable]
        if not order:
            raise LeadlineError(f"{opened.name}: none of {store.num_tried:,} images could be decoded")
    images = _image_set(store, opened.name, order, pixels)
    images.notes.update(
        {"dataset": opened.name, **opened.notes, "unreadable": _unreadable_note(store), "counts": _counts(images)}
    )
    return images


def open_source(spec: DataSpec) -> Source:
    """The data set that a spec names, with its captions where they are asked for."""
    source = DATASETS[spec.dataset](spec)
    return replace(source, captions=CAPTIONS[spec.captions](source)) if spec.captions else source


def _image_set(store: PixelStore, name: str, order: list[int], pixels: Pixels) -> ImageSet:
    """The images `order` of the store's source, whose pixels are given."""
    source = store.source
    return ImageSet(
        name=name,
        pixels=pixels,
        labels=None if source.labels is None else source.labels[order],
        classes=source.classes,
        ids=tuple(source.ids[i] for i in order),
        captions=tuple(source.captions[i] for i in order) if source.captions else (),
        notes={"conversion": store.converter.describe()},
    )


def _counts(images: ImageSet) -> dict[str, int]:
    return images.counts() or {"images": len(images)}


def identical(images: ImageSet, reference: ImageSet) -> Bool[np.ndarray, " n"]:
    """Which of `images` have the very bytes of an image in `reference` (by SHA-256 of the pixels)."""
    known = {hashlib.sha256(pixels.tobytes()).digest() for pixels in reference.pixels}
    return np.array([hashlib.sha256(pixels.tobytes()).digest() in known for pixels in images.pixels], dtype=bool)


def _without_labeler(spec: DataSpec, notes: dict[str, Any]) -> DataSpec:
    """The spec with labeler 0, for a data set without labels. Raises LeadlineError when a number was asked for."""
    if spec.labeler:
        raise LeadlineError(
            f"data.labeler={spec.labeler} asks for labelled images, but data set {spec.dataset!r} has no labels: "
            "name a column with --set data.groups=…, use imagefolder, or set data.labeler=0"
        )
    if spec.labeler is None:
        notes["labeler"] = "none: the data set has no labels"
    return spec.model_copy(update={"labeler": 0})


def _check_unreadable(store: PixelStore, limit: float) -> None:
    count, tried = len(store.unreadable), store.num_tried
    if count > limit * tried:
        raise LeadlineError(
            f"{store.source.name}: {count:,} of {tried:,} images could not be decoded, {count / tried:.1%}, and "
            f"at most {limit:.1%} may be (--set data.max_unreadable_share): {_some(store)}"
        )


def _some(store: PixelStore) -> str:
    return "; ".join(_listed(store)[:3]) + (" …" if len(store.unreadable) > 3 else "")


def _listed(store: PixelStore) -> list[str]:
    listed = sorted(store.unreadable.items())[:LISTED]
    return [printable(f"{store.source.ids[i]}: {reason}") for i, reason in listed]


def _unreadable_note(store: PixelStore) -> dict[str, Any]:
    """The record's entry on images that were left out, which are said too."""
    count, tried = len(store.unreadable), store.num_tried
    if count:
        store.progress(
            f"{store.source.name}: {count:,} of {tried:,} images could not be decoded and are left out: {_some(store)}",
            0,
            0,
            "",
        )
    return {"count": count, "tried": tried, "share": count / tried, "files": _listed(store)}
