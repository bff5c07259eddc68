"""Everything that an audit needs, checked and loaded before its first expensive step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from leadline.audit.class_counts import RESERVED
from leadline.audit.context import LABELER, METRICS, AuditContext, Need
from leadline.audit.encoders import load_encoder
from leadline.audit.features import Encoder
from leadline.audit.given import given_labeler, judge
from leadline.audit.human_labels import read_human_labels
from leadline.audit.judged import AttributeLabeler
from leadline.audit.labeler import image_hashes, train_labeler, without_overlap
from leadline.audit.labels import given_labels
from leadline.audit.sources import Images, image_set, reference_splits
from leadline.errors import LeadlineError
from leadline.progress import ProgressCallback
from leadline.recipe import AuditSpec
from leadline.records import ImageSet, Splits

LABELED_DATA = "give labelled images that are neither training data nor samples (--labeler DATA)"
LEFT_OUT = "training_images_left_out"
"""Note of the held-out images: how many were training images."""
ANY_SHAPE = (3, 64, 64)
"""Shape at which networks are tried before the images are read."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Image sets of one shape; the labeler's without what the others hold too."""

    samples: ImageSet
    training: ImageSet
    held_out: ImageSet | None
    labeler: ImageSet | None
    dropped: dict[str, int]
    """Labeler images left out -> why and how many."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What was asked for and could be loaded: encoders, and a labeler that is given instead of trained."""

    encoders: tuple[Encoder, ...]
    spaces: tuple[str, ...]
    labeler: AttributeLabeler | None
    device: torch.device


def checked(spec: AuditSpec, metrics: Sequence[str] | str | None) -> AuditSpec:
    """The spec with `metrics` where given. Raises LeadlineError on unknown metrics."""
    spec = spec if metrics is None else AuditSpec(**{**spec.model_dump(), "metrics": metrics})
    for name in spec.metrics:
        METRICS[name]
    return spec


def require_networks(spec: AuditSpec, *, download: bool = False, allow_torchscript: bool = False) -> tuple[str, ...]:
    """Raise LeadlineError now, before images are read or a model is trained, where an audit could not be carried out.

    Metrics and encoders must be known and their weights at hand; with `download` they are fetched. Returns the names of
    the feature spaces that the audit compares in.
    """
    checked(spec, None)
    return load_networks(spec, ANY_SHAPE, None, torch.device("cpu"), download, allow_torchscript).spaces


def load_networks(
    spec: AuditSpec,
    shape: tuple[int, int, int],
    given: AttributeLabeler | None,
    device: torch.device,
    download: bool,
    allow_torchscript: bool,
) -> Networks:
    """All networks but the labeler to be trained, loaded before the first expensive step."""
    if given is not None and (spec.labeler_model or spec.prompts):
        raise LeadlineError("two labelers are given: leave out labeler= or audit.labeler_model with audit.prompts")
    encoders: dict[str, Encoder] = {}
    for text in spec.encoders:
        if text != LABELER:
            encoder = load_encoder(
                text, shape=shape, device=device, download=download, allow_torchscript=allow_torchscript
            )
            if encoder.name in encoders:
                raise LeadlineError(f"--encoder {text}: {encoder.name} is asked for twice: leave one out")
            encoders[encoder.name] = encoder
    asked = (LABELER,) if LABELER in spec.encoders else ()
    return Networks(
        encoders=tuple(encoders.values()),
        spaces=(*asked, *(name for name, encoder in encoders.items() if "features" in encoder.outputs)),
        labeler=given or given_labeler(spec, shape=shape, device=device, download=download),
        device=device,
    )


