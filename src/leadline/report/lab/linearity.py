"""The page of `leadline theory linearity`: P2's Figure 1 for the models that were given."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from leadline.records import Measurement, TheoryResult
from leadline.report.content import Cell, Figure, Finding, Plot, Section, TableView
from leadline.report.drawings import point
from leadline.report.lab.lines import Series, central, decades, of, over_sigma, reasons, sigma_table
from leadline.report.lab.page import PAGES, LabPage
from leadline.report.plots import Line, draw
from leadline.report.words import (
    counted,
    interval_note,
    listed,
    measurement_cell,
    measurement_text,
    number,
    plain,
    short,
)

WORDS = {"trained": "trained", "gaussian": "Gaussian", "multi-delta": "multi-delta"}
AXES = {"num_train": "training images", "depth": "down blocks"}
"""What models may stand along: a params key, and its words."""
MOST_LINES = 6
GL = "generalization_score"
Found = Mapping[str, Callable[[str], Measurement | None]]
"""A line's label -> what finds a model's measurement."""
DEFINED = (
    "The score is |x − nearest training image| / |x|: 0 for a copy. The norm in the denominator is from mid-grey, so "
    "scores can be compared within one data set alone; held-out real images of it are the baseline."
)


@PAGES.register("linearity")
def page(result: TheoryResult) -> LabPage:
    """The answer for each model, linearity over the noise level, the generalization score, and both along an axis."""
    names = list(result.settings["models"])
    return LabPage(
        title=f"Linearity and generalization: {listed(names)}",
        findings=[answer(result, name) for name in names],
        caveats=_caveats(result),
        facts=[
            counted(len(result.settings["sigmas"]), "noise level"),
            f"{counted(result.settings['num_images'] // 2, 'pair')} of noisy images at most",
            f"{counted(result.settings['num_samples'], 'sample')} at most",
        ],
        sections=[linearity_section(result, names), generalization_section(result, names), *along_axes(result, names)],
    )


def answer(result: TheoryResult, name: str) -> Finding:
    """Linearity at a level between noise and image, against the references; the GL score against held-out images."""
    own = of(result, _series("", name, "trained", centred=False))
    sigma = central(own)
    if sigma is None:
        headline = f"linearity could not be measured. {' '.join(reasons(list(own.values())))}"
    else:
        headline = f"linearity at σ = {short(sigma)}: {measurement_text(own[sigma])}{_references(result, name, sigma)}."
    sentences = [
        ("Least linear", _least(own)),
        ("About the training mean", _centred(result, name, sigma)),
        ("Generalization", _generalization(result, name)),
    ]
    told = tuple((label, plain(words)) for label, words in sentences if words)
    return Finding(run=plain(name), headline=plain(headline), sentences=told)


def _series(label: str, model: str, denoiser: str, *, centred: bool) -> Series:
    return Series(label, "linearity", {"model": model, "denoiser": denoiser, "centred": centred})


def _references(result: TheoryResult, name: str, sigma: float, *, centred: bool = False) -> str:
    words = []
    for denoiser in ("gaussian", "multi-delta"):
        m = of(result, _series("", name, denoiser, centred=centred)).get(sigma)
        if m is not None and m.value is not None:
            words.append(f"{WORDS[denoiser]} {measurement_text(m)}")
    return f"; {'; '.join(words)}" if words else ""


def _least(own: dict[float, Measurement]) -> str:
    known = {sigma: m for sigma, m in own.items() if m.value is not None}
    if len(known) < 2:
        return ""
    least = min(known, key=lambda sigma: known[sigma].value or 0)
    return f"{measurement_text(known[least])} at σ = {short(least)}, of {counted(len(known), 'level')}."


def _centred(result: TheoryResult, name: str, sigma: float | None) -> str:
    if sigma is None:
        return ""
    m = of(result, _series("", name, "trained", centred=True)).get(sigma)
    if m is None:
        return ""
    return f"at σ = {short(sigma)}: {measurement_text(m)}{_references(result, name, sigma, centred=True)}."


def _generalization(result: TheoryResult, name: str) -> str:
    words = []
    for which, called in (("samples", "samples"), ("held-out", "held-out real images")):
        for m in result.find(GL, model=name, set=which, squared=False):
            words.append(f"{called} {measurement_text(m)}")
    return f"score of {'; '.join(words)}." if words else ""


def _caveats(result: TheoryResult) -> list[str]:
    caveats = reasons(list(result))
    trained_on = [name for name, split in result.settings["points"].items() if split == "training"]
    if trained_on:
        caveats.append(
            f"{listed(trained_on)}: no images are held out, so linearity is measured at noisy training images "
            "(--set data.held_out=256)."
        )
    caveats.append(
        "The cosine is near 1 wherever the output is mostly its mean, as at high σ: the Gaussian denoiser is affine at "
        "every level, and its value is what an affine map gets. About the training mean every affine map has 1."
    )
    return caveats


def linearity_section(result: TheoryResult, names: Sequence[str]) -> Section:
    """Linearity over the noise level: the models, and the exact denoisers of each one's training set."""
    lead = (
        "P2: the cosine of D(αx₁ + βx₂; σ) and αD(x₁; σ) + βD(x₂; σ), α = β = 1/√2, of two images with their own noise "
        "at σ. 1 is linear."
    )
    figures: list[Figure] = []
    for centred, words in ((False, "as the paper has it"), (True, "about the training mean")):
        figures += over_sigma(
            result,
            _drawn(names, centred=centred),
            name=f"linearity-{'centred' if centred else 'plain'}",
            caption=f"Linearity over the noise level, {words}. Bars: intervals over pairs of images.",
            y_label="cosine",
        )
    tables = [
        sigma_table(
            result,
            [
                _series(f"{words}{', about the mean' if centred else ''}", name, denoiser, centred=centred)
                for centred in (False, True)
                for denoiser, words in WORDS.items()
                if of(result, _series("", name, denoiser, centred=centred))
            ],
            key=f"linearity_{place}",
            caption=f"{name}: linearity",
        )
        for place, name in enumerate(names)
    ]
    return Section(id="linearity", title="Linearity", lead=lead, figures=figures, tables=tables)


