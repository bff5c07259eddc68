"""The page of `leadline theory bias-variance`: bias, variance and its parts over the noise level, by depth."""

from dataclasses import replace

from leadline.records import Measurement, Table, TheoryResult
from leadline.report.content import Finding, Plot, Section, TableView
from leadline.report.images import draw_panel
from leadline.report.lab.lines import Series, over_sigma, reasons, sigma_table, verdict
from leadline.report.lab.page import PAGES, LabPage
from leadline.report.words import counted, measurement_text, plain, quoted, table_cell

BIAS, SQUARED, NOISE, TRAINING, TOTAL = (
    "class_bias",
    "squared_bias",
    "noise_variance",
    "training_variance",
    "variance",
)
WORDS = {
    SQUARED: "squared bias",
    NOISE: "variance by noise",
    TRAINING: "variance between training runs",
    TOTAL: "variance",
}
PANEL_ROOM = 64
CLAIM = (
    "2505.17560 claims that deeper encoders have a higher bias and a lower variance. Its Eq. 4 and 5 name no noise "
    "level and no number of noises or training runs: how they are read here is in the settings."
)


@PAGES.register("bias_variance")
def page(result: TheoryResult) -> LabPage:
    """The answer, bias over the noise level, both parts of the variance, the exchange, the runs one by one."""
    settings = result.settings
    return LabPage(
        title="Bias and variance of the generated class",
        findings=[*(_answer(result, name) for name in settings["subjects"]), *_exchange_answer(result)],
        caveats=_caveats(result),
        facts=[
            counted(settings["images"], "image"),
            f"{counted(settings['draws'], 'noise')} per image and level",
            counted(settings["training_images"], "training image"),
        ],
        sections=[_bias(result), _variance(result), *_exchange(result), _runs(result), *_labeler(result)],
    )


def _mean(result: TheoryResult, name: str, model: str, group: str | None = None) -> Measurement | None:
    """The mean over the noise levels."""
    return next((m for m in result.find(name, group, model=model) if "levels" in m.params), None)


def _answer(result: TheoryResult, name: str) -> Finding:
    """A subject's bias of the most frequent class and its variance, as means over the noise levels."""
    majority = result.settings["majority"]
    bias = _mean(result, BIAS, name, majority)
    if bias is None:
        return Finding(run=plain(name), headline="no noise level is measurable for all.", sentences=())
    parts = {part: m for part in WORDS if (m := _mean(result, part, name)) is not None}
    told = {part: f"{WORDS[part]} {measurement_text(m)}" for part, m in parts.items() if m.value is not None}
    whole = TOTAL in told
    alone = _alone(result, name)
    start = "in its one training run, mean" if alone else "mean"
    headline = (
        f"{start} over {counted(bias.params['levels'], 'noise level')}: bias of class {quoted(majority)} "
        f"{measurement_text(bias)}, {told[SQUARED]}, {told[TOTAL if whole else NOISE]}."
    )
    way = verdict(bias, "it is made more often than encoded", "it is made less often than encoded")
    of_it = "of this run" if alone else "over training runs"
    sentences = [(f"Class {quoted(majority)}, the most frequent", f"Bias {of_it}: {way}.")]
    if whole:
        sentences.append(("Parts of the variance", f"{told[NOISE]}; {told[TRAINING]}."))
    sentences += _compared(result, name)
    if len(result.settings["subjects"]) > 1 and name == list(result.settings["subjects"])[-1]:
        sentences.append(("The paper", CLAIM))
    return Finding(
        run=plain(name),
        headline=plain(headline),
        sentences=tuple((plain(label), plain(sentence)) for label, sentence in sentences),
    )


def _alone(result: TheoryResult, name: str) -> bool:
    """Whether a subject has a single training run: its numbers are of that run, not of its depth."""
    return len(result.settings["subjects"][name]) == 1


def _compared(result: TheoryResult, name: str) -> list[tuple[str, str]]:
    """What this model has more than the first, where both have runs to tell it from what differs between runs."""
    told, first = [], ""
    majority = result.settings["majority"]
    for part, group in ((BIAS, majority), (SQUARED, None), (NOISE, None), (TRAINING, None)):
        change = _mean(result, f"{part}_change", name, group)
        if change is None:
            continue
        first = str(change.params["compared_with"])
        if change.reason is not None:
            return [(f"Against {first}", f"not compared: {change.reason}.")]
        words = WORDS[part] if group is None else f"bias of class {quoted(group)}"
        told.append(f"{words} {measurement_text(change)}, {verdict(change, 'higher', 'lower')}")
    return [(f"Against {first}", f"{'; '.join(told)}.")] if told else []


def _caveats(result: TheoryResult) -> list[str]:
    runs = {name: len(names) for name, names in result.settings["subjects"].items()}
    told = [
        "Intervals of two or more training runs are over the runs, at the same images and noises, and wide where runs "
        f"are few ({', '.join(f'{name}: {n}' for name, n in runs.items())}); the table of runs shows their spread. "
        "Squared bias and the parts between runs compare runs with each other: their intervals need three. Other "
        "images would move all numbers further."
    ]
    if alone := [name for name, n in runs.items() if n == 1]:
        told.append(
            f"One training run ({', '.join(alone)}): every number is that run's, with what is its own by chance, its "
            "interval is over images, and nothing follows for another run or for a depth. The variance between runs is "
            "not measurable (leadline sweep --seeds 0,1,2 trains more; --replicates for soft k-NN)."
        )
    for name in runs:
        missing = [m for m in result.find(SQUARED, model=name) if "sigma" in m.params]
        told += [f"{name}: {reason}" for reason in reasons(missing)]
    if result.settings["labeler"] is not None:
        told.append(
            "A labeler gives what the models make its class, and so it does the images that are encoded: what it errs "
            "in alike is no bias, but on made images it may err otherwise. Soft k-NN votes by labels, and is compared "
            "with them."
        )
    return told


