"""The page of `leadline theory run capacity`: P2's Figure 3."""

from leadline.records import TheoryResult
from leadline.report.content import Figure, Finding, Section, TableView
from leadline.report.images import draw_panel
from leadline.report.lab.experiments.shared import (
    COPIES,
    COPY_RULE,
    COSINE,
    DEFINED,
    GL,
    Axis,
    along,
    axis_table,
    ends,
    facts,
    levels_words,
    runs_caveat,
    runs_words,
)
from leadline.report.lab.lines import Series, over_sigma, reasons
from leadline.report.lab.page import PAGES, LabPage
from leadline.report.words import listed, plain

SAMPLES = Series("samples", GL, {"set": "samples", "squared": False})
HELD_OUT = Series("held-out real images", GL, {"set": "held-out", "squared": False})
COPIED = Series("copies among samples", COPIES, {"set": "samples"})
GAUSSIAN = Series("to the Gaussian", "score_difference", {"first": "trained", "second": "gaussian"})
MULTI_DELTA = Series("to the multi-delta", "score_difference", {"first": "trained", "second": "multi-delta"})
LINEAR = Series("trained", "linearity", {"denoiser": "trained", "centred": False})
AFFINE = Series("Gaussian", "linearity", {"denoiser": "gaussian", "centred": False})
CENTRED = Series("linearity about the mean", "linearity", {"denoiser": "trained", "centred": True})
CLAIM = "P2 says that the Gaussian bias is strongest for small capacity and early stopping."


@PAGES.register("experiment-capacity")
def page(result: TheoryResult) -> LabPage:
    """The answer; everything against width, then against the training step; over the noise level; samples."""
    width, step = axes(result)
    return LabPage(
        title="Small capacity and early stopping",
        findings=[_answer(result, width, "Width"), _answer(result, step, "Early stopping")],
        caveats=[
            runs_caveat(result),
            "Every model is trained by the same recipe: a wider one may want another learning rate or more steps, and "
            "an early step lies on the way of one schedule whose learning rate has not yet fallen.",
            *reasons(list(result)),
        ],
        facts=facts(result),
        sections=[
            _against(result, width, "width", "Width"),
            _against(result, step, "step", "Training step"),
            _levels(result, width, step),
            _samples(result),
        ],
    )


def axes(result: TheoryResult) -> tuple[Axis, Axis]:
    """Width at the last step, and training step of the widest model."""
    channels, steps = ([m.params[key] for m in result if key in m.params] for key in ("channels", "step"))
    return (
        Axis("channels", "channels of the first block", {"step": max(steps)}),
        Axis("step", f"training step, {max(channels)} channels", {"channels": max(channels)}),
    )


def _answer(result: TheoryResult, axis: Axis, run: str) -> Finding:
    def told(series: Series) -> str:
        return ends(result, series, axis, result.find(f"{series.name}_change", along=axis.key, **series.params))

    levels = levels_words(result)
    sentences = [
        ("Distance to the multi-delta denoiser", told(MULTI_DELTA)),
        ("Linearity", told(LINEAR)),
        ("Generalization score of samples", told(SAMPLES)),
    ]
    return Finding(
        run=run,
        headline=plain(
            f"score difference to the Gaussian denoiser, {levels}, against {axis.words}: {told(GAUSSIAN)}; "
            f"{runs_words(result)}."
        ),
        sentences=(*((label, plain(f"{words}.")) for label, words in sentences if words), ("The paper", CLAIM)),
    )


def _against(result: TheoryResult, axis: Axis, key: str, title: str) -> Section:
    levels = levels_words(result)
    figures: list[Figure] = [
        *along(
            result,
            [GAUSSIAN, MULTI_DELTA],
            axis,
            name=f"distance-{key}",
            caption=f"Score difference (P2 Eq. 6) of the trained denoiser, {levels}, against {axis.words}.",
            y_label="RMS difference per value",
        ),
        *along(
            result,
            [LINEAR, AFFINE],
            axis,
            name=f"linearity-{key}",
            caption=f"Linearity, {levels}, against {axis.words}.",
            y_label="cosine",
        ),
        *along(
            result,
            [SAMPLES, HELD_OUT],
            axis,
            name=f"gl-{key}",
            caption=f"Generalization score against {axis.words}.",
            y_label="generalization score",
        ),
    ]
    columns = [
        GAUSSIAN,
        MULTI_DELTA,
        Series("linearity", LINEAR.name, LINEAR.params),
        CENTRED,
        Series("generalization score", GL, SAMPLES.params),
        Series("of held-out", GL, HELD_OUT.params),
        COPIED,
    ]
    table: TableView = axis_table(
        result,
        columns,
        axis,
        key=key,
        caption=f"Against {axis.words}",
        note=f"Score differences and linearity: {levels}. {COPY_RULE}",
    )
    lead = f"{DEFINED} {COSINE}" if key == "width" else "The same numbers of the widest model on its way."
    return Section(id=key, title=title, lead=lead, figures=figures, tables=[table])


def _levels(result: TheoryResult, width: Axis, step: Axis) -> Section:
    """Score difference to both exact denoisers over the noise level, by width and by step."""
    figures: list[Figure] = []
    for axis, key, unit in ((width, "width", "channels"), (step, "step", "steps")):
        places = sorted({m.params[axis.key] for m in result.find("score_difference", **axis.fixed)})
        for series, which in ((GAUSSIAN, "gaussian"), (MULTI_DELTA, "multi-delta")):
            lines = [
                Series(f"{place:,} {unit}", series.name, {**series.params, **axis.fixed, axis.key: place})
                for place in places
            ]
            figures += over_sigma(
                result,
                lines,
                name=f"sigma-{key}-{which}",
                caption=f"Score difference {series.label} denoiser over the noise level, by {key}.",
                y_label="RMS difference per value",
                log_y=True,
            )
    return Section(
        id="levels",
        title="Score difference over the noise level",
        lead="P2 Eq. 6: the RMS difference between the clean images that two denoisers see in the same noisy held-out "
        "image, whose exact ones are made from the training set alone.",
        figures=figures,
    )


def _samples(result: TheoryResult) -> Section:
    drawn = [draw_panel(panel, listed(["all widths", "steps"])) for panel in result.panels]
    return Section(
        id="samples",
        title="Samples",
        lead="",
        figures=[figure for figure in drawn if figure is not None],
    )
