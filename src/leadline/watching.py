"""Looks at a model in training: a fixed bank of images from its averaged weights, audited, and its loss on a fixed bank
of noised images.

The bank starts from the same noise at every look and in every run of one sampling seed, and the losses are of the same
images, noise and noise levels: what differs between two looks is the weights alone. Nothing here draws from the
training's streams, so that a watched training ends with the weights of one that is not.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtri
from torch import Tensor

from leadline.audit import AuditFailed, measure, require_networks
from leadline.audit.context import MISSING_HELD_OUT
from leadline.audit.intervals import share_interval
from leadline.data.shards import read_shards
from leadline.errors import LeadlineError
from leadline.files import atomic_folder
from leadline.looks import (
    HELD_OUT_LOSS,
    TRAINING_LOSS,
    UNRECOGNISED,
    Look,
    bank_spec,
    check_same_bank,
    watched_steps,
)
from leadline.models.denoiser import Denoiser
from leadline.models.pretrained import load_pipeline
from leadline.progress import ProgressCallback
from leadline.recipe import AuditSpec, Recipe, SampleSpec, TrainSpec
from leadline.records import AuditResult, ImageLabels, ImageSet, Measurement, Splits
from leadline.rng import generator_for, numpy_generator_for
from leadline.runs import Run, is_main_process
from leadline.sampling import draw

METRICS = ("bias", "memorization", "diversity", "fidelity")
LOSS_IMAGES = 256
"""Images whose loss is measured, or as many as there are."""
LOSS_LEVELS = 4
"""Noise levels at which each of them is noised."""


@dataclass(frozen=True)
class Noised:
    """A bank of noised images, on the CPU: x0 and noise [n, c, h, w], sigma [n] float64, weight [n] float64."""

    x0: Float[Tensor, "n c h w"]
    noise: Float[Tensor, "n c h w"]
    sigma: Float[Tensor, " n"]
    weight: Float[Tensor, " n"]


def noised_bank(images: ImageSet, spec: TrainSpec, sigmas: Float[Tensor, " t"]) -> Noised:
    """LOSS_IMAGES of the images, the same for every training seed, each noised at LOSS_LEVELS stratified levels.

    sigmas: float64, ascending: the model's ladder. 2006.11239, Alg. 1: levels uniform over DDPM's timesteps, weight
    1 / sigma², which makes the squared error of x0 that of the noise. 2206.00364, Table 1: ln sigma ~ N(noise_mean,
    noise_std²), held within the ladder, weight (sigma² + sigma_data²) / (sigma sigma_data)². Of m noised images each
    has one of the m equal parts of the levels' distribution to itself, at its middle, and each image one level of each
    of LOSS_LEVELS equal parts: the mean hardly varies by the choice of levels. Images are not mirrored, whatever
    train.flip says.
    """
    rng = numpy_generator_for(0, "watch-loss")
    n = min(LOSS_IMAGES, len(images))
    chosen = np.sort(rng.permutation(len(images))[:n])
    x0 = torch.from_numpy(images.take(chosen).images()).repeat(LOSS_LEVELS, 1, 1, 1)
    ranks = np.concatenate([part * n + rng.permutation(n) for part in range(LOSS_LEVELS)])
    parts = (ranks + 0.5) / len(ranks)
    if spec.objective == "edm":
        sigma = torch.from_numpy(np.exp(spec.noise_mean + spec.noise_std * ndtri(parts)))
        sigma = sigma.clamp(float(sigmas[0]), float(sigmas[-1]))
        weight = (sigma**2 + spec.sigma_data**2) / (sigma * spec.sigma_data) ** 2
    else:
        sigma = sigmas[torch.from_numpy((parts * len(sigmas)).astype(np.int64))]
        weight = 1 / sigma**2
    noise = torch.randn(x0.shape, generator=generator_for(0, "watch-loss"))
    return Noised(x0, noise, sigma, weight)


@torch.no_grad()
def weighted_loss(denoiser: Denoiser, bank: Noised, batch_size: int) -> float:
    """Mean over the bank of weight · mean (D(x0 + sigma noise; sigma) - x0)²: the loss that the training makes small.

    For noise prediction it is 2006.11239, Eq. 14, since (D - x0) / sigma is the error of the noise; for EDM 2206.00364,
    Eq. 2, with its weight. 0 or more.
    """
    total = 0.0
    for start in range(0, len(bank.x0), batch_size):
        part = slice(start, start + batch_size)
        x0, sigma = bank.x0[part].to(denoiser.device), bank.sigma[part]
        scale = sigma.to(x0).reshape(-1, 1, 1, 1)
        estimate = denoiser(x0 + scale * bank.noise[part].to(x0), sigma)
        errors = (estimate - x0).double().square().mean((1, 2, 3)).cpu()
        total += float((bank.weight[part] * errors).sum())
    return total / len(bank.x0)


def losses(denoiser: Denoiser, splits: Splits, spec: TrainSpec, batch_size: int) -> list[Measurement]:
    """`training_loss` and `held_out_loss` of a model; the second not measurable without held-out images."""
    found = []
    for name, images in ((TRAINING_LOSS, splits.train), (HELD_OUT_LOSS, splits.held_out)):
        if images is None:
            found.append(Measurement.not_measurable(name, MISSING_HELD_OUT))
            continue
        bank = noised_bank(images, spec, denoiser.sigmas)
        found.append(
            Measurement(
                name=name,
                value=weighted_loss(denoiser, bank, batch_size),
                n=len(bank.x0) // LOSS_LEVELS,
                unit="mean squared error of the predicted noise" if spec.objective == "epsilon" else "EDM's loss",
                direction="smaller: nearer to what the training aims at",
                method=f"each image at {LOSS_LEVELS} stratified noise levels, the same for every model",
                params={"objective": spec.objective, "levels": LOSS_LEVELS},
                computed_from={"images": images.fingerprint()},
            )
        )
    return found


def unrecognised(labels: ImageLabels | None, training: ImageSet, level: float) -> Measurement:
    """Share of the images that are labelled as no class of the training data: unclassified, or of another class.

    The labels of the rest are what the shares are counted of: of the noise that an untrained model draws, chance ones.
    """
    if labels is None:
        return Measurement.not_measurable(UNRECOGNISED, "the bank's images have no labels: see share for the reason")
    known = {name for name, count in training.counts().items() if count}
    count, n = sum(label not in known for label in labels.labels), len(labels.labels)
    (lower, upper), method = share_interval(count, n, level)
    return Measurement(
        name=UNRECOGNISED,
        value=count / n,
        lower=lower,
        upper=upper,
        level=level,
        method=method,
        n=n,
        unit="share of all images",
        direction="larger: the shares of the classes rest on fewer images",
    )


def watched_audit(spec: AuditSpec) -> AuditSpec:
    """What a look measures: the run's own audit but for its metrics and encoders, of a fixed number of images."""
    own = {"metrics": METRICS, "encoders": ("labeler",), "num_panels": 0, "stopping": "fixed"}
    return AuditSpec(**{**spec.model_dump(), **own})


