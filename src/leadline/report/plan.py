"""What `leadline plan` found -> words for the terminal, one page with its curves, one JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leadline.errors import LeadlineError
from leadline.files import write_text
from leadline.records import SCHEMA_VERSION, AuditResult, Measurement, Table
from leadline.report.content import Cell, Plot, Section, TableView
from leadline.report.page import finite, render
from leadline.report.plan_words import finding, points, share_text, sure
from leadline.report.plots import Level, Line, Point, draw
from leadline.report.settings import flat
from leadline.report.words import number, plain, setting, short

COUNTING = {
    "perfect": "perfect classifier",
    "rates known": "classifier, rates known",
    "rates estimated": "classifier, rates estimated",
}
SHOWN_POWERS = 7
"""Rows of the power curve that the terminal shows."""
TICKS = [10**power for power in range(1, 9)]


def build_plan(result: AuditResult, out: Path) -> Path:
    """Write the page to `out` (HTML) and beside it the JSON; returns `out`. Raises LeadlineError on a wrong name."""
    if out.suffix == ".json" or out.is_dir():
        raise LeadlineError(f"--out names the page, with a JSON beside it: {out} cannot be it, use {out.stem}.html")
    said = finding(result)
    sections = [Section(id="answer", title="Answer", lead="", findings=[said], caveats=_caveats(result))]
    sections += [*_tables(result), *_curves(result), _settings(result)]
    write_text(out.with_suffix(".json"), plan_json(result))
    facts = [sure(result), f"power {short(100 * result.settings['power'])}\N{NO-BREAK SPACE}%"]
    write_text(out, render(_title(result), facts, sections, ""))
    return out


def plan_json(result: AuditResult) -> str:
    """The plan as JSON: question, images_needed by way of counting, headlines, measurements, curves as columns."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "question": result.settings,
        "images_needed": {_key(m): None if m.value is None else int(m.value) for m in result.find("images_needed")},
        "headlines": [finding(result).to_json()],
        "measurements": [m.model_dump(mode="json") for m in result],
        "curves": {table.name: _by_column(table) for table in result.tables},
        "caveats": _caveats(result),
    }
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def _key(m: Measurement) -> str:
    """The way of counting; `normal` for the textbook's number."""
    return "normal" if m.params["counting"] == "perfect" and "normal" in str(m.method) else str(m.params["counting"])


def plan_text(result: AuditResult) -> str:
    """The plan for a terminal: what it says, sentence by sentence, and its short tables."""
    said = finding(result)
    lines = [f"{said.run}: {said.headline}", ""]
    lines += [f"{label}: {sentence}" for label, sentence in said.sentences]
    for section in _tables(result):
        for table in section.tables:
            lines += ["", table.caption, *_aligned(table)]
        lines += [f"  {reason}" for reason in section.caveats]
    lines += ["", *(f"Note: {text}" for text in _caveats(result))]
    return "\n".join(lines)


def _title(result: AuditResult) -> str:
    asked = result.settings
    against = "" if asked["detect"] is None else f" against {share_text(asked['detect'])}"
    return plain(f"How many images: {share_text(asked['share'])}{against}")


def _caveats(result: AuditResult) -> list[str]:
    asked = result.settings
    caveats = ["The classifier is taken to err on generated images as it does on the real ones that it was judged on."]
    if asked["sensitivity"] is None and asked["specificity"] is None:
        caveats = ["The classifier is taken as perfect: give --sensitivity and --specificity to plan for its errors."]
    if asked["replicates"] is None and not asked["two_models"]:
        caveats.append("One training run: the answer is about its model, not about the training (--replicates 3).")
    if asked["replicates"] is not None:
        caveats.append(
            "Over runs, a run's share is taken as normal: a number of images per run that holds few of the group "
            "(below about ten expected) is too small. Two errors are common to all runs, show in no spread between "
            "them and are not planned for: that of the classifier's rates, and that of starting noise which images of "
            "the same seeds share; the report's interval adds the second, so that it may take more images."
        )
    if asked["two_models"]:
        caveats.append(
            "Two independent sets. Images of the same seeds need fewer, how many depends on how often a pair's classes "
            "differ (McNemar), which is not known before they are drawn."
        )
    return caveats


