"""DDIM, ancestral DDPM, Euler and Heun over any Denoiser; image i of a seed starts from noise of (seed, i) alone."""

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from leadline.data.shards import write_shard
from leadline.errors import LeadlineError
from leadline.files import atomic_file, write_text
from leadline.models.denoiser import Denoiser
from leadline.progress import ProgressCallback, silent
from leadline.recipe import SampleSpec, SteerSpec
from leadline.registry import Registry
from leadline.rng import generator_for
from leadline.steering import steered

Images = Float[Tensor, "n c h w"]
Denoise = Callable[[Images, float], Images]
Noise = Callable[[], Images]


@dataclass(frozen=True)
class Sampler:
    """A way from noise to images: `grid(sigmas, steps)` gives steps + 1 falling noise levels, the last 0; `step` goes
    from one to the next. `stochastic`: it draws fresh noise, and bends class shares on a coarse grid."""

    grid: Callable[[Float[Tensor, " t"], int], Float[Tensor, " s"]]
    step: Callable[[Denoise, Images, float, float, Noise], Images]
    stochastic: bool = False


SAMPLERS: Registry[Sampler] = Registry("sampler")

SETTINGS = ".settings.json"
"""Beside the shards: how they were drawn."""
UNSAID = {"steer": SteerSpec().model_dump(mode="json"), "guidance": None, "init_strength": None}
"""How images were drawn whose settings are from before the fields were there."""

MIN_ANCESTRAL_STEPS = 250
"""Below it ancestral sampling measurably bends class shares (docs/samplers.md)."""


def trailing_grid(sigmas: Float[Tensor, " t"], steps: int) -> Float[Tensor, " s"]:
    """Lin et al. 2024 (2305.08891), Table 2, "trailing": evenly spaced rungs of the ladder from its top, then 0."""
    count = len(sigmas)
    if steps > count:
        raise LeadlineError(f"{steps} sampler steps, but the schedule has {count}: --set sample.steps= at most that")
    rungs = torch.arange(count, 0, -count / steps, dtype=torch.float64)[:steps].round().long() - 1
    return torch.cat([sigmas[rungs], sigmas.new_zeros(1)])


def karras_grid(sigmas: Float[Tensor, " t"], steps: int, rho: float = 7.0) -> Float[Tensor, " s"]:
    """Karras et al. 2022 (2206.00364) Eq. 5: levels evenly spaced in sigma^(1/rho) from the ladder's top to its foot,
    then 0."""
    top, foot = float(sigmas[-1]) ** (1 / rho), float(sigmas[0]) ** (1 / rho)
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    levels = (top + share * (foot - top)) ** rho
    # The ends exactly: a level outside the ladder by rounding would be outside the model's schedule.
    levels[0], levels[-1] = sigmas[-1], (sigmas[0] if steps > 1 else sigmas[-1])
    return torch.cat([levels, levels.new_zeros(1)])


def euler_step(denoise: Denoise, x: Images, sigma: float, following: float, _noise: Noise) -> Images:
    """2206.00364, Alg. 1 without correction: x + (sigma' - sigma) (x - D) / sigma.

    In these variables it is also DDIM (2010.02502 Eq. 12, eta = 0), D + (sigma' / sigma) (x - D).
    """
    x0 = denoise(x, sigma)
    return x0 + (following / sigma) * (x - x0)


def heun_step(denoise: Denoise, x: Images, sigma: float, following: float, _noise: Noise) -> Images:
    """2206.00364, Alg. 1: Euler step, then the trapezoid rule; the last step, to 0, is Euler's."""
    slope = (x - denoise(x, sigma)) / sigma
    ahead = x + (following - sigma) * slope
    if following == 0:
        return ahead
    slope_ahead = (ahead - denoise(ahead, following)) / following
    return x + (following - sigma) * (slope + slope_ahead) / 2


def ancestral_step(denoise: Denoise, x: Images, sigma: float, following: float, noise: Noise) -> Images:
    """DDPM (2006.11239) Eq. 6, 7 with the posterior's variance, in sigma: a draw from q(x' | x, x0 = D(x; sigma))."""
    x0 = denoise(x, sigma)
    ratio = (following / sigma) ** 2
    mean = x0 + ratio * (x - x0)
    return mean if following == 0 else mean + following * math.sqrt(1 - ratio) * noise()


SAMPLERS.register("ddim")(Sampler(trailing_grid, euler_step))
SAMPLERS.register("ancestral")(Sampler(trailing_grid, ancestral_step, stochastic=True))
SAMPLERS.register("euler")(Sampler(karras_grid, euler_step))
SAMPLERS.register("heun")(Sampler(karras_grid, heun_step))