class Watcher:
    """Looks at the model of one run, step by step, with one bank.

    num_images, steps: of the bank; default: the recipe's. download, allow_torchscript: as of `leadline.measure`.
    Raises LeadlineError, before the first look, on what could not be measured or kept.
    """

    def __init__(
        self,
        result: Run,
        recipe: Recipe,
        splits: Splits,
        cache: Path,
        progress: ProgressCallback,
        *,
        num_images: int | None = None,
        steps: int | None = None,
        download: bool = False,
        allow_torchscript: bool = False,
    ) -> None:
        self.run, self.recipe, self.splits, self.cache, self.progress = result, recipe, splits, cache, progress
        train = recipe.train
        self.bank: SampleSpec = bank_spec(recipe.sample, num_images or train.watch_images, steps or train.watch_steps)
        self.audit = watched_audit(recipe.audit)
        self.download, self.allow_torchscript = download, allow_torchscript
        require_networks(self.audit, download=download, allow_torchscript=allow_torchscript)
        self.settings = self._settings()
        check_same_bank(result.looks(), self.settings)

    def _settings(self) -> dict[str, Any]:
        """All that decides a look beside the weights, flat."""
        bank = self.bank.model_dump(mode="json", include={"num_images", "seed", "sampler", "steps", "clip_x0"})
        named = {"training data": self.splits.train, "held-out": self.splits.held_out, "labeler": self.splits.labeler}
        contents = {name: None if images is None else images.fingerprint() for name, images in named.items()}
        audit = {f"audit.{name}": value for name, value in self.audit.model_dump(mode="json").items()}
        return {**bank, **contents, "objective": self.recipe.train.objective, **audit}

    def __call__(self, denoiser: Denoiser, step: int) -> None:
        """Look after `step`, and keep what is found; looks at this step or later are of before a kill, and go."""
        look = self.look(denoiser, step)
        self.run.save_looks([*(earlier for earlier in self.run.looks() if earlier.step < step), look])

    def add(self, denoiser: Denoiser, step: int) -> None:
        """Look after `step`, and keep what is found beside all other looks."""
        look = self.look(denoiser, step)
        self.run.save_looks([*(other for other in self.run.looks() if other.step != step), look])

    def look(self, denoiser: Denoiser, step: int) -> Look:
        """Draw the bank into the run's folder, and measure it and the losses."""
        progress = partial(_staged, self.progress, f"looking at step {step:,}")
        with atomic_folder(self.run.bank_folder(step)) as folder:
            draw(denoiser, self.bank, folder, progress=progress)
        found = self._measured(step, progress)
        own = losses(denoiser, self.splits, self.recipe.train, self.bank.batch_size)
        labels = found.labels
        return Look(
            step=step,
            settings=self.settings,
            measurements=(*own, unrecognised(labels, self.splits.train, self.audit.level), *found.measurements),
            ids=() if labels is None else labels.ids,
            labels=() if labels is None else labels.labels,
        )

    def _measured(self, step: int, progress: ProgressCallback) -> AuditResult:
        pixels, columns = read_shards(self.run.bank_folder(step))
        ids = tuple(f"{seed}/{index}" for seed, index in zip(columns["seed"], columns["index"], strict=True))
        images = ImageSet(name=f"bank of {self.run.title} at step {step}", pixels=pixels, ids=ids)
        try:
            return measure(
                images,
                self.splits,
                spec=self.audit,
                cache=self.cache,
                download=self.download,
                allow_torchscript=self.allow_torchscript,
                progress=progress,
            )
        except AuditFailed as failure:
            # A fault of one metric must not end a training of hours: the others are kept, and the gap is said.
            warnings.warn(f"the look at step {step:,} is not whole: {failure}", RuntimeWarning, stacklevel=2)
            return failure.result