def _drawn(names: Sequence[str], *, centred: bool) -> list[Series]:
    """Of one model all its denoisers; of several the trained ones, and the references of the first."""
    if len(names) == 1:
        return [_series(words, names[0], denoiser, centred=centred) for denoiser, words in WORDS.items()]
    shown = [_series(name, name, "trained", centred=centred) for name in names[: MOST_LINES - 1]]
    return [*shown, _series(f"Gaussian of {names[0]}", names[0], "gaussian", centred=centred)]


def generalization_section(result: TheoryResult, names: Sequence[str]) -> Section:
    """GL scores of samples and of held-out images, with both denominators."""
    columns: list[tuple[str, dict[str, Any]]] = [
        ("Samples", {"set": "samples", "squared": False}),
        ("Held-out real images", {"set": "held-out", "squared": False}),
        ("Samples, |x|² below", {"set": "samples", "squared": True}),
        ("Held-out real images, |x|² below", {"set": "held-out", "squared": True}),
    ]
    found = [[next(iter(result.find(GL, model=name, **params)), None) for _, params in columns] for name in names]
    drawn = result.settings["samples"]
    rows = [
        (Cell(text=plain(name)), Cell(text=plain(drawn[name])), *map(measurement_cell, row))
        for name, row in zip(names, found, strict=True)
    ]
    table = TableView(
        key=GL,
        caption="Generalization score",
        columns=("Model", "Samples are", *(title for title, _ in columns)),
        rows=tuple(rows),
        note=f"{interval_note([m for row in found for m in row])} The poster of the paper has |x|² in the denominator; "
        "the plain norm is our reading.".strip(),
    )
    return Section(id="generalization", title="Generalization score", lead=DEFINED, tables=[table])


