"""The words of the page of `leadline theory denoisers`: what it answers for a model, and its caveats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leadline.records import Measurement, TheoryResult
from leadline.report.content import Finding
from leadline.report.lab.lines import Series, bound, central, of, reasons
from leadline.report.words import (
    counted,
    listed,
    measurement_text,
    number,
    plain,
    short,
)

WORDS = {"trained": "trained", "linear": "linear", "gaussian": "Gaussian", "multi-delta": "multi-delta"}
SETS = WORDS | {"held-out": "held-out real images"}
PAIRS = (
    ("trained", "gaussian"),
    ("trained", "linear"),
    ("linear", "gaussian"),
    ("trained", "multi-delta"),
    ("gaussian", "multi-delta"),
)
SHARE = "score_difference_share"
RMS = "RMS per value, images in [−1, 1]"
LOW_START = 40.0
"""By the Gaussian denoiser's flow, samples that start from pure noise at σ miss sqrt(λ / (λ + σ²)) of the data's mean
along a direction of variance λ: from 40 on, 5 % at λ = 4, as small images in [-1, 1] have along the widest."""


@dataclass(frozen=True)
class Model:
    """One model of the page, with the ending of its ids and panels."""

    result: TheoryResult
    name: str
    suffix: str

    def series(self, label: str, name: str, **params: Any) -> Series:
        return Series(label, name, {"model": self.name, **params})

    def pairs(self, name: str) -> list[Series]:
        """A series for each pair of denoisers that was measured."""
        wanted = [self.series(pair_words(pair), name, first=pair[0], second=pair[1]) for pair in PAIRS]
        return [series for series in wanted if of(self.result, series)]

    def at(self, sigma: float, name: str, **params: Any) -> Measurement | None:
        return next(iter(self.result.find(name, model=self.name, sigma=sigma, **params)), None)

    def found(self, name: str, **params: Any) -> list[Measurement]:
        return self.result.find(name, model=self.name, **params)


def pair_words(pair: tuple[str, str]) -> str:
    return f"{WORDS[pair[0]]} – {WORDS[pair[1]]}"


def answer(model: Model) -> Finding:
    shares = of(model.result, model.series("", SHARE, first="trained", second="gaussian"))
    exact = of(model.result, model.series("", "score_difference", first="gaussian", second="multi-delta"))
    if (sigma := central(shares)) is not None:
        headline = (
            f"at σ = {short(sigma)} the trained denoiser is {measurement_text(shares[sigma])} times as far from the "
            "Gaussian one as the multi-delta denoiser, which memorizes, is (0: the Gaussian itself, 1: as far)"
            f"{_others(model, sigma)}."
        )
    elif (sigma := central(exact)) is not None:
        headline = (
            f"Gaussian against multi-delta denoiser at σ = {short(sigma)}: {measurement_text(exact[sigma])} ({RMS})."
        )
    else:
        headline = f"no score difference could be measured: {listed(reasons(model.found('score_difference')))}"
    sentences = [
        ("Near the Gaussian", _nearness(model)),
        ("Linear and Gaussian", _claim(model, sigma)),
        ("Linear fit", _fit(model)),
        ("Effective k", _k_words(model, sigma)),
        ("Samples", _sample_words(model)),
        ("Nearest training image", _nearest_words(model)),
    ]
    told = tuple((label, plain(words)) for label, words in sentences if words)
    return Finding(run=plain(model.name), headline=plain(headline), sentences=told)


def _others(model: Model, sigma: float) -> str:
    """`; on the same scale it is … from its linear one`: how far from linear at all."""
    m = model.at(sigma, SHARE, first="trained", second="linear")
    return "" if m is None or m.value is None else f"; on that scale it is {measurement_text(m)} from the linear one"


def _nearness(model: Model) -> str:
    """At how many levels the trained denoiser is nearer to the Gaussian one than the memorizing denoiser is."""
    levels = of(model.result, model.series("", SHARE, first="trained", second="gaussian"))
    known = {sigma: m for sigma, m in levels.items() if m.value is not None}
    if not known:
        return ""
    told: dict[str, list[str]] = {"nearer": [], "farther": [], "open": []}
    for sigma in sorted(known, reverse=True):
        told[_side(known[sigma])].append(short(sigma))
    parts = [
        f"at {counted(len(told['nearer']), 'level')} of {len(known)} the trained denoiser is nearer to the Gaussian "
        f"one than the multi-delta denoiser is{_list(told['nearer'])}"
    ]
    if told["farther"]:
        parts.append(f"at {len(told['farther'])} it is farther{_list(told['farther'])}")
    if told["open"]:
        parts.append(f"at {len(told['open'])} not decided, the interval holds 1{_list(told['open'])}")
    return f"By ratios over the same noisy images, {'; '.join(parts)}. Each interval is for its own level."


def _side(share: Measurement) -> str:
    """By which side of 1 the interval lies on."""
    if share.lower is None or share.upper is None:
        return "open"
    return "nearer" if share.upper < 1 else "farther" if share.lower > 1 else "open"


def _claim(model: Model, sigma: float | None) -> str:
    """P2's D_L ≈ D_G in numbers, with what of it holds for every denoiser."""
    if sigma is None:
        return ""
    apart = model.at(sigma, "score_difference", first="linear", second="gaussian")
    if apart is None or apart.value is None:
        return ""
    share = model.at(sigma, SHARE, first="linear", second="gaussian")
    scaled = (
        "" if share is None or share.value is None else f", {measurement_text(share)} of the multi-delta's distance"
    )
    floor = model.at(sigma, "linear_estimation_error")
    own = (
        ""
        if floor is None or floor.value is None
        else f"; the fit's own error alone would give {number(floor.value, 2)}"
    )
    return (
        f"P2 says that D_L ≈ D_G. They are {measurement_text(apart)} apart at σ = {short(sigma)}{scaled}{own} ({RMS}). "
        "That alone does not tell a model that is near the Gaussian one from one that memorizes: see the caveats."
    )


