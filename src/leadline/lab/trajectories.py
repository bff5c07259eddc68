"""The ways of several denoisers from the same noise: where they are at each noise level, how far from each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from leadline.audit.neighbors import nearest_neighbors
from leadline.errors import NotMeasurable
from leadline.lab.evaluating import HELD_OUT, measurable
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.summaries import mean_of
from leadline.models.denoiser import Denoiser
from leadline.progress import ProgressCallback, silent
from leadline.recipe import SampleSpec
from leadline.records import ImageSet, Measurement, Panel
from leadline.sampling import starting_noise, states, to_pixels
from leadline.theory.exact import GaussianDenoiser
from leadline.theory.linearity import pairs

SHOWN_LEVELS = 8
RMS = "RMS per value, images in [-1, 1]"
RESOLUTION = 1e-6
"""RMS per value below which a sample is its nearest training image: float32 rounds values near 1 by 6e-8 per step."""
BETWEEN_SEEDS = "other noise"
"""Which noise the second of two samples started from."""


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """Where denoisers went. levels: falling, the last 0; x, x0: by denoiser, float32, the states and D(x; sigma)."""

    levels: tuple[float, ...]
    x: Mapping[str, Float[np.ndarray, "t n c h w"]]
    x0: Mapping[str, Float[np.ndarray, "t n c h w"]]

    @property
    def samples(self) -> dict[str, Float[np.ndarray, "n c h w"]]:
        """What each denoiser ends at."""
        return {name: way[-1] for name, way in self.x.items()}


def follow(
    denoisers: Mapping[str, Denoiser],
    sigmas: Sequence[float],
    *,
    num_seeds: int,
    seed: int = 0,
    sampler: str = "heun",
    settings: Mapping[str, Any],
    kept: Kept,
    progress: ProgressCallback = silent,
) -> Trajectories:
    """P2, Figure 2: every denoiser's way by the same sampler over the same levels, from the same noise.

    sigmas: the levels, of which those are taken where all denoisers are defined. settings: what decides the denoisers.
    Raises NotMeasurable where fewer than two levels are left.
    """
    levels = list(sigmas)
    for denoiser in denoisers.values():
        levels = measurable(denoiser, levels)
    if len(levels) < 2:
        raise NotMeasurable(
            "a way from noise to an image needs two noise levels or more at which every denoiser is defined (--sigma)"
        )
    spec = SampleSpec(num_images=num_seeds, seed=seed, sampler=sampler, clip_x0=False)
    drawn_by, ways = spec.model_dump(mode="json"), {}
    for number, (name, denoiser) in enumerate(denoisers.items()):
        progress("trajectories", number, len(denoisers), name)
        key = {**settings, "what": "trajectory", "denoiser": name, "levels": levels, "spec": drawn_by}
        ways[name] = kept.piece(key, partial(_way, denoiser, levels, spec))
    progress("trajectories", len(denoisers), len(denoisers), "")
    return Trajectories(
        levels=(*levels, 0.0),
        x={name: way["x"] for name, way in ways.items()},
        x0={name: way["x0"] for name, way in ways.items()},
    )


def _way(denoiser: Denoiser, levels: Sequence[float], spec: SampleSpec) -> Arrays:
    x = starting_noise(denoiser, spec.seed, range(spec.num_images), spec, sigma=levels[0])
    passed = [(here.cpu(), x0.cpu()) for _, here, x0 in states(denoiser, x, spec, levels=[*levels, 0.0])]
    return {
        "x": torch.stack([x for x, _ in passed]).float().numpy(),
        "x0": torch.stack([x0 for _, x0 in passed]).float().numpy(),
    }


def trajectory_distances(ways: Trajectories, wanted: Sequence[tuple[str, str]]) -> list[Measurement]:
    """RMS per value between two denoisers' states at each level, and between their samples; mean over seeds.

    For scale also the distance of one denoiser's samples from different noise, over disjoint pairs of them.
    """
    found = []
    for first, second in wanted:
        params: dict[str, Any] = {"unit": RMS, "direction": "ways further apart", "floor": 0.0}
        params |= {"first": first, "second": second}
        for sigma, a, b in zip(ways.levels, ways.x[first], ways.x[second], strict=True):
            if sigma > 0:
                found.append(mean_of("trajectory_distance", _rms(a, b), sigma=sigma, **params))
            else:
                found.append(mean_of("sample_distance", _rms(a, b), **params))
    for name, samples in ways.samples.items():
        if len(samples) < 4:
            continue
        a, b = (part.numpy() for part in pairs(torch.from_numpy(samples)))
        params = {"first": name, "second": name, "noise": BETWEEN_SEEDS}
        found.append(mean_of("sample_distance", _rms(a, b), unit=RMS, floor=0.0, **params))
    return found


def discretisation(ways: Trajectories, name: str, denoiser: GaussianDenoiser) -> Measurement:
    """RMS per value between a Gaussian denoiser's samples and the closed form of its probability-flow ODE."""
    start = torch.from_numpy(ways.x[name][0]).to(denoiser.device)
    exact = denoiser.flow(start, ways.levels[0], 0.0).cpu().numpy()
    words: dict[str, Any] = {"unit": RMS, "direction": "a coarser sampler", "floor": 0.0}
    return mean_of("discretisation_error", _rms(ways.samples[name], exact), **words, denoiser=name)


