"""Models, noise levels and measures in turn -> a TheoryResult that says which way each goes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.lab.evaluating import GAUSSIAN, MULTI_DELTA, Points, check_sigmas, exact_denoisers, package_versions
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.smoothness.directions import Case, between_blocks, between_depths, directions_table
from leadline.lab.smoothness.pieces import (
    ENCODER,
    ENERGY_IN_X,
    ENERGY_IN_Z,
    Smoothing,
    encoder_arrays,
    energy_arrays,
    latent_arrays,
)
from leadline.lab.smoothness.values import (
    BOUNDS,
    ENERGY,
    JACOBIAN,
    LATENT,
    energy_measurements,
    jacobian_measurements,
    latent_measurements,
)
from leadline.lab.sources import LabModel
from leadline.models.denoiser import Denoiser
from leadline.progress import ProgressCallback, silent
from leadline.records import Measurement, TheoryResult
from leadline.theory.jacobian import down_blocks

STAGE = "smoothness"
COMPUTE: dict[str, Callable[[Denoiser, Float[Tensor, "n c h w"], float, Smoothing], Arrays]] = {
    ENERGY_IN_X: energy_arrays,
    ENCODER: encoder_arrays,
    ENERGY_IN_Z: latent_arrays,
}
"""What is computed at each noise level; of an exact denoiser, which has no encoder, the first alone."""
NAMES = {ENERGY_IN_X: [*ENERGY, *BOUNDS], ENCODER: [*JACOBIAN], ENERGY_IN_Z: [*LATENT]}
REFERENCES = {GAUSSIAN: "Gaussian", MULTI_DELTA: "multi-delta"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A denoiser with its noisy points' clean images. identity: what decides its numbers, for what is kept.

    kind: trained, gaussian or multi-delta. blocks: its down blocks, None without an encoder. group: content of the
    images that the points are from, by which it is told whether two models share them.
    """

    name: str
    kind: str
    denoiser: Denoiser
    images: Float[Tensor, "n c h w"]
    identity: str
    group: str
    params: Mapping[str, Any]
    blocks: int | None = None


def measure_smoothness(
    models: Sequence[LabModel], spec: Smoothing, kept: Kept, progress: ProgressCallback = silent
) -> TheoryResult:
    """P1, Lemma 1 and Theorem 1 of each model, at each noise level, down block and point, and which way each goes.

    Points are noisy held-out images (training ones where none are held out), the same noise for every model and level.
    Raises LeadlineError where there is no model or a noise level is none. A level outside a model's range, or a
    denoiser without an encoder, is not measurable, with its reason.
    """
    check_sigmas(spec.sigmas)
    if not models:
        raise LeadlineError("give a run folder, or a pipeline folder with --train, whose smoothness is to be measured")
    subjects = [_trained(model, spec) for model in models]
    if spec.exact:
        subjects += _references(models, subjects)
    cases = list(_cases(subjects, spec, kept, progress))
    found = [m for case in cases for m in _measurements(case, spec)]
    steps = between_blocks(cases)
    depths = between_depths(cases)
    settings = {
        **asdict(spec),
        "points": {model.name: Points.of(model.splits, 2, spec.seed).split for model in models},
        "models": {model.name: dict(model.facts) for model in models},
        "blocks": {subject.name: subject.blocks for subject in subjects if subject.blocks is not None},
        "references": [subject.name for subject in subjects if subject.kind in REFERENCES],
        "packages": package_versions(),
    }
    return TheoryResult(
        measurements=(*found, *steps, *depths),
        tables=(directions_table([*steps, *depths]),),
        settings=settings,
        kind="smoothness",
    )


def _trained(model: LabModel, spec: Smoothing) -> Subject:
    try:
        blocks = len(down_blocks(model.denoiser))
    except NotMeasurable:
        blocks = None
    points = Points.of(model.splits, spec.num_images, spec.seed, model.denoiser.device)
    params = {"model": model.name, "denoiser": "trained", "num_train": len(model.splits.train)}
    return Subject(
        name=model.name,
        kind="trained",
        denoiser=model.denoiser,
        images=points.images,
        identity=model.digest,
        group=points.fingerprint(),
        params=params if blocks is None else {**params, "depth": blocks},
        blocks=blocks,
    )