def _plots(
    result: TheoryResult, name: str, label: str, caption: str, *, group: str | None = None, factor: int = 1
) -> list[Plot]:
    """A line for each subject; of one class, or of no class."""
    chosen = replace(result, measurements=tuple(m for m in result if m.group == group))
    return over_sigma(
        chosen,
        [Series(model, name, {"model": model}) for model in result.settings["subjects"]],
        name=name.replace("_", "-"),
        caption=f"{caption} Bars: intervals over training runs, of a single run over images.",
        y_label=label,
        factor=factor,
    )


def _bias(result: TheoryResult) -> Section:
    majority = result.settings["majority"]
    squared = "‖E f̂ − f‖², mean over images, less what chance adds: 0 is no bias, 2 is always another class."
    figures = _plots(
        result,
        BIAS,
        f"bias of class {quoted(majority)} (points)",
        f"Share of class {quoted(majority)} among what was made, minus among what was encoded.",
        group=majority,
        factor=100,
    )
    return Section(
        id="bias",
        title="Bias",
        lead="How often each class is made, whatever was encoded, against how often it was encoded (Eq. 4).",
        figures=[*figures, *_plots(result, SQUARED, WORDS[SQUARED], squared)],
        tables=[_bias_table(result, model) for model in result.settings["subjects"]],
    )


def _bias_table(result: TheoryResult, model: str) -> TableView:
    """Bias of every class that is made or encoded, and its squared norm, at each noise level."""
    classes = [
        name for name in result.settings["classes"] if any(m.value for m in result.find(BIAS, name, model=model))
    ]
    # A column is of one class: the group becomes part of the name, as tables by noise level know names and params.
    shown = tuple(
        m.model_copy(update={"params": {**m.params, "class": m.group}})
        for m in result
        if m.params.get("model") == model and m.name in (BIAS, SQUARED)
    )
    columns = [Series(name, BIAS, {"class": name}) for name in classes]
    return sigma_table(
        replace(result, measurements=shown),
        [*columns, Series(WORDS[SQUARED], SQUARED)],
        key=f"bias_{model}",
        caption=f"{model}: bias of each class",
    )


def _variance(result: TheoryResult) -> Section:
    noise = "Variance of the class made between noises, within a training run."
    training = "Variance between training runs of their means over noises; without bias, so chance takes it below 0."
    return Section(
        id="variance",
        title="Variance",
        lead="E‖f̂ − E f̂‖² (Eq. 5), by the law of total variance: between the noises of one training run, and between "
        "training runs. From 0, always the same class, to 1 − 1/classes, all classes as often.",
        figures=[
            *_plots(result, NOISE, WORDS[NOISE], noise),
            *_plots(result, TRAINING, WORDS[TRAINING], training),
        ],
        tables=[
            sigma_table(
                result,
                [Series(WORDS[name], name, {"model": model}) for name in (NOISE, TRAINING, TOTAL)],
                key=f"variance_{model}",
                caption=f"{model}: variance and its parts",
            )
            for model in result.settings["subjects"]
        ],
    )


def _exchange_answer(result: TheoryResult) -> list[Finding]:
    changed = result.find("class_changed")
    if not changed:
        return []
    own, other = changed
    encoder, decoder = str(own.params["encoder"]), str(other.params["decoder"])
    near, far = result.find("exchange_distance")
    headline = (
        f"{measurement_text(other)} of the images come back as another class; decoded by {encoder} itself "
        f"{measurement_text(own)}."
    )
    distances = f"{measurement_text(far, unit=True)}; decoded by {encoder} itself {measurement_text(near, unit=True)}."
    return [
        Finding(
            run=plain(f"Encoded by {encoder}, decoded by {decoder}"),
            headline=plain(headline),
            sentences=(("Distance to the image encoded", plain(distances)),),
        )
    ]


def _exchange(result: TheoryResult) -> list[Section]:
    tables = [_as_view(table) for table in result.tables if table.name == "exchange"]
    if not tables:
        return []
    figures = [draw_panel(panel, "Exchange", PANEL_ROOM) for panel in result.panels]
    return [
        Section(
            id="exchange",
            title="Encoded by one, decoded by another",
            lead="Along one model's own ODE an image comes back as it was, but for the discretisation: "
            "that is the baseline. The other decoder makes another image of the same noise where the models differ.",
            figures=[figure for figure in figures if figure is not None],
            tables=tables,
        )
    ]


def _runs(result: TheoryResult) -> Section:
    tables = [_as_view(table) for table in result.tables if table.name == "runs"]
    return Section(id="runs", title="Training runs", lead="Each run by itself.", tables=tables)


def _as_view(table: Table) -> TableView:
    rows = tuple(tuple(replace(cell, text=plain(cell.text)) for cell in map(table_cell, row)) for row in table.rows)
    return TableView(
        key=table.name,
        caption=plain(table.title),
        columns=tuple(map(plain, table.columns)),
        rows=rows,
        note=plain(table.note),
        style="dense",
    )


def _labeler(result: TheoryResult) -> list[Section]:
    found = result.find("labeler_accuracy")
    if not found:
        return []
    lead = (
        f"{result.settings['labeler']}. Accuracy on labelled images that it has not seen: {measurement_text(found[0])}."
    )
    return [Section(id="labeler", title="Labeler", lead=plain(lead))]