def _tables(result: AuditResult) -> list[Section]:
    """Sections of tables, the same on the terminal and on the page; none that would be empty."""
    images = [*result.find("images_needed"), *result.find("images_per_set"), *result.find("images_until_stopped")]
    rows = [(_said(_counting(m)), *_value(m), _said(m.method or "")) for m in images]
    needed = TableView(
        key="images", caption="Images needed", columns=("Counted by", "Images", "Method"), rows=tuple(rows)
    )
    at = [*result.find("power"), *result.find("detectable_share")]
    told = TableView(
        key="at-images",
        caption=f"What {result.settings['images'] or 0:,} images can tell",
        columns=("Counted by", "What", "Value"),
        rows=tuple((_said(_counting(m)), _said(_what(m)), *_value(m)) for m in at),
    )
    enough = result.find("labelled_images_needed")
    labelled = TableView(
        key="labelled",
        caption="Labelled images that make the classifier's rates sure enough",
        columns=("Images of the model", "Labelled images drawn", "Labelled images", "Of the group among them"),
        rows=tuple(
            (
                _said(number(m.params["images"]) if m.params["images"] != "unlimited" else "unlimited"),
                _said(m.params["drawn"]),
                *_value(m),
                _said("–" if m.value is None else f"{m.params['group_images']:,}"),
            )
            for m in enough
        ),
    )
    runs = [*result.find("images_per_run"), *result.find("largest_between_run_sd"), *result.find("runs_needed")]
    per_run = TableView(
        key="runs",
        caption="Training runs",
        columns=("Runs", "Images of each", "Standard deviation between runs", "All images"),
        rows=tuple(_run_row(m) for m in runs),
        note="Where the standard deviation is not given: the largest with which so many runs are enough.",
    )
    parts: list[tuple[str, TableView, list[Measurement]]] = [
        ("Images", needed, images),
        ("The images there are", told, at),
        ("Labelled images", labelled, enough),
        ("Runs", per_run, runs),
        ("Power", _powers(result), []),
    ]
    return [
        Section(id=table.key, title=title, lead="", tables=[table], caveats=_reasons(behind))
        for title, table, behind in parts
        if table.rows
    ]


def _reasons(found: Sequence[Measurement]) -> list[str]:
    """Why something is not possible, each reason once."""
    return list(dict.fromkeys(f"Not possible: {plain(m.reason)}." for m in found if m.reason is not None))


def _run_row(m: Measurement) -> tuple[Cell, ...]:
    params = m.params
    value = Cell(text="not possible", muted=True)
    if m.name == "runs_needed":
        if m.value is not None:
            value = Cell(text=f"{number(m.value)} or more", numeric=True)
        all_images = _product(params["images"], m.value)
        return value, _said(_limit(params["images"])), _said(points(params["between_run_sd"])), _said(all_images)
    runs = _said(number(params["runs"]))
    if m.name == "images_per_run":
        if m.value is not None:
            value = Cell(text=number(m.value), numeric=True)
        sd = params.get("between_run_sd")
        spread = "not known" if sd is None else points(sd)
        return runs, value, _said(spread), _said(_product(params["runs"], m.value))
    if m.value is not None:
        value = Cell(text=f"up to {points(m.value)}", numeric=True)
    return runs, _said(_limit(params["images"])), value, _said(_product(params["images"], params["runs"]))


def _limit(images: Any) -> str:
    return images if isinstance(images, str) else number(images)


def _product(first: Any, second: Any) -> str:
    return "–" if None in (first, second) or isinstance(first, str) else number(int(first) * int(second))


