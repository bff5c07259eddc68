"""Training of the depth family on images, by the loop of `leadline.fitting`: 2006.11239's noise prediction, or
2206.00364's preconditioned denoiser."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, UNet2DModel
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from leadline import fitting
from leadline.errors import LeadlineError
from leadline.files import atomic_folder
from leadline.fitting import Progress, Trainer, batch_indices, device_name, fit
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.models.preconditioning import Karras, preconditioning_of
from leadline.models.pretrained import DiffusersDenoiser, save_pipeline
from leadline.models.unet import build_unet
from leadline.progress import ProgressCallback, silent
from leadline.recipe import ModelSpec, TrainSpec, fingerprint
from leadline.records import ImageSet
from leadline.rng import generator_for, stream_seed

NUM_TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The averaged weights in a U-Net, on the CPU, and the noise schedule that they were trained on."""

    unet: UNet2DModel
    scheduler: DDPMScheduler | EDMEulerScheduler
    device: str
    precision: str


@dataclass(frozen=True)
class Batch:
    """What one step needs, on the CPU: x0 and noise [b, c, h, w], levels [b]: DDPM's timesteps, or sigma."""

    x0: Float[Tensor, "b c h w"]
    noise: Float[Tensor, "b c h w"]
    levels: Shaped[Tensor, " b"]


def make_batch(images: ImageSet, spec: TrainSpec, step: int, part: slice = slice(None)) -> Batch:
    """The batch of a step, or one process's part of it; a function of the training seed and the step alone."""
    generator = generator_for(spec.seed, "train-noise", step)
    shape = (spec.batch_size, *images.shape)
    noise = torch.randn(shape, generator=generator)[part]
    levels = draw_levels(spec, generator)[part]
    indices = batch_indices(spec.seed, step, spec.batch_size, len(images))[part]
    x0 = torch.from_numpy(np.ascontiguousarray(images.pixels[indices])).float().div_(127.5).sub_(1)
    if spec.flip:
        mirrored = (torch.rand(spec.batch_size, generator=generator) < 0.5)[part]
        x0 = torch.where(mirrored.reshape(-1, 1, 1, 1), x0.flip(-1), x0)
    return Batch(x0, noise, levels)


def draw_levels(spec: TrainSpec, generator: torch.Generator) -> Shaped[Tensor, " b"]:
    """2006.11239, Alg. 1: uniform timesteps. 2206.00364, Table 1: ln sigma ~ N(noise_mean, noise_std^2)."""
    if spec.objective == "edm":
        return (spec.noise_mean + spec.noise_std * torch.randn(spec.batch_size, generator=generator)).exp()
    return torch.randint(0, NUM_TRAIN_TIMESTEPS, (spec.batch_size,), generator=generator)


def noise_loss(scheduler: Any, model: Any, batch: Batch) -> Float[Tensor, ""]:
    """2006.11239, Alg. 1: the mean squared error of the predicted noise."""
    noisy = scheduler.add_noise(batch.x0, batch.noise, batch.levels)
    return mse_loss(model(noisy, batch.levels).sample.float(), batch.noise)


def edm_loss(preconditioning: Karras, model: Any, batch: Batch) -> Float[Tensor, ""]:
    """2206.00364, Eq. 8: the mean of lambda(sigma) (D(x0 + sigma noise; sigma) - x0)^2 over all values.

    With lambda = 1 / out^2 = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, of Table 1, that is the error of F itself
    against (x0 - skip x) / out, whose variance is 1 for images of spread sigma_data.
    """
    at = preconditioning.at(batch.levels)
    skip, out, scale = (part.reshape(-1, 1, 1, 1) for part in (at.skip, at.out, at.scale))
    noisy = batch.x0 + batch.levels.reshape(-1, 1, 1, 1) * batch.noise
    predicted = model(scale * noisy, at.timestep).sample.float()
    return mse_loss(predicted, (batch.x0 - skip * noisy) / out)


