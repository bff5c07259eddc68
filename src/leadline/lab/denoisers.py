"""P2, Figure 2, of any checkpoint: the trained, the linear, the Gaussian and the multi-delta denoiser side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.lab.distilling import distilled, rows_wanted
from leadline.lab.evaluating import (
    GAUSSIAN,
    LINEAR,
    MULTI_DELTA,
    TRAINED,
    Missing,
    Once,
    Points,
    check_sigmas,
    exact_denoisers,
    kept_measurements,
    measurable,
    package_versions,
    tagged,
    tags,
)
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.sources import LabModel, chosen, points
from leadline.lab.summaries import LINEARISED, mean_of, ratio_of
from leadline.lab.temperatures import temperatures
from leadline.lab.trajectories import discretisation, follow, nearest_training, panels, trajectory_distances
from leadline.models.denoiser import Denoiser
from leadline.progress import ProgressCallback, silent
from leadline.records import Measurement, Panel, Splits, TheoryResult
from leadline.sampling import refuse_stochastic
from leadline.theory.differences import score_difference
from leadline.theory.exact import GaussianDenoiser, LinearDenoiser
from leadline.theory.noise import PAPER_SIGMAS, noisy

PAIRS = (
    (TRAINED, GAUSSIAN),
    (TRAINED, LINEAR),
    (TRAINED, MULTI_DELTA),
    (LINEAR, GAUSSIAN),
    (GAUSSIAN, MULTI_DELTA),
)
"""What is compared with what; the fourth is P2's D_L ≈ D_G, the last the scale of all."""
SHARES = PAIRS[:2] + PAIRS[3:4]
"""Pairs whose differences are also told as shares of the last one of PAIRS."""
WAYS = ((TRAINED, GAUSSIAN), (TRAINED, LINEAR), (LINEAR, GAUSSIAN), (TRAINED, MULTI_DELTA), (GAUSSIAN, MULTI_DELTA))
WORDS = {TRAINED: "trained", LINEAR: "linear (distilled)", GAUSSIAN: "Gaussian", MULTI_DELTA: "multi-delta"}
RMS = "RMS per value, images in [-1, 1]"
LARGER = "denoisers further apart"
SHARE = "of the multi-delta denoiser's difference to the Gaussian"


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """What is measured. num_images: noisy points; num_seeds: ways from noise; num_shown: of them in the panel.

    num_rows: noisy images per level that the linear denoiser is fitted to; None: as `distilled` has it.
    """

    sigmas: tuple[float, ...] = PAPER_SIGMAS
    num_images: int = 256
    num_seeds: int = 16
    num_shown: int = 8
    num_rows: int | None = None
    seed: int = 0
    sampler: str = "heun"

    def __post_init__(self) -> None:
        refuse_stochastic(self.sampler)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A training set with the denoisers that it defines and, where there is a model, those of the model.

    training: its images. params: what tells its measurements from others'. identity: what decides the denoisers, for
    what is kept. facts: for the record.
    """

    name: str
    splits: Splits
    training: Float[Tensor, "n c h w"]
    denoisers: Mapping[str, Denoiser]
    params: Mapping[str, Any]
    identity: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)


def compare_denoisers(
    models: Sequence[LabModel],
    spec: Comparing,
    kept: Kept,
    *,
    data: Splits | None = None,
    progress: ProgressCallback = silent,
) -> TheoryResult:
    """P2, Figure 2: score differences, effective k, samples and trajectories, of each model; of `data` without one.

    Raises LeadlineError where there is neither model nor data, or a noise level that is none.
    """
    check_sigmas(spec.sigmas)
    if not models and data is None:
        raise LeadlineError("give a model, or the training data whose exact denoisers are compared (--train DATA)")
    subjects = [with_exact(model, spec, kept, progress) for model in models]
    if data is not None and not models:
        subjects = [exact_alone(data)]
    found: list[Measurement] = []
    pictures: list[Panel] = []
    arrays: Arrays = {}
    for number, subject in enumerate(subjects, 1):
        found += measure_denoisers(subject, spec, kept, progress)
        measured, drawn, ways = compare_trajectories(subject, spec, kept, f"-{number}" if number > 1 else "", progress)
        found += measured
        pictures += drawn
        arrays |= ways
    settings = {
        **asdict(spec),
        "points": {subject.name: Points.of(subject.splits, spec.num_images, spec.seed).split for subject in subjects},
        "models": {subject.name: dict(subject.facts) for subject in subjects},
        "packages": package_versions(),
    }
    return TheoryResult(tuple(found), panels=tuple(pictures), settings=settings, kind="denoisers", arrays=arrays)


def with_exact(model: LabModel, spec: Comparing, kept: Kept, progress: ProgressCallback = silent) -> Compared:
    """The four denoisers of a model: its own, the linear one distilled from it, those that its training set defines.

    facts.fitted_to: how many of the training images the linear one's noisy images are of.
    """
    device = model.denoiser.device
    linear = distilled(
        model, measurable(model.denoiser, spec.sigmas), spec.seed, kept, num_rows=spec.num_rows, progress=progress
    )
    fitted_to = min(rows_wanted(math.prod(model.denoiser.shape), spec.num_rows), len(model.splits.train))
    return Compared(
        name=model.name,
        splits=model.splits,
        training=points(model.splits.train, device),
        denoisers={TRAINED: model.denoiser, LINEAR: linear, **exact_denoisers(model.splits.train, device)},
        params=tags(model),
        identity={"model": model.digest, "data": model.splits.train.fingerprint()},
        facts={**model.facts, **({"fitted_to": fitted_to} if isinstance(linear, LinearDenoiser) else {})},
    )


def exact_alone(splits: Splits, device: torch.device | str = "cpu") -> Compared:
    """What a training set defines, without a model."""
    content = splits.train.fingerprint()
    name = str(splits.notes.get("dataset", splits.train.name))
    return Compared(
        name=name,
        splits=splits,
        training=points(splits.train, device),
        denoisers=exact_denoisers(splits.train, device),
        params={"model": name, "num_train": len(splits.train)},
        identity={"model": None, "data": content},
        facts={"data": content},
    )


def measure_denoisers(
    subject: Compared, spec: Comparing, kept: Kept, progress: ProgressCallback = silent
) -> list[Measurement]:
    """P2 Eq. 6 of each of PAIRS, the linear one's R², and effective k, at every noise level.

    score_difference (params first, second), score_difference_share (of multi-delta and Gaussian's, same points),
    linear_r_squared and linear_estimation_error, effective_k, effective_k_r_squared and temperature_ratio (params
    denoiser); all with model, num_train, depth where it is known, and sigma.
    """
    clean = Points.of(subject.splits, spec.num_images, spec.seed, subject.training.device)
    key = {**subject.identity, "what": "denoisers", "seed": spec.seed, "rows": spec.num_rows}
    key |= {"points": clean.fingerprint(), "denoisers": list(subject.denoisers)}
    found = []
    for number, sigma in enumerate(spec.sigmas):
        progress("comparing denoisers", number, len(spec.sigmas), f"σ = {sigma:g}")

        def at(sigma: float = sigma) -> list[Measurement]:
            x = noisy(clean.images, sigma, spec.seed)
            asked = {name: Once(denoiser) for name, denoiser in subject.denoisers.items()}
            return [
                *_differences(asked, x, sigma),
                *_linear_fit(subject.denoisers, sigma),
                *temperatures(asked, x, sigma, subject.training, spec.seed),
            ]

        found += kept_measurements(kept, {**key, "sigma": sigma}, at)
    progress("comparing denoisers", len(spec.sigmas), len(spec.sigmas), "")
    return tagged(found, **subject.params)


def _differences(asked: Mapping[str, Denoiser], x: Float[Tensor, "n c h w"], sigma: float) -> list[Measurement]:
    """Score differences of PAIRS, and those of SHARES over that of the multi-delta and the Gaussian denoiser.

    The scale is the denoiser that knows nothing but its training images. That D is further from D_G than D_L is would
    say nothing: D_L is the projection of D on the affine maps, D_G one of them, and so E|D - D_G|² is E|D - D_L|² plus
    E|D_L - D_G|² whatever D is.
    """
    outside = _reason(asked[TRAINED], x, sigma) if TRAINED in asked else None
    values, found = {}, []
    for first, second in PAIRS:
        if first not in asked or second not in asked:
            continue
        params: dict[str, Any] = {"first": first, "second": second, "sigma": sigma}
        try:
            values[first, second] = score_difference(asked[first], asked[second], x, sigma).cpu().numpy()
        except NotMeasurable as error:
            # Where the trained denoiser is not defined, none was distilled from it.
            why = outside or str(error)
            found.append(Measurement.not_measurable("score_difference", why, unit=RMS, params=params))
            continue
        found.append(
            mean_of("score_difference", values[first, second], unit=RMS, direction=LARGER, floor=0.0, **params)
        )
    scale = values.get((GAUSSIAN, MULTI_DELTA))
    for first, second in SHARES:
        if scale is not None and (first, second) in values:
            params = {"first": first, "second": second, "sigma": sigma}
            apart = values[first, second]
            found.append(
                ratio_of("score_difference_share", apart, scale, unit=SHARE, direction=LARGER, floor=0.0, **params)
            )
    return found


def _reason(denoiser: Denoiser, x: Float[Tensor, "n c h w"], sigma: float) -> str | None:
    """Why a denoiser is not defined at a level; None where it is."""
    try:
        denoiser(x, sigma)
    except NotMeasurable as error:
        return str(error)
    return None


def _linear_fit(denoisers: Mapping[str, Denoiser], sigma: float) -> list[Measurement]:
    """Held-out R² of the distillation at this level, and what finitely many rows alone put between it and the best map.

    Nothing where there is none, which the differences say.
    """
    linear = denoisers.get(LINEAR)
    fits = linear.fits if isinstance(linear, LinearDenoiser) else ()
    found = []
    for fit in (fit for fit in fits if fit.sigma == sigma):
        params = {"sigma": sigma, "rows": fit.num_rows, "held_out": fit.held_out}
        words = "fitted to fewer noisy images, or to a less linear denoiser"
        found.append(
            Measurement(
                name="linear_estimation_error", value=fit.estimation_rms, unit=RMS, direction=words, params=params
            )
        )
        if math.isnan(fit.r_squared):
            reason = "the trained denoiser is the same at every held-out point: there is nothing to explain"
            found.append(Measurement.not_measurable("linear_r_squared", reason, params=params))
            continue
        ends: dict[str, Any] = {}
        if fit.interval is not None:
            ends = {"lower": fit.interval[0], "upper": fit.interval[1], "level": 0.95, "method": LINEARISED}
        found.append(
            Measurement(
                name="linear_r_squared",
                value=fit.r_squared,
                n=fit.num_held_out,
                unit="share of the denoiser's variance",
                direction="a linear map explains more",
                params=params,
                **ends,
            )
        )
    return found


def compare_trajectories(
    subject: Compared, spec: Comparing, kept: Kept, suffix: str = "", progress: ProgressCallback = silent
) -> tuple[list[Measurement], list[Panel], Arrays]:
    """P2, Figure 2: ways and samples of all denoisers from the same noise; where there are none, the reason.

    trajectory_distance (first, second, sigma), sample_distance (first, second; noise where it is not the same),
    discretisation_error (denoiser), nearest_training_distance (set).
    suffix: of the names of panels and arrays.
    """
    usable = {name: d for name, d in subject.denoisers.items() if not isinstance(d, Missing)}
    key = {**subject.identity, "distilled": spec.seed, "rows": spec.num_rows}
    try:
        ways = follow(
            usable,
            spec.sigmas,
            num_seeds=spec.num_seeds,
            seed=spec.seed,
            sampler=spec.sampler,
            settings=key,
            kept=kept,
            progress=progress,
        )
    except NotMeasurable as error:
        absent = Measurement.not_measurable("sample_distance", str(error))
        return tagged([absent], **subject.params), [], {}
    held_out = subject.splits.held_out
    beside = None if held_out is None else points(chosen(held_out, spec.num_images, spec.seed))
    found = trajectory_distances(ways, [pair for pair in WAYS if set(pair) <= set(ways.x)])
    gaussian = subject.denoisers[GAUSSIAN]
    if isinstance(gaussian, GaussianDenoiser):
        found.append(discretisation(ways, GAUSSIAN, gaussian))
    found += nearest_training(ways, subject.splits.train, beside)
    drawn = panels(ways, WORDS, subject.name, spec.num_shown, suffix)
    arrays: Arrays = {f"levels{suffix}": torch.tensor(ways.levels, dtype=torch.float64).numpy()}
    for name in ways.x:
        arrays |= {f"{name}-x{suffix}": ways.x[name], f"{name}-x0{suffix}": ways.x0[name]}
    return tagged(found, **subject.params), list(drawn), arrays
