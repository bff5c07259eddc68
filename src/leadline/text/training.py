"""Training of a small text-to-image model: first its autoencoder, then its text encoder and U-Net together.

One checkpoint file serves both: it holds the autoencoder under way, later the finished one beside the rest.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from leadline.errors import LeadlineError
from leadline.fitting import Progress, batch_indices, checkpoint_identity, device_name, fit, make_trainer
from leadline.progress import ProgressCallback, silent
from leadline.recipe import TextSpec, TrainSpec, fingerprint
from leadline.records import ImageSet
from leadline.rng import generator_for, stream_seed
from leadline.text.autoencoder import Moments, Reconstruction, encode, make_pictures, reconstruction_loss
from leadline.text.building import (
    assemble,
    build_autoencoder,
    build_text_encoder,
    build_unet,
    check_text,
    count_parameters,
    latent_size,
    noise_schedule,
)
from leadline.text.tokenizer import build_tokenizer, token_ids


@dataclass(frozen=True, kw_only=True)
class TrainedText:
    """A `StableDiffusionPipeline` with the averaged weights, on the CPU.

    `pipeline.save_pretrained(folder, safe_serialization=True)` writes the pipeline folder.
    parameters: number per part (unet, text_encoder, vae).
    """

    pipeline: Any
    device: str
    precision: str
    parameters: dict[str, int]


class Conditioned(nn.Module):
    """Text encoder and U-Net as one network that predicts noise; the finished autoencoder travels along, frozen."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: Any, vae: AutoencoderKL) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.vae = vae.requires_grad_(False)

    def forward(
        self, noisy: Float[Tensor, "b k y x"], timesteps: Int[Tensor, " b"], ids: Int[Tensor, "b l"]
    ) -> Float[Tensor, "b k y x"]:
        text = self.text_encoder(ids).last_hidden_state
        predicted: Tensor = self.unet(noisy, timesteps, encoder_hidden_states=text).sample
        return predicted


@dataclass(frozen=True)
class Captioned:
    """What one step needs: latents and noise [b, k, y, x], timesteps [b], token ids [b, l]."""

    latents: Float[Tensor, "b k y x"]
    noise: Float[Tensor, "b k y x"]
    timesteps: Int[Tensor, " b"]
    ids: Int[Tensor, "b l"]


@dataclass(frozen=True)
class Latents:
    """What the second stage is trained on: scaled latents, those of the mirrored images where asked for, token ids.

    ids: [n, l]. empty: [l], the ids of no caption.
    """

    plain: Moments
    mirrored: Moments | None
    scale: float
    ids: Int[Tensor, "n l"]
    empty: Int[Tensor, " l"]


def make_captioned(
    latents: Latents, spec: TrainSpec, dropout: float, step: int, part: slice = slice(None)
) -> Captioned:
    """The batch of a step, or one process's part of it; a function of the training seed and the step alone."""
    generator = generator_for(spec.seed, "train-noise", step)
    shape = (spec.batch_size, *latents.plain.mean.shape[1:])
    noise, posterior = (torch.randn(shape, generator=generator)[part] for _ in range(2))
    timesteps = torch.randint(0, noise_schedule().config["num_train_timesteps"], shape[:1], generator=generator)[part]
    dropped, flipped = (torch.rand(spec.batch_size, generator=generator)[part] for _ in range(2))
    indices = torch.from_numpy(batch_indices(spec.seed, step, spec.batch_size, len(latents.ids))[part])
    x0 = drawn(latents.plain, indices, posterior)
    if latents.mirrored is not None:
        x0 = torch.where(_per_image(flipped < 0.5), drawn(latents.mirrored, indices, posterior), x0)
    ids = torch.where((dropped < dropout)[:, None], latents.empty, latents.ids[indices])
    return Captioned(latents.scale * x0, noise, timesteps, ids)


