"""The page of `leadline steer`: prompts at growing strength, how far apart their pictures are; the grid as a PNG."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from leadline.files import atomic_file, write_text
from leadline.records import SCHEMA_VERSION, AuditResult, Measurement, Panel, Table
from leadline.report.content import Cell, Figure, Finding, Section, TableView
from leadline.report.drawings import point
from leadline.report.images import draw_panel
from leadline.report.page import finite, render
from leadline.report.plots import Level, Line, Point, draw
from leadline.report.settings import flat
from leadline.report.sheet import sheet
from leadline.report.spaces import anchor
from leadline.report.words import (
    counted,
    interval_note,
    measurement_cell,
    measurement_text,
    number,
    plain,
    setting,
    table_cell,
)

DISTANCE, CHANGE, BASELINE = "prompt_distance", "prompt_distance_change", "seed_distance"
Pair = str | tuple[str, str] | None
"""All pairs, or two prompts; None where a measurement is of no pair."""
ALL = "all pairs"
MOST_PAIRS = 6
"""Pairs of prompts with a column of their own; of more, the JSON has the rest."""
MOST_LINES = 3
"""Pairs of prompts with a line of their own."""
MOST_MARKERS = 60
PAGE_WIDTH, LEAST_TILE, LARGEST_TILE = 760, 64, 256
"""CSS px: what a row of pictures may take, and what one of them takes at least and at most."""
CLAIM = (
    "2505.17560, Figure 6, shows for Stable Diffusion 1.5, and claims, that with the mid-block wholly bypassed "
    "different prompts give nearly the same picture."
)


@dataclass(frozen=True)
class Series:
    """One line of a plot: a measurement over the strengths."""

    label: str
    name: str
    of: Pair = None
    bars: bool = True
    hollow: bool = False


def build_prompts(result: AuditResult, name: str, folder: Path) -> Path:
    """Write report.html, report.json and grid.png into `folder`; returns the page. name: the pipeline's, for titles."""
    page, picture = folder / "report.html", folder / "grid.png"
    panel = result.panels[0]
    with atomic_file(picture) as temporary:
        sheet(panel).save(temporary, format="PNG")
    spaces = list(dict.fromkeys(str(m.params["space"]) for m in result))
    answer = _answer(result, name, spaces)
    sections = [_answer_section(answer, result), _grid(panel, name), _distances(result, spaces)]
    sections += [_schedule(table) for table in result.tables if result.settings["steer"]["schedule"]]
    sections += [_settings(result)]
    title = plain(f"{name}: prompts under a bypass of the mid-block")
    content = {
        "schema_version": SCHEMA_VERSION,
        "title": title,
        "headlines": [answer.to_json()],
        "measurements": [m.model_dump(mode="json") for m in result],
        "tables": [table.model_dump(mode="json") for table in result.tables],
        "settings": result.settings,
        "sections": [section.to_json() for section in sections],
    }
    write_text(page.with_suffix(".json"), json.dumps(finite(content), indent=1, allow_nan=False) + "\n")
    drawn = f"sampler: {result.settings['sampler']}, {counted(result.settings['steps'], 'step')}"
    facts = [counted(len(panel.row_titles), "prompt"), counted(result.settings["num_images"], "seed"), drawn]
    write_text(page, render(title, facts, sections, result.settings["packages"]["leadline"]))
    return page


def _find(result: AuditResult, name: str, space: str, column: str, of: Pair = None) -> Measurement | None:
    named: dict[str, str] = {}
    if isinstance(of, str):
        named = {"pair": of}
    elif of is not None:
        named = dict(zip(("first", "second"), of, strict=True))
    return next(iter(result.find(name, space=space, setting=column, **named)), None)


def _untouched(result: AuditResult) -> str:
    """The column without a bypass; empty where there is none."""
    return next((label for label, strength in result.settings["columns"].items() if strength == 0), "")


def _freeu(result: AuditResult) -> str:
    """The column of FreeU; empty where there is none."""
    return next((label for label, strength in result.settings["columns"].items() if strength is None), "")


def _claim(result: AuditResult) -> str:
    """What the paper says of this, where a column is what it speaks of: the mid-block gives nothing at any level."""
    return CLAIM if result.settings["wholly bypassed"] else ""


def _answer(result: AuditResult, name: str, spaces: Sequence[str]) -> Finding:
    """The distance between prompts at the smallest and at the largest strength, in the first space."""
    space = spaces[0]
    strengths = [label for label, strength in result.settings["columns"].items() if strength is not None]
    ends = list(dict.fromkeys((strengths[0], strengths[-1])))
    found = [(column, _find(result, DISTANCE, space, column, ALL)) for column in ends]
    known = [(column, m) for column, m in found if m is not None and m.value is not None]
    if not known:
        told = [m for _, m in found if m is not None]
        return Finding(run=plain(name), headline=f"{measurement_text(told[0])}.", sentences=())
    words = ", ".join(f"{measurement_text(m)} at {column}" for column, m in known)
    unit = known[0][1].unit
    headline = f"mean distance between the pictures of different prompts from the same seed: {words} ({space}, {unit})."
    change = _find(result, CHANGE, space, ends[-1], ALL)
    sentences = [("Measured against", _baseline(result, space, ends))]
    if change is not None and change.value is not None:
        sentences.insert(
            0, ("Change", f"{measurement_text(change)} from {_untouched(result)} to {ends[-1]}. {_sign(change)}")
        )
    if claim := _claim(result):
        sentences.append(("The paper", claim))
    return Finding(run=plain(name), headline=plain(headline), sentences=tuple(sentences))


