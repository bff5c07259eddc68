"""DDIM, ancestral DDPM, Euler and Heun over any Denoiser; image i of a seed starts from noise of (seed, i) alone."""

import json
import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from leadline.data.shards import write_shard
from leadline.errors import LeadlineError, NotMeasurable
from leadline.files import atomic_file, write_text
from leadline.models.denoiser import Denoiser, karras_sigmas
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
    """A way from noise to images: `grid(sigmas, steps)` gives steps + 1 falling noise levels, the last 0;
    `step(denoise, x, x0, sigma, following, noise)`, x0 = denoise(x, sigma), goes from one to the next. `stochastic`: it
    draws fresh noise, and bends class shares on a coarse grid."""

    grid: Callable[[Float[Tensor, " t"], int], Float[Tensor, " s"]]
    step: Callable[[Denoise, Images, Images, float, float, Noise], Images]
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
    levels = karras_sigmas(float(sigmas[0]), float(sigmas[-1]), steps, rho).flip(0)
    return torch.cat([levels, levels.new_zeros(1)])


def euler_step(_denoise: Denoise, x: Images, x0: Images, sigma: float, following: float, _noise: Noise) -> Images:
    """2206.00364, Alg. 1 without correction: x + (sigma' - sigma) (x - D) / sigma.

    In these variables it is also DDIM (2010.02502 Eq. 12, eta = 0), D + (sigma' / sigma) (x - D).
    """
    return x0 + (following / sigma) * (x - x0)


def heun_step(denoise: Denoise, x: Images, x0: Images, sigma: float, following: float, _noise: Noise) -> Images:
    """2206.00364, Alg. 1: Euler step, then the trapezoid rule; the last step, to 0, is Euler's."""
    slope = (x - x0) / sigma
    ahead = x + (following - sigma) * slope
    if following == 0:
        return ahead
    slope_ahead = (ahead - denoise(ahead, following)) / following
    return x + (following - sigma) * (slope + slope_ahead) / 2


def ancestral_step(_denoise: Denoise, x: Images, x0: Images, sigma: float, following: float, noise: Noise) -> Images:
    """DDPM (2006.11239) Eq. 6, 7 with the posterior's variance, in sigma: a draw from q(x' | x, x0 = D(x; sigma))."""
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


def no_noise() -> Images:
    """What a way without noise has: a deterministic sampler never asks."""
    raise LeadlineError("this sampler draws noise on its way, and was given none: take ddim, euler or heun")


def noise_levels(denoiser: Denoiser, spec: SampleSpec, sigma: int | float | None = None) -> list[float]:
    """The sampler's noise levels, falling, the last 0. sigma: start there, and go on with those below it.

    Raises NotMeasurable where sigma is not above 0 and finite, or lies outside the denoiser's range.
    """
    grid: list[float] = SAMPLERS[spec.sampler].grid(denoiser.sigmas, spec.steps).tolist()
    if sigma is None:
        return grid
    if not (sigma > 0 and math.isfinite(sigma)):
        raise NotMeasurable(
            f"a way between an image and a noise level needs one above 0 and finite, not sigma {sigma:g}"
        )
    low, high = denoiser.sigma_range
    # The ends of a schedule are known to a rounding of float32.
    if not low * (1 - 1e-6) <= sigma <= high * (1 + 1e-6):
        raise NotMeasurable(f"a way from sigma {sigma:g}: the model is defined from {low:.4g} to {high:.4g}")
    return [float(sigma), *(level for level in grid if level < sigma)]


def starting_noise(
    denoiser: Denoiser, seed: int, indices: Sequence[int], spec: SampleSpec, *, sigma: int | float | None = None
) -> Images:
    """x at the top of the sampler's grid, or at `sigma`, for the given indices of a seed, on the denoiser's device.

    Noise of variance sigma^2 + 1, what a variance-preserving model has at its last step with data of unit variance. One
    image's noise depends on (seed, index) alone: two denoisers of one shape start alike.
    """
    top = noise_levels(denoiser, spec)[0] if sigma is None else sigma
    return _noise(denoiser, seed, indices)() * math.sqrt(top**2 + 1)