def _references(models: Sequence[LabModel], trained: Sequence[Subject]) -> Iterator[Subject]:
    """The exact denoisers of each training set that a model was trained on, at the points of the first such model."""
    of_data: dict[str, tuple[LabModel, Subject]] = {}
    for model, subject in zip(models, trained, strict=True):
        of_data.setdefault(model.splits.train.fingerprint(), (model, subject))
    for data, (model, subject) in of_data.items():
        of = f", data of {model.name}" if len(of_data) > 1 else ""
        for kind, denoiser in exact_denoisers(model.splits.train, model.denoiser.device).items():
            name = REFERENCES[kind] + of
            params = {"model": name, "denoiser": kind, "num_train": len(model.splits.train)}
            yield Subject(
                name=name,
                kind=kind,
                denoiser=denoiser,
                images=subject.images,
                identity=f"{kind} {data}",
                group=subject.group,
                params=params,
            )


def _cases(subjects: Sequence[Subject], spec: Smoothing, kept: Kept, progress: ProgressCallback) -> Iterator[Case]:
    """Every subject, noise level and measure: the arrays, or the reason why there are none."""
    plan = [
        (subject, sigma, what)
        for subject in subjects
        for sigma in sorted(spec.sigmas, reverse=True)
        for what in COMPUTE
        if what == ENERGY_IN_X or subject.kind == "trained"
    ]
    for done, (subject, sigma, what) in enumerate(plan):
        progress(STAGE, done, len(plan), f"{subject.name}, sigma {sigma:g}, {what}")
        arrays, reason = None, ""
        try:
            arrays = _piece(subject, sigma, what, spec, kept)
        except NotMeasurable as error:
            reason = str(error)
        yield Case(
            subject=subject.name,
            sigma=sigma,
            what=what,
            params=subject.params,
            blocks=subject.blocks,
            values=math.prod(subject.denoiser.shape),
            group=subject.group,
            trained=subject.kind == "trained",
            arrays=arrays,
            reason=reason,
        )
    progress(STAGE, len(plan), len(plan), "")


def _piece(subject: Subject, sigma: float | int, what: str, spec: Smoothing, kept: Kept) -> Arrays:
    low, high = subject.denoiser.sigma_range
    if not low <= sigma <= high:
        raise NotMeasurable(
            f"sigma {sigma:g} is outside the model's range, {low:.4g} to {high:.4g}: not measurable there (--sigma)"
        )
    images = subject.images
    if what == ENERGY_IN_Z:
        if spec.num_latent < 2:
            raise NotMeasurable("left out: --num-latent says at how many of the points it is to be measured")
        images = images[: spec.num_latent]
    options = {
        name: value for name, value in asdict(spec).items() if name not in ("sigmas", "num_images", "num_latent")
    }
    key = {"what": what, "model": subject.identity, "sigma": sigma, "points": subject.group, "number": len(images)}
    return kept.piece(key | options, lambda: COMPUTE[what](subject.denoiser, images, sigma, spec))


def _measurements(case: Case, spec: Smoothing) -> list[Measurement]:
    """One case's measurements; where it has no arrays, each of its names with the reason."""
    params = dict(case.params)
    if case.arrays is None:
        return [
            Measurement.not_measurable(name, case.reason, params={"sigma": case.sigma, **params})
            for name in NAMES[case.what]
        ]
    if case.what == ENERGY_IN_X:
        return energy_measurements(case.arrays, case.sigma, **params)
    if case.what == ENCODER:
        return jacobian_measurements(case.arrays, case.values, sigma=case.sigma, **params)
    return latent_measurements(case.arrays, sigma=case.sigma, tolerance=spec.rank_tolerance, **params)