def drawn(moments: Moments, indices: Int[Tensor, " b"], noise: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k y x"]:
    """1312.6114, section 2.4: latents of the images `indices`, mean + std · noise."""
    return moments.mean[indices] + moments.std[indices] * noise


def _per_image(chosen: Bool[Tensor, " b"]) -> Bool[Tensor, "b 1 1 1"]:
    return chosen.reshape(-1, 1, 1, 1)


def noise_loss(schedule: DDIMScheduler, model: nn.Module, batch: Captioned) -> Float[Tensor, ""]:
    """2112.10752, Eq. 3: the mean squared error of the noise that is predicted from noisy latents and text."""
    noisy = schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
    return mse_loss(model(noisy, batch.timesteps, batch.ids).float(), batch.noise)


def check_training(spec: TrainSpec) -> None:
    """Raise LeadlineError on settings of the training that only the unconditional depth family has."""
    asked = {
        "train.objective": spec.objective != "epsilon",
        "train.snapshots": bool(spec.snapshots),
        "train.watch_every": bool(spec.watch_every),
    }
    for name in (name for name, given in asked.items() if given):
        raise LeadlineError(f"{name} is of the unconditional depth family, and this is a text-to-image model")


def train_text(
    spec: TextSpec,
    train: TrainSpec,
    images: ImageSet,
    *,
    checkpoint: Path,
    curve: Path,
    progress: ProgressCallback = silent,
) -> TrainedText:
    """2112.10752: an autoencoder of the images, then a diffusion model of its latents under their captions.

    images: RGB [n, 3, h, w] with captions. Continues from `checkpoint` when the file is there, in either stage.
    curve: as of `leadline.fitting.fit`; the autoencoder's has the same name in the folder autoencoder/ beside it.
    Under `accelerate launch` every process calls this; only the main one writes.
    Raises LeadlineError when spec and images do not fit, before anything is trained, and TrainingDiverged.
    """
    if not images.captions:
        raise LeadlineError(f"image set {images.name!r} has no captions: --set data.captions=celeba or digits")
    check_text(spec, images.shape)
    check_training(train)
    tokenizer = build_tokenizer(images.captions, spec.tokens)
    content = f"{fingerprint(spec, train)}-{images.fingerprint()}"
    # Modules draw their first weights from torch's global generator: it is forked, so nothing outside sees it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(train.seed, "weights"))
        size = images.shape[1]
        vae, text_encoder = build_autoencoder(spec, size), build_text_encoder(spec, tokenizer)
        unet = build_unet(spec, size)
    resumed = checkpoint.exists() and checkpoint_identity(checkpoint) == f"text-{content}"
    if not resumed:
        vae = train_autoencoder(
            vae,
            spec,
            train,
            images,
            identity=f"autoencoder-{content}",
            checkpoint=checkpoint,
            curve=curve.parent / "autoencoder" / curve.name,
            progress=progress,
        )
    trainer = make_trainer(
        Conditioned(unet, text_encoder, vae),
        train,
        identity=f"text-{content}",
        loss=partial(noise_loss, noise_schedule()),
    )
    state = trainer.load(checkpoint) if resumed else Progress()
    if not resumed and trainer.accelerator.is_main_process:
        trainer.save(checkpoint, state)
    latents = latents_of(vae, images, tokenizer, flip=train.flip)
    vae.register_to_config(scaling_factor=latents.scale)
    fit(
        trainer,
        lambda step, mine: make_captioned(latents, train, spec.caption_dropout, step, mine),
        state,
        checkpoint=checkpoint,
        curve=curve,
        progress=progress,
    )
    parts = {"unet": unet, "text_encoder": text_encoder, "vae": vae}
    return TrainedText(
        pipeline=assemble(vae.eval().cpu(), text_encoder.eval().cpu(), tokenizer, unet.eval().cpu()),
        device=device_name(trainer.accelerator.device),
        precision=trainer.precision,
        parameters={name: count_parameters(network) for name, network in parts.items()},
    )


def train_autoencoder(
    vae: AutoencoderKL,
    spec: TextSpec,
    train: TrainSpec,
    images: ImageSet,
    *,
    identity: str,
    checkpoint: Path,
    curve: Path,
    progress: ProgressCallback,
) -> AutoencoderKL:
    """The first stage, with the settings of `train` but for its number of steps and its learning rate."""
    own = train.model_copy(
        update={
            "steps": spec.autoencoder_steps,
            "learning_rate": spec.autoencoder_learning_rate,
            "warmup_steps": min(train.warmup_steps, spec.autoencoder_steps),
        }
    )
    trainer = make_trainer(
        Reconstruction(vae), own, identity=identity, loss=partial(reconstruction_loss, spec.kl_weight)
    )
    state = trainer.load(checkpoint) if checkpoint.exists() else Progress()
    side = latent_size(spec, images.shape[1])
    fit(
        trainer,
        lambda step, mine: make_pictures(images, own, (spec.latent_channels, side, side), step, mine),
        state,
        checkpoint=checkpoint,
        curve=curve,
        progress=progress,
        stage="training the autoencoder",
    )
    return vae


def latents_of(vae: AutoencoderKL, images: ImageSet, tokenizer: Any, *, flip: bool) -> Latents:
    """The images and captions as the second stage sees them; encoded once, as the autoencoder no longer changes."""
    plain = encode(vae, images)
    ids = torch.tensor(token_ids(tokenizer, [*images.captions, ""]))
    return Latents(
        plain=plain,
        mirrored=encode(vae, images, flip=True) if flip else None,
        scale=plain.scaling_factor(),
        ids=ids[:-1],
        empty=ids[-1],
    )