def _list(levels: Sequence[str]) -> str:
    return f" (σ = {', '.join(levels)})" if levels else ""


def _fit(model: Model) -> str:
    found = [m for m in model.found("linear_r_squared") if m.value is not None]
    if not found:
        return ""
    least = min(found, key=lambda m: m.value or 0)
    most = max(found, key=lambda m: m.value or 0)
    given = any(m.params["held_out"] == "images given for it" for m in found)
    which = "held-out images" if given else str(found[0].params["held_out"])
    return (
        f"R² of the distilled map from {measurement_text(least)} at σ = {short(least.params['sigma'])} to "
        f"{measurement_text(most)} at σ = {short(most.params['sigma'])}; fitted to {found[0].params['rows']:,} noisy "
        f"images per level, judged on {which}."
    )


def _k_words(model: Model, sigma: float | None) -> str:
    if sigma is None:
        return ""
    parts = []
    for name in ("trained", "gaussian", "multi-delta"):
        k = model.at(sigma, "effective_k", denoiser=name)
        if k is None:
            continue
        explained = model.at(sigma, "effective_k_r_squared", denoiser=name)
        how = "" if explained is None or explained.value is None else f" with R² {number(explained.value, 2)}"
        parts.append(f"{WORDS[name]} {measurement_text(k)}{_bound(k)}{how}")
    return f"training images averaged at σ = {short(sigma)}, exp(entropy): {'; '.join(parts)}." if parts else ""


def _bound(k: Measurement) -> str:
    return f" (a bound: {side})" if (side := bound(k)) else ""


def _sample_words(model: Model) -> str:
    parts = []
    for first, second in PAIRS[:4]:
        for m in model.found("sample_distance", first=first, second=second):
            parts.append(f"{pair_words((first, second))} {measurement_text(m)}")
    scale = model.found("sample_distance", noise="other noise")
    if scale:
        parts.append(
            f"for scale, two {WORDS[scale[0].params['first']]} ones of different noise {measurement_text(scale[0])}"
        )
    for m in model.found("discretisation_error"):
        parts.append(f"the sampler's own error, by the Gaussian one, {measurement_text(m)}")
    return f"RMS per value between samples from the same noise: {'; '.join(parts)}." if parts else ""


def _nearest_words(model: Model) -> str:
    found = [m for m in model.found("nearest_training_distance") if m.value is not None]
    parts = [f"{SETS[m.params['set']]} {measurement_text(m)}" for m in found]
    return f"RMS per value to the nearest training image: {'; '.join(parts)}." if parts else ""


def caveats(models: Sequence[Model]) -> list[str]:
    result = models[0].result
    trained_on = [name for name, split in result.settings["points"].items() if split == "training"]
    told = reasons(list(result))
    if trained_on:
        told.append(
            f"{listed(trained_on)}: no images are held out, so the noisy images are of the training set, where a model "
            "that has memorized it looks like the multi-delta denoiser (--set data.held_out=256)."
        )
    starts = [float(m.params["sigma"]) for m in result.find("trajectory_distance")]
    if starts and max(starts) < LOW_START:
        told.append(
            f"The ways start from pure noise at σ = {short(max(starts))}, where a real noisy image still shows the "
            "data's mean: all samples miss a part of it alike. Add a higher level (--sigma 80 …)."
        )
    if distilled := [model for model in models if model.found("linear_r_squared")]:
        told.append(
            "That D_L is near D_G is no sign of a Gaussian model by itself. For a denoiser that memorizes its training "
            "set perfectly the best affine map is D_G itself. And whatever D is, D_L is its projection on the affine "
            "maps, of which D_G is one: E|D − D_G|² = E|D − D_L|² + E|D_L − D_G|² where the fit's noisy images come "
            "from, so D is never nearer to D_G than D_L is. What tells models apart is how far D is from D_G and "
            "from D_L, beside the multi-delta denoiser."
        )
        told += [text for model in distilled if (text := _fitted_to(model))]
    return told


def _fitted_to(model: Model) -> str:
    """Where the linear map has not seen all training images."""
    facts = model.result.settings["models"][model.name]
    used, whole = facts.get("fitted_to"), model.found("linear_r_squared")[0].params.get("num_train")
    if used is None or whole is None or used >= whole:
        return ""
    return (
        f"{model.name}: the linear map is fitted to noisy images of {used:,} of the {whole:,} training images, drawn "
        "at random; the exact denoisers are made of all (--rows)."
    )
