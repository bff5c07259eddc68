"""The page of `leadline theory run growth`: P2's Figure 1."""

from typing import Any

from leadline.records import Measurement, TheoryResult
from leadline.report.content import Figure, Finding, Section
from leadline.report.images import draw_panel
from leadline.report.lab.experiments.shared import (
    COPIES,
    COPY_RULE,
    COSINE,
    DEFINED,
    GL,
    WORDS,
    Axis,
    along,
    at,
    axis_table,
    ends,
    facts,
    levels_words,
    runs_caveat,
    runs_words,
)
from leadline.report.lab.lines import Series, over_sigma, reasons, sigma_table
from leadline.report.lab.page import PAGES, LabPage
from leadline.report.words import plain, short

AXIS = Axis("num_train", "training images", {})
DRAWN = (4.06, 0.469, 0.116)
"""Noise levels drawn against the axis, where they were measured: between pure noise and the clean image."""
CLAIM = (
    "P2 says that as the training set grows, the model goes from memorization (score near 0, copies) to "
    "generalization, and becomes more linear."
)


@PAGES.register("experiment-growth")
def page(result: TheoryResult) -> LabPage:
    """The answer, the generalization score, linearity, samples."""
    return LabPage(
        title="From memorization to generalization as the training set grows",
        findings=[_answer(result)],
        caveats=_caveats(result),
        facts=facts(result),
        sections=[_generalization(result), _linearity(result), _samples(result)],
    )


def _score(which: str, *, squared: bool = False) -> Series:
    label = {"samples": "samples", "held-out": "held-out real images"}[which]
    return Series(label + (", |x|² below" if squared else ""), GL, {"set": which, "squared": squared})


def _copies(which: str) -> Series:
    label = {"samples": "copies among samples", "held_out": "copies among held-out"}[which]
    return Series(label, COPIES, {"set": which})


def _mean(denoiser: str, *, centred: bool = False) -> Series:
    words = "about the mean" if centred else "mean over σ"
    return Series(f"{WORDS[denoiser]}, {words}", "linearity", {"denoiser": denoiser, "centred": centred})


def _changes(result: TheoryResult, name: str, **params: Any) -> list[Measurement]:
    return result.find(f"{name}_change", **params)


def _answer(result: TheoryResult) -> Finding:
    scores = ends(result, _score("samples"), AXIS, _changes(result, GL))
    linear = ends(result, _mean("trained"), AXIS, _changes(result, "linearity", centred=False))
    centred = ends(result, _mean("trained", centred=True), AXIS, _changes(result, "linearity", centred=True))
    sentences = [
        ("Linearity", f"{levels_words(result)}: {linear}." if linear else ""),
        ("About the training mean", f"{centred}." if centred else ""),
        ("Copies", _copy_words(result)),
        ("The paper", CLAIM),
    ]
    return Finding(
        run="Growth",
        headline=plain(f"generalization score of samples against {AXIS.words}: {scores}; {runs_words(result)}."),
        sentences=tuple((label, plain(words)) for label, words in sentences if words),
    )


def _copy_words(result: TheoryResult) -> str:
    words = ends(result, _copies("samples"), AXIS, [])
    return f"share of samples: {words.partition(': not decided')[0]}." if words else ""


def _caveats(result: TheoryResult) -> list[str]:
    nested = (
        "Every training set is a part of the next larger one."
        if result.settings["nested"]
        else "The training sets are no parts of each other: they differ in which images they hold too."
    )
    return [
        runs_caveat(result),
        f"{nested} All models have as many training steps: on fewer images that is more passes over each.",
        *reasons(list(result)),
    ]


def _generalization(result: TheoryResult) -> Section:
    columns = [_score("samples"), _score("held-out"), _copies("samples"), _copies("held_out")]
    columns += [_score("samples", squared=True), _score("held-out", squared=True)]
    return Section(
        id="generalization",
        title="Generalization score",
        lead=DEFINED,
        figures=[
            *along(
                result,
                [_score("samples"), _score("held-out")],
                AXIS,
                name="gl",
                caption="Generalization score against the number of training images.",
                y_label="generalization score",
            ),
            *along(
                result,
                [_copies("samples"), _copies("held_out")],
                AXIS,
                name="copies",
                caption="Share of images that are copies of training images.",
                y_label="copies (%)",
                factor=100,
            ),
        ],
        tables=[
            axis_table(
                result,
                columns,
                AXIS,
                key="generalization",
                caption="Generalization score and copies",
                note=f"{COPY_RULE} The paper's poster has |x|² in the denominator; the plain norm is our reading.",
            )
        ],
    )


def _linearity(result: TheoryResult) -> Section:
    measured = {m.params["sigma"] for m in result.find("linearity") if "sigma" in m.params}
    at_levels = [
        Series(f"trained, σ = {short(sigma)}", "linearity", {"denoiser": "trained", "centred": False, "sigma": sigma})
        for sigma in DRAWN
        if sigma in measured
    ]
    places = list(at(result, _mean("trained"), AXIS))
    by_size = [
        Series(f"{place:,} images", "linearity", {"denoiser": "trained", "centred": False, AXIS.key: place})
        for place in places
    ]
    # The Gaussian one's about the mean is 1, as that of every affine map.
    columns = [*map(_mean, WORDS), *(_mean(denoiser, centred=True) for denoiser in ("trained", "multi-delta"))]
    figures: list[Figure] = [
        *along(
            result,
            [_mean("trained"), *at_levels, _mean("gaussian")],
            AXIS,
            name="linearity-size",
            caption="Linearity against the number of training images.",
            y_label="cosine",
        ),
        *over_sigma(
            result,
            by_size,
            name="linearity-sigma",
            caption="Linearity of the trained models over the noise level.",
            y_label="cosine",
        ),
    ]
    return Section(
        id="linearity",
        title="Linearity",
        lead=COSINE,
        figures=figures,
        tables=[
            axis_table(result, columns, AXIS, key="linearity", caption=f"Linearity, {levels_words(result)}"),
            sigma_table(result, by_size, key="linearity_sigma", caption="Linearity of the trained models"),
        ],
    )


def _samples(result: TheoryResult) -> Section:
    drawn = [draw_panel(panel, "All models") for panel in result.panels]
    return Section(
        id="samples",
        title="Samples",
        lead="Where a model has memorized, a sample and the image below it are the same picture.",
        figures=[figure for figure in drawn if figure is not None],
    )
