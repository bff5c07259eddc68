"""P1 Eq. 4, 5 over the noise level: soft k-NN beside trained models, whose runs of several seeds are replicates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from leadline.errors import LeadlineError, NotMeasurable
from leadline.lab.evaluating import check_sigmas, package_versions
from leadline.lab.exchange import Exchange, exchange_images
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.made_classes import MadeClasses, labeler_for
from leadline.lab.over_runs import BIAS, ONE_RUN, PARTS, Estimates, averaged, change, estimates, measured
from leadline.lab.replicates import SOFT_KNN, Subject, by_depth, made_classes, soft_knn
from leadline.lab.sources import LabModel, chosen
from leadline.progress import ProgressCallback, silent
from leadline.recipe import AuditSpec, SampleSpec
from leadline.records import ImageSet, Measurement, Panel, Splits, Table, TheoryResult
from leadline.sampling import refuse_stochastic
from leadline.theory.noise import PAPER_SIGMAS

DIRECTION = {
    BIAS: "above 0: made more often than encoded",
    "squared_bias": "larger: the class made differs more from the class encoded, on average over noise and runs",
    "noise_variance": "larger: the class hangs more on the noise",
    "training_variance": "larger: the class hangs more on the training run",
    "variance": "larger: the class hangs more on noise and training run",
}


@dataclass(frozen=True, kw_only=True)
class BiasVarianceSpec:
    """What is measured. num_images: of the training set; draws: noises per image and level; replicates: training sets
    of soft k-NN, drawn from the data with replacement; steps, sampler: of the models' way down from σ."""

    sigmas: tuple[float, ...] = PAPER_SIGMAS
    num_images: int = 64
    draws: int = 8
    replicates: int = 4
    seed: int = 0
    sampler: str = "heun"
    steps: int = 18
    level: float = 0.95

    def __post_init__(self) -> None:
        refuse_stochastic(self.sampler)

    @property
    def sampling(self) -> SampleSpec:
        """The probability-flow ODE as it is: no estimate of the clean image is clipped."""
        return SampleSpec(sampler=self.sampler, steps=self.steps, clip_x0=False)


def measure_bias_variance(
    models: Sequence[LabModel],
    spec: BiasVarianceSpec,
    kept: Kept,
    *,
    data: Splits | None = None,
    exchange: Exchange | None = None,
    progress: ProgressCallback = silent,
) -> TheoryResult:
    """P1 Eq. 4, 5 at every noise level, for soft k-NN on the training data and for each depth.

    models: runs that differ in the training seed only are replicates of one subject. data: the training data where
    there is no model. exchange: two models, to encode with one and decode with the other. Raises LeadlineError on
    models of different data, data without labels and too few images, before anything is computed.
    """
    check_sigmas(spec.sigmas)
    given = [*models, *((exchange.encoder, exchange.decoder) if exchange else ())]
    splits = _common_data(given, data)
    images = chosen(splits.train, spec.num_images, spec.seed)
    _check(images, spec)
    MadeClasses.of(splits.train, None)
    labeler = labeler_for(splits, _audit_spec(given), kept, progress) if given else None
    classes = MadeClasses.of(splits.train, labeler)
    subjects = [
        soft_knn(splits.train, classes, spec.replicates, spec.seed),
        *by_depth(models, spec.sampling, classes),
    ]
    found: list[Measurement] = []
    rows: list[tuple[str | int | float | None, ...]] = []
    arrays: Arrays = {}
    whole: dict[str, dict[float, Estimates]] = {}
    for number, subject in enumerate(subjects):
        whole[subject.name] = {}
        encoded = arrays[f"encoded_{number}"] = subject.encoded(images)
        for sigma in sorted(spec.sigmas, reverse=True):
            params = {**subject.params, "sigma": sigma}
            try:
                made = made_classes(
                    subject, images, sigma, draws=spec.draws, seed=spec.seed, kept=kept, progress=progress
                )
            except NotMeasurable as error:
                found += [Measurement.not_measurable(name, str(error), params=params) for name in (BIAS, *PARTS)]
                continue
            whole[subject.name][sigma] = estimates(made, encoded, classes.names)
            found += _measured(whole[subject.name][sigma], subject, params, spec.level)
            rows += _by_run(made, encoded, classes, subject, sigma)
            arrays[f"made_{number}_{sigma:g}"] = made
    found += _over_levels(subjects, whole, spec)
    tables = [_runs_table(rows, classes)]
    panels: tuple[Panel, ...] = ()
    if exchange is not None:
        changes = exchange_images(exchange, images, classes, spec.sampling, spec.level, kept, progress)
        found, tables, panels = [*found, *changes.measurements], [*tables, changes.table], (changes.panel,)
    if labeler is not None:
        found.append(labeler.accuracy(spec.level))
    settings = {
        **asdict(spec),
        "images": len(images),
        "training_images": len(splits.train),
        "counts": splits.train.counts(),
        "classes": list(classes.names),
        "majority": majority(splits.train),
        "data": splits.train.fingerprint(),
        "subjects": {subject.name: [run.name for run in subject.runs] for subject in subjects},
        "models": {model.name: model.facts for model in given},
        "labeler": None if labeler is None else labeler.description,
        "packages": package_versions(),
    }
    return TheoryResult(tuple(found), tuple(tables), panels, settings, kind="bias_variance", arrays=arrays)


