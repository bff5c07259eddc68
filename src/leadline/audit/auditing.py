"""`measure`: samples against reference, every input checked before the first expensive step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from leadline.audit import bias, diversity, memorization  # noqa: F401  each enters its metric
from leadline.audit.context import METRICS, AuditContext, Finding, Metric, Need
from leadline.audit.labeler import Labeler, train_labeler, without_overlap
from leadline.audit.labels import given_labels
from leadline.audit.panels import samples_panel, training_panel
from leadline.audit.sources import Images, image_set, reference_splits
from leadline.errors import LeadlineError
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageSet, Measurement, Panel, Splits, Table

PACKAGES = ("leadline", "torch", "numpy", "scipy", "statsmodels")
LABELED_DATA = "give labelled images that are neither training data nor samples (--labeler DATA)"


class AuditFailed(RuntimeError):
    """A metric raised an error that is no finding about the data. `result` holds all that the others found."""

    def __init__(self, failures: dict[str, Exception], result: AuditResult) -> None:
        words = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failures.items())
        super().__init__(f"{len(failures)} of the metrics failed ({words}); what the others found is in .result")
        self.failures = failures
        self.result = result


def measure(
    samples: Images,
    reference: Images | Splits,
    *,
    groups: str | None = None,
    metrics: Sequence[str] | str | None = None,
    held_out: Images | None = None,
    labeler: Images | None = None,
    labels: str | Path | Sequence[str] | None = None,
    spec: AuditSpec | None = None,
    cache: Path | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[str], None] | None = None,
) -> AuditResult:
    """Measure what a model's samples make of its training data: bias, memorization, diversity.

    samples, held_out, labeler: an ImageSet, uint8 or float [n, c, h, w] (floats in [-1, 1]), a path, or
    DATASET[:PATH]. reference: the same, or Splits, whose held-out and labeler parts are used unless others are given.
    groups: the column with the classes, where data is loaded by name. metrics: names in METRICS (default: those of
    `spec`). held_out: real images that the model was not trained on, the baseline of memorization. labeler: labelled
    images that train the attribute classifier; those found in the other sets are left out. labels: of the samples,
    class names or a file of them, instead of the labeler's. spec: every option. cache: folder for the trained labeler
    and for features. device: of the networks (default: CUDA where there is one).

    What cannot be measured is a Measurement with its reason. Raises LeadlineError on inputs that do not fit, before
    anything is trained, and AuditFailed, after all other metrics, when a metric has a fault.
    """
    spec = _checked(spec or AuditSpec(), metrics)
    inputs = _inputs(samples, reference, groups, held_out, labeler)
    context = _context(inputs, labels, spec, cache, _device(device), progress or (lambda _: None))
    findings: list[Finding] = [samples_panel(inputs.samples), training_panel(inputs.training)]
    if context.labeler is not None:
        findings += [context.labeler.accuracy(spec.level), context.labeler.confusion()]
    failures: dict[str, Exception] = {}
    for name in spec.metrics:
        context.progress(f"measuring {name}")
        try:
            for finding in _carry_out(METRICS[name], context):
                findings.append(finding)  # one by one: what came before a fault is kept
        except Exception as error:
            failures[name] = error
    result = AuditResult(
        measurements=tuple(f for f in findings if isinstance(f, Measurement)),
        tables=tuple(f for f in findings if isinstance(f, Table)),
        panels=tuple(f for f in findings if isinstance(f, Panel)),
        settings=_settings(inputs, context),
    )
    if failures:
        raise AuditFailed(failures, result) from next(iter(failures.values()))
    return result


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """Image sets of one shape; the labeler's without what the others hold too."""

    samples: ImageSet
    training: ImageSet
    held_out: ImageSet | None
    labeler: ImageSet | None
    dropped: dict[str, int]
    """Labeler images left out -> why and how many."""


def _checked(spec: AuditSpec, metrics: Sequence[str] | str | None) -> AuditSpec:
    """The spec with `metrics` where given. Raises LeadlineError on unknown metrics."""
    spec = spec if metrics is None else AuditSpec(**{**spec.model_dump(), "metrics": metrics})
    for name in spec.metrics:
        METRICS[name]
    return spec