def _powers(result: AuditResult) -> TableView:
    rows: list[tuple[Cell, ...]] = []
    columns: tuple[str, ...] = ()
    for table in result.tables:
        if table.name == "power_curve":
            columns = ("Images", *(COUNTING[name] for name in table.columns[1:]))
            step = max(1, (len(table.rows) - 1) // (SHOWN_POWERS - 1))
            rows = [
                (_said(number(_float(row[0]))), *(_percent(cell) for cell in row[1:])) for row in table.rows[::step]
            ]
    return TableView(key="powers", caption="Power over the number of images", columns=columns, rows=tuple(rows))


def _curves(result: AuditResult) -> list[Section]:
    asked = result.settings
    plots = []
    for table in result.tables:
        if table.name == "power_curve":
            lines = [_line(table, column, COUNTING[name], column - 1) for column, name in _columns(table)]
            level = Level(y=asked["power"], label="wanted power")
            plots.append(
                _plot(lines, level, "power", "power, %", "Probability that the interval leaves out the share.")
            )
        else:
            named = {column: name.partition(", ") for column, name in _columns(table)}
            lines = [
                # The name stands once, at the line above.
                _line(table, column, COUNTING[counting] if side == "above" else "", (column - 1) // 2)
                for column, (side, _, counting) in named.items()
            ]
            level = Level(y=asked["share"], label="training share")
            caption = "The nearest shares, below and above, that are told from the training share with that power."
            plots.append(_plot([line for line in lines if line.points], level, "detectable", "share, %", caption))
    if not plots:
        return []
    lead = "Over the number of images, logarithmic. Counts are whole, so that exact power is a saw-tooth."
    return [Section(id="curves", title="Curves", lead=lead, figures=plots)]


def _plot(lines: Sequence[Line], level: Level, name: str, y_label: str, caption: str) -> Plot:
    ends = [(p.x for p in line.points) for line in lines]
    places = [x for found in ends for x in found]
    ticks = [t for t in TICKS if places and min(places) / 10 < t < max(places) * 10]
    told = "; ".join(
        f"{line.label}: {', '.join(f'{number(100 * p.y, 3)} % at {number(p.x)}' for p in line.points[::20])}"
        for line in lines
        if line.label
    )
    return draw(
        lines,
        name=name,
        alt=f"{caption} {told}.",
        caption=caption,
        x_label="images",
        y_label=y_label,
        levels=[level],
        x_ticks=ticks,
        factor=100,
    )


def _line(table: Table, column: int, label: str, style: int) -> Line:
    found = [(_float(row[0]), row[column]) for row in table.rows]
    points = tuple(Point(x=x, y=_float(y)) for x, y in found if y is not None)
    return Line(label=label, points=points, style=style, markers=False)


def _columns(table: Table) -> list[tuple[int, str]]:
    return list(enumerate(table.columns))[1:]


def _by_column(table: Table) -> dict[str, list[Any]]:
    return {name: [row[column] for row in table.rows] for column, name in enumerate(table.columns)}


def _settings(result: AuditResult) -> Section:
    rows = [(_said(plain(name)), _said(plain(setting(value)))) for name, value in flat(result.settings)]
    table = TableView(
        key="settings", caption="What was asked", columns=("Flag", "Value"), rows=tuple(rows), style="dense"
    )
    return Section(id="settings", title="Settings", lead="", tables=[table])


def _counting(m: Measurement) -> str:
    if m.name == "images_per_set":
        return "one classifier, each of two sets: samples and unseen real images, or two models"
    if m.name == "images_until_stopped":
        return f"{COUNTING[m.params['counting']]}, looking at every step"
    return COUNTING.get(str(m.params.get("counting")), "two sets")


def _what(m: Measurement) -> str:
    return "power" if m.name == "power" else f"nearest share {m.params['side']} that is told apart"


def _value(m: Measurement) -> tuple[Cell]:
    if m.value is None:
        return (Cell(text="not possible", muted=True),)
    if m.name == "power":
        return (_percent(m.value),)
    return (Cell(text=share_text(m.value) if m.unit == "share" else number(m.value), numeric=True),)


def _percent(value: Any) -> Cell:
    return Cell(text=f"{100 * _float(value):.1f}\N{NO-BREAK SPACE}%", numeric=True)


def _float(value: Any) -> float:
    return float(value)


def _said(text: str) -> Cell:
    return Cell(text=text)


def _aligned(table: TableView) -> list[str]:
    """The table in columns of a fixed width."""
    rows = [table.columns, *([cell.text for cell in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