def majority(training: ImageSet) -> str:
    """The class with most training images; of equal ones the first."""
    counts = training.counts()
    return max(counts, key=lambda name: counts[name])


def _common_data(models: Sequence[LabModel], data: Splits | None) -> Splits:
    if not models:
        if data is None:
            raise LeadlineError("give models, or the training data that soft k-NN votes by (--train DATA)")
        return data
    prints = {model.name: model.splits.train.fingerprint() for model in models}
    if len(set(prints.values())) > 1:
        raise LeadlineError(
            f"models of one training set are compared, these have different ones: {', '.join(prints)}: measure them "
            "one by one"
        )
    return models[0].splits


def _check(images: ImageSet, spec: BiasVarianceSpec) -> None:
    for flag, value, least in (
        ("--num-images", len(images), 2),
        ("--draws", spec.draws, 2),
        ("--replicates", spec.replicates, 1),
        ("--steps", spec.steps, 1),
    ):
        if value < least:
            raise LeadlineError(f"{flag}: {least} or more are needed, not {value}")


def _audit_spec(models: Sequence[LabModel]) -> AuditSpec:
    """How the first of the models' runs is labelled in its audit."""
    return next((model.recipe.audit for model in models if model.recipe is not None), AuditSpec())


def _measured(found: Estimates, subject: Subject, params: dict[str, Any], level: float) -> list[Measurement]:
    """Bias of each class, and the parts; those that a single training run does not have, with the reason."""
    made = [
        measured(one, name, len(subject.runs), level, group=group, direction=DIRECTION[name], params=params)
        for (name, group), one in found.items()
    ]
    missing = [name for name in PARTS if (name, None) not in found]
    return made + [
        Measurement.not_measurable(name, ONE_RUN, params=params, direction=DIRECTION[name]) for name in missing
    ]


def _over_levels(
    subjects: Sequence[Subject], whole: Mapping[str, Mapping[float, Estimates]], spec: BiasVarianceSpec
) -> list[Measurement]:
    """The mean over the noise levels that all models are defined at, and what each model has more than the first.

    Differences are of the same images and noises.
    """
    models = [subject for subject in subjects if subject.depth is not None or subject.name != SOFT_KNN]
    shared = [s for s in spec.sigmas if all(s in whole[subject.name] for subject in subjects)]
    if not shared:
        return []
    found = []
    means = {subject.name: averaged([whole[subject.name][sigma] for sigma in shared]) for subject in subjects}
    for subject in subjects:
        params = {**subject.params, "levels": len(shared)}
        found += _measured(means[subject.name], subject, params, spec.level)
        if subject not in models[1:]:
            continue
        first = models[0]
        against = {**params, "compared_with": first.name}
        runs = (len(subject.runs), len(first.runs))
        for (name, group), now in means[subject.name].items():
            if before := means[first.name].get((name, group)):
                found.append(change(now, before, runs, f"{name}_change", spec.level, group=group, params=against))
    return found


def _by_run(
    made: Int[np.ndarray, "n runs draws"],
    encoded: Int[np.ndarray, " n"],
    classes: MadeClasses,
    subject: Subject,
    sigma: float,
) -> list[tuple[str | int | float | None, ...]]:
    """The bias of every class in each run, so that the spread of the few runs is seen."""
    before = np.bincount(encoded, minlength=len(classes.names)) / len(encoded)
    rows = []
    for number, run in enumerate(subject.runs):
        of_run = made[:, number].reshape(-1)
        after = np.bincount(of_run, minlength=len(classes.names)) / len(of_run)
        rows.append((subject.name, run.name, sigma, *(100 * (after - before)).tolist()))
    return rows


def _runs_table(rows: Sequence[tuple[str | int | float | None, ...]], classes: MadeClasses) -> Table:
    return Table(
        name="runs",
        title="Bias of each class in each training run, in points",
        columns=("model", "training run", "noise level σ", *classes.names),
        rows=tuple(rows),
        note="Share among what was made minus share among the images that were encoded.",
    )
