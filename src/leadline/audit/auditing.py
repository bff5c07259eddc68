"""`measure`: samples against reference, every input checked before the first expensive step."""

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from leadline.audit import bias, diversity, fidelity, memorization, prompted  # noqa: F401  each enters its metric
from leadline.audit.class_counts import UNSURE
from leadline.audit.context import METRICS, AuditContext, Finding, Metric
from leadline.audit.detecting import before
from leadline.audit.human_shares import HUMAN_METRIC
from leadline.audit.judged import AttributeLabeler
from leadline.audit.panels import samples_panel, training_panel
from leadline.audit.preparing import (
    Inputs,
    checked,
    device_or_default,
    load_networks,
    prepare,
    read_inputs,
    require_networks,
)
from leadline.audit.sources import Images
from leadline.errors import LeadlineError
from leadline.progress import ProgressCallback, silent
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageLabels, Measurement, Panel, Splits, Table

PACKAGES = ("leadline", "torch", "numpy", "scipy", "statsmodels")


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
    labeler: Images | AttributeLabeler | None = None,
    labels: str | Path | Sequence[str] | None = None,
    human_labels: str | Path | None = None,
    spec: AuditSpec | None = None,
    cache: Path | None = None,
    device: str | torch.device | None = None,
    download: bool = False,
    allow_torchscript: bool = False,
    progress: ProgressCallback = silent,
) -> AuditResult:
    """Measure what a model's samples make of its training data: bias, memorization, diversity, fidelity.

    samples, held_out, labeler: an ImageSet, uint8 or float [n, c, h, w] (floats in [-1, 1]), a path, or
    DATASET[:PATH]. reference: the same, or Splits, whose held-out and labeler parts are used unless others are given.
    groups: the column with the classes, where data is loaded by name. metrics: names in METRICS (default: those of
    `spec`). held_out: real images that the model was not trained on, the baseline of memorization. labeler: labelled
    images that train the attribute classifier; those found in the other sets are left out; or a classifier that is
    given (`leadline.audit.given.module_labeler`). labels: of the samples,
    class names or a file of them, instead of the labeler's. human_labels: of some samples, the file that a page of
    `leadline label` saved: shares are then estimated from both. spec: every option. cache: folder for the trained
    labeler and for features. device: of the networks (default: CUDA where there is one). download: whether weights of
    `spec.encoders` that are not at hand may be fetched. allow_torchscript: whether a TorchScript file, which runs
    the code within it, may be loaded. progress: called with (stage, done, total, detail).

    What cannot be measured is a Measurement with its reason. Raises LeadlineError on inputs that do not fit, before
    anything is trained, and AuditFailed, after all other metrics, when a metric has a fault.
    """
    spec = checked(spec or AuditSpec(), metrics)
    given = labeler if isinstance(labeler, AttributeLabeler) else None
    labelled = None if isinstance(labeler, AttributeLabeler) else labeler
    if any(isinstance(images, str | Path) for images in (samples, reference, held_out, labelled)):
        require_networks(spec, download=download, allow_torchscript=allow_torchscript)
    inputs = read_inputs(samples, reference, groups, held_out, labelled, progress)
    fixed = spec.stopping == "fixed"  # else power is of no use: the images were drawn until a share was known
    if fixed and "bias" in spec.metrics and (told := before(inputs.training, len(inputs.samples), spec.level)):
        progress(told, 0, 0, "")
    networks = load_networks(spec, inputs.training.shape, given, device_or_default(device), download, allow_torchscript)
    context = prepare(inputs, labels, spec, cache, networks, progress, human_labels)
    findings: list[Finding] = [samples_panel(inputs.samples), training_panel(inputs.training)]
    if context.labeler is not None:
        findings.append(context.labeler.accuracy(spec.level))
        # Where shares are corrected by it, the metric has a larger matrix, of all images whose class is known.
        if not bias.labels_by_labeler(context) and (matrix := context.labeler.confusion()) is not None:
            findings.append(matrix)
    failures: dict[str, Exception] = {}
    metrics_made = {name: METRICS[name] for name in spec.metrics}
    if context.human is not None:
        metrics_made["human labels"] = HUMAN_METRIC
    for name, metric in metrics_made.items():
        context.progress(f"measuring {name}")
        try:
            for finding in _carry_out(metric, context):
                findings.append(finding)  # one by one: what came before a fault is kept
        except Exception as error:
            failures[name] = error
    result = AuditResult(
        measurements=tuple(f for f in findings if isinstance(f, Measurement)),
        tables=tuple(f for f in findings if isinstance(f, Table)),
        panels=tuple(f for f in findings if isinstance(f, Panel)),
        settings=_settings(inputs, context),
        labels=_labels(context),
    )
    if failures:
        raise AuditFailed(failures, result) from next(iter(failures.values()))
    return result


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


def _labels(context: AuditContext) -> ImageLabels | None:
    """The samples' labels image by image; None where none were given and no labeler was asked."""
    if context.labels is None and context.labeler is None:
        return None
    try:
        labels = context.sample_labels()
    except LeadlineError:  # the metrics that need labels have said why there are none
        return None
    names = (*context.class_names, UNSURE)  # UNCLASSIFIED, -1, is the last
    samples = context.samples
    return ImageLabels(
        ids=samples.ids or tuple(str(index) for index in range(len(samples))),
        labels=tuple(names[label] for label in labels),
        origin=context.labels_origin,
    )


def _human_settings(context: AuditContext) -> dict[str, Any]:
    """What the human labels are; nothing where none were given."""
    human = context.human
    if human is None:
        return {}
    answered = {"origin": human.origin, "content": human.digest, "labelled": len(human.answers), "asked": human.asked}
    return {"human_labels": {**answered, "classes": list(human.classes)}}


def _settings(inputs: Inputs, context: AuditContext) -> dict[str, Any]:
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
        **_human_settings(context),
        "labeler": {
            "left_out": inputs.dropped,
            **({} if labeler is None else {"description": labeler.description}),
        },
        "encoders": {encoder.name: encoder.description for encoder in context.encoders},
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }
