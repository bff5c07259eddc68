"""The section on copies: how many images count as copies of training images, by rule and space."""

from collections import Counter
from collections.abc import Sequence

from leadline.records import Measurement, Table
from leadline.report.content import Cell, Plot, Section, TableView
from leadline.report.dots import Row, draw_rows
from leadline.report.drawings import over_runs, point
from leadline.report.findings import CALIBRATED, EXCESS, RATE, allowed_rate
from leadline.report.plots import Level, Line, Point, draw
from leadline.report.spaces import MOST_SPACES, PIXELS, anchor, in_space, measured_spaces, of_space
from leadline.report.tables import known, not_measured, of_audit, tested
from leadline.report.views import RunView, missing_runs, nothing_to_show
from leadline.report.words import (
    DIFFERENCE,
    SETS,
    brief_cell,
    interval_note,
    measurement_text,
    number,
    percent,
    short,
)

Views = Sequence[RunView]
AUTHENTIC = "authentic_rate"
MEASURES = (RATE, EXCESS, AUTHENTIC)
SWEEP = "copy_rate_sweep"
"""Name of the audit's table of rates over thresholds."""
SUSPECTS = "suspicious_images"
"""Name of the audit's table of the samples most likely to be copies."""
SHOWN_SUSPECTS = 10
"""Samples of that table that the page shows of each space."""
PAIR = ("samples", "held_out")
RATIOS = {"d1/d2": "d1/d2", "carlini": "d1 / mean distance to the nearest"}
"""What the rules compare with their threshold that know no unit, and count every image at 1."""
RULES = {
    "d1/d2": "nearer to a training image than the threshold times the distance to the first other picture there",
    "carlini": "no farther from a training image than the threshold times the mean distance to its neighbours there",
    CALIBRATED: "nearer to a training image than a threshold set on one half of the held-out images, so that it calls "
    "a chosen part of new real images copies, and checked on the other half",
}
"""What an image is that a rule calls a copy."""


def copies_section(views: Views) -> Section:
    """Copy rates by every rule and space beside those of held-out real images, and over the thresholds."""
    title = "Copies: images too near to a training image"
    measured = [view for view in views if view.measured(MEASURES)]
    missing = not_measured(views, MEASURES)
    listed = [suspects(view, table) for view in views for table in view.tables(SUSPECTS)]
    if not measured and not listed:
        return Section(id="copies", title=title, lead=nothing_to_show(views, "copies"), caveats=missing)
    return Section(
        id="copies",
        title=title,
        lead="How many images count as copies of a training image. Held-out real images cannot be copies: their rate "
        "is what a rule calls by mistake, and only a rate above it is a sign of copying."
        + (" The last table names the generated images to look at first." if listed else ""),
        figures=plots(measured),
        tables=[*(table for table in (rates(measured), authentic(measured)) if table.rows), *listed],
        caveats=missing_runs(views, measured) + missing,
    )


def rates(views: Views) -> TableView:
    """Rule × space × run: threshold, rate among generated and held-out images, their difference."""
    rows, shown = [], []
    for rule, space in kinds(views):
        for view in views:
            found = [view.first(RATE, set=subset, rule=rule, space=space) for subset in PAIR]
            excess = view.first(EXCESS, rule=rule, space=space)
            cells = (_threshold(found), *(brief_cell(m, _of(m)) for m in found), brief_cell(excess, tested(excess)))
            rows.append((Cell(text=rule), Cell(text=of_space(space)), Cell(text=view.name), *cells))
            shown += [*found, excess]
    rules = {rule for rule, _ in kinds(views)}
    told = "; ".join(f"{rule}: {words}" for rule, words in RULES.items() if rule in rules)
    meaning = f"What counts as a copy. {told}." if told else ""
    return TableView(
        key=RATE,
        caption=f"Images that count as copies of a training image; excess: {DIFFERENCE}",
        columns=("Rule", "Space", "Run", "Threshold", "Generated", "Held-out real", "Excess"),
        rows=tuple(rows),
        note=" ".join(filter(None, (meaning, _options(shown), interval_note(shown)))),
    )