def nearest_training(
    ways: Trajectories, training: ImageSet, held_out: Float[Tensor, "n c h w"] | None
) -> list[Measurement]:
    """RMS per value from each denoiser's samples, and from held-out images for scale, to the nearest training image."""
    sets = dict(ways.samples)
    if held_out is not None:
        sets[HELD_OUT] = held_out.cpu().numpy()
    reference = training.images()
    found = []
    for name, images in sets.items():
        distances, _ = nearest_neighbors(images, reference, 1)
        values = distances[:, 0] / np.sqrt(images[0].size)
        values[values < RESOLUTION] = 0
        words = "further from all training images"
        found.append(mean_of("nearest_training_distance", values, unit=RMS, direction=words, floor=0.0, set=name))
    return found


def panels(ways: Trajectories, words: Mapping[str, str], title: str, num: int, suffix: str = "") -> tuple[Panel, Panel]:
    """The samples of the first `num` seeds, and D(x; sigma) along the first seed's way; a row per denoiser.

    words: by denoiser, for the rows. title: which model they are of. suffix: of the panels' names.
    """
    rows = tuple(words[name] for name in ways.x)
    some = np.unique(np.linspace(0, len(ways.levels) - 1, min(SHOWN_LEVELS, len(ways.levels))).round().astype(int))
    samples = Panel(
        name=f"samples{suffix}",
        title=f"{title}: samples from the same noise",
        tiles=np.stack([_pixels(images[:num]) for images in ways.samples.values()]),
        caption="A column starts from one and the same noise.",
        row_titles=rows,
        column_titles=tuple(f"seed {i}" for i in range(min(num, len(next(iter(ways.samples.values())))))),
    )
    way = Panel(
        name=f"trajectory{suffix}",
        title=f"{title}: D(x; σ) along the way from the noise of seed 0",
        tiles=np.stack([_pixels(x0[some, 0]) for x0 in ways.x0.values()]),
        caption="The estimate of the clean image at the noise level above it; last, the sample.",
        row_titles=rows,
        column_titles=tuple("sample" if ways.levels[i] == 0 else f"σ = {ways.levels[i]:.4g}" for i in some),
    )
    return samples, way


def _pixels(images: Float[np.ndarray, "n c h w"]) -> UInt8[np.ndarray, "n c h w"]:
    return to_pixels(torch.from_numpy(np.ascontiguousarray(images))).numpy()


def _rms(a: Float[np.ndarray, "n c h w"], b: Float[np.ndarray, "n c h w"]) -> Float[np.ndarray, " n"]:
    """RMS difference per value of each pair of images."""
    values: np.ndarray = np.sqrt(np.square(a.astype(np.float64) - b).mean(axis=(1, 2, 3)))
    return values