def read_inputs(
    samples: Images,
    reference: Images | Splits,
    groups: str | None,
    held_out: Images | None,
    labeler: Images | None,
    progress: ProgressCallback,
) -> Inputs:
    """All images, of one size."""
    # Named samples are converted to the reference's size; a named reference to that of samples at hand.
    at_hand = None if isinstance(samples, str | Path) else image_set(samples, "samples")
    splits = reference_splits(reference, groups, at_hand, progress)
    training = splits.train
    images = at_hand if at_hand is not None else image_set(samples, "samples", like=training, progress=progress)

    def beside(given: Images | None, name: str) -> ImageSet | None:
        return None if given is None else image_set(given, name, like=training, groups=groups, progress=progress)

    real, kept = _unseen(beside(splits.held_out if held_out is None else held_out, "held-out images"), training)
    images = _with_starts(images, kept)
    labelled = beside(splits.labeler if labeler is None else labeler, "labeler images")
    dropped: dict[str, int] = {}
    if labelled is not None:
        labelled, dropped = without_overlap(labelled, {"training": training, "held_out": real, "samples": images})
    return Inputs(samples=images, training=training, held_out=real, labeler=labelled, dropped=dropped)


def _unseen(held_out: ImageSet | None, training: ImageSet) -> tuple[ImageSet | None, list[int]]:
    """Held-out images without those that are training images to the byte: these are no baseline, but copies.

    With the places that the images which are left had before.
    """
    if held_out is None:
        return None, []
    known = set(image_hashes(training))
    kept = [index for index, image in enumerate(image_hashes(held_out)) if image not in known]
    if len(kept) == len(held_out):
        return held_out, kept
    if not kept:
        raise LeadlineError(
            f"held-out images: all {len(held_out):,} are training images to the byte: give images that the model was "
            "not trained on (--held-out DATA)"
        )
    unseen = held_out.take(kept)
    return replace(unseen, notes={**unseen.notes, LEFT_OUT: len(held_out) - len(kept)}), kept


def _with_starts(samples: ImageSet, kept: Sequence[int]) -> ImageSet:
    """The samples with `init` counted in the held-out images that are left; without held-out images as they are."""
    if samples.init is None or not kept:
        return samples
    place = {before: now for now, before in enumerate(kept)}
    lost = sorted(set(samples.init.tolist()) - place.keys())
    if lost:
        raise LeadlineError(
            f"{samples.name}: some started from held-out image {lost[0]}, which is not there or is a training image to "
            "the byte: give the held-out images that they started from"
        )
    return replace(samples, init=np.array([place[index] for index in samples.init.tolist()], dtype=np.int64))


def prepare(
    inputs: Inputs,
    labels: str | Path | Sequence[str] | None,
    spec: AuditSpec,
    cache: Path | None,
    networks: Networks,
    progress: ProgressCallback,
    human_labels: str | Path | None = None,
) -> AuditContext:
    """The inputs with the sample labels read and, where a metric or human labels ask for it, the labeler trained."""

    def report(stage: str, done: int, total: int, detail: str) -> None:
        progress(f"audit, {stage}", done, total, detail)

    given = networks.labeler
    if given is not None:
        known = list(given.classes)
    else:
        known = [] if inputs.labeler is None else [name for name, n in inputs.labeler.counts().items() if n]
    class_names = tuple(dict.fromkeys([*inputs.training.classes, *known]))
    reserved = set(class_names) & RESERVED
    if reserved:
        raise LeadlineError(f"no class may be named {reserved.pop()!r}, the audit says that itself: rename the class")
    found, origin = _labels(labels, inputs, class_names)
    human = None if human_labels is None else read_human_labels(human_labels, inputs.samples, class_names)
    missing = _missing(inputs, known, found is not None, given)
    wanted = {need for name in spec.metrics for need in METRICS[name].needs | METRICS[name].uses}
    wanted |= {"labels"} if human is not None else set()
    wanted -= {"labels"} if found is not None else set()
    wanted -= {"features"} if LABELER not in spec.encoders else set()
    labeler: AttributeLabeler | None = None
    if given is not None:
        labeler = judge(given, labeler=inputs.labeler, held_out=inputs.held_out, training=inputs.training, cache=cache)
    elif inputs.labeler is not None and wanted - missing.keys():
        labeler = train_labeler(
            inputs.labeler,
            confidence=spec.confidence,
            epochs=spec.labeler_epochs,
            seed=spec.seed,
            cache=cache,
            device=networks.device,
            progress=report,
        )
    sets = {"samples": inputs.samples, "training": inputs.training, "held_out": inputs.held_out}
    fingerprints = {name: images.fingerprint() for name, images in sets.items() if images is not None}
    fingerprints |= {encoder.name: encoder.fingerprint for encoder in networks.encoders}
    return AuditContext(
        samples=inputs.samples,
        training=inputs.training,
        held_out=inputs.held_out,
        spec=spec,
        class_names=class_names,
        labels=found,
        labels_origin=origin,
        labeler=labeler,
        human=human,
        encoders=networks.encoders,
        spaces=networks.spaces,
        missing=missing,
        fingerprints=fingerprints if labeler is None else {**fingerprints, LABELER: labeler.fingerprint},
        device=networks.device,
        cache=cache,
        report=report,
    )