def _threshold(found: Sequence[Measurement | None]) -> Cell:
    """The threshold, below it the number of images or neighbours that it rests on."""
    params = next((m.params for m in found if m is not None and "threshold" in m.params), {})
    if "threshold" not in params:
        return known(None)
    neighbors = params.get("neighbors_found", params.get("neighbors"))
    rests = (
        f"mean of {neighbors} nearest" if neighbors is not None else "",
        f"set on {number(params['calibrated_on'])} images" if "calibrated_on" in params else "",
    )
    return Cell(text=short(params["threshold"]), detail="".join(rests), numeric=True)


def _options(shown: Sequence[Measurement | None]) -> str:
    flipped = any(m is not None and m.params.get("flips") for m in shown)
    return "Each image was also compared mirrored; the nearer counts." if flipped else ""


def kinds(views: Views) -> list[tuple[str, str | None]]:
    """(rule, space) of every copy rate that has a value, rule by rule."""
    found = dict.fromkeys(
        (str(m.params.get("rule", "")), m.params.get("space"))
        for view in views
        for m in view.find(RATE)
        if m.value is not None
    )
    order = {rule: index for index, rule in enumerate(RULES)}
    return sorted(found, key=lambda kind: order.get(kind[0], len(order)))


def _of(m: Measurement | None) -> str:
    """` of 500`: how many images the rate is of."""
    return f" of {number(m.n)}" if m is not None and m.n is not None else ""


def authentic(views: Views) -> TableView:
    """Share of images that are farther from their nearest training image than that is from its own nearest other."""
    rows, shown = [], []
    for space in measured_spaces(views, AUTHENTIC):
        for view in views:
            found = [view.first(AUTHENTIC, set=subset, space=space) for subset in PAIR]
            cells = (brief_cell(m, _of(m)) for m in found)
            rows.append((Cell(text=of_space(space)), Cell(text=view.name), *cells))
            shown += found
    return TableView(
        key=AUTHENTIC,
        caption="authentic_rate: images farther from their nearest training image than that is from its nearest other",
        columns=("Space", "Run", "Generated", "Held-out real"),
        rows=tuple(rows),
        note=f"Lower than for held-out real images: nearer than new images are. {interval_note(shown)}",
    )


def suspects(view: RunView, table: Table) -> TableView:
    """The first images of each space in the audit's list of those most likely to be copies."""
    place = table.columns.index("space") if "space" in table.columns else 0
    seen: Counter[object] = Counter()
    shown = []
    for row in table.rows:
        seen[row[place]] += 1
        if seen[row[place]] <= SHOWN_SUSPECTS:
            shown.append(row)
    left_out = len(table.rows) - len(shown)
    more = (
        f"The first {SHOWN_SUSPECTS} of each space; {left_out} more are in the audit's own table." if left_out else ""
    )
    return of_audit(view, table.model_copy(update={"rows": tuple(shown), "note": f"{table.note} {more}".strip()}))


def plots(views: Views) -> list[Plot]:
    """Of one run all rules side by side, of several the calibrated rate against depth; then the sweeps."""
    if len(views) == 1:
        drawn = [_all_rules(views[0])]
    else:
        spaces = measured_spaces(views, RATE)
        drawn = [_calibrated(views, space) for space in spaces[:MOST_SPACES]]
    return [plot for plot in (*drawn, *sweeps(views)) if plot is not None]


def _all_rules(view: RunView) -> Plot | None:
    rows, told = [], []
    for rule, space in kinds([view]):
        found = [view.first(RATE, set=subset, rule=rule, space=space) for subset in PAIR]
        rows.append(Row(label=f"{rule}{in_space(space)}", points=tuple(point(0, m) for m in found)))
        values = (f"{SETS[s]} {measurement_text(m)}" for s, m in zip(PAIR, found, strict=True) if m is not None)
        told.append(f"{rule}{in_space(space)}: {', '.join(values)}")
    if not rows:
        return None
    allowed = allowed_rate(view)
    return draw_rows(
        rows,
        [SETS[subset] for subset in PAIR],
        name="copy-rates",
        alt=f"Share of images that count as copies. {'; '.join(told)}.",
        caption="Share of images that count as copies, by rule and space. Hollow: held-out real images, which cannot "
        "be copies. Bars: intervals"
        + (f"; dashed: what the calibrated rule allows, {percent(allowed)}." if allowed is not None else "."),
        x_label="share of images, %",
        level=None if allowed is None else Level(y=allowed, label=f"allowed {percent(allowed)}"),
        factor=100,
    )