def _inputs(
    samples: Images, reference: Images | Splits, groups: str | None, held_out: Images | None, labeler: Images | None
) -> _Inputs:
    # Named samples are converted to the reference's size; a named reference to that of samples at hand.
    at_hand = None if isinstance(samples, str | Path) else image_set(samples, "samples")
    splits = reference_splits(reference, groups, at_hand)
    training = splits.train
    images = at_hand if at_hand is not None else image_set(samples, "samples", like=training)

    def beside(given: Images | None, name: str) -> ImageSet | None:
        return None if given is None else image_set(given, name, like=training, groups=groups)

    real = beside(splits.held_out if held_out is None else held_out, "held-out images")
    labelled = beside(splits.labeler if labeler is None else labeler, "labeler images")
    dropped: dict[str, int] = {}
    if labelled is not None:
        labelled, dropped = without_overlap(labelled, {"training": training, "held_out": real, "samples": images})
    return _Inputs(samples=images, training=training, held_out=real, labeler=labelled, dropped=dropped)


def _context(
    inputs: _Inputs,
    labels: str | Path | Sequence[str] | None,
    spec: AuditSpec,
    cache: Path | None,
    device: torch.device,
    progress: Callable[[str], None],
) -> AuditContext:
    """The inputs with the sample labels read and, where a metric asks for it, the labeler trained."""
    known = [] if inputs.labeler is None else [name for name, n in inputs.labeler.counts().items() if n]
    class_names = tuple(dict.fromkeys([*inputs.training.classes, *known]))
    reserved = {bias.OTHER, bias.UNSURE} & set(class_names)
    if reserved:
        raise LeadlineError(f"no class may be named {reserved.pop()!r}, the audit says that itself: rename the class")
    found, origin = _labels(labels, inputs, class_names)
    missing = _missing(inputs, known, found is not None)
    wanted = {need for name in spec.metrics for need in METRICS[name].needs | METRICS[name].uses}
    wanted -= {"labels"} if found is not None else set()
    trained: Labeler | None = None
    if inputs.labeler is not None and wanted - missing.keys():
        trained = train_labeler(
            inputs.labeler,
            confidence=spec.confidence,
            epochs=spec.labeler_epochs,
            seed=spec.seed,
            cache=cache,
            device=device,
            progress=progress,
        )
    sets = {"samples": inputs.samples, "training": inputs.training, "held_out": inputs.held_out}
    fingerprints = {name: images.fingerprint() for name, images in sets.items() if images is not None}
    return AuditContext(
        samples=inputs.samples,
        training=inputs.training,
        held_out=inputs.held_out,
        spec=spec,
        class_names=class_names,
        labels=found,
        labels_origin=origin,
        labeler=trained,
        missing=missing,
        fingerprints=fingerprints if trained is None else {**fingerprints, "labeler": trained.fingerprint},
        device=device,
        cache=cache,
        progress=progress,
    )


def _labels(
    labels: str | Path | Sequence[str] | None, inputs: _Inputs, class_names: tuple[str, ...]
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


def _missing(inputs: _Inputs, known: Sequence[str], labels_given: bool) -> dict[Need, str]:
    """What a metric may need and cannot be had -> why, and how to get it."""
    missing: dict[Need, str] = {}
    if inputs.labeler is None:
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
    if "features" in missing:
        missing["labels"] = missing["features"] + ", or the samples' labels (--labels FILE)"
    elif unknown:
        missing["labels"] = (
            f"the labeler has no images of the training data's class {unknown[0]!r} (it knows {', '.join(known)}): "
            f"{LABELED_DATA} of every class, or the samples' labels (--labels FILE)"
        )
    return missing


def _carry_out(metric: Metric, context: AuditContext) -> Iterator[Finding]:
    """A metric's findings; where it cannot be made, each of its measurements with the reason."""
    made: set[str] = set()
    try:
        for need in sorted(metric.needs & context.missing.keys()):
            raise LeadlineError(context.missing[need])
        for finding in metric.measure(context):
            made.add(finding.name)
            yield finding
    except LeadlineError as error:
        for name in [name for name in metric.reports if name not in made] or metric.reports:
            yield Measurement.not_measurable(name, str(error))


def _settings(inputs: _Inputs, context: AuditContext) -> dict[str, Any]:
    """All that decided the numbers."""
    sets = {
        "samples": inputs.samples,
        "training": inputs.training,
        "held_out": inputs.held_out,
        "labeler": inputs.labeler,
    }
    labeler = context.labeler
    return {
        "audit": context.spec.model_dump(mode="json"),
        "fingerprints": context.fingerprints,
        "images": {
            name: {"name": images.name, "n": len(images), "counts": images.counts(), "notes": images.notes}
            for name, images in sets.items()
            if images is not None
        },
        "labels": context.labels_origin,
        "labeler": {
            "left_out": inputs.dropped,
            **({} if labeler is None else {"networks": len(labeler.networks), "temperature": labeler.temperature}),
        },
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _device(device: str | torch.device | None) -> torch.device:
    """The given device, else CUDA where there is one, else the CPU."""
    return torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