def make_trainer(model_spec: ModelSpec, spec: TrainSpec, images: ImageSet) -> Trainer:
    """Build the seeded model and hand it to Accelerate. Raises LeadlineError when the specs do not fit the images."""
    channels, height, width = images.shape
    if height != width:
        raise LeadlineError(f"square images are expected, {height}×{width} px were given: --set data.fit=pad or crop")
    # Modules draw their first weights from torch's global generator: it is forked, so nothing outside sees it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(spec.seed, "weights"))
        unet = build_unet(model_spec, channels, height)
    return fitting.make_trainer(
        unet,
        spec,
        identity=f"{fingerprint(model_spec, spec)}-{images.fingerprint()}",
        loss=partial(edm_loss, Karras(spec.sigma_data))
        if spec.objective == "edm"
        else partial(noise_loss, noise_schedule(spec)),
    )


def noise_schedule(spec: TrainSpec) -> DDPMScheduler | EDMEulerScheduler:
    """2006.11239, section 4: 1,000 steps, linear betas. 2206.00364, Table 1: sigma from .002 to 80."""
    if spec.objective == "edm":
        return EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=spec.sigma_data)
    return DDPMScheduler(num_train_timesteps=NUM_TRAIN_TIMESTEPS)


def ladder(spec: TrainSpec) -> Float[Tensor, " t"]:
    """The noise levels of a model that is trained so, float64, ascending: `sigmas` of the Denoiser that it becomes."""
    if spec.objective == "edm":
        return preconditioning_of(noise_schedule(spec)).sigmas
    return ddpm_sigmas(NUM_TRAIN_TIMESTEPS)


def train(
    model_spec: ModelSpec,
    spec: TrainSpec,
    images: ImageSet,
    *,
    checkpoint: Path,
    curve: Path,
    snapshots: Callable[[int], Path] | None = None,
    look: Callable[[Denoiser, int], object] | None = None,
    progress: ProgressCallback = silent,
) -> Trained:
    """2006.11239, Alg. 1, or 2206.00364, Eq. 8, on the images [n, c, h, w]; goes on from `checkpoint` when it is there.

    curve: as of `leadline.fitting.fit`. snapshots: step -> the pipeline folder of the snapshot after it, for those
    that the spec names. look: called with the averaged weights, as they are opened from a pipeline folder, after each
    of the spec's `watched_steps`. Under `accelerate launch` every process calls this; only the main one writes.
    Raises LeadlineError on specs that do not fit the images or each other, TrainingDiverged when the loss is no longer
    finite (the last good checkpoint stays).
    """
    if spec.snapshots and snapshots is None:
        raise LeadlineError("train.snapshots are asked for, and no folders for them are given: snapshots=")
    trainer = make_trainer(model_spec, spec, images)
    state = trainer.load(checkpoint) if checkpoint.exists() else Progress()
    scheduler = noise_schedule(spec)
    if snapshots is not None:
        check_snapshots(spec, snapshots, state.step, checkpoint)

    def keep(network: nn.Module, step: int) -> None:
        if snapshots is not None:
            with atomic_folder(snapshots(step)) as folder:
                save_pipeline(network, scheduler, folder)

    def show(network: nn.Module, step: int) -> None:
        if look is not None:
            look(apart(network, scheduler), step)

    unet = fit(
        trainer,
        lambda step, mine: make_batch(images, spec, step, mine),
        state,
        checkpoint=checkpoint,
        curve=curve,
        keep=keep,
        look=None if look is None else show,
        progress=progress,
    )
    return Trained(
        unet=unet.cpu(),
        scheduler=scheduler,
        device=device_name(trainer.accelerator.device),
        precision=trainer.precision,
    )


def apart(network: Any, scheduler: Any) -> DiffusersDenoiser:
    """The weights of a U-Net that is being trained in one of its own: what it computes in, Accelerate does not touch.

    A pipeline folder of these weights opens as the same denoiser, to the bit.
    """
    # Its first weights, overwritten at once, come from torch's global generator.
    with torch.random.fork_rng(devices=[]):
        unet = UNet2DModel.from_config(network.config)
    unet.load_state_dict(network.state_dict())
    return DiffusersDenoiser(unet.to(network.device), scheduler)


def check_snapshots(spec: TrainSpec, folder_of: Callable[[int], Path], step: int, checkpoint: Path) -> None:
    """Raise LeadlineError where a snapshot from before `step`, where training goes on, is gone."""
    gone = [folder_of(kept) for kept in spec.snapshots if kept <= step and not folder_of(kept).exists()]
    if gone:
        raise LeadlineError(
            f"{gone[0]} is gone, and {checkpoint} is from after it: restore it, or delete that file to train anew"
        )