def check(spec: SampleSpec, sigmas: Float[Tensor, " t"]) -> None:
    """Raise LeadlineError on an unknown sampler, a number of steps that it cannot take, or what only text-to-image
    models have; warn of bent shares."""
    asked = {
        "sample.guidance": spec.guidance is not None,
        "sample.init_strength": spec.init_strength is not None,
        "sample.steer.branch": spec.steer.branch != "both",
    }
    for name in (name for name, given in asked.items() if given):
        raise LeadlineError(f"{name} is of text-to-image models, and this one takes no prompts: leave it out")
    sampler = SAMPLERS[spec.sampler]
    sampler.grid(sigmas, spec.steps)
    if sampler.stochastic and spec.steps < MIN_ANCESTRAL_STEPS:
        warnings.warn(
            f"{spec.sampler} sampling with {spec.steps} steps bends class shares: with an exact denoiser a minority of "
            f"10 % came out as 8.4 % at 25 steps and 9.5 % at 50 (docs/samplers.md). Use ddim, or at least "
            f"{MIN_ANCESTRAL_STEPS} steps, before you blame the model.",
            stacklevel=1,  # one place, so that it is shown once
        )


@torch.no_grad()
def sample(denoiser: Denoiser, seed: int, indices: Sequence[int], spec: SampleSpec) -> Images:
    """Images [n, c, h, w], float32 on the CPU, in [-1, 1] but for overshoot, for the given indices of a seed.

    The spec is taken as checked (`check`). Starts at sigma_max from noise of variance sigma_max^2 + 1, what a
    variance-preserving model has at its last step with data of unit variance. Each image draws all its noise from its
    own CPU generator.
    """
    sampler = SAMPLERS[spec.sampler]
    levels = sampler.grid(denoiser.sigmas, spec.steps).tolist()
    streams = [generator_for(seed, "sample", i) for i in indices]

    def noise() -> Images:
        return torch.stack([torch.randn(denoiser.shape, generator=s) for s in streams]).to(denoiser.device)

    def denoise(x: Images, sigma: float) -> Images:
        x0 = denoiser(x, sigma)
        return x0.clamp(-1, 1) if spec.clip_x0 else x0

    x = noise() * math.sqrt(levels[0] ** 2 + 1)
    for sigma, following in pairwise(levels):
        x = sampler.step(denoise, x, sigma, following, noise)
    return x.float().cpu()


def to_pixels(images: Images) -> UInt8[Tensor, "n c h w"]:
    """uint8 [n, c, h, w] of images in [-1, 1]: (x + 1) * 127.5 rounded, values outside held at the ends."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def drawn_as(folder: Path) -> dict[str, Any] | None:
    """The SampleSpec's fields that `draw` noted beside the images of `folder`, or None when it did not draw them."""
    try:
        noted = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {name: noted[name] for name in SampleSpec.model_fields if name in noted} if isinstance(noted, dict) else None


def draw(denoiser: Denoiser, spec: SampleSpec, folder: Path, *, progress: ProgressCallback = silent) -> None:
    """Draw the spec's images into `folder` as Parquet shards with a Hugging Face image feature; existing ones are kept.

    A shard is there whole or not at all, so a killed run goes on where it was. Columns: image, index, seed. Raises
    LeadlineError when the folder holds shards of other settings, and when an image is not finite.
    """
    check(spec, denoiser.sigmas)

    def make(indices: range) -> UInt8[Tensor, "n c h w"]:
        with steered(denoiser, spec.steer):
            images = sample(denoiser, spec.seed, indices, spec)
        if not torch.isfinite(images).all():
            raise LeadlineError(
                f"images {indices[0]} to {indices[-1]} of seed {spec.seed} are not finite: the model diverges under "
                "this sampler; try another (--set sample.sampler=ddim) or look at its training"
            )
        return to_pixels(images)

    draw_shards(make, spec, folder, settings={"shape": list(denoiser.shape)}, progress=progress)


def draw_shards(
    make: Callable[[range], UInt8[Tensor, "n c h w"]],
    spec: SampleSpec,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    columns: Mapping[str, Sequence[int | str]] = MappingProxyType({}),
    progress: ProgressCallback = silent,
) -> None:
    """What `make` gives for all indices of the spec, as `draw` says.

    settings: what decides the images beside the spec. columns: further ones of the shards, one value per index.
    """
    wanted = {**spec.model_dump(mode="json"), **settings}
    record = folder / SETTINGS
    if record.exists() and (begun := UNSAID | json.loads(record.read_text(encoding="utf-8"))) != wanted:
        differing = ", ".join(sorted(k for k in wanted if begun.get(k) != wanted[k]))
        raise LeadlineError(f"{folder} holds images drawn with other settings ({differing}): choose another folder")
    write_text(record, json.dumps(wanted, indent=1))
    for number, start in enumerate(range(0, spec.num_images, spec.shard_size)):
        file = folder / f"shard-{number:05d}.parquet"
        if file.exists():
            continue
        stop = min(start + spec.shard_size, spec.num_images)
        batches = []
        for first in range(start, stop, spec.batch_size):
            indices = range(first, min(first + spec.batch_size, stop))
            batches.append(make(indices))
            progress("sampling", indices[-1] + 1, spec.num_images, f"{spec.sampler}, {spec.steps} steps")
        own = {"index": list(range(start, stop)), "seed": [spec.seed] * (stop - start)}
        further = {name: list(values[start:stop]) for name, values in columns.items()}
        with atomic_file(file) as temporary:
            write_shard(temporary, torch.cat(batches).numpy(), own | further)
