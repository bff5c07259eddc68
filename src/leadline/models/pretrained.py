"""A diffusers U-Net with its scheduler, or a whole pipeline folder, as a Denoiser."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from diffusers import ConsistencyModelPipeline, DDPMPipeline, UNet2DModel
from diffusers.utils import logging
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from leadline.errors import LeadlineError
from leadline.models.denoiser import Denoiser, Sigma
from leadline.models.preconditioning import EDM_SCHEDULERS, preconditioning_of

NOTHING: Mapping[str, Any] = MappingProxyType({})
INDEX = "model_index.json"
BROKEN = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, SafetensorError)
"""What the libraries raise over a folder that is damaged or not what it says."""


class DiffusersDenoiser(Denoiser):
    """2206.00364, Eq. 7, for a diffusers U-Net and its scheduler: D(x; sigma) = skip x + out F(scale x; timestep).

    The coefficients are those of the scheduler's kind of model (`leadline.models.preconditioning`), between its steps
    too. Outside its levels NotMeasurable is raised: the model was never trained there. Of a model that also learned a
    variance the first half of the channels, the mean, is taken. x keeps its type; the network works in its own. Sigma
    is a constant: gradients and JVPs go through x alone (`differentiable`), and it is the caller who turns them off.

    unet: a UNet2DModel, or a UNet2DConditionModel, whose images are latents. conditioning: what it takes beside x and
    timestep, by diffusers' names, fixed for all images: encoder_hidden_states [1, l, w], added_cond_kwargs,
    class_labels [1]; one row each, repeated to the batch. Guidance is none of it: D is the conditional estimate.
    Raises LeadlineError when the conditioning is incomplete or the kind of model is not known.
    """

    def __init__(self, unet: Any, scheduler: Any, *, conditioning: Mapping[str, Any] = NOTHING) -> None:
        size, channels, made = (unet.config[name] for name in ("sample_size", "in_channels", "out_channels"))
        if made not in (channels, 2 * channels):
            raise LeadlineError(
                f"the U-Net has {channels} input and {made} output channels: as many are expected, or twice as many "
                "where it learned a variance"
            )
        self.preconditioning = preconditioning_of(scheduler)
        if unet.config.get("time_cond_proj_dim") is not None:
            raise LeadlineError(
                "the U-Net is told a scale of guidance (time_cond_proj_dim): it was distilled under one, as "
                "consistency models are, and is no denoiser D(x; sigma); take the model that it was distilled from"
            )
        if unet.config.get("time_embedding_type") == "learned":
            raise LeadlineError("the U-Net learned an embedding of whole timesteps, and has none between two of them")
        _check_conditioning(unet, conditioning)
        height, width = (size, size) if isinstance(size, int) else size
        self.unet = unet.eval()
        self.conditioning = _mapped(
            conditioning,
            lambda given: given.detach().to(unet.device, unet.dtype if given.is_floating_point() else given.dtype),
        )
        self.shape = (channels, height, width)
        self.device = unet.device
        self.sigmas = self.preconditioning.sigmas
        self.scheduler = None if self.preconditioning.rungs else scheduler
        """What says the noise level of a timestep where timesteps are no rungs of `sigmas`."""

    def timestep(self, sigma: Sigma) -> Float[Tensor, " n"]:
        """float64 [n], what the network is told of each noise level. Raises NotMeasurable outside the schedule."""
        return self.preconditioning.coefficients(_levels(sigma)).timestep

    def __call__(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
        at = self.preconditioning.coefficients(_levels(sigma))
        skip, out, scale = (part.reshape(-1, 1, 1, 1).to(x) for part in (at.skip, at.out, at.scale))
        step = at.timestep.to(torch.float32).expand(len(x)).to(x.device)
        given = _mapped(self.conditioning, lambda part: part.expand(len(x), *part.shape[1:]))
        fed = (x * scale + at.shift if at.shift else x * scale).to(self.unet.dtype)
        output: Tensor = self.unet(fed, step, **given).sample[:, : self.shape[0]].to(x.dtype)
        return skip * x + out * output


@contextmanager
def differentiable() -> Iterator[None]:
    """While it lasts attention has forward-mode and second derivatives: `torch.func.jvp` goes through any U-Net here.

    The fused kernels have neither; the plain one that is used instead takes more memory and gives the same numbers
    but for rounding.
    """
    _load_forward_mode()
    with sdpa_kernel(SDPBackend.MATH):
        yield


@cache
def _load_forward_mode() -> None:
    """Have torch load its rules for forward mode now, and keep back what it then says of its own code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        torch.func.jvp(torch.neg, (torch.zeros(1),), (torch.zeros(1),))


def load_pipeline(
    folder: Path | str, device: torch.device | str = "cpu", *, class_label: int | None = None
) -> DiffusersDenoiser:
    """The unconditional diffusers pipeline in a folder as a Denoiser: a UNet2DModel and a scheduler.

    class_label: of a class-conditional model, the class that it denoises. Reads safetensors alone, runs no code of
    the folder and downloads nothing. Raises LeadlineError when the folder holds no such pipeline.
    """
    folder = Path(folder)
    parts = _parts(folder)
    if "text_encoder" in parts:
        raise LeadlineError(
            f"{folder} is a text-to-image pipeline, which draws by prompts: `leadline steer` takes them one by one; "
            "a recipe with captions and --set text.pipeline= draws with those of its data, and audits what comes; "
            "leadline.text.denoising.load_conditional opens it as a denoiser of latents"
        )
    surplus = sorted(set(parts) - {"unet", "scheduler"})
    if surplus:
        raise LeadlineError(f"{folder} has a {surplus[0]}: a U-Net on images, alone with its scheduler, is expected")
    for part in ("unet", "scheduler"):
        if part not in parts:
            raise LeadlineError(f"{folder / INDEX} lists no {part}: a U-Net with its scheduler is expected")
    if parts["unet"] != ("diffusers", "UNet2DModel"):
        raise LeadlineError(f"{folder}: a UNet2DModel is expected, its U-Net is a {parts['unet'][1]}")
    scheduler = _scheduler(folder, *parts["scheduler"])
    unet = _unet(folder)
    given = {} if class_label is None else {"class_labels": torch.tensor([class_label])}
    return DiffusersDenoiser(unet.to(device), scheduler, conditioning=given)