def _sign(change: Measurement) -> str:
    if change.lower is None or change.upper is None:
        return "With one seed there is no interval: chance is not excluded."
    if change.lower <= 0 <= change.upper:
        return "The interval holds 0: whether the pictures grow alike or apart is not decided by these seeds."
    return "On average over seeds the pictures grow " + ("alike." if change.upper < 0 else "apart.")


def _baseline(result: AuditResult, space: str, ends: Sequence[str]) -> str:
    found = [(column, _find(result, BASELINE, space, column)) for column in ends]
    words = [f"{measurement_text(m)} at {column}" for column, m in found if m is not None and m.value is not None]
    if not words:
        words = [measurement_text(m) for _, m in found[:1] if m is not None]
    return f"Pictures of one prompt from two seeds: {', '.join(words)}."


def _answer_section(answer: Finding, result: AuditResult) -> Section:
    caveats = []
    settings = result.settings
    if "no perceptual distance" in settings:
        reason = settings["no perceptual distance"]
        caveats.append(f"Distances are of pixels alone, and pixels differ where pictures look alike: {reason}.")
    if settings["num_images"] == 1:
        caveats.append("One seed: no interval can be given, and another seed may show something else (--images N).")
    caveats += [
        f"The prompt “{prompt[:60]}…” is longer than the text encoder reads: its end had no effect."
        for prompt in settings["cut prompts"]
    ]
    if settings["FreeU"]:
        caveats.append(f"FreeU: {settings['FreeU']}.")
    return Section(id="answer", title="Answer", lead="", findings=[answer], caveats=[plain(text) for text in caveats])


