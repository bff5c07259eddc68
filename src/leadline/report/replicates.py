"""Training runs of one recipe side by side: their shares, the mean with its interval over runs, trend over depth."""

from collections.abc import Iterator, Sequence

from leadline.records import Measurement
from leadline.report.content import Cell, Finding, Plot, Section, TableView
from leadline.report.plots import Level, Line, Point, draw
from leadline.report.shares import could_turn, headline_groups, verdict
from leadline.report.views import RunView
from leadline.report.words import (
    brief_cell,
    counted,
    interval_text,
    like,
    listed,
    measurement_text,
    not_measurable,
    number,
    p_text,
    percent,
    percentage,
    plain,
    quoted,
)

Views = Sequence[RunView]
TITLE = "Replicates: training runs as the unit"
MEAN, CORRECTED, DIFFERENCE, SD = (
    "share_between_runs",
    "corrected_share_between_runs",
    "share_between_runs_difference",
    "training_run_sd",
)
SLOPE = "share_slope"
TRENDS = {
    "share_trend": ("Jonckheere-Terpstra", "share of pairs of runs whose deeper one has the larger share"),
    "share_trend_by_seed": ("Page", "mean rank correlation with depth, within training seeds"),
    SLOPE: ("logistic regression", "log-odds per block"),
}
"""Tests of a trend over depth -> how they are called, and what their value is."""
SPLIT = "variance_split"
VERDICTS = {
    -1: "less often than the training data",
    1: "more often than the training data",
    0: "no difference from the training data is shown",
}
MOST_DRAWN = 4
"""Classes with a drawing; the table has them all."""
BESIDE = 0.16
"""Distance on the x axis of the mean from the runs."""


def replicates_section(views: Views) -> Section:
    """What training runs that differ in their seed only say of their recipe, and of depth."""
    means = _found(views, MEAN)
    groups = _groups(views, means)
    measured = [m for m in means if m.value is not None]
    if not measured:
        return Section(id="replicates", title=TITLE, lead=_nothing(means), tables=_trend_tables(views))
    sets = list(dict.fromkeys(str(m.params["model"]) for m in measured))
    runs = {str(m.params["model"]): len(m.params["seeds"]) for m in measured}
    told = listed(f"{counted(runs[words], 'run')} of {words}" for words in sets)
    return Section(
        id="replicates",
        title=TITLE,
        lead=f"Runs that differ in their training seed only: {told}. The interval of their mean holds the spread "
        "between training runs; that of one run, elsewhere on this page, holds the sampling of its images alone.",
        figures=[plot for index, group in enumerate(groups) if (plot := _drawing(views, group, index)) is not None],
        tables=[_means(views, means), *_split(views, groups), *_trend_tables(views)],
        caveats=[*(_narrowing(views, m) for m in measured if m.group in groups), *_reasons(means)],
    )


def replicate_findings(views: Views) -> list[Finding]:
    """The answer for every set of replicates, and for the trend over depth; empty where nothing is replicated."""
    means = [m for m in _found(views, MEAN) if m.value is not None]
    groups = _groups(views, means)[:1]
    told = [
        Finding(
            run=f"{m.params['model']}, {counted(m.n or 0, 'training run')}", headline=_headline(views, m), sentences=()
        )
        for m in means
        if m.group in groups
    ]
    if not told:
        return []
    trends = [m for m in _found(views, "share_trend") if m.group in groups]
    return told + [Finding(run=_of_series(m), headline=_trend_sentence(views, m), sentences=()) for m in trends]


def one_run_per_depth(views: Views) -> str:
    """That depths are compared by a single training run each; empty where they are not."""
    means = [m for m in _found(views, MEAN) if m.params.get("depth") is not None]
    depths = {m.params["depth"] for m in means}
    alone = {m.params["depth"] for m in means if len(m.params["seeds"]) == 1}
    if len(depths) < 2 or not alone:
        return ""
    of = "per depth" if alone == depths else f"at {listed(map(str, sorted(alone)))} blocks"
    return f"One training run {of}: differences between depths may be differences between runs."


def _found(views: Views, name: str, group: str | None = None) -> list[Measurement]:
    across = views[0].across
    return [] if across is None else across.find(name, group)


def _groups(views: Views, means: Sequence[Measurement]) -> list[str]:
    """The classes that the answer speaks of."""
    of_runs = {folder for m in means for folder in m.params["folders"]}
    groups = (group for view in views if view.folder in of_runs for group in headline_groups(view))
    return list(dict.fromkeys(groups))[:MOST_DRAWN]


def _nothing(means: Sequence[Measurement]) -> str:
    reasons = dict.fromkeys(str(m.reason) for m in means)
    return f"No recipe was trained more than once here: {'; '.join(reasons)}." if reasons else (
        "Nothing to compare: no run of this page has both a recipe and measured shares."
    )  # fmt: skip


def _headline(views: Views, m: Measurement) -> str:
    """The answer rests on the share corrected for the labeler's errors, wherever a labeler named the classes."""
    corrected, difference = _same(views, CORRECTED, m), _difference(views, m)
    training = f"training data {percent(m.params['training_share'])}"
    if difference is None or difference.value is None:
        reason = "it was not measured" if difference is None else not_measurable(difference)
        return (
            f"{quoted(str(m.group))} in {like(m, m.value or 0.0)} of the recognised images as labelled "
            f"({interval_text(m)} over training runs), {training}: whether it is made more or less often cannot be "
            f"said. Corrected for the labeler's errors the share is {reason}."
        )
    told = (
        f"{like(m, m.value or 0.0)} of the recognised images ({interval_text(m)} over training runs)"
        if corrected is None or corrected.value is None
        else f"{like(corrected, corrected.value)} of the images of its classes, corrected for the labeler's errors "
        f"({interval_text(corrected)} over training runs; {like(m, m.value or 0.0)} as labelled)"
    )
    sign = verdict(difference)
    turn = ", but the images of no class could turn that around" if could_turn(difference, sign) else ""
    return f"{quoted(str(m.group))} in {told}, {training}: {VERDICTS[sign]}{turn}."


def _of_series(m: Measurement) -> str:
    member = m.params.get("member")
    return f"Over {listed(str(depth) for depth in m.params['depths'])} blocks" + (f", {member}" if member else "")


def _trend_sentence(views: Views, m: Measurement) -> str:
    if m.value is None:
        return f"a trend of {quoted(str(m.group))} over depth is {not_measurable(m)}."
    slope = next((s for s in _found(views, SLOPE, m.group) if s.params["depths"] == m.params["depths"]), None)
    way = "rises" if m.value > 0.5 else "falls" if m.value < 0.5 else "neither rises nor falls"
    size = "" if slope is None else f"; slope {measurement_text(slope, unit=True)}"
    seen = "no trend over depth is shown"
    if _is_trend(m, slope):
        assumed = ", taking the images of any two runs for independent" if m.params["noises"] == "unknown" else ""
        seen = f"a trend over depth is shown{assumed}"
    return (
        f"{quoted(str(m.group))}: {seen} ({p_text(m.params['p'])}, {m.method}, {counted(m.n or 0, 'training run')}); "
        f"in these runs the share {way} with depth{size}."
    )


def _is_trend(m: Measurement, slope: Measurement | None) -> bool:
    """Whether the runs show one for other starting noises, too: by the slope, unless no two runs share a noise."""
    if m.params["noises"] == "apart":
        return bool(m.params["p"] < 1 - (m.level or 0.0))
    return verdict(slope) != 0


def _drawing(views: Views, group: str, index: int) -> Plot | None:
    means = _found(views, MEAN, group)
    shown = [m for m in means if m.value is not None]
    if not shown:
        return None
    dots, bars = [], []
    for place, m in enumerate(shown):
        dots += [Point(x=place - BESIDE / 2, y=share) for share in m.params["shares"]]
        bars.append(Point(x=place + BESIDE / 2, y=m.value or 0.0, lower=m.lower, upper=m.upper))
    levels = dict.fromkeys(m.params["training_share"] for m in shown)
    told = "; ".join(
        f"{m.params['model']}: {_listed_shares(m)}, mean {measurement_text(m)}, training data "
        f"{percent(m.params['training_share'])}"
        for m in shown
    )
    return draw(
        [
            Line(label="one training run each", points=tuple(dots), joined=False, hollow=True),
            Line(label="their mean", points=tuple(bars), style=1, joined=False),
        ],
        name=f"replicates-{index}",
        alt=f"Share of {quoted(group)} by model. {told}.",
        caption=f"Share of {quoted(group)} in the recognised images of each training run, and their mean. Bars: "
        "interval over training runs; dashed: the share in the training data.",
        x_label="model",
        y_label=f"share of {quoted(group)}, %",
        levels=[Level(y=share, label=f"training data {percent(share)}") for share in levels],
        categories=[str(m.params["model"]) for m in shown],
        from_zero=True,
        factor=100,
    )


def _listed_shares(m: Measurement) -> str:
    return f"{', '.join(percentage(share) for share in m.params['shares'])} %"


def _means(views: Views, means: Sequence[Measurement]) -> TableView:
    corrected = any(m.value is not None for m in _found(views, CORRECTED))
    rows = []
    for m in means:
        row = [Cell(text=plain(m.params["model"])), Cell(text=plain(m.group)), Cell(text=str(len(m.params["seeds"])))]
        row.append(Cell(text=_listed_shares(m)) if m.value is not None else brief_cell(None))
        row += [brief_cell(m), _next_run(m)]
        row += [brief_cell(_same(views, CORRECTED, m))] if corrected else []
        row.append(Cell(text=percent(m.params["training_share"])) if m.value is not None else brief_cell(None))
        row += [brief_cell(_difference(views, m)), _spread(_same(views, SD, m))]
        rows.append(tuple(row))
    methods = dict.fromkeys(m.method for m in means if m.method)
    return TableView(
        key="replicates",
        caption="Shares over training runs",
        columns=(
            "Model",
            "Class",
            "Runs",
            "Share of each run",
            "Mean",
            "One more run",
            *(("Mean, corrected for the labeler's error",) if corrected else ()),
            "Training data",
            "Difference",
            "Between runs",
        ),
        rows=tuple(rows),
        note="Shares are of the recognised images, runs by rising training seed. Below a value: its interval "
        f"({'; '.join(methods)}). One more run: where its measured share lies, of as many images. Between runs: "
        "standard deviation of the runs' shares, the sampling of images taken off, with its Q-profile interval."
        + (" Difference and between runs: of the corrected shares, where there are any." if corrected else ""),
    )


