"""Training runs that are replicates of one subject: bootstraps of soft k-NN's data, seeds of one depth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.experiment import model_title
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.made_classes import MadeClasses
from leadline.lab.sources import LabModel, points
from leadline.progress import ProgressCallback
from leadline.recipe import SampleSpec, fingerprint
from leadline.records import ImageSet
from leadline.sampling import decode
from leadline.theory.bias_variance import Classify, bootstrap, generated_classes, soft_knn_classes
from leadline.theory.exact.vectors import Reference

SOFT_KNN = "soft k-NN"


@dataclass(frozen=True)
class TrainingRun:
    """One training run of a subject. identity: what decides it, for what is kept."""

    name: str
    identity: Mapping[str, Any]
    classify: Classify
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One thing whose bias and variance are measured, by its training runs.

    encoded: the class f of images, by the judge that f̂ has too: labels where votes are of labels, the labeler where it
    sees what was made. Its errors on the images themselves are then no bias of the model.
    """

    name: str
    runs: Sequence[TrainingRun]
    encoded: Callable[[ImageSet], Int[np.ndarray, " n"]]
    depth: int | None = None

    @property
    def params(self) -> dict[str, Any]:
        """What tells its measurements from others'."""
        depth = {} if self.depth is None else {"depth": self.depth}
        return {"model": self.name, "runs": len(self.runs), **depth}


def soft_knn(training: ImageSet, classes: MadeClasses, replicates: int, seed: int) -> Subject:
    """Soft k-NN on the training data drawn anew with replacement, once per replicate; one alone is the data itself."""
    labels, data = classes.of_labels(training), training.fingerprint()
    runs = []
    for run in range(replicates):
        chosen = np.arange(len(training)) if replicates == 1 else bootstrap(len(training), run, seed)
        reference = Reference(training.pixels[chosen], labels=labels[chosen], num_classes=len(classes.names))
        name = "the training data" if replicates == 1 else f"bootstrap {run + 1}"
        identity = {"soft k-NN": data, "run": run, "of": replicates}
        runs.append(TrainingRun(name, identity, soft_knn_classes(reference), reference.device))
    return Subject(name=SOFT_KNN, runs=runs, encoded=classes.of_labels)


def by_depth(models: Sequence[LabModel], sampling: SampleSpec, classes: MadeClasses) -> list[Subject]:
    """Models that differ in their training seed only as the runs of one subject; shallow ones first."""
    groups: dict[str, list[LabModel]] = {}
    for model in models:
        recipe = model.recipe
        alike = model.digest
        if recipe is not None:
            alike = fingerprint(recipe.data, recipe.model, recipe.train, leave_out={"train.seed"})
        groups.setdefault(alike, []).append(model)
    subjects = []
    for group in sorted(groups.values(), key=lambda group: (group[0].depth is None, group[0].depth or 0)):
        first = group[0]
        name = first.name if len(group) == 1 or first.recipe is None else model_title(first.recipe)
        if len({model.digest for model in group}) < len(group):
            raise LeadlineError(f"{name}: two of the runs have the same weights, and are no replicates: leave one out")
        runs = [_run(model, sampling, classes) for model in group]
        subjects.append(Subject(name=name, runs=runs, encoded=classes.seen_in, depth=first.depth))
    names = [subject.name for subject in subjects]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise LeadlineError(
            f"two of the models are called {repeated[0]}, and differ in more than their training seed: measure them "
            "one by one"
        )
    return subjects


def _run(model: LabModel, sampling: SampleSpec, classes: MadeClasses) -> TrainingRun:
    """What a model makes of noisy images: down its own probability-flow ODE, and by the labeler."""

    def classify(x: Float[Tensor, "n c h w"], sigma: float) -> Int[np.ndarray, " n"]:
        return classes.seen(decode(model.denoiser, x, sampling, sigma=sigma))

    judged = None if classes.labeler is None else [classes.labeler.fingerprint, classes.labeler.confidence]
    identity = {"model": model.digest, "sampling": [sampling.sampler, sampling.steps], "labeler": judged}
    return TrainingRun(str(model.facts.get("run", model.name)), identity, classify, model.denoiser.device)


def made_classes(
    subject: Subject,
    images: ImageSet,
    sigma: float,
    *,
    draws: int,
    seed: int,
    kept: Kept,
    progress: ProgressCallback,
) -> Int[np.ndarray, "n runs draws"]:
    """The classes of what every run makes of every noisy image.

    Raises NotMeasurable where sigma is outside the range of a run's model.
    """
    clean = points(images, subject.runs[0].device)
    made = []
    for number, run in enumerate(subject.runs):
        settings = {
            **run.identity,
            "what": "bias-variance",
            "images": images.fingerprint(),
            "sigma": sigma,
            "draws": draws,
            "seed": seed,
        }

        def told(done: int, before: int = number * draws, name: str = run.name) -> None:
            progress(f"{subject.name}, sigma {sigma:g}", before + done, len(subject.runs) * draws, f"draws, {name}")

        def compute(run: TrainingRun = run, told: Callable[[int], None] = told) -> Arrays:
            told(0)
            x = clean.to(run.device)
            return {"made": generated_classes(run.classify, x, sigma, draws=draws, seed=seed, after_draw=told)}

        made.append(kept.piece(settings, compute)["made"])
    return np.stack(made, axis=1)
