"""The sections of the page, in their order. A new one is a function here: (views of the runs) -> Section.

A section that has nothing to show is there with its reason as `lead`.
"""

from collections.abc import Callable, Sequence

from leadline.records import Table
from leadline.registry import Registry
from leadline.report import (
    caveats,
    copies,
    diversity,
    drawings,
    fidelity,
    human_labels,
    prompted,
    settings,
    share_tables,
    tables,
)
from leadline.report.comparison import comparison_section, failed_gate
from leadline.report.content import Finding, Section
from leadline.report.findings import finding
from leadline.report.frontier import frontier_section, sweep_finding
from leadline.report.human_labels import human_section
from leadline.report.images import panels
from leadline.report.pairs import pairs_section
from leadline.report.replicates import one_run_per_depth, replicate_findings, replicates_section
from leadline.report.sequential import LOOKS, SEQUENCE, sequential_section
from leadline.report.spaces import measured_spaces
from leadline.report.views import RunView, missing_runs, nothing_to_show, who
from leadline.report.watching import watching_section
from leadline.report.words import accuracy_text, counted

Views = Sequence[RunView]
SECTIONS: Registry[Callable[[Views], Section]] = Registry("report section")
"""Name of a section (its anchor) -> the function that makes it; the page shows them in the order of registration."""

BIAS = (
    "share",
    "share_difference",
    "share_ratio",
    "share_amplification",
    "corrected_share",
    "corrected_difference",
    "labeled_difference",
    "detectable_difference",
)
MEMORIZATION = ("nearest_distance", "nearest_similarity")
DIFFERENCES = tuple(f"{name}_difference" for name in MEMORIZATION)
SHOWN = {
    *BIAS,
    *MEMORIZATION,
    *DIFFERENCES,
    *copies.MEASURES,
    *diversity.MEASURES,
    *fidelity.MEASURES,
    *prompted.MEASURES,
    *human_labels.MEASURES,
    SEQUENCE,
}
"""Measurements that have a section."""
NEIGHBOURS = "nearest_neighbors"
"""Beginning of the names of the panels with nearest neighbours."""
LABELER = "labeler_"
"""Beginning of the names of the labeler's measurements and tables."""
SHOWN_TABLES = ("shares", copies.SWEEP, copies.SUSPECTS, LABELER, human_labels.TABLES, LOOKS)
"""Beginnings of the names of the tables that have a section."""


@SECTIONS.register("answer")
def answer(views: Views) -> Section:
    """What was found, in sentences, before any table."""
    found = (
        failed_gate(views),
        caveats.stochastic_sampler(views),
        caveats.unlike_settings(views),
        one_run_per_depth(views),
    )
    pressing = [caveat for caveat in found if caveat]
    return Section(id="answer", title="The answer", lead="", findings=headlines(views), caveats=pressing)


def headlines(views: Views) -> list[Finding]:
    """The answer for every set of replicates, then every run; for a steering sweep its own, then that of strength 0."""
    sweep = views[0].sweep
    if sweep is None:
        return [*replicate_findings(views), *(finding(view) for view in views)]
    return [sweep_finding(sweep), *(finding(view) for view in views if view.folder == sweep.zero.folder)]


@SECTIONS.register("overview")
def overview(views: Views) -> Section:
    """One row per run."""
    noun = "run" if all(view.header.kind == "run" for view in views) else "audit"
    lead = f"{counted(len(views), noun)}{', side by side' if len(views) > 1 else ''}."
    return Section(id="overview", title="Overview", lead=lead, tables=[tables.overview(views)])


SECTIONS.register("frontier")(frontier_section)
SECTIONS.register("comparison")(comparison_section)


@SECTIONS.register("caveats")
def caveats_section(views: Views) -> Section:
    """What the numbers do not show."""
    lead = "What the numbers do and do not show."
    return Section(id="caveats", title="How far to trust this", lead=lead, caveats=caveats.all_of(views))