def _spread(m: Measurement | None) -> Cell:
    if m is None or m.value is None:
        return brief_cell(m)
    ends = "" if m.lower is None or m.upper is None else f"{percentage(m.lower)} to {percentage(m.upper)} points"
    return Cell(text=f"{percentage(m.value)} points", detail=ends, numeric=True)


def _same(views: Views, name: str, m: Measurement, **params: bool) -> Measurement | None:
    """What was found under that name of the same runs and class."""
    across, of = views[0].across, {"folders": m.params["folders"], **params}
    return None if across is None else next(iter(across.find(name, m.group, **of)), None)


def _difference(views: Views, m: Measurement) -> Measurement | None:
    """From the training data: what the answer rests on."""
    return _same(views, DIFFERENCE, m, **({} if m.value is None else {"corrected": m.params["labelled"]}))


def _next_run(m: Measurement) -> Cell:
    if m.value is None:
        return brief_cell(None)
    ends = [like(m, m.params[name], ending=False) for name in ("prediction_lower", "prediction_upper")]
    return Cell(text=f"{ends[0]} to {ends[1]} %", numeric=True)


def _split(views: Views, groups: Sequence[str]) -> Iterator[TableView]:
    across = views[0].across
    for table in () if across is None else across.tables:
        if table.name == SPLIT:
            rows = tuple(tuple(_split_cells(row)) for row in table.rows if row[1] in groups)
            yield TableView(
                key=SPLIT,
                caption=table.title,
                columns=(
                    "Model",
                    "Class",
                    "Part",
                    "Standard deviation",
                    "Of one run's variance",
                    "Of the mean's variance",
                ),
                rows=rows,
                note="Training run: less with more runs alone. Own images: less with more runs, or more images. Common "
                "noise: all runs start their images from the same noise; less with more images alone. Classifier: the "
                "correction for its error, the same in all runs; less with more labelled images alone. All are "
                "parts of corrected shares where the classifier's is measured.",
                style="dense",
            )


def _split_cells(row: Sequence[str | int | float | None]) -> Iterator[Cell]:
    for index, value in enumerate(row):
        if isinstance(value, int | float):
            text = f"{percentage(float(value))} points" if index == 3 else percent(float(value))
            yield Cell(text=text, numeric=True)
        else:
            yield Cell(text="not measured" if value is None else plain(value), muted=value is None)


def _trend_tables(views: Views) -> list[TableView]:
    found = [m for name in TRENDS for m in _found(views, name)]
    if not found:
        return []
    rows = []
    for m in found:
        p = m.params.get("p")
        value = (
            Cell(text=not_measurable(m), muted=True)
            if m.value is None
            else Cell(text=number(m.value, 3), detail=f"{number(m.lower, 3)} to {number(m.upper, 3)}", numeric=True)
            if m.lower is not None and m.upper is not None
            else Cell(text=number(m.value, 3), numeric=True)
        )
        test = Cell(text=m.method or TRENDS[m.name][0])
        known = Cell(text="–", muted=True) if p is None else Cell(text=p_text(p))
        rows.append(
            (Cell(text=_of_series(m)), Cell(text=plain(m.group)), test, value, Cell(text=TRENDS[m.name][1]), known)
        )
    return [
        TableView(
            key="trends",
            caption="Trend of the shares over depth, a training run being the unit",
            columns=("Runs", "Class", "Test", "Value", "It is", "Two-sided p"),
            rows=tuple(rows),
            note="Depth alone is told apart from what goes with it (size, width, training) by matched controls only. A "
            "permutation of runs holds for the noises that they started from, the slope for others as well: the answer "
            "names a trend by the slope's interval unless each run has noises of its own.",
            style="dense",
        )
    ]


def _narrowing(views: Views, m: Measurement) -> str:
    runs, images = m.params["error_with_twice_the_runs"], m.params["error_with_twice_the_images"]
    spread = _spread(_same(views, SD, m))
    known = f" (interval {spread.detail})" if spread.detail else ""
    return (
        f"{m.params['model']}, {quoted(str(m.group))}: the standard deviation between training runs is {spread.text}"
        f"{known}, {percent(m.params['training_run_part'])} of the variance of a run's share. By these estimates the "
        f"standard error of the mean would be {number(runs, 2)} times what it is with twice the runs, "
        f"{number(images, 2)} times with twice the images of each."
    )


def _reasons(means: Sequence[Measurement]) -> list[str]:
    reasons: dict[str, dict[str, None]] = {}
    for m in means:
        if m.value is None:
            reasons.setdefault(not_measurable(m), {})[str(m.params["model"])] = None
    return [f"{listed(models)}: {reason}." for reason, models in reasons.items()]
