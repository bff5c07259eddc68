"""A diffusers U-Net with its scheduler, or a whole pipeline folder, as a Denoiser."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.utils import logging
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Denoiser, Sigma


class DiffusersDenoiser(Denoiser):
    """P2, section 2, for a variance-preserving checkpoint: D(x; sigma) from an epsilon-, v- or sample-prediction U-Net.

    With abar the scheduler's cumulated alphas, sigma_t = sqrt((1 - abar_t) / abar_t) and the U-Net is fed
    x / sqrt(1 + sigma^2) at the (fractional, linear in log sigma) step t of sigma; at sigma_t itself the step is t to
    the bit. Outside [sigma_0, sigma_T] a LeadlineError is raised: the model was never trained there.
    """

    def __init__(self, unet: UNet2DModel, scheduler: Any) -> None:
        size, channels = unet.config["sample_size"], unet.config["in_channels"]
        if unet.config["out_channels"] != channels:
            raise LeadlineError(
                f"the U-Net has {channels} input but {unet.config['out_channels']} output channels: a model with "
                "learned variance is not supported"
            )
        self.prediction = scheduler.config.get("prediction_type", "epsilon")
        if self.prediction not in ("epsilon", "v_prediction", "sample"):
            raise LeadlineError(f"prediction type {self.prediction!r}: epsilon, v_prediction or sample expected")
        height, width = (size, size) if isinstance(size, int) else size
        self.unet = unet.eval()
        self.shape = (channels, height, width)
        self.device = unet.device
        abar = scheduler.alphas_cumprod.to(torch.float64).cpu()
        self.sigmas = ((1 - abar) / abar).sqrt()
        if not (torch.all(self.sigmas.diff() > 0) and torch.isfinite(self.sigmas).all()):
            raise LeadlineError(
                "the scheduler's noise levels must rise from step to step and stay finite, as a DDPM schedule's do "
                "(one with zero terminal signal-to-noise ratio has no finite last level)"
            )

    def timestep(self, sigma: Sigma) -> Float[Tensor, " n"]:
        """float64 [n] step of each noise level. Raises LeadlineError outside the schedule's range."""
        given = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1).cpu()
        low, high = float(self.sigmas[0]), float(self.sigmas[-1])
        outside = ~((given >= low * (1 - 1e-6)) & (given <= high * (1 + 1e-6)))
        if outside.any():
            raise NotMeasurable(
                f"sigma {float(given[outside][0]):g} is outside the model's schedule, {low:.4g} to {high:.4g}: "
                "not measurable there"
            )
        upper = torch.searchsorted(self.sigmas, given).clamp(1, len(self.sigmas) - 1)
        left, right = self.sigmas[upper - 1].log(), self.sigmas[upper].log()
        share = ((given.log() - left) / (right - left)).clamp(0, 1)
        # A level of the ladder itself must give its step to the bit, whatever the logarithms' rounding.
        share = torch.where(given == self.sigmas[upper], 1.0, torch.where(given == self.sigmas[upper - 1], 0.0, share))
        return (upper - 1) + share

    def __call__(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
        step = self.timestep(sigma).to(torch.float32).expand(len(x)).to(x.device)
        level = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1, 1, 1)
        scale = (1 + level**2).rsqrt().to(x)
        level = level.to(x)
        output: Tensor = self.unet(x * scale, step).sample
        if self.prediction == "sample":
            return output
        if self.prediction == "epsilon":
            return x - level * output
        # v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans & Ho 2022), solved for x0 with x = x0 + sigma eps.
        return scale * (x * scale - level * output)


def load_pipeline(folder: Path | str, device: torch.device | str = "cpu") -> DiffusersDenoiser:
    """The unconditional diffusers pipeline in a folder as a Denoiser.

    Reads safetensors alone, runs no code of the folder and downloads nothing. Raises LeadlineError when the folder
    holds no such pipeline.
    """
    folder = Path(folder)
    if not (folder / "model_index.json").exists():
        raise LeadlineError(f"{folder} is no diffusers pipeline folder: it has no model_index.json")
    if _takes_text(folder):
        raise LeadlineError(
            f"{folder} is a text-to-image pipeline, which draws by prompts: `leadline steer` takes them one by one; "
            "a recipe with captions and --set text.pipeline= draws with those of its data, and audits what comes"
        )
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        pipe = DDPMPipeline.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise LeadlineError(
            f"{folder} cannot be opened as an unconditional pipeline (UNet2DModel, DDPM-like scheduler, weights in "
            f"safetensors): {error}"
        ) from error
    finally:
        if bar:
            logging.enable_progress_bar()
    if not isinstance(pipe.unet, UNet2DModel):
        raise LeadlineError(f"{folder}: a UNet2DModel is expected, its U-Net is a {type(pipe.unet).__name__}")
    return DiffusersDenoiser(pipe.unet.to(device), pipe.scheduler)


def _takes_text(folder: Path) -> bool:
    """Whether a pipeline folder lists a text encoder; a damaged list is left to the loading."""
    try:
        return "text_encoder" in json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def save_pipeline(unet: UNet2DModel, scheduler: DDPMScheduler, folder: Path) -> None:
    """Write a folder that `diffusers.DDPMPipeline.from_pretrained` opens, weights as safetensors."""
    DDPMPipeline(unet=unet, scheduler=scheduler).save_pretrained(folder, safe_serialization=True)