@SECTIONS.register("bias")
def bias(views: Views) -> Section:
    """Shares of the classes in samples and training data, over depth and as a table per run."""
    title = "Bias: shares of the classes"
    measured = [view for view in views if view.measured(("share",))]
    missing = tables.not_measured(views, BIAS)
    if not measured:
        return Section(id="bias", title=title, lead=nothing_to_show(views, "bias"), caveats=missing)
    shown = [share_tables.shares(view) for view in measured]
    more = (make(view) for view in measured for make in (share_tables.corrected_shares, share_tables.shares_of_all))
    shown += [table for table in more if table is not None]
    shown += [tables.of_audit(view, table) for view in measured for table in view.tables("shares")]
    return Section(
        id="bias",
        title=title,
        lead="How often each class is made, against how often it is in the training data. share_amplification is the "
        "logarithm of the odds ratio: 0 is none, above 0 the class is made more often than the data has it.",
        figures=drawings.bias(measured),
        tables=shown,
        caveats=missing_runs(views, measured) + missing,
    )


SECTIONS.register("human")(human_section)
SECTIONS.register("sequential")(sequential_section)
SECTIONS.register("pairs")(pairs_section)
SECTIONS.register("replicates")(replicates_section)


@SECTIONS.register("memorization")
def memorization(views: Views) -> Section:
    """Distances to the nearest training images beside the held-out baseline, and the nearest neighbours themselves."""
    title = "Memorization: nearest training images"
    measured = [view for view in views if view.measured(MEMORIZATION)]
    figures = panels(views, lambda name: name.startswith(NEIGHBOURS))
    missing = tables.not_measured(views, (*MEMORIZATION, *DIFFERENCES))
    if not measured and not figures:
        lead = nothing_to_show(views, "memorization")
        return Section(id="memorization", title=title, lead=lead, caveats=missing)
    shown = [
        tables.neighbours(measured, name, space) for name in MEMORIZATION for space in measured_spaces(measured, name)
    ]
    return Section(
        id="memorization",
        title=title,
        lead="How near generated images are to their k nearest training images, and the same for held-out real images "
        "of the same data: only images nearer than those are a sign of copying.",
        figures=[*drawings.neighbours(measured), *figures],
        tables=shown + [table for table in (tables.plain_distances(measured),) if table is not None],
        caveats=missing_runs(views, measured) + missing,
    )


SECTIONS.register("copies")(copies.copies_section)
SECTIONS.register("diversity")(diversity.diversity_section)
SECTIONS.register("fidelity")(fidelity.fidelity_section)
SECTIONS.register("prompted")(prompted.prompted_section)


@SECTIONS.register("samples")
def samples(views: Views) -> Section:
    """Grids of generated images side by side, and what the models were trained on."""
    figures = panels(views, lambda name: name == "samples") + panels(views, lambda name: name == "training")
    if not figures:
        return Section(id="samples", title="Images", lead=nothing_to_show(views, "samples"))
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
            accuracies.setdefault(accuracy_text(m), []).append(view.name)
    confusions: dict[str, tuple[Table, list[str]]] = {}
    for view in views:
        for table in view.tables("labeler_confusion"):
            confusions.setdefault(table.model_dump_json(), (table, []))[1].append(view.name)
    others = [
        *(tables.long(view, names, "More on the labeler") for view in views if (names := _more_on_labeler(view))),
        *(tables.of_audit(view, table) for view in views for table in view.tables(LABELER)
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
        lead=f"A classifier labels the images. How often it is right: {told or 'unknown'}.",
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


SECTIONS.register("watching")(watching_section)
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
        own = [table for table in view.audit.tables if not table.name.startswith(SHOWN_TABLES)]
        shown += [tables.of_audit(view, table) for table in own]
    figures = panels(views, lambda name: name not in ("samples", "training") and not name.startswith(NEIGHBOURS))
    lead = "What has no section of its own." if shown or figures else "Every measurement is shown above."
    return Section(id="other", title="Other measurements", lead=lead, tables=shown, figures=figures)


SECTIONS.register("settings")(settings.settings_section)


def _has_section(name: str) -> bool:
    return name in SHOWN or name.startswith(LABELER)