@torch.no_grad()
def states(
    denoiser: Denoiser,
    x: Images,
    spec: SampleSpec,
    *,
    levels: Sequence[float] | None = None,
    noise: Noise = no_noise,
) -> Iterator[tuple[float, Images, Images]]:
    """The way of x down the sampler's levels, the last of them 0: (sigma, x, D(x; sigma)) at each; at 0, D is x itself.

    x: [n, c, h, w] at the first level, on the denoiser's device; its type is kept. levels: falling ones in place of the
    sampler's own, the last 0. noise: what a stochastic sampler adds, one draw per call.
    """
    levels = noise_levels(denoiser, spec) if levels is None else levels
    sampler, denoise = SAMPLERS[spec.sampler], _denoise(denoiser, spec)
    for sigma, following in pairwise(levels):
        x0 = denoise(x, sigma)
        yield sigma, x, x0
        x = sampler.step(denoise, x, x0, sigma, following, noise)
    yield levels[-1], x, x


def decode(denoiser: Denoiser, x: Images, spec: SampleSpec, *, sigma: int | float | None = None) -> Images:
    """The image [n, c, h, w] that x at the top of the sampler's grid, or at `sigma`, leads to: the ODE downward.

    The spec is taken as checked. Raises LeadlineError on a stochastic sampler and NotMeasurable as `noise_levels` does.
    """
    refuse_stochastic(spec.sampler)
    return _last(states(denoiser, x, spec, levels=noise_levels(denoiser, spec, sigma)))


@torch.no_grad()
def encode(denoiser: Denoiser, images: Images, spec: SampleSpec, *, sigma: int | float | None = None) -> Images:
    """P2, section 2: the probability-flow ODE from sigma = 0 up to the top of the sampler's grid, or to `sigma`.

    What `decode` leads back to the images, up to the discretisation: the same levels, the other way, by the sampler's
    own step. The first step, from 0, takes the slope of the lowest level, since the last step of `decode` does.
    images: [n, c, h, w] on the denoiser's device; their type is kept. Raises as `decode`.
    """
    refuse_stochastic(spec.sampler)
    step, denoise = SAMPLERS[spec.sampler].step, _denoise(denoiser, spec)
    _, *rising = reversed(noise_levels(denoiser, spec, sigma))
    x = 2 * images - denoise(images, rising[0])
    for level, following in pairwise(rising):
        x = step(denoise, x, denoise(x, level), level, following, no_noise)
    return x


@torch.no_grad()
def sample(denoiser: Denoiser, seed: int, indices: Sequence[int], spec: SampleSpec) -> Images:
    """Images [n, c, h, w], float32 on the CPU, in [-1, 1] but for overshoot, for the given indices of a seed.

    The spec is taken as checked (`check`). Starts from `starting_noise`. Each image draws all its noise from its own
    CPU generator.
    """
    grid = noise_levels(denoiser, spec)
    noise = _noise(denoiser, seed, indices)
    start = noise() * math.sqrt(grid[0] ** 2 + 1)
    return _last(states(denoiser, start, spec, levels=grid, noise=noise)).float().cpu()


def _noise(denoiser: Denoiser, seed: int, indices: Sequence[int]) -> Noise:
    """What draws standard normal noise, each image's from its own stream."""
    streams = [generator_for(seed, "sample", i) for i in indices]
    return lambda: torch.stack([torch.randn(denoiser.shape, generator=s) for s in streams]).to(denoiser.device)


def _last(way: Iterator[tuple[float, Images, Images]]) -> Images:
    """The image at the end of a way; the states before it are let go."""
    return deque(way, maxlen=1)[0][1]


def refuse_stochastic(sampler: str) -> None:
    """Raise LeadlineError where there is no sampler of that name, or where it follows no ODE."""
    if SAMPLERS[sampler].stochastic:
        raise LeadlineError(
            f"{sampler} follows no ODE: its noise is new each time; take ddim, euler or heun (--sampler)"
        )


def _denoise(denoiser: Denoiser, spec: SampleSpec) -> Denoise:
    # Here too: around a generator that something else has wrapped, no_grad ends before its first step.
    @torch.no_grad()
    def denoise(x: Images, sigma: float) -> Images:
        x0 = denoiser(x, sigma)
        return x0.clamp(-1, 1) if spec.clip_x0 else x0

    return denoise


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

    More images than before may be asked for where all shards that were begun are whole: an image hangs on its index.
    settings: what decides the images beside the spec. columns: further ones of the shards, one value per index.
    """
    wanted = {**spec.model_dump(mode="json"), **settings}
    record = folder / SETTINGS
    if record.exists() and (begun := UNSAID | json.loads(record.read_text(encoding="utf-8"))) != wanted:
        differing = sorted(k for k in wanted if begun.get(k) != wanted[k])
        grows = begun["num_images"] < spec.num_images and begun["num_images"] % spec.shard_size == 0
        if differing != ["num_images"] or not grows:
            told = ", ".join(differing)
            raise LeadlineError(f"{folder} holds images drawn with other settings ({told}): choose another folder")
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
