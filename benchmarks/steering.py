"""A pipeline under each bypass, FreeU and bypass guidance against the untouched pipeline, same weights, same inputs.

The U-Net has the shape of Stable Diffusion 1.5's (859.5 million parameters, 64x64 latents) and random weights, which
take as long as trained ones. All settings take turns in one run, in an order that is drawn anew for each round, and a
setting's ratio is taken within its round, against the mean of the untouched runs of that round: a drift of the
machine's speed touches all alike. A small unconditional U-Net follows, where what is not arithmetic weighs most.

    python benchmarks/steering.py [--device cuda --dtype fp16] [--steps 1] [--rounds 40] [--minutes 6] [--small]

Targets, for the large one: a partial bypass at most 1.02, a constant full one below 1. On two cores the defaults take
about eight minutes.
"""

import argparse
import platform
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.utils import logging

from leadline import bypass, bypass_guidance, ramp, window
from leadline.models.unet import depth_unet
from leadline.training import device_name

PARAMETERS = 859_520_964
"""Of Stable Diffusion 1.5's U-Net."""
FREEU = {"s1": 0.9, "s2": 0.2, "b1": 1.5, "b2": 1.6}
"""FreeU's numbers for Stable Diffusion 1.5."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SCHEDULE = ramp(0.1, 0.6, sigma_max=20.0) & window(sigma_max=20.0, sigma_min=0.1)
"""It acts at every step that is timed here."""
PARTIAL, FULL = 1.02, 1.0
UNTOUCHED = ("untouched", "untouched, again")
"""Twice a round: the second against the first says how much of a ratio is noise."""

SMALL = 8
"""Height and width of the latents with --small."""

Settings = dict[str, Callable[[Any], AbstractContextManager[Any]]]


@contextmanager
def freeu(pipe: StableDiffusionPipeline) -> Iterator[None]:
    pipe.enable_freeu(**FREEU)
    yield
    pipe.disable_freeu()


SETTINGS: Settings = dict.fromkeys(UNTOUCHED, lambda _: nullcontext()) | {
    "blend 0.3": lambda pipe: bypass(pipe, 0.3),
    "blend, ramp in a window": lambda pipe: bypass(pipe, SCHEDULE),
    "elements 0.3": lambda pipe: bypass(pipe, 0.3, mode="elements"),
    "channels 0.3": lambda pipe: bypass(pipe, 0.3, mode="channels"),
    "attenuate 0.3": lambda pipe: bypass(pipe, 0.3, mode="attenuate"),
    "full blend": lambda pipe: bypass(pipe, 1.0),
    "FreeU": freeu,
    "bypass guidance 0.5, scale 2": lambda pipe: bypass_guidance(pipe, 0.5, 2.0),
}
TARGETS = {name: PARTIAL for name in SETTINGS if "0.3" in name or "ramp" in name} | {"full blend": FULL}


def text_unet(device: torch.device, dtype: torch.dtype, small: bool) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's U-Net, or with `small` a narrow one for trying this script, with random weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=SMALL if small else 64,
            block_out_channels=(32, 64, 64, 64) if small else (320, 640, 1280, 1280),
            cross_attention_dim=768,
            attention_head_dim=8,
        )
    count = sum(parameter.numel() for parameter in unet.parameters())
    assert small or count == PARAMETERS, f"{count} parameters, {PARAMETERS} expected"
    unet = unet.to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            # Normalisations keep their scale: activations that vanish would be slow numbers.
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.fill_(1.0)
            else:
                parameter.normal_(std=0.02, generator=generator)
    return unet.eval()


def text_to_image(device: torch.device, dtype: torch.dtype, steps: int, small: bool) -> tuple[Any, Callable[[], Any]]:
    """A pipeline around that U-Net and a run of it from a given text embedding to latents, one image."""
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
                          up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4),
        text_encoder=None, tokenizer=None, unet=text_unet(device, dtype, small),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                clip_sample=False, timestep_spacing="trailing", steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    text = torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(1)).to(device, dtype)

    def run() -> Any:
        noise = torch.Generator().manual_seed(2)
        options = {"num_inference_steps": steps, "generator": noise, "output_type": "latent"}
        return pipe(prompt_embeds=text, guidance_scale=1.0, **options).images

    return pipe, run


def unconditional(device: torch.device, batch: int) -> tuple[Any, Callable[[], Any]]:
    """A 2-block U-Net on 16x16 images under DDIM, float32."""
    unet: UNet2DModel = depth_unet(2, in_channels=1, sample_size=16).to(device)
    pipe = DDIMPipeline(unet.eval(), DDIMScheduler(timestep_spacing="trailing"))
    pipe.set_progress_bar_config(disable=True)

    def run() -> Any:
        noise = torch.Generator().manual_seed(2)
        return pipe(batch_size=batch, generator=noise, num_inference_steps=4, output_type="np").images

    return pipe, run


def seconds(run: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(
    pipe: Any, run: Callable[[], Any], settings: Settings, rounds: int, minutes: float
) -> dict[str, list[float]]:
    """Seconds of each setting in each round, until the rounds are done or the time is up (three rounds at least)."""
    order, shuffle = list(settings), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in settings}
    for enter in settings.values():  # warm-up, and whatever a setting prepares once
        with enter(pipe):
            run()
    end = time.perf_counter() + 60 * minutes
    for done in range(rounds):
        if done >= 3 and time.perf_counter() > end:
            break
        shuffle.shuffle(order)
        for name in order:
            with settings[name](pipe):
                times[name].append(seconds(run))
    return times


def report(times: dict[str, list[float]], targets: dict[str, float]) -> None:
    plain = np.mean([times[name] for name in UNTOUCHED], axis=0)
    print(f"{len(plain)} rounds; an untouched run: median {np.median(plain):.4f} s (fastest {plain.min():.4f})")
    print(f"{'':30} {'median':>8} {'quartiles':>15}   time / untouched, round by round; below 1 is faster")
    for name, values in times.items():
        if name == UNTOUCHED[0]:
            continue
        ratios = np.array(values) / (np.array(times[UNTOUCHED[0]]) if name in UNTOUCHED else plain)
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        verdict = ""
        if name in targets:
            target = targets[name]
            met = middle < target if target == FULL else middle <= target
            verdict = f"   target {'<' if target == FULL else '<='} {target:g}: {'met' if met else 'MISSED'}"
        print(f"{name:30} {middle:8.4f} {low:7.4f} {high:7.4f}{verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="default: fp16 on a GPU, else fp32")
    parser.add_argument("--steps", type=int, help="sampler steps of a run; default: 10 on a GPU, else 1")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=6, help="no further round after this time")
    parser.add_argument("--small", action="store_true", help="a narrow U-Net on small latents, to try this script")
    options = parser.parse_args()
    logging.set_verbosity_error()  # it warns of a cast to half precision, which is meant
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    dtype = options.dtype or ("fp16" if on_gpu else "fp32")
    steps = options.steps or (10 if on_gpu else 1)
    print(f"{device_name(device)}, {platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    pipe, run = text_to_image(device, DTYPES[dtype], steps, options.small)
    size, side = sum(parameter.numel() for parameter in pipe.unet.parameters()) / 1e6, pipe.unet.config.sample_size
    print(f"\nUNet2DConditionModel, {size:.1f} million parameters, {side}x{side}, {dtype}, batch 1, {steps} steps")
    report(measure(pipe, run, SETTINGS, options.rounds, options.minutes), {} if options.small else TARGETS)
    del pipe, run
    for batch in (1, 16):
        pipe, run = unconditional(device, batch)
        settings = {name: enter for name, enter in SETTINGS.items() if name != "FreeU"}  # which has none for this class
        print(f"\nUNet2DModel, 2 blocks, 16x16, fp32, batch {batch}, 4 steps")
        report(measure(pipe, run, settings, options.rounds, options.minutes / 12), {})


if __name__ == "__main__":
    main()
