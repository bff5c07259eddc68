"""Images of a text-to-image pipeline: image i of a seed draws all its noise from its own generator."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import diffusers
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import SampleSpec, SteerSpec
from leadline.rng import generator_for
from leadline.schedules import as_schedule, constant, strengths
from leadline.steering.plotting import step_levels

TEXT_SAMPLERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}
"""Samplers of text-to-image models, which are diffusers' own; `leadline.sampling.SAMPLERS` are those of a Denoiser."""
UNCLIPPED = {"ddim": {"clip_sample": False}}
"""Settings of a scheduler that a pipeline of another sampler does not carry: latents are not images in [-1, 1]."""
IMAGE_TO_IMAGE = {
    "StableDiffusionPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLImg2ImgPipeline",
}
"""A pipeline -> the one that starts from an image, over the same networks."""
AS_DRAWN: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False, "add_watermarker": False}
"""A model is measured by what it draws: nothing is blackened, nothing is written into the images."""
GUIDANCE = 7.5
"""Classifier-free guidance where none is given: what diffusers' Stable Diffusion pipeline has."""


Option = Callable[..., str]
"""(name of a SampleSpec's field such as steer.branch, its value or none) -> how a person gives it."""


def by_set(field: str, value: object = "") -> str:
    """--set sample.steer.branch=conditional"""
    return f"--set sample.{field}={value}"


def check_sampling(spec: SampleSpec, scheduler: Any, *, option: Option = by_set) -> Float[np.ndarray, " calls"]:
    """The noise level of each call of the U-Net when a spec's images are drawn with a pipeline's scheduler.

    option: for the messages. Raises LeadlineError as `check_asked` does, on a number of steps that the scheduler does
    not take, and on a bypass that is outside [0, 1] at one of the levels or, though asked for, 0 at all of them.
    """
    check_asked(spec, option=option)
    share = 1.0 if spec.init_strength is None else spec.init_strength
    levels = _levels(with_sampler(scheduler, spec.sampler), spec.steps, share, option)
    bypass_strengths(spec.steer, levels, option=option)
    return levels


def check_asked(spec: SampleSpec, *, option: Option = by_set) -> None:
    """Raise LeadlineError on a sampler that text-to-image models do not take, an image-to-image of no steps, or a
    bypass of one half of the guidance where there is none."""
    if spec.sampler not in TEXT_SAMPLERS:
        raise LeadlineError(
            f"sampler {spec.sampler!r} is not one of a text-to-image model ({', '.join(TEXT_SAMPLERS)}): "
            f"{did_you_mean(spec.sampler, TEXT_SAMPLERS)} ({option('sampler')})"
        )
    if spec.init_strength is not None:
        check_strength(spec.steps, spec.init_strength, option=option)
    if spec.steer.branch != "both" and spec.guidance is not None and spec.guidance <= 1:
        raise LeadlineError(
            f"{option('steer.branch', spec.steer.branch)} is one half of classifier-free guidance, and at "
            f"{option('guidance', format(spec.guidance, 'g'))} there is none: give more than 1, or leave the branch out"
        )


def _levels(scheduler: Any, steps: int, share: float, option: Option) -> Float[np.ndarray, " calls"]:
    try:
        return step_levels(scheduler, steps, share)
    except LeadlineError:
        raise
    # What diffusers' schedulers raise over a number of steps that they do not take.
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise LeadlineError(f"{type(scheduler).__name__} takes no {steps} steps ({option('steps')}): {error}") from None


def bypass_strengths(
    steer: SteerSpec, levels: Float[np.ndarray, " calls"], *, option: Option = by_set
) -> Float[np.ndarray, " calls"]:
    """Strength of a bypass at each noise level. Raises LeadlineError where one is outside [0, 1], or where all are 0
    and the bypass is not."""
    found = strengths(constant(steer.strength) & as_schedule(steer.schedule or 1.0), levels)
    if steer.strength and not found.any():
        raise LeadlineError(
            f"{option('steer.schedule', repr(steer.schedule))} has strength 0 at all {len(levels)} noise levels of the "
            f"sampler ({levels[0]:.3g} to {levels[-1]:.3g}), so nothing would be bypassed: widen it"
        )
    return found


def check_strength(steps: int, init_strength: float, *, option: Option = by_set) -> None:
    """Raise LeadlineError where an image-to-image start at that strength leaves no step to take."""
    if not 0 < init_strength <= 1:
        raise LeadlineError(f"init_strength must be above 0 and at most 1, not {init_strength:g}")
    if int(steps * init_strength) < 1:
        raise LeadlineError(
            f"init_strength={init_strength:g} of {steps} steps leaves none: give {1 / init_strength:.0f} steps or more "
            f"({option('steps')}), or a larger strength ({option('init_strength')})"
        )


