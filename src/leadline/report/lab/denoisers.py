"""The page of `leadline theory denoisers`: P2's Figure 2 for the models that were given."""

from leadline.records import Measurement, TheoryResult
from leadline.report.content import Cell, Section, TableView
from leadline.report.images import draw_panel
from leadline.report.lab.denoisers_words import RMS, SETS, SHARE, WORDS, Model, answer, caveats, pair_words
from leadline.report.lab.lines import Series, bound, of, over_sigma, sigma_table
from leadline.report.lab.page import PAGES, LabPage
from leadline.report.words import (
    counted,
    interval_note,
    listed,
    measurement_cell,
    plain,
)


@PAGES.register("denoisers")
def page(result: TheoryResult) -> LabPage:
    """For each model: the answer, score differences, effective k, samples and trajectories."""
    names = list(result.settings["models"])
    models = [Model(result, name, f"-{number}" if number > 1 else "") for number, name in enumerate(names, 1)]
    settings = result.settings
    return LabPage(
        title=f"Denoisers side by side: {listed(names)}",
        findings=[answer(model) for model in models],
        caveats=caveats(models),
        facts=[
            counted(len(settings["sigmas"]), "noise level"),
            f"{counted(settings['num_images'], 'noisy image')} at most",
            f"{counted(settings['num_seeds'], 'way')} from noise ({settings['sampler']})",
        ],
        sections=[section for model in models for section in sections(model, alone=len(models) == 1)],
    )


def sections(model: Model, *, alone: bool = True) -> list[Section]:
    """Score differences, effective k, samples and trajectories of one model. alone: its name need not be said."""
    of_it = "" if alone else f": {model.name}"
    return [_differences(model, of_it), _effective_k(model, of_it), _samples(model, of_it), _trajectories(model, of_it)]


def _differences(model: Model, of_it: str) -> Section:
    lead = (
        "P2 Eq. 6: RMS difference between the clean images that two denoisers see in the same noisy image. Gaussian – "
        "multi-delta is the scale: what pure memorization gives. The second table has the others as shares of it."
    )
    pairs = model.pairs("score_difference")
    columns = [
        *pairs,
        model.series("linear: the fit's own error", "linear_estimation_error"),
        model.series("R² of the linear map", "linear_r_squared"),
    ]
    columns = [series for series in columns if of(model.result, series)]
    return Section(
        id=f"score-difference{model.suffix}",
        title=plain(f"Score difference{of_it}"),
        lead=lead,
        figures=over_sigma(
            model.result,
            pairs,
            name=f"score-difference{model.suffix}",
            caption=f"{model.name}: score difference over the noise level, logarithmic on both axes.",
            y_label="RMS difference per value",
            log_y=True,
        ),
        tables=[
            sigma_table(
                model.result,
                columns,
                key=f"score_difference{model.suffix}",
                caption=f"{model.name}: score difference, {RMS}",
                note="The fit's own error is what finitely many noisy images alone put between the linear map and the "
                "best one, by the maps of two halves of them: a floor under its differences (--rows). R²: share of the "
                "trained denoiser's variance, on images that the fit has not seen."
                if model.found("linear_r_squared")
                else "",
            ),
            *_shares(model),
        ],
    )


def _shares(model: Model) -> list[TableView]:
    """The differences over that of the multi-delta and the Gaussian denoiser."""
    columns = model.pairs(SHARE)
    if not columns:
        return []
    table = sigma_table(
        model.result,
        columns,
        key=f"score_difference_share{model.suffix}",
        caption=f"{model.name}: score difference over that of Gaussian and multi-delta",
        note="Trained – Gaussian: 0 is the Gaussian denoiser itself, 1 as far from it as the denoiser that memorizes. "
        "Where all denoisers agree, as at the largest levels, both differences are small and the ratio says little.",
    )
    return [table]


