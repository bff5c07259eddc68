"""How far apart one model's images of different prompts are, of one seed each, beside those of different seeds."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from leadline.audit.features import Encoder
from leadline.audit.intervals import mean_interval
from leadline.audit.mutual import distance_unit, mutual_distances
from leadline.records import Measurement

DISTANCE, CHANGE, BASELINE = "prompt_distance", "prompt_distance_change", "seed_distance"
ALL = "all pairs"
METHOD = "Student t over seeds"
ONE_PROMPT = "there is one prompt: give two or more (--prompt TEXT --prompt TEXT)"
ONE_SEED = "there is one seed: draw more (--images N)"
FARTHER = "the images of different prompts differ more"

Pixels = UInt8[np.ndarray, "c h w"]
Read = Callable[[str, str, int], Pixels]


def prompt_distances(
    encoder: Encoder,
    read: Read,
    *,
    settings: Sequence[str],
    prompts: Sequence[str],
    seeds: Sequence[int],
    compared_with: str | None = None,
    level: float = 0.95,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Measurement]:
    """Distances between the images of one seed and different prompts, per setting of the model; our reading of
    2505.17560, Figure 6, which says in words that they grow alike.

    read: (setting, prompt, seed) -> uint8 [c, h, w], of one shape. Per setting: `prompt_distance` of each two prompts
    (params first, second) and of all pairs (param pair), `prompt_distance_change` of all pairs against the setting
    `compared_with` at the same seeds, and as the measure of how much images differ at all, `seed_distance`, between
    two seeds of one prompt (the first and second seed, the third and fourth, ...). Means over seeds with Student t
    intervals; seeds are the units.
    """
    pairs = list(combinations(range(len(prompts)), 2))
    found = {}
    for done, setting in enumerate(settings):
        found[setting] = _distances(encoder, read, setting, prompts, seeds)
        progress(done + 1, len(settings))
    reference = found.get(compared_with or "")
    measurements = []
    for setting, (between, apart) in found.items():
        params = {"setting": setting, "space": encoder.name}
        told: dict[str, Any] = {"level": level, "encoder": encoder, "params": params}
        whole = _over_pairs(between, pairs)
        measurements.append(_mean(DISTANCE, whole, ONE_PROMPT, of={"pair": ALL}, **told))
        measurements += [
            _mean(DISTANCE, between[:, a, b], "", of={"first": prompts[a], "second": prompts[b]}, **told)
            for a, b in pairs
        ]
        if reference is not None and setting != compared_with:
            before = _over_pairs(reference[0], pairs)
            change = {**told, "params": params | {"compared_with": compared_with}}
            measurements.append(_mean(CHANGE, whole - before, ONE_PROMPT, of={"pair": ALL}, **change))
        measurements.append(_mean(BASELINE, apart, ONE_SEED, **told))
    return measurements


def _distances(
    encoder: Encoder, read: Read, setting: str, prompts: Sequence[str], seeds: Sequence[int]
) -> tuple[Float[np.ndarray, "s p p"], Float[np.ndarray, " m"]]:
    """Between the prompts' images of each seed, and between two seeds, a mean over the prompts for each two seeds."""
    number = len(prompts)
    between = np.empty((len(seeds), number, number))
    apart = []
    for first in range(0, len(seeds), 2):
        two = seeds[first : first + 2]
        pixels = np.stack([read(setting, prompt, seed) for seed in two for prompt in prompts])
        matrix = mutual_distances(encoder, pixels)
        for row in range(len(two)):
            own = slice(row * number, (row + 1) * number)
            between[first + row] = matrix[own, own]
        if len(two) == 2:
            apart.append(float(np.diagonal(matrix[:number, number:]).mean()))
    return between, np.array(apart, dtype=np.float64)


def _over_pairs(between: Float[np.ndarray, "s p p"], pairs: Sequence[tuple[int, int]]) -> Float[np.ndarray, " m"]:
    """Mean over the pairs of each seed; nothing where there are no pairs."""
    found: np.ndarray = np.mean([between[:, a, b] for a, b in pairs], axis=0) if pairs else np.zeros(0)
    return found


def _mean(
    name: str,
    values: Float[np.ndarray, " n"],
    reason: str,
    *,
    level: float,
    encoder: Encoder,
    params: dict[str, Any],
    of: Mapping[str, str] = MappingProxyType({}),
) -> Measurement:
    """The mean over independent units with its interval, none for a single one; `reason` where there is none.

    of: which images, among the params.
    """
    whole = params | dict(of)
    sources = {"encoder": encoder.fingerprint}
    if len(values) == 0:
        return Measurement.not_measurable(name, reason, params=whole, computed_from=sources)
    interval = mean_interval(values, level)
    lower, upper = interval or (None, None)
    if name != CHANGE and lower is not None:
        lower = max(0.0, lower)
    return Measurement(
        name=name,
        value=float(values.mean()),
        lower=lower,
        upper=upper,
        level=level if interval else None,
        method=METHOD if interval else None,
        n=len(values),
        unit=distance_unit(encoder),
        direction="the images of different seeds differ more" if name == BASELINE else FARTHER,
        params=whole,
        computed_from=sources,
    )