def save_pipeline(unet: UNet2DModel, scheduler: Any, folder: Path) -> None:
    """Write a pipeline folder, weights as safetensors, of the class of diffusers that draws from the model rightly.

    DDPMPipeline; under an EDM scheduler ConsistencyModelPipeline, which lets the scheduler scale the U-Net's input
    and which DDPMPipeline does not: it takes any number of steps, `pipe(num_inference_steps=50)`, by default 1.
    """
    kind = ConsistencyModelPipeline if type(scheduler).__name__ in EDM_SCHEDULERS else DDPMPipeline
    kind(unet=unet, scheduler=scheduler).save_pretrained(folder, safe_serialization=True)


def _levels(sigma: Sigma) -> Float[Tensor, " n"]:
    return torch.as_tensor(sigma, dtype=torch.float64).detach().reshape(-1).cpu()


def _mapped(conditioning: Mapping[str, Any], change: Any) -> dict[str, Any]:
    """The conditioning with every tensor in it changed, those of an inner mapping too."""
    return {
        name: _mapped(part, change) if isinstance(part, Mapping) else change(part)
        for name, part in conditioning.items()
    }


def _check_conditioning(unet: Any, conditioning: Mapping[str, Any]) -> None:
    """Raise LeadlineError where the U-Net would fail for want of conditioning, or take what cannot be meant."""
    config = unet.config
    classes = None if config.get("class_embed_type") else config.get("num_class_embeds")
    labels = conditioning.get("class_labels")
    if classes is None and labels is not None and not config.get("class_embed_type"):
        raise LeadlineError("a class label is given, but the model knows no classes: leave it out")
    if classes is not None and (labels is None or not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        given = "none is" if labels is None else f"{labels.tolist()} are"
        raise LeadlineError(f"the model denoises one of its classes, 0 to {classes - 1}: class_label=, {given} given")
    taken = {
        "encoder_hidden_states": "cross_attention_dim" in config,
        "class_labels": bool(config.get("class_embed_type")),
        "added_cond_kwargs": config.get("addition_embed_type") not in (None, "text"),
    }
    lacking = [name for name, wanted in taken.items() if wanted and name not in conditioning]
    if lacking:
        raise LeadlineError(
            f"the U-Net takes {', '.join(lacking)} beside the image: conditioning={{…}}, or, of a text-to-image "
            "pipeline, leadline.text.denoising.load_conditional"
        )
    _mapped(conditioning, _check_row)


def _check_row(given: Tensor) -> None:
    if given.shape[:1] != (1,):
        raise LeadlineError(f"conditioning is given once for all images, as one row [1, …], not {list(given.shape)}")


def _parts(folder: Path) -> dict[str, tuple[str, str]]:
    """Library and class of each part that model_index.json lists. Raises LeadlineError where there is none."""
    file = folder / INDEX
    if not file.exists():
        raise LeadlineError(f"{folder} is no diffusers pipeline folder: it has no {INDEX}")
    try:
        listed = json.loads(file.read_text(encoding="utf-8")).items()
    except (OSError, ValueError, AttributeError) as error:
        raise LeadlineError(f"{file} cannot be read: {error}") from None
    whole = {name: part for name, part in listed if isinstance(part, list) and not name.startswith("_")}
    return {name: (str(part[0]), str(part[1])) for name, part in whole.items() if len(part) == 2 and part != [None] * 2}


def _part_folder(folder: Path, part: str) -> Path:
    """Where a part lies: in a folder of its name, or, as in the first pipelines on the hub, in the pipeline's own."""
    return folder / part if (folder / part).is_dir() else folder


def _scheduler(folder: Path, library: str, name: str) -> Any:
    kind = getattr(diffusers, name, None) if re.fullmatch(r"\w+Scheduler", name, flags=re.ASCII) else None
    if library != "diffusers" or not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise LeadlineError(f"{folder}: its scheduler is {library}.{name}, expected one of diffusers'")
    with _reading(folder):
        return kind.from_pretrained(_part_folder(folder, "scheduler"), local_files_only=True)  # type: ignore[attr-defined]


def _unet(folder: Path) -> UNet2DModel:
    with _reading(folder):
        unet, told = UNet2DModel.from_pretrained(
            _part_folder(folder, "unet"),
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    absent = sorted(told["missing_keys"])
    if absent:
        raise LeadlineError(f"{folder} lacks {len(absent)} of the U-Net's weights, such as {absent[0]}")
    return unet


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Without progress bars; what the libraries raise becomes a LeadlineError that names the folder."""
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except BROKEN as error:
        raise LeadlineError(
            f"{folder} cannot be opened as an unconditional pipeline (UNet2DModel, its scheduler, weights in "
            f"safetensors): {error}"
        ) from error
    finally:
        if bar:
            logging.enable_progress_bar()
