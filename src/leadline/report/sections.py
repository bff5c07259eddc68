"""The sections of the page, in their order. A new one is a function here: (views of the runs) -> Section.

A section that has nothing to show is there with its reason as `lead`.
"""

from collections.abc import Callable, Sequence

from leadline.records import Panel, Table
from leadline.registry import Registry
from leadline.report import caveats, drawings, settings, tables
from leadline.report.content import Figure, Section
from leadline.report.findings import finding
from leadline.report.images import draw_panel
from leadline.report.views import RunView, who
from leadline.report.words import counted, measurement_text

Views = Sequence[RunView]
SECTIONS: Registry[Callable[[Views], Section]] = Registry("report section")
"""Name of a section (its anchor) -> the function that makes it; the page shows them in the order of registration."""

BIAS = ("share", "share_difference", "share_ratio", "share_amplification")
MEMORIZATION = ("nearest_distance", "nearest_similarity")
DIVERSITY = ("mean_pairwise_distance",)
NEIGHBOURS = "nearest_neighbors"
"""Beginning of the names of the panels with nearest neighbours."""
LABELER = "labeler_"
"""Beginning of the names of the labeler's measurements and tables."""


@SECTIONS.register("answer")
def answer(views: Views) -> Section:
    """What was found, in sentences, before any table."""
    pressing = [caveat for caveat in (caveats.stochastic_sampler(views), caveats.unlike_settings(views)) if caveat]
    found = [finding(view) for view in views]
    return Section(id="answer", title="The answer", lead="", findings=found, caveats=pressing)


@SECTIONS.register("overview")
def overview(views: Views) -> Section:
    """One row per run."""
    noun = "run" if all(view.header.kind == "run" for view in views) else "audit"
    lead = f"{counted(len(views), noun)}{', side by side' if len(views) > 1 else ''}."
    return Section(id="overview", title="Overview", lead=lead, tables=[tables.overview(views)])


@SECTIONS.register("caveats")
def caveats_section(views: Views) -> Section:
    """What the numbers do not show."""
    lead = "What the numbers do and do not show."
    return Section(id="caveats", title="How far to trust this", lead=lead, caveats=caveats.all_of(views))


@SECTIONS.register("bias")
def bias(views: Views) -> Section:
    """Shares of the classes in samples and training data, over depth and as a table per run."""
    title = "Bias: shares of the classes"
    measured = [view for view in views if any(m.value is not None for m in view.find("share"))]
    if not measured:
        return Section(id="bias", title=title, lead=_nothing(views, "bias"), caveats=tables.not_measured(views, BIAS))
    shown = [tables.shares(view) for view in measured]
    shown += [tables.of_audit(view, table) for view in measured for table in _tables(view, "shares")]
    return Section(
        id="bias",
        title=title,
        lead="How often each class is made, against how often it is in the training data. share_amplification is the "
        "logarithm of the odds ratio: 0 is none, above 0 the class is made more often than the data has it.",
        figures=drawings.bias(measured),
        tables=shown,
        caveats=_missing(views, measured) + tables.not_measured(views, BIAS),
    )


@SECTIONS.register("memorization")
def memorization(views: Views) -> Section:
    """Distances to the nearest training images beside the held-out baseline, and the nearest neighbours themselves."""
    title = "Memorization: nearest training images"
    measured = [view for view in views if any(view.find(name) for name in MEMORIZATION)]
    panels = _panels(views, lambda name: name.startswith(NEIGHBOURS))
    if not measured and not panels:
        return Section(id="memorization", title=title, lead=_nothing(views, "memorization"))
    shown = [tables.neighbours(measured, name) for name in MEMORIZATION if any(v.find(name) for v in measured)]
    return Section(
        id="memorization",
        title=title,
        lead="How near generated images are to their k nearest training images, and the same for held-out real images "
        "of the same data: only images nearer than those are a sign of copying.",
        figures=[*drawings.neighbours(measured), *panels],
        tables=shown + [table for table in (tables.plain_distances(measured),) if table is not None],
        caveats=_missing(views, measured),
    )


@SECTIONS.register("diversity")
def diversity(views: Views) -> Section:
    """Mean pairwise distance of the samples beside that of the training data."""
    title = "Diversity: mean pairwise distance"
    measured = [view for view in views if view.find(*DIVERSITY)]
    if not measured:
        return Section(id="diversity", title=title, lead=_nothing(views, "diversity"))
    return Section(
        id="diversity",
        title=title,
        lead="How far apart two images are on average, over all pairs. The total falls by itself when one class takes "
        "over, so read it beside the shares.",
        figures=drawings.diversity(measured),
        tables=[tables.diversity(measured)],
        caveats=_missing(views, measured),
    )