def along_axes(result: TheoryResult, names: Sequence[str]) -> list[Section]:
    """Linearity and GL score along what the models differ in: number of training images, depth."""
    return [_along(result, names, axis, words) for axis, words in AXES.items() if len(_places(result, names, axis)) > 1]


def _places(result: TheoryResult, names: Sequence[str], axis: str) -> list[float]:
    """Where the models stand on the axis, ascending; nothing where two stand at one place or one has none."""
    found = [next((m.params.get(axis) for m in result if m.params.get("model") == name), None) for name in names]
    whole = None not in found and len(set(found)) == len(found)
    return sorted(float(value) for value in found if value is not None) if whole else []


def _along(result: TheoryResult, names: Sequence[str], axis: str, words: str) -> Section:
    order = sorted(names, key=lambda name: _place(result, name, axis))
    scores: Found = {
        label: partial(_score, result, which=which)
        for label, which in (("samples", "samples"), ("held-out real images", "held-out"))
    }
    cosines: Found = {f"σ = {short(sigma)}": partial(_cosine, result, sigma=sigma) for sigma in _levels(result, order)}
    figures = [
        *_axis_plot(result, order, axis, scores, f"gl-{axis}", "Generalization score", words),
        *_axis_plot(result, order, axis, cosines, f"linearity-{axis}", "Linearity of the trained model", words),
    ]
    return Section(
        id=f"along-{axis.replace('_', '-')}",
        title=f"Against {words}",
        lead=f"The same numbers along what the models differ in: {words}. One training run each, unless a model stands "
        "for several: intervals are over images, not over runs.",
        figures=figures,
    )


def _score(result: TheoryResult, name: str, which: str) -> Measurement | None:
    return next(iter(result.find(GL, model=name, set=which, squared=False)), None)


def _cosine(result: TheoryResult, name: str, sigma: float) -> Measurement | None:
    return of(result, _series("", name, "trained", centred=False)).get(sigma)


def _place(result: TheoryResult, name: str, axis: str) -> float:
    return float(next(m.params[axis] for m in result if m.params.get("model") == name))


def _levels(result: TheoryResult, names: Sequence[str]) -> list[float]:
    """Up to three noise levels at which all models have a value: the least, the central one, the largest below 10."""
    common: dict[float, Measurement] = {}
    for place, name in enumerate(names):
        by_level = of(result, _series("", name, "trained", centred=False))
        known = {sigma: m for sigma, m in by_level.items() if m.value is not None}
        common = known if place == 0 else {sigma: m for sigma, m in common.items() if sigma in known}
    middle = central(common)
    if middle is None:
        return []
    below = [sigma for sigma in common if sigma <= 10]
    return sorted({min(below, default=middle), middle, max(below, default=middle)})


def _axis_plot(
    result: TheoryResult,
    names: Sequence[str],
    axis: str,
    wanted: Found,
    key: str,
    title: str,
    words: str,
) -> list[Plot]:
    lines, told = [], []
    for style, (label, find) in enumerate(wanted.items()):
        points = [p for name in names if (p := point(_place(result, name, axis), find(name))) is not None]
        if points:
            lines.append(Line(label=label, points=tuple(points), style=style))
            told.append(f"{label}: {', '.join(f'{number(p.y)} at {short(p.x)}' for p in points)}")
    if not lines:
        return []
    places = [_place(result, name, axis) for name in names]
    return [
        draw(
            lines,
            name=key,
            alt=f"{title} against {words}. {'. '.join(told)}.",
            caption=f"{title} against {words}. Bars: intervals over images.",
            x_label=words,
            y_label=title.lower(),
            x_ticks=decades(places) if axis == "num_train" else (),
        )
    ]