def _effective_k(model: Model, of_it: str) -> Section:
    lead = (
        "How many training images a denoiser averages: exp(entropy) of the weights of the soft k-NN (P1 Eq. 2) that is "
        "nearest to it, its temperature τ* fitted level by level. The multi-delta denoiser is the soft k-NN of τ = "
        "2σ². Where R² is low no soft k-NN is near, and k says little."
    )
    lines = [model.series(WORDS[name], "effective_k", denoiser=name) for name in ("trained", "gaussian", "multi-delta")]
    lines = [series for series in lines if of(model.result, series)]
    columns = [
        column
        for series in lines
        for column in (
            Series(f"k, {series.label}", "effective_k", series.params),
            Series("R²", "effective_k_r_squared", series.params),
            Series("τ* / 2σ²", "temperature_ratio", series.params),
        )
        if of(model.result, column) and (column.name != "temperature_ratio" or series.label == WORDS["trained"])
    ]
    return Section(
        id=f"effective-k{model.suffix}",
        title=plain(f"Effective k{of_it}"),
        lead=lead,
        figures=over_sigma(
            model.result,
            lines,
            name=f"effective-k{model.suffix}",
            caption=f"{model.name}: effective k over the noise level, logarithmic on both axes.",
            y_label="training images averaged",
            log_y=True,
        ),
        tables=[
            sigma_table(
                model.result,
                columns,
                key=f"effective_k{model.suffix}",
                caption=f"{model.name}: effective k",
                note="At most, at least: every lower, every higher temperature fits as well.",
                beside=lambda m: f" {bound(m)}" if m.name == "effective_k" and bound(m) else "",
            )
        ],
    )


def _samples(model: Model, of_it: str) -> Section:
    figures = [
        figure
        for panel in model.result.panels
        if panel.name in (f"samples{model.suffix}", f"trajectory{model.suffix}")
        and (figure := draw_panel(panel, model.name)) is not None
    ]
    distances = [
        ("Samples from the same noise" if "noise" not in m.params else "Samples from different noise", _pair_of(m), m)
        for m in model.found("sample_distance")
        if m.value is not None
    ]
    distances += [
        ("Samples and the closed form of their ODE", WORDS[m.params["denoiser"]], m)
        for m in model.found("discretisation_error")
    ]
    distances += [
        ("Nearest training image", SETS[m.params["set"]], m) for m in model.found("nearest_training_distance")
    ]
    rows = [(Cell(text=what), Cell(text=which), measurement_cell(m)) for what, which, m in distances]
    table = TableView(
        key=f"samples{model.suffix}",
        caption=plain(f"{model.name}: distances of samples, {RMS}"),
        columns=("Between", "Denoiser", "Distance"),
        rows=tuple(rows),
        note=interval_note([m for _, _, m in distances]),
    )
    lead = (
        "From one and the same noise, by the same sampler over the same levels. The multi-delta denoiser can only give "
        "training images back: its distance to the nearest one shows that."
    )
    return Section(
        id=f"samples{model.suffix}",
        title=plain(f"Samples{of_it}"),
        lead=lead if figures else "There are no samples: the caveats above say why.",
        figures=figures,
        tables=[table] if rows else [],
    )


def _pair_of(m: Measurement) -> str:
    first, second = m.params["first"], m.params["second"]
    return WORDS[first] if first == second else pair_words((first, second))


def _trajectories(model: Model, of_it: str) -> Section:
    pairs = model.pairs("trajectory_distance")
    return Section(
        id=f"trajectories{model.suffix}",
        title=plain(f"Trajectories{of_it}"),
        lead="How far apart the noisy images x(σ) of two denoisers are on their ways from the same noise. At the first "
        "level they are the same image.",
        figures=over_sigma(
            model.result,
            pairs,
            name=f"trajectories{model.suffix}",
            caption=f"{model.name}: distance between two ways from the same noise, mean over seeds.",
            y_label="RMS difference per value",
        ),
        tables=[
            sigma_table(
                model.result,
                pairs,
                key=f"trajectories{model.suffix}",
                caption=f"{model.name}: distance between trajectories, {RMS}",
            )
        ]
        if pairs
        else [],
    )