@SECTIONS.register("samples")
def samples(views: Views) -> Section:
    """Grids of generated images side by side, and what the models were trained on."""
    figures = _panels(views, lambda name: name == "samples") + _panels(views, lambda name: name == "training")
    if not figures:
        return Section(id="samples", title="Images", lead=_nothing(views, "samples"))
    lead = "Generated images in the order in which they were drawn, none chosen."
    seeds = {drawn.seed for view in views if (drawn := view.sampling) is not None}
    if len(views) > 1 and len(seeds) == 1 and all(view.sampling is not None for view in views):
        lead += f" The same place in two grids is the same index of the same seed ({seeds.pop()})."
    elif len(seeds) > 1:
        lead += " The runs were drawn with different seeds: places in two grids do not correspond."
    return Section(id="samples", title="Images", lead=lead, figures=figures)


@SECTIONS.register("labeler")
def labeler(views: Views) -> Section:
    """How well the classifier that labels the images knows its classes."""
    title = "The labeler"
    accuracies: dict[str, list[str]] = {}
    for view in views:
        for m in view.find("labeler_accuracy"):
            accuracies.setdefault(measurement_text(m), []).append(view.name)
    confusions: dict[str, tuple[Table, list[str]]] = {}
    for view in views:
        for table in _tables(view, "labeler_confusion"):
            confusions.setdefault(table.model_dump_json(), (table, []))[1].append(view.name)
    others = [
        *(tables.long(view, names, "More on the labeler") for view in views if (names := _more_on_labeler(view))),
        *(tables.of_audit(view, table) for view in views for table in _tables(view, LABELER, begins=True)
          if table.name != "labeler_confusion"),
    ]  # fmt: skip
    if not accuracies and not confusions and not others:
        lead = "No labeler was used in these audits: the labels came from elsewhere, or were not needed."
        return Section(id="labeler", title=title, lead=lead)
    of = [f" ({who(names, views)})" if len(accuracies) > 1 else "" for names in accuracies.values()]
    told = "; ".join(accuracy + who for accuracy, who in zip(accuracies, of, strict=True))
    return Section(
        id="labeler",
        title=title,
        lead=f"A classifier labels the images. Its accuracy on real images that it has not seen: {told or 'unknown'}.",
        tables=[*(tables.confusion(table, who(names, views)) for table, names in confusions.values()), *others],
    )


def _more_on_labeler(view: RunView) -> list[str]:
    names = dict.fromkeys(m.name for m in view.audit or () if m.name.startswith(LABELER))
    return [name for name in names if name != "labeler_accuracy"]


@SECTIONS.register("training")
def training(views: Views) -> Section:
    """Loss over training steps."""
    reasons = [f"{view.name}: {view.curve_reason}." for view in views if not view.curve]
    figures = drawings.curves([view for view in views if view.curve])
    lead = "The loss as it was logged, not smoothed." if figures else "No training curve to show."
    return Section(id="training", title="Training", lead=lead, figures=figures, caveats=reasons)


SECTIONS.register("data")(settings.data_section)


@SECTIONS.register("other")
def other(views: Views) -> Section:
    """Every measurement, table and panel that no section above shows: a new metric appears here by itself."""
    shown = []
    for view in views:
        if view.audit is None:
            continue
        names = tuple(dict.fromkeys(m.name for m in view.audit if not _has_section(m.name)))
        shown += [tables.long(view, names, "Other measurements")] if names else []
        own = [table for table in view.audit.tables if table.name != "shares" and not table.name.startswith(LABELER)]
        shown += [tables.of_audit(view, table) for table in own]
    figures = _panels(views, lambda name: name not in ("samples", "training") and not name.startswith(NEIGHBOURS))
    lead = "What has no section of its own." if shown or figures else "Every measurement is shown above."
    return Section(id="other", title="Other measurements", lead=lead, tables=shown, figures=figures)


SECTIONS.register("settings")(settings.settings_section)


def _has_section(name: str) -> bool:
    return name in BIAS + MEMORIZATION + DIVERSITY or name.startswith(LABELER)


def _nothing(views: Views, what: str) -> str:
    reasons = (f"{view.name}: {view.audit_reason or f'the audit has no results on {what}'}" for view in views)
    return f"Nothing to show. {'; '.join(reasons)}."


def _missing(views: Views, measured: Views) -> list[str]:
    return [
        f"{view.name} is missing here: {view.audit_reason or 'it was not measured in this audit'}."
        for view in views
        if view not in measured
    ]


def _tables(view: RunView, name: str, *, begins: bool = False) -> list[Table]:
    found = () if view.audit is None else view.audit.tables
    return [table for table in found if (table.name.startswith(name) if begins else table.name == name)]


def _panels(views: Views, wanted: Callable[[str], bool]) -> list[Figure]:
    """The wanted panels, drawn; one that several runs share (training and held-out images) is shown once."""
    shared: dict[tuple[str, bytes], tuple[Panel, list[str]]] = {}
    for view in views:
        for panel in view.audit.panels if view.audit is not None else ():
            if wanted(panel.name):
                shared.setdefault((panel.name, panel.tiles.tobytes()), (panel, []))[1].append(view.name)
    drawn = [draw_panel(panel, who(names, views)) for panel, names in shared.values()]
    return [figure for figure in drawn if figure is not None]
