"""A labelling page for samples: which images are drawn, and from which classes a person chooses."""

from collections.abc import Sequence
from pathlib import Path

from leadline.audit.human_labels import (
    FORMAT,
    NONE,
    UNSURE,
    VERSION,
    names_of,
    page_id,
    pixels_fingerprint,
    sampled_order,
)
from leadline.data import load, load_images
from leadline.errors import LeadlineError, did_you_mean
from leadline.progress import ProgressCallback, silent
from leadline.recipe import DataSpec
from leadline.records import ImageSet
from leadline.report.label_page import LabelTask
from leadline.runs import Run
from leadline.stages import samples_of


def label_task(
    samples: Path,
    *,
    n: int = 200,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    train: DataSpec | None = None,
    progress: ProgressCallback = silent,
) -> LabelTask:
    """n images of `samples` for a person to label, a simple random sample in random order.

    samples: a run, the audit of a pipeline, a folder of images or Parquet. train: the training data, whose size and
    colour a folder's images are brought to, as its audit does. classes: to choose from; default: those of the training
    data that have images. Raises LeadlineError where there are no images or classes, and on an n that does not fit.
    """
    images, known = _images(samples, train, progress)
    chosen = _classes(classes, known)
    order = sampled_order(len(images), n, seed)
    drawn = images.take(order)
    names, fingerprint = names_of(images), pixels_fingerprint(images)
    return LabelTask(
        samples_name=images.name,
        fingerprint=fingerprint,
        num_samples=len(images),
        seed=seed,
        pixels=drawn.pixels,
        ids=tuple(names[index] for index in order),
        classes=chosen,
        none=NONE,
        unsure=UNSURE,
        format=FORMAT,
        version=VERSION,
        page=page_id(fingerprint, seed, n, chosen),
    )


def _images(samples: Path, train: DataSpec | None, progress: ProgressCallback) -> tuple[ImageSet, dict[str, int]]:
    """The images, and how many training images there are of each class; no class where that is not known."""
    if (samples / "run.json").exists():
        found = Run.open(samples)
        if train is None and not found.samples_folder.exists():
            source = found.header.samples.get("source")
            told = f"label those it was made of: leadline label {source} --train DATA" if source else "it has none yet"
            raise LeadlineError(f"{samples} holds no images of its own: {told}")
        counts = found.header.data.get("train", {}).get("counts", {}) if train is None else _counts(train, progress)[1]
        return samples_of(found), counts
    if (samples / "model_index.json").exists():
        raise LeadlineError(
            f"{samples} is a pipeline, not its images: audit it first (leadline audit {samples} --train DATA), then "
            "label the audit's folder"
        )
    like, counts = (None, {}) if train is None else _counts(train, progress)
    return load_images(str(samples), like=like, progress=progress), counts


def _counts(train: DataSpec, progress: ProgressCallback) -> tuple[ImageSet, dict[str, int]]:
    training = load(train, progress).train
    return training, training.counts()


def _classes(given: Sequence[str] | None, known: dict[str, int]) -> tuple[str, ...]:
    """The classes of the page: those asked for, known where any are, else all with training images."""
    if given is None:
        chosen = tuple(name for name, count in known.items() if count)
        if not chosen:
            raise LeadlineError(
                "which classes to choose from is not known here: name them (--classes cat,dog), or the training data "
                "with its classes (--train DATA --groups COLUMN)"
            )
    else:
        chosen = tuple(given)
        unknown = next((name for name in chosen if known and name not in known), None)
        if unknown is not None:
            raise LeadlineError(
                f"--classes: {unknown!r} is no class of the training data: {did_you_mean(unknown, known)}"
            )
    if len(set(chosen)) < len(chosen) or not all(chosen):
        raise LeadlineError(f"--classes takes different names separated by commas, not {','.join(chosen)!r}")
    reserved = {NONE, UNSURE} & set(chosen)
    if reserved:
        raise LeadlineError(f"no class may be named {reserved.pop()!r}, which is an answer of every page: rename it")
    return chosen