def _labels(
    labels: str | Path | Sequence[str] | None, inputs: Inputs, class_names: tuple[str, ...]
) -> tuple[Int[np.ndarray, " n"] | None, str]:
    """Labels that need no labeler, if there are any, and where labels come from, in words."""
    samples = inputs.samples
    if inputs.training.labels is None:
        return None, "none: the training data has no classes"
    if labels is not None:
        origin = f"the file {Path(labels).name}" if isinstance(labels, str | Path) else "given by hand"
        return given_labels(labels, samples, class_names), origin
    if samples.labels is None:
        return None, "the labeler"
    names = [samples.classes[label] for label in samples.labels]
    strange = sorted(set(names) - set(class_names))
    if strange:
        return (
            None,
            f"the labeler (the samples' own labels, such as {strange[0]!r}, are no classes of the training data)",
        )
    return given_labels(names, samples, class_names), "the samples' own"


def _missing(
    inputs: Inputs, known: Sequence[str], labels_given: bool, given: AttributeLabeler | None
) -> dict[Need, str]:
    """What a metric may need and cannot be had -> why, and how to get it."""
    missing: dict[Need, str] = {}
    if given is not None:
        if "features" not in given.outputs:
            missing["features"] = (
                "the given labeler names classes and has no features to compare: name an encoder (--encoder)"
            )
    elif inputs.labeler is None:
        missing["features"] = f"no labeler: {LABELED_DATA}"
    elif len(known) < 2:
        dropped = ", ".join(f"{n} in {name.replace('_', '-')}" for name, n in inputs.dropped.items() if n)
        missing["features"] = (
            f"the labeler needs labelled images of two classes or more; {inputs.labeler.name!r} leaves "
            f"{len(inputs.labeler)} images of {len(known)} classes"
            + (f" after those that are elsewhere too ({dropped})" if dropped else "")
            + f": {LABELED_DATA}"
        )
    if inputs.training.labels is None:
        missing["labels"] = (
            "the training data has no labels, so its shares are not known: name the column with the classes (--groups)"
        )
        return missing
    if labels_given:
        return missing
    wanted = [name for name, n in inputs.training.counts().items() if n]
    unknown = [name for name in wanted if name not in known]
    if "features" in missing and given is None:
        missing["labels"] = missing["features"] + ", or the samples' labels (--labels FILE)"
    elif unknown:
        missing["labels"] = (
            f"the labeler has no images of the training data's class {unknown[0]!r} (it knows {', '.join(known)}): "
            f"{LABELED_DATA} of every class, or the samples' labels (--labels FILE)"
        )
    return missing


def device_or_default(device: str | torch.device | None) -> torch.device:
    """The given device, else CUDA where there is one, else the CPU."""
    return torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