def _grid(panel: Panel, name: str) -> Section:
    columns, width = panel.tiles.shape[1], panel.tiles.shape[-1]
    room = min(LARGEST_TILE, max(LEAST_TILE, PAGE_WIDTH // columns))
    smaller = f" Shown {room} px wide; grid.png has all their pixels." if width > room else ""
    shown = replace(panel, tiles=_shrunk(panel.tiles, room), caption=panel.caption + smaller)
    figure = draw_panel(shown, name, room)
    return Section(
        id="grid",
        title="Prompts and strengths",
        lead="The papers' Figure 6 for this pipeline. The same picture, with its labels, is grid.png beside this page.",
        figures=[] if figure is None else [figure],
    )


def _shrunk(tiles: np.ndarray, room: int) -> np.ndarray:
    """Tiles at most `room` px wide (Lanczos): a page of 15 photographs would take 10 MB."""
    rows, columns, _, height, width = tiles.shape
    if width <= room:
        return tiles
    size = (room, max(1, height * room // width))
    small = [
        np.asarray(Image.fromarray(tile.transpose(1, 2, 0)).resize(size, Image.Resampling.LANCZOS)).transpose(2, 0, 1)
        for row in tiles
        for tile in row
    ]
    return np.stack(small).reshape(rows, columns, 3, size[1], size[0])


def _distances(result: AuditResult, spaces: Sequence[str]) -> Section:
    lead = (
        "Distance between the pictures that two prompts give from the same seed, a mean over pairs of prompts and over "
        "seeds. If it falls while the distance between two seeds of one prompt does not, the prompt matters less; if "
        "both fall, all pictures grow alike."
    )
    figures = [
        figure
        for index, space in enumerate(spaces)
        for figure in _plot(result, space, _claim(result) if index == 0 else "")
    ]
    tables = [_table(result, space) for space in spaces]
    return Section(id="distances", title="Distance between prompts", lead=lead, figures=figures, tables=tables)


def _pairs(result: AuditResult, space: str) -> list[tuple[str, str]]:
    found = (m.params for m in result.find(DISTANCE, space=space) if "first" in m.params)
    return list(dict.fromkeys((str(params["first"]), str(params["second"])) for params in found))


def _plot(result: AuditResult, space: str, claim: str) -> list[Figure]:
    """Distance over strength: the mean of all pairs with its interval, each pair, and two seeds of one prompt.

    claim: what the caption ends with.
    """
    pairs = _pairs(result, space)
    series = [Series("all pairs of prompts", DISTANCE, ALL)]
    if 1 < len(pairs) <= MOST_LINES:
        series += [Series(" and ".join(pair), DISTANCE, pair, bars=False) for pair in pairs]
    series.append(Series("two seeds of one prompt", BASELINE, hollow=True))
    lines, told = [], []
    for style, one in enumerate(series):
        found = {
            strength: m
            for column, strength in result.settings["columns"].items()
            if strength is not None and (m := _find(result, one.name, space, column, one.of)) is not None
        }
        points = [p for strength, m in found.items() if (p := point(strength, m)) is not None]
        if points:
            bare = [p if one.bars else replace(p, lower=None, upper=None) for p in points]
            lines.append(Line(label=one.label, points=tuple(bare), style=style, hollow=one.hollow))
            told.append(f"{one.label}: {', '.join(f'{number(p.y)} at {number(p.x)}' for p in points)}")
    if not lines:
        return []
    axis = "factor of the schedule" if result.settings["steer"]["schedule"] else "strength of the bypass"
    unit = next(m.unit for m in result.find(DISTANCE, space=space) + result.find(BASELINE, space=space) if m.unit)
    freeu = _find(result, DISTANCE, space, _freeu(result), ALL)
    levels = [Level(y=freeu.value, label=_freeu(result))] if freeu is not None and freeu.value is not None else []
    return [
        draw(
            lines,
            name=f"distance-{anchor(space)}",
            alt=f"Distance between pictures against {axis}, {space}. {'. '.join(told)}.",
            caption=f"{space}: distance between the pictures of different prompts from the same seed; hollow: of one "
            f"prompt from two seeds. Bars: intervals over seeds{'; dashed: all pairs under FreeU' if levels else ''}. "
            f"{claim}".strip(),
            x_label=axis,
            y_label=unit,
            levels=levels,
            from_zero=True,
        )
    ]


def _table(result: AuditResult, space: str) -> TableView:
    pairs = _pairs(result, space)
    shown = pairs if 1 < len(pairs) <= MOST_PAIRS else []
    kinds: list[str | tuple[str, str]] = [ALL, *shown]
    rows = []
    for column in result.settings["columns"]:
        change = _find(result, CHANGE, space, column, ALL)
        compared = Cell(text="–", muted=True) if change is None else measurement_cell(change)
        cells = [_find(result, DISTANCE, space, column, pair) for pair in kinds]
        seeds = measurement_cell(_find(result, BASELINE, space, column))
        rows.append((Cell(text=plain(column)), *map(measurement_cell, cells), compared, seeds))
    found = [*result.find(DISTANCE, space=space), *result.find(BASELINE, space=space)]
    more = f" The distances of all {len(pairs)} pairs are in the JSON." if len(pairs) > MOST_PAIRS else ""
    return TableView(
        key=f"distances_{space}",
        caption=plain(f"Distances, {space}: {next((m.unit for m in found if m.unit), 'not measured')}"),
        columns=(
            "Setting",
            "All pairs",
            *(plain(" and ".join(pair)) for pair in shown),
            f"Change from {untouched}, same seeds" if (untouched := _untouched(result)) else "Change",
            "One prompt, two seeds",
        ),
        rows=tuple(rows),
        note=f"{interval_note(found)} Each interval is for its own value, none for all together.{more}".strip(),
    )


def _schedule(table: Table) -> Section:
    """Strength at each call of the U-Net, drawn and in numbers."""
    calls = [float(row[0] or 0) for row in table.rows]
    lines, told = [], []
    for place, label in enumerate(table.columns[2:], start=2):
        values = [float(row[place] or 0) for row in table.rows]
        points = tuple(Point(x=x, y=y) for x, y in zip(calls, values, strict=True))
        lines.append(Line(label=label, points=points, style=place - 2, markers=len(points) <= MOST_MARKERS))
        told.append(f"{label}: {number(min(values))} to {number(max(values))}")
    alt = f"Strength of the bypass at each call of the U-Net. {'. '.join(told)}."
    caption = f"{table.title}, in the order of sampling, from noise to image."
    drawn = [draw(lines, name="schedule", alt=alt, caption=caption, x_label=table.columns[0], y_label="strength")]
    shown = TableView(
        key="schedule",
        caption="The same in numbers",
        columns=table.columns,
        rows=tuple(tuple(table_cell(value) for value in row) for row in table.rows),
        style="dense",
    )
    return Section(
        id="schedule",
        title="Schedule",
        lead="A schedule is a function of the noise level; this is what each factor times it gives where the sampler "
        "steps.",
        figures=drawn if lines else [],
        tables=[shown],
    )


def _settings(result: AuditResult) -> Section:
    shown = {name: value for name, value in result.settings.items() if name != "columns"}
    rows = [(Cell(text=plain(name)), Cell(text=plain(setting(value)))) for name, value in flat(shown)]
    table = TableView(
        key="settings",
        caption="What decided the images and the numbers",
        columns=("Field", "Value"),
        rows=tuple(rows),
        style="dense",
    )
    return Section(id="settings", title="Settings", lead="", tables=[table])
