"""Training of the depth family: 2006.11239's noise prediction on images, by the loop of `leadline.fitting`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import mse_loss

from leadline import fitting
from leadline.errors import LeadlineError
from leadline.fitting import Progress, Trainer, batch_indices, device_name, fit
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
    scheduler: DDPMScheduler
    device: str
    precision: str


@dataclass(frozen=True)
class Batch:
    """What one step needs, on the CPU: x0 and noise [b, c, h, w], t [b]."""

    x0: Float[Tensor, "b c h w"]
    noise: Float[Tensor, "b c h w"]
    timesteps: Int[Tensor, " b"]


def make_batch(images: ImageSet, spec: TrainSpec, step: int, part: slice = slice(None)) -> Batch:
    """The batch of a step, or one process's part of it; a function of the training seed and the step alone."""
    generator = generator_for(spec.seed, "train-noise", step)
    shape = (spec.batch_size, *images.shape)
    noise = torch.randn(shape, generator=generator)[part]
    timesteps = torch.randint(0, NUM_TRAIN_TIMESTEPS, (spec.batch_size,), generator=generator)[part]
    indices = batch_indices(spec.seed, step, spec.batch_size, len(images))[part]
    x0 = torch.from_numpy(np.ascontiguousarray(images.pixels[indices])).float().div_(127.5).sub_(1)
    if spec.flip:
        mirrored = (torch.rand(spec.batch_size, generator=generator) < 0.5)[part]
        x0 = torch.where(mirrored.reshape(-1, 1, 1, 1), x0.flip(-1), x0)
    return Batch(x0, noise, timesteps)


def noise_loss(scheduler: Any, model: Any, batch: Batch) -> Float[Tensor, ""]:
    """2006.11239, Alg. 1: the mean squared error of the predicted noise."""
    noisy = scheduler.add_noise(batch.x0, batch.noise, batch.timesteps)
    return mse_loss(model(noisy, batch.timesteps).sample.float(), batch.noise)


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
        loss=partial(noise_loss, noise_schedule()),
    )


def noise_schedule() -> DDPMScheduler:
    """2006.11239, section 4: 1,000 steps, linear betas."""
    return DDPMScheduler(num_train_timesteps=NUM_TRAIN_TIMESTEPS)


def train(
    model_spec: ModelSpec,
    spec: TrainSpec,
    images: ImageSet,
    *,
    checkpoint: Path,
    curve: Path,
    progress: ProgressCallback = silent,
) -> Trained:
    """2006.11239, Alg. 1, on the images [n, c, h, w]; continues from `checkpoint` when the file is there.

    curve: as of `leadline.fitting.fit`. Under `accelerate launch` every process calls this; only the main one writes.
    Raises LeadlineError on specs that do not fit the images or each other, TrainingDiverged when the loss is no longer
    finite (the last good checkpoint stays).
    """
    trainer = make_trainer(model_spec, spec, images)
    state = trainer.load(checkpoint) if checkpoint.exists() else Progress()
    unet = fit(
        trainer,
        lambda step, mine: make_batch(images, spec, step, mine),
        state,
        checkpoint=checkpoint,
        curve=curve,
        progress=progress,
    )
    return Trained(
        unet=unet.cpu(),
        scheduler=noise_schedule(),
        device=device_name(trainer.accelerator.device),
        precision=trainer.precision,
    )