def cut_prompts(pipe: Any, prompts: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Prompts whose end one of the pipeline's text encoders does not see -> their tokens and how many it reads.

    The two tokens at the ends count.
    """
    found = {}
    for tokenizer in filter(None, (pipe.tokenizer, getattr(pipe, "tokenizer_2", None))):
        limit = int(tokenizer.model_max_length)
        for prompt in dict.fromkeys(prompts):
            tokens = len(tokenizer.tokenize(prompt)) + 2
            if tokens > limit:
                found[prompt] = (tokens, limit)
    return found


def prepared(pipe: Any, *, sampler: str | None = None, image_to_image: bool = False) -> Any:
    """A pipeline over the same networks, none of them copied, that draws as leadline does.

    pipe: a StableDiffusionPipeline, StableDiffusionXLPipeline or their image-to-image; it stays as it is. sampler:
    name in TEXT_SAMPLERS; None: the scheduler that `pipe` has, the object itself. image_to_image: whether it shall
    start from images. There is no safety checker, watermark or progress bar. Raises LeadlineError on other pipelines.
    """
    name = type(pipe).__name__
    if name not in {*IMAGE_TO_IMAGE, *IMAGE_TO_IMAGE.values()}:
        raise LeadlineError(f"a {name} is given, expected one of {', '.join(IMAGE_TO_IMAGE)}")
    kind = getattr(diffusers, IMAGE_TO_IMAGE.get(name, name) if image_to_image else name)
    known = {**pipe.config, **pipe.components, **AS_DRAWN}
    if sampler is not None:
        known["scheduler"] = with_sampler(pipe.scheduler, sampler)
    made = kind(**{part: known[part] for part in inspect.signature(kind.__init__).parameters if part in known})
    made.set_progress_bar_config(disable=True)
    return made


def with_sampler(scheduler: Any, sampler: str) -> Any:
    """The scheduler of a sampler with all other settings of a pipeline's own: noise schedule, prediction, spacing."""
    if sampler not in TEXT_SAMPLERS:
        raise LeadlineError(f"unknown sampler {sampler!r}: {did_you_mean(sampler, TEXT_SAMPLERS)}")
    return getattr(diffusers, TEXT_SAMPLERS[sampler]).from_config(scheduler.config, **UNCLIPPED.get(sampler, {}))


def own_size(pipe: Any) -> int:
    """Height and width in px of what a pipeline draws unless told otherwise. Raises LeadlineError where they differ."""
    given = pipe.unet.config["sample_size"]
    sides = set(given) if isinstance(given, list | tuple) else {given}
    side = sides.pop() if len(sides) == 1 else None
    if not isinstance(side, int):
        raise LeadlineError(
            f"the pipeline's U-Net draws latents of sample_size {given!r}, expected one number or two equal ones: give "
            "the size (leadline steer --size), or set sample_size in unet/config.json"
        )
    return side * int(pipe.vae_scale_factor)


@torch.no_grad()
def generate(
    pipe: Any,
    prompts: Sequence[str],
    *,
    seed: int,
    indices: Sequence[int],
    steps: int,
    guidance: float,
    init: Float[Tensor, "n c h w"] | None = None,
    init_strength: float | None = None,
    size: int | None = None,
) -> UInt8[Tensor, "n 3 height width"]:
    """One image per prompt, uint8 on the CPU; image k draws from (seed, indices[k]) alone, whatever the batch is.

    pipe: of a class that `prepared` takes; its own scheduler is the sampler. guidance: scale of classifier-free
    guidance, up to 1: none. init: images in [-1, 1] to start from, c of 1 or 3, with init_strength in (0, 1]: the
    share of the steps that are taken from there. size: height and width in px (default: the pipeline's own); not with
    init, which brings its own. A bypass is attached to this very pipeline: for init, to an image-to-image one.
    Raises LeadlineError on what does not fit together, and when an image is not finite.
    """
    if len(prompts) != len(indices) or (init is not None and len(init) != len(prompts)):
        begun = "" if init is None else f" and {len(init)} images to start from"
        raise LeadlineError(f"{len(prompts)} prompts, {len(indices)} indices{begun}: one of each per image is expected")
    if (init is None) != (init_strength is None):
        raise LeadlineError("images to start from and init_strength belong together: give both or neither")
    streams = [generator_for(seed, "sample", index) for index in indices]
    options: dict[str, Any] = {} if size is None else {"height": size, "width": size}
    if init is not None and init_strength is not None:
        check_strength(steps, init_strength)
        _check_starts(pipe, init, size)
        if type(pipe).__name__ in IMAGE_TO_IMAGE:
            pipe = prepared(pipe, image_to_image=True)
        rgb = init.expand(-1, 3, -1, -1)
        # Pipelines take tensors in [0, 1].
        options = {"image": (rgb + 1) / 2, "strength": init_strength}
    with _silent(pipe):
        images = pipe(
            list(prompts),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=streams,
            output_type="pt",
            **options,
        ).images
    if not torch.isfinite(images).all():
        raise LeadlineError(
            f"images {indices[0]} to {indices[-1]} of seed {seed} are not finite: the model diverges under this "
            "sampler or in this precision; try another sampler, more steps or less guidance"
        )
    pixels: Tensor = (images.float() * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels.cpu()


def _check_starts(pipe: Any, init: Float[Tensor, "n c h w"], size: int | None) -> None:
    factor = int(pipe.vae_scale_factor)
    channels, height, width = init.shape[1:]
    if channels not in (1, 3) or height % factor or width % factor:
        raise LeadlineError(
            f"images to start from are {channels}×{height}×{width}: expected 1 or 3 channels, and sides that are "
            f"multiples of {factor} px"
        )
    if size is not None:
        raise LeadlineError("images to start from decide the size: resize them, and leave the size out")


@contextmanager
def _silent(pipe: Any) -> Iterator[None]:
    """No progress bar; what the pipeline's owner had set comes back."""
    before = getattr(pipe, "_progress_bar_config", {})
    pipe.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**before)
