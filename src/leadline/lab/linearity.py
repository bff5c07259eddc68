"""P2, Figure 1, of any checkpoints: linearity over the noise level, and the generalization score of their samples."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from leadline.data.shards import read_shards
from leadline.errors import LeadlineError, NotMeasurable
from leadline.lab.evaluating import (
    HELD_OUT,
    TRAINED,
    Once,
    Points,
    check_sigmas,
    exact_denoisers,
    kept_measurements,
    package_versions,
    tagged,
    tags,
)
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.sources import LabModel, chosen, points
from leadline.lab.summaries import mean_of
from leadline.models.denoiser import Denoiser
from leadline.progress import ProgressCallback, silent
from leadline.recipe import SampleSpec
from leadline.records import Measurement, TheoryResult, scaled
from leadline.sampling import SAMPLERS, sample, to_pixels
from leadline.theory.generalization import generalization_score
from leadline.theory.linearity import linearity, pairs
from leadline.theory.noise import PAPER_SIGMAS, noisy

SAMPLES = "samples"
COSINE_DIGITS = 7
"""Decimals that a cosine of two float32 images bears."""
PAIRED = "Student t over pairs of images"


@dataclass(frozen=True, kw_only=True)
class Linear:
    """What is measured. num_images: noisy points, half as many pairs; num_samples: of each model, for the GL score."""

    sigmas: tuple[float, ...] = PAPER_SIGMAS
    num_images: int = 256
    num_samples: int = 500
    seed: int = 0
    sampler: str = "ddim"
    steps: int = 50

    def __post_init__(self) -> None:
        SAMPLERS[self.sampler]  # Raises LeadlineError on an unknown name, before any work.


def compare_linearity(
    models: Sequence[LabModel], spec: Linear, kept: Kept, *, progress: ProgressCallback = silent
) -> TheoryResult:
    """P2, Figure 1: linearity of each model and of the exact denoisers of its training set, and GL scores.

    Raises LeadlineError where there is no model, or a noise level that is none.
    """
    check_sigmas(spec.sigmas)
    if not models:
        raise LeadlineError("give one run or pipeline folder or more whose linearity is to be measured")
    found: list[Measurement] = []
    drawn = {}
    for model in models:
        found += measure_linearity(model, spec, kept, progress=progress)
        found += measure_generalization(model, spec, kept, progress=progress)
        drawn[model.name] = "its run's own" if has_samples(model) else "drawn here"
    settings = {
        **asdict(spec),
        "alpha = beta": "1/√2",
        "points": {model.name: Points.of(model.splits, spec.num_images, spec.seed).split for model in models},
        "samples": drawn,
        "models": {model.name: dict(model.facts) for model in models},
        "packages": package_versions(),
    }
    return TheoryResult(tuple(found), settings=settings, kind="linearity")


def measure_linearity(
    model: LabModel,
    spec: Linear,
    kept: Kept,
    *,
    references: bool = True,
    progress: ProgressCallback = silent,
) -> list[Measurement]:
    """P2, linearity: the mean cosine over disjoint pairs of noisy images, at every noise level.

    `linearity` with params denoiser (trained and, with `references`, gaussian and multi-delta), centred (about the
    training mean, where every affine map has 1; False: the paper's), sigma, model, num_train, depth where known.
    """
    clean = Points.of(model.splits, spec.num_images, spec.seed, model.denoiser.device)
    training = points(model.splits.train, model.denoiser.device)
    denoisers: dict[str, Denoiser] = {TRAINED: model.denoiser}
    if references:
        denoisers |= exact_denoisers(model.splits.train, model.denoiser.device)
    key = {"what": "linearity", "model": model.digest, "data": model.splits.train.fingerprint(), "seed": spec.seed}
    key |= {"points": clean.fingerprint()}
    found = []
    total = len(spec.sigmas) * len(denoisers)
    for number, (name, denoiser) in enumerate(denoisers.items()):
        for place, sigma in enumerate(spec.sigmas):
            progress("linearity", number * len(spec.sigmas) + place, total, f"{name}, σ = {sigma:g}")

            def at(name: str = name, denoiser: Denoiser = denoiser, sigma: float = sigma) -> list[Measurement]:
                x1, x2 = pairs(noisy(clean.images, sigma, spec.seed))
                return [_cosine(Once(denoiser), x1, x2, sigma, centre, name) for centre in (None, training.mean(0))]

            found += kept_measurements(kept, {**key, "denoiser": name, "sigma": sigma}, at)
    progress("linearity", total, total, "")
    return tagged(found, **tags(model))


def _cosine(
    denoiser: Denoiser, x1: torch.Tensor, x2: torch.Tensor, sigma: float, centre: torch.Tensor | None, name: str
) -> Measurement:
    params: dict[str, Any] = {"denoiser": name, "centred": centre is not None, "sigma": sigma}
    try:
        with torch.no_grad():
            values = linearity(denoiser, x1, x2, sigma, centre=centre).cpu().numpy().round(COSINE_DIGITS)
    except NotMeasurable as error:
        return Measurement.not_measurable("linearity", str(error), params=params)
    words: dict[str, Any] = {"unit": "cosine", "direction": "a more linear denoiser", "method": PAIRED}
    return mean_of("linearity", values, floor=-1.0, ceiling=1.0, **words, **params)


def measure_generalization(
    model: LabModel, spec: Linear, kept: Kept, *, progress: ProgressCallback = silent
) -> list[Measurement]:
    """P2, GL score: |x - nearest training image| / |x|, mean over samples and, as the baseline, held-out real images.

    `generalization_score` with params set (samples, held-out) and squared (the poster's |x|² below the line; False:
    our reading), model, num_train, depth where known. The run's own samples where it has them and they were drawn
    without a bypass, else drawn here.
    """
    pixels = samples(model, spec, kept, progress)
    sets = {SAMPLES: pixels}
    found = []
    if model.splits.held_out is None:
        reason = "no images are held out: --set data.held_out=256"
        found = [
            Measurement.not_measurable("generalization_score", reason, params={"set": HELD_OUT, "squared": squared})
            for squared in (False, True)
        ]
    else:
        sets[HELD_OUT] = chosen(model.splits.held_out, spec.num_samples, spec.seed).pixels
    training = points(model.splits.train, model.denoiser.device)
    for done, (name, images) in enumerate(sets.items()):
        progress("generalization score", done, len(sets), name)
        given = torch.from_numpy(scaled(images)).to(training.device)
        for squared in (False, True):
            params: dict[str, Any] = {"set": name, "squared": squared}
            try:
                values = generalization_score(given, training, squared=squared).cpu().numpy()
            except NotMeasurable as error:
                found.append(Measurement.not_measurable("generalization_score", str(error), params=params))
                continue
            words = "further from all training images"
            found.append(mean_of("generalization_score", values, direction=words, floor=0.0, **params))
    progress("generalization score", len(sets), len(sets), "")
    return tagged(found, **tags(model))


def has_samples(model: LabModel) -> bool:
    """Whether a run's own images are there, drawn without a bypass."""
    steered = model.recipe is not None and model.recipe.sample.steer.strength > 0
    return model.samples is not None and not steered


def samples(
    model: LabModel, spec: Linear, kept: Kept, progress: ProgressCallback = silent
) -> UInt8[np.ndarray, "n c h w"]:
    """The first `num_samples` of the run's own samples, or images drawn here: DDIM by default, kept."""
    if model.samples is not None and has_samples(model):
        return read_shards(model.samples)[0][: spec.num_samples]
    wanted = SampleSpec(num_images=spec.num_samples, seed=spec.seed, sampler=spec.sampler, steps=spec.steps)

    def drawn(start: int) -> Arrays:
        stop = min(start + wanted.batch_size, spec.num_samples)
        return {"pixels": to_pixels(sample(model.denoiser, spec.seed, range(start, stop), wanted)).numpy()}

    parts = []
    for start in range(0, spec.num_samples, wanted.batch_size):
        progress("sampling", start, spec.num_samples, f"{spec.sampler}, {spec.steps} steps")
        key: Mapping[str, Any] = {"what": "samples", "model": model.digest, "start": start}
        parts.append(kept.piece({**key, **wanted.model_dump(mode="json")}, partial(drawn, start))["pixels"])
    progress("sampling", spec.num_samples, spec.num_samples, "")
    return np.concatenate(parts)