def _calibrated(views: Views, space: str | None) -> Plot | None:
    found = {
        subset: {view.name: view.first(RATE, set=subset, rule=CALIBRATED, space=space) for view in views}
        for subset in PAIR
    }
    return over_runs(
        views,
        {SETS["samples"]: found["samples"]},
        name=f"copy-rate-{anchor(space)}",
        of=f"Share of images that count as copies by the calibrated rule{in_space(space)}",
        caption=f"Share of generated images that count as copies by the calibrated rule{in_space(space)}. Bars: "
        "intervals; dashed: held-out real images, which cannot be copies.",
        y_label="count as copies, %",
        baseline=found["held_out"],
        baseline_words=SETS["held_out"],
        from_zero=True,
        factor=100,
    )


def sweeps(views: Views) -> list[Plot]:
    """The copy rates over the threshold, a plot per rule in each of the first spaces; held-out real images hollow."""
    curves: dict[tuple[str, str], dict[str, Line]] = {}
    views = [view for view in views if view.drawn]
    for index, view in enumerate(views):
        for table in view.tables(SWEEP):
            for kind, lines in _curves(table, view.label, index, len(views)).items():
                curves.setdefault(kind, {}).update(lines)
    drawn = list(dict.fromkeys(space for _, space in curves))[:MOST_SPACES]
    return [
        _sweep(views, rule, space, list(lines.values())) for (rule, space), lines in curves.items() if space in drawn
    ]


def _curves(table: Table, label: str, style: int, held_out_style: int) -> dict[tuple[str, str], dict[str, Line]]:
    """(rule, space) -> the lines of one run's sweep by their label: its own and that of the held-out images."""
    places = [table.columns.index(name) for name in ("rule", "space", "threshold", *PAIR)]
    points: dict[tuple[str, str], dict[str, list[Point]]] = {}
    for row in table.rows:
        rule, space, threshold, *shares = (row[place] for place in places)
        # At a ratio of 1 every image counts: the point would only flatten the others.
        if not isinstance(threshold, int | float) or (rule in RATIOS and threshold >= 1):
            continue
        for subset, share in zip(PAIR, shares, strict=True):
            if isinstance(share, int | float):
                of_kind = points.setdefault((str(rule), str(space)), {})
                of_kind.setdefault(subset, []).append(Point(x=threshold, y=share))
    lines: dict[tuple[str, str], dict[str, Line]] = {}
    for kind, of_kind in points.items():
        for subset, found in of_kind.items():
            real = subset == "held_out"
            name = SETS[subset] if real else label
            line = Line(
                label=name,
                points=tuple(sorted(found, key=lambda p: p.x)),
                style=held_out_style if real else style,
                hollow=real,
            )
            lines.setdefault(kind, {})[name] = line
    return lines


def _sweep(views: Views, rule: str, space: str, lines: Sequence[Line]) -> Plot:
    thresholds = (m.params.get("threshold") for view in views for m in view.find(RATE, rule=rule, space=space))
    used = [x for x in dict.fromkeys(thresholds) if isinstance(x, int | float)]
    told = "; ".join(f"{line.label}: {', '.join(map(_told, _ends(line.points)))}" for line in lines)
    return draw(
        lines,
        name=f"sweep-{anchor(rule)}-{anchor(space)}",
        alt=f"Share of images that count as copies against the threshold, {rule}{in_space(space)}. {told}.",
        caption=f"Share of images that would count as copies at other thresholds, {rule}{in_space(space)}. Hollow: "
        f"held-out real images{'; dashed: the threshold used' if used else ''}.",
        x_label=f"threshold of {_compared(rule, space)}",
        y_label="count as copies, %",
        x_marks=used,
        factor=100,
    )


def _ends(points: Sequence[Point]) -> Sequence[Point]:
    """The first, the middle and the last."""
    return list(dict.fromkeys((points[0], points[len(points) // 2], points[-1])))


def _told(p: Point) -> str:
    return f"{percent(p.y)} at {short(p.x)}"


def _compared(rule: str, space: str) -> str:
    """What a rule compares with its threshold."""
    if rule != CALIBRATED:
        return RATIOS.get(rule, rule)
    return "the distance, RMS per value" if space == PIXELS else "the cosine similarity"