def _staged(progress: ProgressCallback, what: str, stage: str, done: int, total: int, detail: str) -> None:
    progress(f"{what}: {stage}", done, total, detail)


def watcher(
    result: Run, recipe: Recipe, splits: Splits, cache: Path, progress: ProgressCallback, **networks: bool
) -> Callable[[Denoiser, int], object] | None:
    """What looks at a training; None where the recipe does not ask for it. networks: as of `Watcher`.

    Of several processes only the first looks: to the others it is a name.
    """
    if not recipe.train.watch_every:
        return None
    if not is_main_process():
        return _elsewhere
    return Watcher(result, recipe, splits, cache, progress, **networks)


def _elsewhere(_denoiser: Denoiser, step: int) -> None:
    raise RuntimeError(f"the look at step {step} is the first process's")


def warn_if_unwatched(result: Run, recipe: Recipe) -> None:
    """Warn where a finished model lacks looks that the recipe asks for: it was trained without, here or elsewhere."""
    missing = sorted(set(watched_steps(recipe.train)) - {look.step for look in result.looks()})
    if missing:
        way = (
            f"`leadline watch {result.folder}` looks at its snapshots"
            if recipe.train.snapshots
            else "it kept no snapshots either: train anew in another folder (--out)"
        )
        warnings.warn(
            f"{result.folder} lacks {len(missing)} of the looks that train.watch_every asks for, the first at step "
            f"{missing[0]:,}: its model was trained there without; {way}",
            RuntimeWarning,
            stacklevel=2,
        )


def kept_models(result: Run, recipe: Recipe) -> dict[int, Path]:
    """Step -> pipeline folder of each snapshot that there is, and of the finished model where there is one.

    Raises LeadlineError where there is no snapshot.
    """
    if recipe.text is not None:
        raise LeadlineError(f"{result.folder} is a text-to-image model: the unconditional depth family can be watched")
    folders = {step: result.snapshot_folder(step) for step in recipe.train.snapshots}
    there = {step: folder for step, folder in folders.items() if folder.exists()}
    if not there:
        raise LeadlineError(
            f"{result.folder} has no snapshots to look at: a training keeps them with --set train.snapshots=500,1000, "
            "or is watched as it goes with --set train.watch_every=500"
        )
    if result.model_folder.exists():
        there.setdefault(recipe.train.steps, result.model_folder)
    return there


def watch_kept(watch: Watcher, models: Mapping[int, Path], device: torch.device) -> None:
    """Look at the models of those steps that were not looked at yet."""
    known = {look.step for look in watch.run.looks()}
    for step in sorted(models.keys() - known):
        watch.add(load_pipeline(models[step], device), step)
